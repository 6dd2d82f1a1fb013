package log

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorlog/quorlog/log/vfs"
)

var oneSeed = flag.Uint64("log.seed", 0, "run the crash history of this seed alone")

// TestCrashHistories runs random histories of every operation against the model, with crashes at random calls: power cuts
// that lose, tear and keep unsynced sectors, lengths and names, and kills that keep everything. After every crash the log
// must hold what was acknowledged, byte for byte, and nothing but a prefix of what was under way behind it.
//
// A failure prints its seed; -log.seed runs it again.
func TestCrashHistories(t *testing.T) {
	first, n := uint64(1), uint64(*crashes)
	if *oneSeed != 0 {
		first, n = *oneSeed, 1
	}
	swapped := 0
	for seed := first; seed < first+n; seed++ {
		rng := rand.New(rand.NewPCG(seed, 77))
		h := &history{t: t, draw: rng.IntN, note: func() string { return fmt.Sprintf("seed %d (-log.seed=%d)", seed, seed) }}
		h.run()
		if t.Failed() {
			return
		}
		swapped += h.swapped
	}
	if t.Logf("seeds %d to %d: %d histories, %d segments cleaned", first, first+n-1, n, swapped); swapped == 0 && n > 100 {
		t.Error("nothing was cleaned")
	}
}

// TestCrashHistoriesShrink is the same for rapid, which shrinks what fails.
func TestCrashHistoriesShrink(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := &history{t: rt, draw: func(n int) int { return rapid.IntRange(0, n-1).Draw(rt, "choice") }, note: func() string { return "" }}
		h.run()
	})
}

type failer interface {
	Fatalf(format string, args ...any)
}

// history is one run.
type history struct {
	t    failer
	draw func(n int) int
	note func() string
	ops  []string

	mem   *vfs.Mem
	in    *vfs.Injector
	after *vfs.Mem // what a crash left, until it is opened
	o     Options
	log   *Log
	m     *model
	time  *clock
	keep  time.Duration // how long compaction keeps tombstones

	armed      bool  // a crash may cut this step short
	swapped    int   // segments that compaction replaced
	everywhere Index // up to here all replicas had everything, when it was cleaned

	// What was under way when the crash came. nil: nothing that shows.
	pending func() (done *model)
}

func (h *history) failf(format string, args ...any) {
	h.t.Fatalf("%s: %s\nhistory:\n%s", h.note(), fmt.Sprintf(format, args...), joinLines(h.ops))
}

func joinLines(lines []string) string {
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString("  " + l + "\n")
	}
	return b.String()
}

func (h *history) chance(oneIn int) bool { return h.draw(oneIn) == 0 }

func (h *history) logf(format string, args ...any) {
	h.ops = append(h.ops, fmt.Sprintf(format, args...))
}

func (h *history) run() {
	h.time = newClock()
	h.mem = vfs.NewMem()
	if err := h.mem.MkdirAll("data"); err != nil {
		h.failf("%v", err)
	}
	if err := h.mem.SyncDir("/"); err != nil {
		h.failf("%v", err)
	}
	h.m = newModel()
	h.o = Options{
		Dir: testDir, Now: h.time.now,
		SegmentBytes:      int64(200 + h.draw(3000)),
		SegmentIndexBytes: int64(indexHeadSize + (2+h.draw(40))*slotSize),
		CheckpointBytes:   int64(100 + h.draw(4000)),
		TailBytes:         int64(1 + h.draw(2000)),
		mapSlots:          1 + h.draw(20),
	}
	h.keep = time.Duration(h.draw(2)) * time.Hour
	h.mount(h.mem)
	h.open()
	for range 10 + h.draw(40) {
		h.time.add(time.Duration(h.draw(1000)) * time.Millisecond)
		h.step()
		h.check()
	}
	h.replicate()
	if err := h.log.Close(); err != nil {
		h.failf("close: %v", err)
	}
}

func (h *history) mount(m *vfs.Mem) {
	h.mem, h.after = m, nil
	h.in = vfs.Inject(m)
	h.o.FS = h.in
}

// armCrash lets the file system crash at one of the next calls that change something.
func (h *history) armCrash() { h.armCrashWithin(14) }

