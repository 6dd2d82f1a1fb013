package vfs

import (
	"path/filepath"
	"sync/atomic"
)

// Counts is how often each operation was done since the start, and how many bytes were written. Safe for concurrent use.
type Counts struct {
	ops     [numOps]atomic.Int64
	logSync atomic.Int64
	bytes   atomic.Int64
}

// Of is how often an operation succeeded.
func (c *Counts) Of(op Op) int64 { return c.ops[op].Load() }

// LogSyncs is how often a .log file was synced: once for each group commit of a partition.
func (c *Counts) LogSyncs() int64 { return c.logSync.Load() }

// BytesWritten adds up what was given to writes that succeeded.
func (c *Counts) BytesWritten() int64 { return c.bytes.Load() }

// Count returns a file system that counts what passes through it. A few atomic additions per system call.
func Count(fsys FS) (FS, *Counts) {
	c := &Counts{}
	return &wrapFS{fsys, func(op Op, path string, bytes int, do func() error) error {
		if err := do(); err != nil {
			return err
		}
		c.ops[op].Add(1)
		switch {
		case op == OpWrite:
			c.bytes.Add(int64(bytes))
		case op == OpSync && filepath.Ext(path) == ".log":
			c.logSync.Add(1)
		}
		return nil
	}}, c
}
