package vfs

import (
	"errors"
	"io"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestInjectErrors(t *testing.T) {
	in := Inject(NewMem(),
		Rule{Op: OpSync, Path: "a", Nth: 2, Err: syscall.EIO},
		Rule{Op: OpWrite, Path: "b", Err: syscall.ENOSPC, Last: -1},
		Rule{Op: OpWrite, Match: regexp.MustCompile(`^c\d$`).MatchString, Nth: 2, Last: 3, Err: syscall.EINTR})
	a := create(t, in, "a", "1")
	must(t, a.Sync())
	if err := a.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the second sync answers %v", err)
	}
	must(t, a.Sync())
	b, err := in.Create("b")
	must(t, err)
	for range 3 {
		if _, err := b.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a write on a full disk answers %v", err)
		}
	}
	want := []string{"create a", "write a", "sync a", "sync a: sync a: input/output error", "sync a", "create b",
		"write b: write b: no space left on device", "write b: write b: no space left on device", "write b: write b: no space left on device"}
	if got := in.Trace(); !slices.Equal(got, want) {
		t.Errorf("trace %q", got)
	}
	in.ResetTrace()
	if got := in.Trace(); len(got) > 0 {
		t.Errorf("trace after the reset %q", got)
	}
	c := create(t, in, "c1", "1")
	for i, want := range []error{syscall.EINTR, syscall.EINTR, nil} {
		if err := c.WriteVec([][]byte{[]byte("x")}, 0); !errors.Is(err, want) {
			t.Errorf("write %d answers %v", i+2, err)
		}
	}
}

// TestInjectEveryOperation: each kind can fail, without being done, and with.
func TestInjectEveryOperation(t *testing.T) {
	calls := map[Op]func(fsys FS, f File) error{
		OpRead:     func(_ FS, f File) error { _, err := f.ReadAt(make([]byte, 1), 0); return err },
		OpWrite:    func(_ FS, f File) error { _, err := f.WriteAt([]byte("B"), 0); return err },
		OpSync:     func(_ FS, f File) error { return f.Sync() },
		OpTruncate: func(_ FS, f File) error { return f.Truncate(0) },
		OpCreate:   func(fsys FS, _ File) error { _, err := fsys.Create("new"); return err },
		OpOpen:     func(fsys FS, _ File) error { _, err := fsys.Open("a"); return err },
		OpRename:   func(fsys FS, _ File) error { return fsys.Rename("a", "new") },
		OpRemove:   func(fsys FS, _ File) error { return fsys.Remove("a") },
		OpSyncDir:  func(fsys FS, _ File) error { return fsys.SyncDir("/") },
		OpMkdir:    func(fsys FS, _ File) error { return fsys.MkdirAll("new") },
		OpMap:      func(fsys FS, _ File) error { _, err := fsys.Map("a", 1); return err },
		OpLock:     func(fsys FS, _ File) error { _, err := fsys.Lock("new"); return err },
	}
	for op := OpRead; op < numOps; op++ {
		for _, did := range []bool{false, true} {
			m := NewMem()
			in := Inject(m)
			f := create(t, in, "a", "A")
			rule := in.Arm(Rule{Op: op, Err: syscall.EIO, Did: did})
			before := tree(t, m)
			if err := calls[op](in, f); !errors.Is(err, syscall.EIO) {
				t.Errorf("%v answers %v", op, err)
			}
			if rule.Hits() != 1 {
				t.Errorf("%v: %d hits", op, rule.Hits())
			}
			changed := tree(t, m) != before
			if visible := op.Changes() && op != OpSync && op != OpSyncDir && op != OpMkdir || op == OpLock; changed != (did && visible) {
				t.Errorf("%v with Did %v: changed %v", op, did, changed)
			}
		}
	}
	if rule := (Rule{}); rule.fits(Call{Op: OpRead}) || !rule.fits(Call{Op: OpMkdir}) {
		t.Error("OpAny means every kind that changes something")
	}
	if Op(200).String() != "unknown" || OpSyncDir.String() != "syncdir" {
		t.Error("names of operations")
	}
}

// TestInjectShortWrites: a prefix reaches the file, in both ways of writing.
func TestInjectShortWrites(t *testing.T) {
	m := NewMem()
	in := Inject(m,
		Rule{Op: OpWrite, Path: "a", Nth: 1, Short: 3},
		Rule{Op: OpWrite, Path: "b", Nth: 1, Short: -1, Err: syscall.ENOSPC},
		Rule{Op: OpWrite, Path: "c", Nth: 1, Short: 100})
	a, b := mustCreate(t, in, "a"), mustCreate(t, in, "b")
	if n, err := a.WriteAt([]byte("abcdef"), 0); n != 3 || !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := b.WriteVec([][]byte{[]byte("12"), []byte("34"), []byte("56")}, 0); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the vector answers %v", err)
	}
	if _, err := mustCreate(t, in, "c").WriteAt([]byte("c"), 0); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("c answers %v", err)
	}
	if got := tree(t, m); got != "/a=abc /b=123 /c=c" {
		t.Errorf("there is %q", got)
	}
}

func mustCreate(t *testing.T, fsys FS, name string) File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	return f
}