func (h *history) armCrashWithin(calls int) {
	var opt vfs.CrashOptions
	what := "power cut"
	switch h.draw(4) {
	case 0:
		opt.Kill, what = true, "kill"
	case 1:
	default:
		opt.Survive, opt.Garbage = -1, h.chance(2)
	}
	nth, seed := 1+h.draw(calls), uint64(h.draw(1<<20))
	h.logf("  (%s at call %d)", what, nth)
	mem := h.mem
	h.in.Arm(vfs.Rule{Nth: nth, Do: func(c vfs.Call) {
		h.logf("  crash before %s", c)
		h.after = mem.Crash(rand.New(rand.NewPCG(seed, 5)), opt)
	}})
}

// step does one operation, which a crash may cut short.
func (h *history) step() {
	h.pending = nil
	if h.armed = h.chance(4); h.armed {
		h.armCrash()
	}
	switch c := h.draw(24); {
	case c < 9:
		h.append()
	case c < 12:
		h.apply()
	case c < 13:
		h.truncate()
	case c < 14:
		h.logf("checkpoint")
		h.must(h.log.Checkpoint(h.m.last()))
	case c < 15:
		h.drop()
	case c < 16:
		h.reset()
	case c < 17:
		h.close()
	case c < 20:
		h.clean()
	case c < 22:
		h.log.SetLimits(SegmentLimits{SegmentBytes: int64(200 + h.draw(3000)), SegmentAge: time.Duration(1+h.draw(5)) * time.Second})
		h.logf("roll")
		_, err := h.log.Roll(h.time.now())
		h.must(err)
	default:
		h.logf("crash between")
		if h.after == nil {
			h.after = h.mem.Crash(rand.New(rand.NewPCG(uint64(h.draw(1<<20)), 6)), vfs.CrashOptions{Survive: -1, Garbage: true, Kill: h.chance(3)})
		}
	}
	h.in.Disarm()
	if h.after != nil {
		h.recover()
	}
}

// must accepts an error only from the crash.
func (h *history) must(err error) bool {
	if err == nil {
		return true
	}
	if h.after == nil || !errors.Is(err, vfs.ErrCrashed) {
		h.failf("%v", err)
	}
	return false
}

// recover opens what a crash left; the first attempts may crash as well.
func (h *history) recover() {
	h.log.closeFilesLocked()
	for {
		h.mount(h.after)
		if !h.chance(4) {
			break
		}
		h.armCrash()
		l, err := Open(h.o)
		if h.after == nil {
			h.in.Disarm()
			if err != nil {
				h.failf("open: %v", err)
			}
			h.log = l
			h.adopt()
			return
		}
		if err == nil {
			l.closeFilesLocked()
		}
	}
	h.open()
}

func (h *history) open() {
	l, err := Open(h.o)
	if err != nil {
		var b bytes.Buffer
		Dump(h.mem, testDir, &b, DumpOptions{})
		h.failf("open: %v\n%s", err, b.String())
	}
	h.log = l
	h.adopt()
}

// adopt moves the model to what the log came back with, if it may be that.
func (h *history) adopt() {
	h.logf("opened: first %d, last %d, applied %d", h.log.FirstIndex(), h.log.LastIndex(), h.log.AppliedIndex())
	if h.pending != nil {
		if done := h.pending(); done != nil {
			h.m = done
		}
		h.pending = nil
	}
	applied := h.log.AppliedIndex()
	if applied < h.m.durable || applied > h.m.applied {
		h.failf("applied %d, want %d..%d", applied, h.m.durable, h.m.applied)
	}
	h.m.applied = applied
	h.checkVerify()
	// What Open found must be durable now.
	if h.chance(8) {
		h.logf("power cut right after open")
		h.log.closeFilesLocked()
		last := h.log.LastIndex()
		h.mount(h.mem.Crash(nil, vfs.CrashOptions{}))
		l, err := Open(h.o)
		if err != nil {
			h.failf("open again: %v", err)
		}
		h.log = l
		if l.LastIndex() != last {
			h.failf("last is %d after a power cut, was %d", l.LastIndex(), last)
		}
	}
}

func (h *history) checkVerify() {
	r, err := Verify(h.mem, testDir)
	if err != nil {
		h.failf("verify: %v", err)
	}
	if len(r.Problems) > 0 || r.TornBytes > 0 {
		var b bytes.Buffer
		Dump(h.mem, testDir, &b, DumpOptions{})
		h.failf("verify: %d torn bytes, problems %q\n%s", r.TornBytes, r.Problems, b.String())
	}
}
