package vfs

import (
	"path/filepath"
	"strings"
	"sync/atomic"
)

// Class is a kind of file, told by its name, so that counters can tell the log from what surrounds it.
type Class uint8

// The kinds of files.
const (
	ClassOther Class = iota // directories too
	ClassLog
	ClassIndex
	ClassState
	ClassTxnIndex
	ClassCheckpoint
	numClasses
)

var classNames = [numClasses]string{"other", "log", "index", "state", "txnindex", "checkpoint"}

// String is the class's name in metrics.
func (c Class) String() string {
	if c < numClasses {
		return classNames[c]
	}
	return "unknown"
}

// ClassOf tells a file's class. A temporary file belongs to the class of the name that it will take.
func ClassOf(path string) Class {
	path = strings.TrimSuffix(path, tempSuffix)
	switch filepath.Ext(path) {
	case ".log":
		return ClassLog
	case ".index":
		return ClassIndex
	case ".state":
		return ClassState
	case ".txnindex":
		return ClassTxnIndex
	}
	if strings.HasPrefix(filepath.Base(path), "checkpoint") {
		return ClassCheckpoint
	}
	return ClassOther
}

// Counts is how often each operation was done since the start, and how many bytes were moved. Safe for concurrent use.
type Counts struct {
	done    [numClasses][numOps]atomic.Int64
	failed  [numOps]atomic.Int64
	read    [numClasses]atomic.Int64
	written [numClasses]atomic.Int64
}

// Of is how often an operation succeeded, on all files.
func (c *Counts) Of(op Op) (n int64) {
	for class := range numClasses {
		n += c.OfClass(op, class)
	}
	return n
}

// OfClass is how often an operation succeeded on files of a class.
func (c *Counts) OfClass(op Op, class Class) int64 { return c.done[class][op].Load() }

// Failed is how often an operation failed. Reads up to the end of a file are failures here: they end with io.EOF.
func (c *Counts) Failed(op Op) int64 { return c.failed[op].Load() }

// LogSyncs is how often a .log file was synced: once for each group commit of a partition.
func (c *Counts) LogSyncs() int64 { return c.OfClass(OpSync, ClassLog) }

// BytesWritten adds up what was given to writes that succeeded.
func (c *Counts) BytesWritten() (n int64) {
	for class := range numClasses {
		n += c.ClassBytesWritten(class)
	}
	return n
}

// ClassBytesWritten is BytesWritten for files of a class.
func (c *Counts) ClassBytesWritten(class Class) int64 { return c.written[class].Load() }

// ClassBytesRead adds up what successful reads of files of a class asked for. What sendfile sends is not in it.
func (c *Counts) ClassBytesRead(class Class) int64 { return c.read[class].Load() }

// Count returns a file system that counts what passes through it: two atomic additions for each call, no allocation.
func Count(fsys FS) (FS, *Counts) {
	c := &Counts{}
	return &wrapFS{fsys, c}, c
}

// before implements probe.
func (c *Counts) before(Call) verdict { return verdict{} }

// after implements probe.
func (c *Counts) after(call Call, _ verdict, err error) {
	if err != nil {
		c.failed[call.Op].Add(1)
		return
	}
	c.done[call.class][call.Op].Add(1)
	switch call.Op {
	case OpWrite:
		c.written[call.class].Add(int64(call.Len))
	case OpRead:
		c.read[call.class].Add(int64(call.Len))
	}
}
