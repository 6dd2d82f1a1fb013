package log

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/quorlog/quorlog/log/batch"
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
	for seed := first; seed < first+n; seed++ {
		rng := rand.New(rand.NewPCG(seed, 77))
		h := &history{t: t, draw: rng.IntN, note: func() string { return fmt.Sprintf("seed %d (-log.seed=%d)", seed, seed) }}
		h.run()
		if t.Failed() {
			return
		}
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
	h.mount(h.mem)
	h.open()
	for range 10 + h.draw(40) {
		h.time.add(time.Duration(h.draw(1000)) * time.Millisecond)
		h.step()
		h.check()
	}
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
func (h *history) armCrash() {
	var opt vfs.CrashOptions
	what := "power cut"
	switch h.draw(4) {
	case 0:
		opt.Kill, what = true, "kill"
	case 1:
	default:
		opt.Survive, opt.Garbage = -1, h.chance(2)
	}
	nth, seed := 1+h.draw(14), uint64(h.draw(1<<20))
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
	armed := h.chance(4)
	if armed {
		h.armCrash()
	}
	switch c := h.draw(20); {
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
	case c < 18:
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

func (h *history) append() {
	term := h.m.view().term + Epoch(h.draw(8)/7)
	if term == 0 {
		term = 1
	}
	n := 1 + h.draw(4)
	es := make([]Entry, n)
	view := h.m.view().clone()
	refused := make([]bool, n)
	for i := range es {
		es[i] = Entry{Index: h.m.last() + 1 + Index(i), Term: term, Frame: h.frame(&view, term)}
		hd, _ := batch.ParseHeader(es[i].Frame)
		e := es[i]
		e.Frame = bytes.Clone(e.Frame)
		e.Kind = KindOf(e.Frame)
		if e.Kind == KindBatch && hd.BaseOffset == batch.Unstamped && view.refuses(hd, term) {
			refused[i] = true
			e.Kind, e.Frame = KindRefused, InternalFrame(KindRefused, nil)
		}
		batch.Stamp(e.Frame, view.end, term)
		view = view.behind(e)
	}
	h.logf("append %d from %d in term %d", n, es[0].Index, term)
	before := h.m
	h.pending = func() *model {
		got := h.log.LastIndex()
		if got < before.last() || got > before.last()+Index(n) {
			h.failf("last is %d after an append from %d of %d", got, before.last()+1, n)
		}
		for _, e := range es[:got-before.last()] {
			before.store(e)
		}
		return before
	}
	if !h.must(h.log.Append(es)) {
		return
	}
	h.pending = nil
	for i, e := range es {
		if (e.Kind == KindRefused) != refused[i] {
			h.failf("index %d is %v, refused should be %t", e.Index, e.Kind, refused[i])
		}
		h.m.store(e)
	}
}

// frame draws one frame that could come next.
func (h *history) frame(v *refView, term Epoch) []byte {
	id := int64(1 + h.draw(3))
	p, ok := v.producers[id]
	if !ok {
		p = refProducer{last: -1, txn: -1}
	}
	o := frameOpt{term: term, times: []int64{int64(h.draw(1000))}, size: 1 + h.draw(60)}
	n := 1 + h.draw(3)
	seq := p.last + 1
	epoch := max(p.epoch, 0)
	switch h.draw(14) {
	case 0:
		return noop()
	case 1:
		return config(fmt.Sprint("config", h.draw(100)))
	case 2:
		a := h.m.state()
		return logStart(a.start + Offset(h.draw(int(a.high-a.start)+1)))
	case 3:
		return marker(term, id, epoch+int16(h.draw(2)), h.chance(2))
	case 4:
		o.term-- // checked in an older term
	case 5:
		o.prod = &batch.Producer{ID: id, Epoch: epoch, Sequence: max(seq+int32(h.draw(5))-2, 0)}
	case 6:
		o.prod = &batch.Producer{ID: id, Epoch: epoch + 1}
	case 7, 8, 9:
		o.prod, o.txn = &batch.Producer{ID: id, Epoch: epoch, Sequence: seq}, true
	case 10, 11:
		o.prod = &batch.Producer{ID: id, Epoch: epoch, Sequence: seq}
	case 12: // as a follower gets it
		f := frame(fataler{h}, n, o)
		batch.Stamp(f, v.end, term)
		return f
	}
	return frame(fataler{h}, n, o)
}

// fataler lets the frame builders report to the history.
type fataler struct{ h *history }

func (f fataler) Helper()           {}
func (f fataler) Fatal(args ...any) { f.h.failf("%v", args) }

func (h *history) apply() {
	to := h.m.applied + Index(h.draw(int(h.m.last()-h.m.applied)+1))
	h.logf("apply %d..%d", h.m.applied+1, to)
	for i := h.m.applied + 1; i <= to; i++ {
		e := h.m.entry(i)
		if e.Kind == KindNoop && h.chance(2) {
			continue // Raft does not hand these out
		}
		h.log.Apply(e)
	}
	if !h.must(h.log.Err()) {
		h.m.apply(to)
		return
	}
	if h.log.AppliedIndex() != to && to > h.m.applied {
		h.log.Apply(Entry{Index: to, Kind: KindNoop})
	}
	h.m.apply(to)
}

func (h *history) truncate() {
	low := max(h.m.applied, h.m.boundary)
	from := low + 1 + Index(h.draw(int(h.m.last()-low)+1))
	h.logf("truncate from %d", from)
	before := h.m
	h.pending = func() *model {
		got := h.log.LastIndex()
		if got+1 < from || got > before.last() {
			h.failf("last is %d after a truncation of %d..%d", got, from, before.last())
		}
		if got < before.last() {
			before.truncate(got + 1)
		}
		return before
	}
	if h.must(h.log.TruncateSuffix(from)) {
		h.pending = nil
		if from <= h.m.last() {
			h.m.truncate(from)
		}
	}
}

func (h *history) drop() {
	h.logf("drop")
	before := h.m
	learn := func() *model {
		boundary, term := h.log.Boundary()
		if boundary == before.boundary {
			return before
		}
		if boundary < before.boundary || boundary > before.applied {
			h.failf("boundary %d after %d, applied %d", boundary, before.boundary, before.applied)
		}
		if end := before.views[boundary-before.boundary].end; end > before.state().start {
			h.failf("dropped up to offset %d, log start is %d", end, before.state().start)
		}
		before.drop(boundary)
		if term != before.term {
			h.failf("boundary has term %d, want %d", term, before.term)
		}
		before.durable = max(before.durable, boundary)
		return before
	}
	h.pending = learn
	if _, err := h.log.DropSegments(); h.must(err) {
		h.pending = nil
		learn()
	}
}

func (h *history) reset() {
	// The donor is this log as it is: its state at some applied index.
	i := h.m.boundary + Index(h.draw(int(h.m.applied-h.m.boundary)+1))
	if i < 2 {
		return
	}
	v := h.m.views[i-h.m.boundary]
	s := State{Index: i, Term: v.term, Offset: v.end, LogStart: 0, Config: []byte(v.config), ConfigIndex: v.configAt, Epochs: v.epochs}
	ids := []int64{}
	for id := range v.producers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		p := v.producers[id]
		st := ProducerState{ID: id, Epoch: p.epoch, LastSequence: p.last, CurrentTxnStart: p.txn, LastSeen: h.time.ms.Load()}
		st.n = uint8(copy(st.recent[:], p.recent))
		s.Producers = append(s.Producers, st)
	}
	h.logf("reset to %d", i)
	before, done := h.m, resetTo(h.m, i)
	h.pending = func() *model {
		if b, _ := h.log.Boundary(); b == i && h.log.LastIndex() == i {
			return done
		}
		return before
	}
	if h.must(h.log.Reset(s)) {
		h.pending, h.m = nil, done
	}
}

func (h *history) close() {
	h.logf("close")
	applied := h.m.applied
	if !h.must(h.log.Close()) || h.after != nil {
		return
	}
	h.m.durable = applied
	h.in.Disarm()
	h.open()
	if s := h.log.Stats(); s.OpenScannedBytes != 0 {
		h.failf("%d bytes scanned after a clean close", s.OpenScannedBytes)
	}
}

// check compares everything that can be asked with the model.
func (h *history) check() {
	l, m := h.log, h.m
	if got := l.LastIndex(); got != m.last() {
		h.failf("last %d, want %d", got, m.last())
	}
	m.durable = max(m.durable, l.CheckpointedCommit())
	if m.durable > m.applied {
		h.failf("checkpointed commit %d, applied %d", m.durable, m.applied)
	}
	if got, want := l.Offsets(), m.offsets(); got != want {
		h.failf("offsets %+v, want %+v", got, want)
	}
	if h.chance(2) {
		l.tail.truncate(0)
	}
	for _, e := range m.entries {
		got, err := l.Entry(e.Index)
		if err != nil || got.Term != e.Term || got.Kind != e.Kind || !bytes.Equal(got.Frame, e.Frame) {
			h.failf("entry %d is %+v (%v), want %+v", e.Index, got, err, e)
		}
	}
	if _, err := l.Entry(m.last() + 1); err != ErrNotFound {
		h.failf("entry behind the end: %v", err)
	}
	if e, err := l.Entry(m.boundary); m.boundary > 0 && (err != nil || e.Term != m.term) {
		h.failf("boundary: %+v, %v", e, err)
	}
	h.checkReads()
	h.checkView()
	if h.chance(10) {
		h.checkVerify()
	}
}

func (h *history) checkReads() {
	l, m := h.log, h.m
	a, end := m.state(), m.view().end
	from := a.start + Offset(h.draw(int(end-a.start)+1))
	r, err := l.Read(from, end, 1<<30, true)
	if err != nil {
		h.failf("read from %d: %v", from, err)
	}
	got, err := r.AppendTo(nil)
	if want := m.records(from); err != nil || !bytes.Equal(got, want) {
		h.failf("read from %d: %d bytes, want %d, %v", from, len(got), len(want), err)
	}
	if r.Next != end {
		h.failf("read from %d ends at %d, want %d", from, r.Next, end)
	}
	r.Release()

	to := from + Offset(h.draw(int(a.high-min(from, a.high))+1))
	var want []AbortedTxn
	for _, x := range a.aborted {
		if x.LastOffset >= from && x.FirstOffset < to {
			want = append(want, x)
		}
	}
	aborted, err := l.Aborted(from, to)
	// A search for nothing may find nothing or what lies around it.
	if err != nil || (from < to && !slices.Equal(aborted, want)) {
		h.failf("aborted in %d..%d: %v (%v), want %v", from, to, aborted, err, want)
	}
}

func (h *history) checkView() {
	l, v := h.log, h.m.view()
	if got := l.Producers(); len(got) != len(v.producers) {
		h.failf("%d producers, want %d", len(got), len(v.producers))
	}
	for id, p := range v.producers {
		st, ok := l.LastProducer(id)
		if !ok || st.Epoch != p.epoch || st.LastSequence != p.last || st.CurrentTxnStart != p.txn || !slices.Equal(st.Batches(), p.recent) {
			h.failf("producer %d is %+v (%t), want %+v", id, st, ok, p)
		}
	}
	if c, i := l.Configuration(); string(c) != v.config || i != v.configAt {
		h.failf("configuration %q at %d, want %q at %d", c, i, v.config, v.configAt)
	}
	k := h.draw(len(h.m.views))
	c, i, err := l.ConfigurationAt(h.m.boundary + Index(k))
	if w := h.m.views[k]; err != nil || string(c) != w.config || i != w.configAt {
		h.failf("configuration at %d is %q at %d (%v), want %q at %d", h.m.boundary+Index(k), c, i, err, w.config, w.configAt)
	}
	for k, e := range h.m.entries {
		if t, err := l.Term(e.Index); err != nil || t != e.Term {
			h.failf("term of %d is %d (%v), want %d", e.Index, t, err, e.Term)
		}
		if hd, _ := batch.ParseHeader(e.Frame); e.Kind == KindBatch && l.EpochOf(hd.BaseOffset) != e.Term {
			h.failf("epoch of %d is %d, want %d", h.m.views[k].end, l.EpochOf(hd.BaseOffset), e.Term)
		}
	}
}
