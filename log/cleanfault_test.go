package log

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/vfs"
)

// dirtyLog has two sealed segments to be cleaned, an aborted transaction, and a file system whose calls can fail.
func dirtyLog(t *testing.T) (*fixture, *vfs.Injector) {
	t.Helper()
	f := newFixture(t, vfs.NewMem())
	in := vfs.Inject(f.fs)
	f.o.FS = in
	f.open()
	f.append(1, kv(t, frameOpt{term: 1}, "a=1"), kv(t, frameOpt{term: 1}, "a=2"), txn(t, 1, 1, 7, 0, 0), marker(1, 7, 0, false))
	f.seal()
	f.append(1, kv(t, frameOpt{term: 1}, "a=3", "b=1"))
	f.seal()
	return f, in
}

const dirtyBefore, dirtyAfter = "0 a=1 | 1 a=2 | 2 =v0 | abort | 4 a=3, 5 b=1", "- | abort | 4 a=3, 5 b=1"

// Every call of a pass that changes something fails once, with an error of the disk or because it is full. The first poisons
// the log wherever it is, the second only from the swap on; either way Open finds the log before or behind the swap.
func TestCleanFailures(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		poisoned, spared := 0, 0
		for nth := 1; ; nth++ {
			f, in := dirtyLog(t)
			rule := in.Arm(vfs.Rule{Nth: nth, Err: errno})
			_, err := f.cleaner().Clean(CleanOptions{})
			in.Disarm()
			if rule.Hits() == 0 {
				mustBe(t, err, nil)
				f.log.Close()
				break
			}
			mustBe(t, err, errno)
			if f.log.Err() == nil {
				spared++
				equal(t, errno, syscall.ENOSPC, "error that was survived")
				f.clean(CleanOptions{})
				equal(t, f.stored(), dirtyAfter, "records of the next pass")
			} else {
				poisoned++
				if len(in.AfterFailure()) > 0 {
					t.Fatalf("%v at %d: %v followed the failure", errno, nth, in.AfterFailure())
				}
				f.log.Close()
				f.fs = f.fs.(*vfs.Mem).Crash(nil, vfs.CrashOptions{})
				f.o.FS = f.fs
				f.open()
				if got := f.stored(); got != dirtyBefore && got != dirtyAfter {
					t.Fatalf("%v at %d: %s", errno, nth, got)
				}
				names, err := f.fs.List(testDir)
				mustBe(t, err, nil)
				for _, n := range names {
					if strings.HasSuffix(n, cleanSuffix) || n == swapName {
						t.Errorf("%v at %d: %s was left over", errno, nth, n)
					}
				}
				f.verify()
			}
			f.log.Close()
		}
		if poisoned == 0 || (errno == syscall.ENOSPC) != (spared > 0) {
			t.Errorf("%v: %d failures poisoned the log, %d did not", errno, poisoned, spared)
		}
	}
}

