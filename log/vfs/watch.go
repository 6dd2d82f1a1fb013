package vfs

import (
	"sync"
	"time"

	"github.com/quorlog/quorlog/internal/latency"
)

// DefaultHangLimit is long after any healthy disk has answered.
const DefaultHangLimit = 10 * time.Second

// watchTicks is how many ticks of the watch timer make up the limit. A call is noticed at most one tick late.
const watchTicks = 8

// Watchdog notices calls that hang. A hung fsync on a leader would otherwise let it lead for ever: Raft's heartbeats do
// not wait for the disk.
//
// A call's age is counted in ticks of the watch timer, not by the clock. A process that was stopped (SIGSTOP, a suspended
// machine) finds, when it goes on, calls that began long ago by the clock, though the disk had no chance to answer; since
// a timer that fell behind fires once, not once per missed tick, such a call gets its full time again.
type Watchdog struct {
	wrapFS
	tick   time.Duration
	onHang func(op, path string, since time.Time)
	syncs  latency.Histogram
	writes latency.Histogram

	mu struct {
		sync.Mutex
		flights flight // sentinel of a ring: the oldest call is flights.next
		now     int    // ticks so far
		timer   *time.Timer
		armed   bool // the timer will fire; whenever a call is under way, unless stopped
		stopped bool
	}
}

// flight is a call under way.
type flight struct {
	prev, next *flight
	op         Op
	path       string
	tick       int
	since      time.Time
	reported   bool
}

var flightPool = sync.Pool{New: func() any { return new(flight) }}

// Watch returns fsys with a watchdog: onHang is called, once for each such call, when a write, sync, truncation, creation,
// rename or sync of a directory has been under way for longer than limit (by up to an eighth). It runs on the
// watchdog's goroutine and is expected to end the process.
func Watch(fsys FS, limit time.Duration, onHang func(op, path string, since time.Time)) *Watchdog {
	w := &Watchdog{tick: max(limit/watchTicks, 1), onHang: onHang}
	w.wrapFS = wrapFS{fsys, w}
	ring := &w.mu.flights
	ring.prev, ring.next = ring, ring
	return w
}

// Guard watches something that does not go through the file system, such as a transaction of the vote store.
func (w *Watchdog) Guard(op Op, path string, do func() error) error {
	f := w.start(op, path)
	defer w.end(f)
	return do()
}

// Took tells how long calls took: those that make data durable (fsync of files and directories, and what Guard watches), and
// writes.
func (w *Watchdog) Took() (syncs, writes latency.Snapshot) {
	return w.syncs.Snapshot(), w.writes.Snapshot()
}

// Hanging tells what has been under way for longer than the limit, if anything has.
func (w *Watchdog) Hanging() (what string, hangs bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f := w.mu.flights.next; f != &w.mu.flights && f.reported {
		return f.op.String() + " of " + f.path, true
	}
	return "", false
}

// Stop ends the watchdog: calls go through unwatched from then on.
func (w *Watchdog) Stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.stopped = true
	if w.mu.timer != nil {
		w.mu.timer.Stop()
	}
}

// before implements probe.
func (w *Watchdog) before(c Call) verdict {
	switch c.Op {
	case OpWrite, OpSync, OpTruncate, OpCreate, OpRename, OpSyncDir:
		return verdict{flight: w.start(c.Op, c.Path)}
	}
	return verdict{}
}

// after implements probe.
func (w *Watchdog) after(_ Call, v verdict, _ error) {
	if v.flight != nil {
		w.end(v.flight)
	}
}

func (w *Watchdog) start(op Op, path string) *flight {
	f := flightPool.Get().(*flight)
	*f = flight{op: op, path: path, since: time.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	f.tick = w.mu.now
	last := w.mu.flights.prev
	f.prev, f.next = last, &w.mu.flights
	last.next, w.mu.flights.prev = f, f
	if !w.mu.armed && !w.mu.stopped {
		w.mu.armed = true
		if w.mu.timer == nil {
			w.mu.timer = time.AfterFunc(w.tick, w.beat)
		} else {
			w.mu.timer.Reset(w.tick)
		}
	}
	return f
}

func (w *Watchdog) end(f *flight) {
	switch f.op {
	case OpSync, OpSyncDir:
		w.syncs.Observe(time.Since(f.since))
	case OpWrite:
		w.writes.Observe(time.Since(f.since))
	}
	w.mu.Lock()
	f.prev.next, f.next.prev = f.next, f.prev
	w.mu.Unlock()
	flightPool.Put(f)
}

// beat is one run of the watch timer: see the package's list of goroutines.
func (w *Watchdog) beat() {
	for _, f := range w.look() {
		w.onHang(f.op.String(), f.path, f.since)
	}
	w.rearm() // only now: reports come one after the other
}

// rearm arms the timer for the next tick if a call is under way.
func (w *Watchdog) rearm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	ring := &w.mu.flights
	w.mu.armed = ring.next != ring && !w.mu.stopped
	if w.mu.armed {
		w.mu.timer.Reset(w.tick)
	}
}

// look counts a tick and collects the calls that have hung since the last one. A call that began between two ticks has
// seen one more tick than it has waited, hence the strict comparison.
func (w *Watchdog) look() (hung []flight) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.now++
	ring := &w.mu.flights
	for f := ring.next; f != ring && w.mu.now-f.tick > watchTicks; f = f.next {
		if !f.reported {
			f.reported = true
			hung = append(hung, *f)
		}
	}
	return hung
}
