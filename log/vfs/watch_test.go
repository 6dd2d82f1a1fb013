package vfs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const limit = 8 * time.Second

// TestWatchdogSeesAHungCall: once for each call, between the limit and an eighth more, with the time of its start.
func TestWatchdogSeesAHungCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var reports []string
		in := Inject(NewMem())
		fsys := Watch(in, limit, func(op, path string, since time.Time) {
			if age := time.Since(since); age < limit || age > limit+limit/watchTicks {
				t.Errorf("%s %s is reported after %v", op, path, age)
			}
			reports = append(reports, op+" "+path)
		})
		f := create(t, fsys, "a", "1")
		must(t, f.Sync())
		in.Arm(Rule{Op: OpSync, Hang: release})
		in.Arm(Rule{Op: OpRename, Hang: release})
		done := make(chan error, 3)
		go func() { done <- f.Sync() }()
		time.Sleep(limit / 3)
		go func() { done <- fsys.Rename("a", "b") }()
		go func() { done <- fsys.Guard(OpSync, "votes", func() error { <-release; return nil }) }()
		if what, hangs := fsys.Hanging(); hangs {
			t.Errorf("%s hangs, after a third of the limit", what)
		}
		time.Sleep(4 * limit)
		if what, hangs := fsys.Hanging(); !hangs || !strings.HasPrefix(what, "sync of ") {
			t.Errorf("%q, %v", what, hangs)
		}
		close(release)
		for range 3 {
			must(t, <-done)
		}
		if what, hangs := fsys.Hanging(); hangs {
			t.Errorf("%s hangs, after its end", what)
		}
		if syncs, writes := fsys.Took(); syncs.Count != 3 || syncs.Sum < 8*limit || writes.Count != 1 || writes.Sum != 0 {
			t.Errorf("syncs %+v, writes %+v", syncs, writes)
		}
		slices.Sort(reports)
		if got, want := fmt.Sprint(reports), "[rename b sync a sync votes]"; got != want {
			t.Errorf("reported %s, want %s", got, want)
		}
	})
}

// TestWatchdogLetsSlowCallsBe: a disk that answers just in time, over and over, is no hung disk.
func TestWatchdogLetsSlowCallsBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := Watch(Inject(NewMem(), Rule{Delay: limit - 1, Last: -1}, Rule{Op: OpRead, Delay: 3 * limit}), limit,
			func(op, path string, _ time.Time) { t.Errorf("%s %s is reported", op, path) })
		f := create(t, fsys, "a", "1")
		for range 5 {
			must(t, f.Sync())
			time.Sleep(limit / 7)
			must(t, f.Truncate(0))
			must(t, fsys.SyncDir("/"))
		}
		if _, err := f.ReadAt(make([]byte, 1), 0); err == nil {
			t.Error("the file is empty")
		}
	})
}

// TestWatchdogForgivesAPause: a process that was stopped for an hour finds one tick, not an hour's worth, and gives the
// calls that were under way their full time again.
func TestWatchdogForgivesAPause(t *testing.T) {
	w := Watch(NewMem(), time.Hour, func(string, string, time.Time) {})
	defer w.Stop()
	f := w.start(OpSync, "a")
	f.since = f.since.Add(-time.Hour)
	for tick := range watchTicks {
		if hung := w.look(); len(hung) > 0 {
			t.Fatalf("reported at tick %d", tick+1)
		}
	}
	if hung := w.look(); len(hung) != 1 {
		t.Error("not reported after its full time")
	}
	w.end(f)
}

// TestWatchdogRests: no timer is left once nothing is under way, so an idle process is not woken.
func TestWatchdogRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Watch(NewMem(), limit, nil)
		f := create(t, w, "a", "1")
		time.Sleep(limit)
		now := func() (int, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.mu.now, w.mu.armed
		}
		if ticks, armed := now(); ticks != 1 || armed {
			t.Errorf("%d ticks in an idle time, armed %v", ticks, armed)
		}
		must(t, f.Sync())
		if _, armed := now(); !armed {
			t.Error("not armed again")
		}
		w.Stop()
		must(t, f.Sync())
		time.Sleep(limit)
		if ticks, _ := now(); ticks != 1 {
			t.Error("ticks after Stop")
		}
	})
}