// TestInjectLies: the caller is told that all is well, the power cut shows otherwise.
func TestInjectLies(t *testing.T) {
	m := NewMem()
	in := Inject(m, Rule{Op: OpSync, Lie: true, Last: -1})
	f := create(t, in, "a", "gone")
	must(t, in.SyncDir("/"))
	must(t, f.Sync())
	if got := read(t, m.CrashClone(nil, CrashOptions{}), "a"); got != "" {
		t.Errorf("a holds %q", got)
	}
	in.Disarm()
	must(t, f.Sync())
	if got := read(t, m.CrashClone(nil, CrashOptions{}), "a"); got != "gone" {
		t.Errorf("after an honest sync a holds %q", got)
	}
	in.Arm(Rule{Op: OpWrite, Lie: true})
	if n, err := f.WriteAt([]byte("xx"), 0); n != 2 || err != nil || read(t, in, "a") != "gone" {
		t.Errorf("a lying write: %d, %v", n, err)
	}
	in.Arm(Rule{Op: OpOpen, Lie: true})
	if g, err := in.Open("a"); g == nil || err != nil {
		t.Errorf("no file can be made up: %v, %v", g, err)
	}
}

func TestInjectHangsAndDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		in := Inject(NewMem())
		f := create(t, in, "a", "1")
		in.Arm(Rule{Op: OpSync, Hang: release})
		in.Arm(Rule{Op: OpTruncate, Delay: time.Hour})
		done := make(chan error, 1)
		go func() { done <- f.Sync() }()
		synctest.Wait()
		select {
		case <-done:
			t.Error("the sync did not hang")
		default:
		}
		close(release)
		must(t, <-done)
		start := time.Now()
		must(t, f.Truncate(0))
		if took := time.Since(start); took != time.Hour {
			t.Errorf("the truncation took %v", took)
		}
	})
}

// TestInjectHangOverACrash: a call that hung while the power went must not reach the new file system.
func TestInjectHangOverACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, release := NewMem(), make(chan struct{})
		f := durable(t, m, "a", "A")
		must(t, f.Close())
		in := Inject(m, Rule{Op: OpWrite, Hang: release})
		f, err := in.Open("a")
		must(t, err)
		done := make(chan error, 1)
		go func() { _, err := f.WriteAt([]byte("late"), 0); done <- err }()
		synctest.Wait()
		after := m.Crash(nil, CrashOptions{Kill: true})
		close(release)
		if err := <-done; !errors.Is(err, ErrCrashed) || read(t, after, "a") != "A" {
			t.Errorf("the late write answers %v, the file holds %q", err, read(t, after, "a"))
		}
	})
}

func TestArmAndDisarm(t *testing.T) {
	in := Inject(NewMem())
	first, second := in.Arm(Rule{Op: OpWrite, Err: syscall.EIO, Last: -1}), in.Arm(Rule{Op: OpWrite, Err: syscall.ENOSPC, Nth: 2, Last: -1})
	f := mustCreate(t, in, "a")
	put := func() error { _, err := f.WriteAt([]byte("x"), 0); return err }
	if err := put(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the first rule decides: %v", err)
	}
	first.Disarm()
	first.Disarm()
	if err := put(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("the second rule has counted too: %v", err)
	}
	second.Disarm()
	must(t, put())
	if first.Hits() != 1 || second.Hits() != 1 {
		t.Errorf("hits %d, %d", first.Hits(), second.Hits())
	}
}

// TestAfterFailure shows a caller that stops, and one that does not.
func TestAfterFailure(t *testing.T) {
	in := Inject(NewMem(), Rule{Op: OpSync, Err: syscall.EIO})
	f := create(t, in, "a", "1")
	if len(in.AfterFailure()) != 0 {
		t.Error("nothing has failed yet")
	}
	if f.Sync() == nil {
		t.Fatal("the sync did not fail")
	}
	if got := in.AfterFailure(); len(got) != 0 {
		t.Errorf("after the failure: %v", got)
	}
	must(t, f.Sync())
	if got := in.AfterFailure(); len(got) != 1 || got[0].Op != OpSync {
		t.Errorf("after the failure: %v", got)
	}
}

func TestTraceIsBounded(t *testing.T) {
	in := Inject(NewMem())
	f := mustCreate(t, in, "a")
	for range maxTrace + 10 {
		must(t, f.Sync())
	}
	if n := len(in.Calls()); n > maxTrace || n < maxTrace/2 {
		t.Errorf("%d calls are remembered", n)
	}
}

// TestConcurrentUse gives the race detector something to look at: all wrappers, stacked, from several goroutines.
func TestConcurrentUse(t *testing.T) {
	counted, counts := Count(Inject(NewMem(), Rule{Op: OpWrite, Path: "3", Nth: 5, Err: syscall.EIO}))
	fsys := Watch(counted, time.Minute, func(op, path string, _ time.Time) { t.Errorf("%s %s hangs", op, path) })
	defer fsys.Stop()
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			name := string(rune('0' + i))
			f, err := fsys.Create(name)
			if err != nil {
				t.Error(err)
				return
			}
			for j := range int64(200) {
				err := f.WriteVec([][]byte{[]byte("abc")}, j*3)
				if failed := err != nil; failed != (i == 3 && j == 4) {
					t.Errorf("write %d of file %d: %v", j, i, err)
				}
				if f.Sync() != nil {
					t.Error("sync")
				}
				if _, err := f.ReadAt(make([]byte, 3), j*3); err != nil && j != 4 {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if counts.Of(OpWrite) != 799 || counts.Failed(OpWrite) != 1 || counts.Of(OpSync) != 800 {
		t.Errorf("%d writes, %d failed, %d syncs", counts.Of(OpWrite), counts.Failed(OpWrite), counts.Of(OpSync))
	}
}
