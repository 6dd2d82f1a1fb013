package vfs

import (
	"sync"
	"time"
)

// Watchdog notices operations that hang. A hung fsync on a leader would otherwise let it lead for ever: Raft's heartbeats
// do not wait for the disk.
//
// Goroutines: none while nothing is under way. Each operation that changes something arms a timer; the timer's own
// goroutine calls onHang.
type Watchdog struct {
	wrapFS
	limit  time.Duration
	onHang func(op Op, path string, limit time.Duration)
	once   sync.Once
}

// DefaultHangLimit is long after any healthy disk has answered.
const DefaultHangLimit = 10 * time.Second

// Watch returns fsys with a watchdog: onHang is called once, when a write, sync, truncate, rename or sync of a directory
// has been under way for longer than limit. It is expected to end the process.
func Watch(fsys FS, limit time.Duration, onHang func(op Op, path string, limit time.Duration)) *Watchdog {
	w := &Watchdog{limit: limit, onHang: onHang}
	w.wrapFS = wrapFS{fsys, w.apply}
	return w
}

// Guard watches an operation that does not go through the file system, such as a transaction of the vote store.
func (w *Watchdog) Guard(op Op, path string, do func() error) error { return w.apply(op, path, 0, do) }

func (w *Watchdog) apply(op Op, path string, _ int, do func() error) error {
	switch op {
	case OpWrite, OpSync, OpTruncate, OpRename, OpSyncDir:
	default:
		return do()
	}
	timer := time.AfterFunc(w.limit, func() {
		w.once.Do(func() { w.onHang(op, path, w.limit) })
	})
	defer timer.Stop()
	return do()
}