// Readers, an appender and compaction at once, for the race detector.
func TestCleanConcurrently(t *testing.T) {
	f := openFixture(t, func(o *Options) { o.SegmentBytes, o.CheckpointBytes, o.TailBytes = 2000, 3000, 500 })
	k, done := f.cleaner(), make(chan struct{})
	var crowd sync.WaitGroup
	c := &crowdOf{f: f, k: k}
	for _, do := range []func() error{c.read, c.entries, c.clean, c.clean, c.aborted} {
		crowd.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := do(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := 0; i < 300 || f.log.Stats().Swaps == 0 && !t.Failed(); i++ {
		frame := kv(t, frameOpt{term: 1, times: []int64{int64(i)}}, "a=1", string(rune('b'+i%20))+"=2")
		if i%3 == 0 {
			frame = txn(t, 1, 1, 7, 0, int32(i/3))
		}
		f.append(1, frame, marker(1, 7, 0, i%2 == 0))
		f.apply()
		f.time.add(time.Second)
	}
	close(done)
	crowd.Wait()
	f.verify()
}

type crowdOf struct {
	f *fixture
	k *Cleaner
}

func (c *crowdOf) read() error {
	l := c.f.log
	r, err := l.Read(0, l.Offsets().HighWatermark, 1<<20, true)
	if err != nil {
		return err
	}
	defer r.Release()
	_, err = r.AppendTo(nil)
	return err
}

func (c *crowdOf) entries() error {
	l := c.f.log
	for i := Index(1); i <= l.AppliedIndex(); i += 7 {
		if _, err := l.Entry(i); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowdOf) clean() error {
	_, err := c.k.Clean(CleanOptions{Everywhere: c.f.log.AppliedIndex()})
	if err == ErrCleaning {
		return nil
	}
	return err
}

func (c *crowdOf) aborted() error {
	l := c.f.log
	if _, err := l.Aborted(0, l.Offsets().HighWatermark); err != nil {
		return err
	}
	l.Segments()
	l.Size()
	if _, err := l.StartState(); err != nil {
		return err
	}
	_, err := c.k.Dirt(c.f.time.now(), 0)
	return err
}

// Offset and leader epoch of a batch lie outside of its CRC. Cleaning must not give a damaged one a slot that proves it.
func TestCleanFindsDamagedHeads(t *testing.T) {
	f := openFixture(t)
	f.append(1, kv(t, frameOpt{term: 1}, "a=1"), kv(t, frameOpt{term: 1}, "b=1"))
	f.seal()
	f.append(2, kv(t, frameOpt{term: 2}, "a=2"))
	f.seal()
	for _, at := range []int64{6, posLeaderEpoch + 3} {
		for _, index := range []Index{2, 3} { // the last frame of a segment, and the first
			o := f.o
			o.FS = f.fs.(*vfs.Mem).CrashClone(nil, vfs.CrashOptions{Survive: 100})
			l, err := Open(o)
			mustBe(t, err, nil)
			p, err := l.partOfIndex(index)
			mustBe(t, err, nil)
			mustBe(t, p.load(), nil)
			flip(t, o.FS, p.seg.path(logSuffix), int64(p.table.at(int(index-p.seg.first)).pos)+at)
			p.release()
			_, err = NewCleaner(l).Clean(CleanOptions{})
			mustBe(t, err, ErrCorrupt)
			_, err = l.Entry(index)
			mustBe(t, err, ErrCorrupt)
			mustBe(t, l.Close(), nil)
		}
	}
}

// A log rots and is cleaned before anything else reads it. Either the damage is told, or the outcome is that of a sound log.
func TestBitRotBeforeCleaning(t *testing.T) {
	f := openFixture(t, small)
	for i := range 12 {
		term := Epoch(1 + i/3)
		f.append(term, kv(t, frameOpt{term: term}, fmt.Sprintf("k%d=%d", i%5, i)), config(fmt.Sprint(i)))
		if i%4 == 3 {
			f.append(term, txn(t, 1, term, 1, 0, int32(i/4)), marker(term, 1, 0, i%8 == 3))
		}
	}
	f.seal()
	cleaned := func(seed uint64, flips int) (entries []Entry, records []byte, aborted []AbortedTxn, err error) {
		o := f.o
		o.FS = f.fs.(*vfs.Mem).CrashClone(rand.New(rand.NewPCG(seed, 7)), vfs.CrashOptions{Survive: 100, Flips: flips})
		l, err := Open(o)
		if err != nil {
			return nil, nil, nil, err
		}
		defer l.closeFilesLocked()
		if _, err := NewCleaner(l).Clean(CleanOptions{Everywhere: l.LastIndex()}); err != nil {
			return nil, nil, nil, err
		}
		for i := Index(1); i <= l.LastIndex(); i++ {
			e, err := l.Entry(i)
			if err != nil {
				return nil, nil, nil, err
			}
			entries = append(entries, e)
		}
		r, err := l.Read(0, l.Offsets().HighWatermark, 1<<20, true)
		if err != nil {
			return nil, nil, nil, err
		}
		defer r.Release()
		if records, err = r.AppendTo(nil); err == nil {
			aborted, err = l.Aborted(0, l.Offsets().LogEnd)
		}
		return entries, records, aborted, err
	}
	entries, records, aborted, err := cleaned(0, 0)
	mustBe(t, err, nil)
	found := 0
	for seed := range uint64(1000) {
		e, r, a, err := cleaned(seed, 1)
		if err != nil {
			typed(t, seed, err)
			found++
			continue
		}
		if !reflect.DeepEqual(e, entries) || !bytes.Equal(r, records) || !slices.Equal(a, aborted) {
			t.Fatalf("seed %d: damage was cleaned into the log", seed)
		}
	}
	if found < 200 {
		t.Fatalf("only %d flips were found", found)
	}
}
