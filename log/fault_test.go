package log

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/quorlog/quorlog/log/vfs"
)

// TestFirstFailureStopsTheLog lets every call that changes something fail, one per run. The operation under way reports
// ErrFailed, every later one too, nothing that touches the disk follows, above all no second fsync, and what was
// acknowledged before is there after a power cut.
func TestFirstFailureStopsTheLog(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpSync, vfs.OpTruncate, vfs.OpSyncDir, vfs.OpRename, vfs.OpCreate, vfs.OpRemove} {
		for _, did := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/did=%t", op, did), func(t *testing.T) {
				n := 0
				for nth := 1; failOnce(t, op, nth, did); nth++ {
					n++
				}
				if n == 0 {
					t.Fatal("nothing failed")
				}
			})
		}
	}
}

// failOnce runs a life with one failing call; false when there were fewer calls.
func failOnce(t *testing.T, op vfs.Op, nth int, did bool) bool {
	t.Helper()
	f := newFixture(t, vfs.NewMem())
	mem := f.fs.(*vfs.Mem)
	in := vfs.Inject(mem)
	f.o.FS, f.o.SegmentBytes, f.o.CheckpointBytes = in, 400, 700
	rule := in.Arm(vfs.Rule{Op: op, Nth: nth, Err: syscall.EIO, Did: did})
	acked, err := life(t, f)
	if rule.Hits() == 0 {
		mustBe(t, err, nil)
		return false
	}
	if f.log != nil && err != nil {
		mustBe(t, err, ErrFailed)
		mustBe(t, err, syscall.EIO)
		mustBe(t, f.log.Err(), ErrFailed)
		for name, call := range writers(f) {
			if err := call(); !errors.Is(err, ErrFailed) {
				t.Fatalf("%v %d: %s after the failure: %v", op, nth, name, err)
			}
		}
		f.log.Close()
	}
	if err == nil {
		t.Fatalf("%v %d: nobody noticed", op, nth)
	}
	for _, c := range in.AfterFailure() {
		t.Fatalf("%v %d: %v after the failure", op, nth, c)
	}
	f.fs = mem.Crash(nil, vfs.CrashOptions{})
	f.o.FS = f.fs
	f.open()
	if got := f.log.LastIndex(); got < acked {
		t.Fatalf("%v %d: last is %d, %d was acknowledged", op, nth, got, acked)
	}
	f.verify()
	return true
}

func writers(f *fixture) map[string]func() error {
	return map[string]func() error{
		"append":     func() error { return f.log.Append(f.entries(9, noop())) },
		"truncate":   func() error { return f.log.TruncateSuffix(f.log.LastIndex()) },
		"checkpoint": func() error { return f.log.Checkpoint(1 << 40) },
		"roll":       func() error { _, err := f.log.Roll(f.time.now()); return err },
		"drop":       func() error { _, err := f.log.DropSegments(); return err },
		"reset":      func() error { return f.log.Reset(State{Index: 99, Term: 9}) },
	}
}

// life does one of everything. It returns the smallest last index that must survive a power cut.
func life(t *testing.T, f *fixture) (acked Index, err error) {
	l, err := Open(f.o)
	if err != nil {
		return 0, err
	}
	f.log = l
	store := func(frames ...[]byte) error {
		err := l.Append(f.entries(1, frames...))
		if err == nil {
			acked = l.LastIndex()
		}
		return err
	}
	for i := range 12 {
		if err := store(txn(t, 2, 1, 1, 0, int32(2*i)), plain(t, 1, 1)); err != nil {
			return acked, err
		}
		if i%4 != 3 {
			continue
		}
		if err := store(marker(1, 1, 0, false)); err != nil {
			return acked, err
		}
		for k := l.AppliedIndex() + 1; k <= l.LastIndex(); k++ {
			e, err := l.Entry(k)
			if err != nil {
				return acked, err
			}
			if l.Apply(e); l.Err() != nil {
				return acked, l.Err()
			}
		}
	}
	if err := l.Checkpoint(l.LastIndex()); err != nil {
		return acked, err
	}
	for range 6 {
		if err := store(plain(t, 5, 1), plain(t, 1, 1)); err != nil {
			return acked, err
		}
	}
	if err := store(logStart(9)); err != nil {
		return acked, err
	}
	cut := l.LastIndex() - 8
	acked = cut - 1
	if err := l.TruncateSuffix(cut); err != nil {
		return acked, err
	}
	if err := store(logStart(20)); err != nil {
		return acked, err
	}
	for k := l.AppliedIndex() + 1; k <= l.LastIndex(); k++ {
		e, err := l.Entry(k)
		if err != nil {
			return acked, err
		}
		l.Apply(e)
	}
	if _, err := l.DropSegments(); err != nil {
		return acked, err
	}
	s, err := l.StartState()
	if err != nil {
		return acked, err
	}
	acked = 0 // a reset that was cut short may have happened
	if err := l.Reset(s); err != nil {
		return acked, err
	}
	acked = s.Index
	if err := store(plain(t, 1, 1)); err != nil {
		return acked, err
	}
	return acked, l.Close()
}

func TestFullDiskStopsTheLog(t *testing.T) {
	f := openFixture(t)
	f.append(1, plain(t, 1, 1))
	f.fs.(*vfs.Mem).SetFree(100)
	err := f.log.Append(f.entries(1, frame(t, 1, frameOpt{term: 1, size: 1000})))
	mustBe(t, err, ErrFailed)
	mustBe(t, err, syscall.ENOSPC)
	f.log.Close()
	f.crashOnly(vfs.CrashOptions{Kill: true})
	f.fs.(*vfs.Mem).SetFree(1 << 30)
	f.open()
	equal(t, f.log.LastIndex(), 1, "last")
	if f.log.Stats().OpenCutBytes == 0 {
		t.Fatal("the half written frame was not cut")
	}
	f.verify()
}

func TestClosedLog(t *testing.T) {
	f := openFixture(t)
	f.append(1, plain(t, 1, 1))
	l := f.log
	mustBe(t, l.Close(), nil)
	mustBe(t, l.Close(), nil)
	for name, call := range writers(f) {
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	_, err := l.Entry(1)
	mustBe(t, err, ErrClosed)
	_, err = l.Read(0, 1, 1, true)
	mustBe(t, err, ErrClosed)
	_, err = l.StartState()
	mustBe(t, err, ErrClosed)
	equal(t, l.Size() >= 0, true, "size")
	equal(t, len(l.Segments()), 0, "segments")
	l.Apply(Entry{Index: 1, Kind: KindNoop})
	mustBe(t, l.Err(), nil)
}
