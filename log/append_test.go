package log

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

func TestEmptyLog(t *testing.T) {
	f := openFixture(t)
	for range 2 {
		equal(t, f.log.FirstIndex(), 0, "first")
		equal(t, f.log.LastIndex(), 0, "last")
		equal(t, f.log.Offsets(), Offsets{}, "offsets")
		if _, err := f.log.Entry(0); err != ErrNotFound {
			t.Fatal(err)
		}
		if _, err := f.log.Entry(1); err != ErrNotFound {
			t.Fatal(err)
		}
		r, err := f.log.Read(0, 10, 100, true)
		mustBe(t, err, nil)
		equal(t, r.Len(), 0, "length")
		r.Release()
		f.reopen()
	}
}

func TestAppendStampsAndReadsBack(t *testing.T) {
	f := openFixture(t)
	es := f.append(1, noop(), plain(t, 3, 1), config("c1"), plain(t, 2, 1))
	equal(t, f.log.Offsets(), Offsets{LogEnd: 5}, "offsets")
	wantBase := []Offset{0, 0, 3, 3}
	for i, e := range es {
		base, epoch := stampOf(e.Frame)
		equal(t, base, wantBase[i], "base")
		equal(t, epoch, 1, "epoch")
	}
	data := append(bytes.Clone(es[1].Frame), es[3].Frame...)
	check := func() {
		t.Helper()
		equal(t, f.read(0, 1<<20), data, "all")
		equal(t, f.read(1, 1), es[1].Frame, "from inside the first batch")
		equal(t, f.read(3, 1<<20), es[3].Frame, "second")
		for _, e := range es {
			got, err := f.log.Entry(e.Index)
			mustBe(t, err, nil)
			equal(t, got, e, "entry")
		}
		c, i := f.log.Configuration()
		equal(t, string(c), "c1", "configuration")
		equal(t, i, 3, "its index")
	}
	check()
	f.reopen()
	equal(t, f.log.Stats().OpenScannedBytes, 0, "scanned after a clean close")
	check()
	f.crash(vfs.CrashOptions{})
	check()
	f.append(1, plain(t, 1, 1))
	f.crash(vfs.CrashOptions{Kill: true})
	check2 := f.log.Offsets()
	equal(t, check2.LogEnd, 6, "end after kill")
	f.verify()
}

func TestAppendRefusesWhatDoesNotContinue(t *testing.T) {
	f := openFixture(t)
	f.append(2, plain(t, 3, 2))
	one := func(i Index, term Epoch, frame []byte) error {
		return f.log.Append([]Entry{{Index: i, Term: term, Frame: frame}})
	}
	stamped := func(base Offset, epoch Epoch) []byte {
		b := plain(t, 1, 0)
		batch.Stamp(b, base, epoch)
		return b
	}
	bad := stamped(3, 2)
	bad[len(bad)-1] ^= 1
	mustBe(t, one(1, 2, plain(t, 1, 2)), ErrGap)
	mustBe(t, one(3, 2, plain(t, 1, 2)), ErrGap)
	mustBe(t, one(2, 1, plain(t, 1, 1)), ErrGap)
	mustBe(t, one(2, 2, stamped(4, 2)), ErrGap)
	mustBe(t, one(2, 2, stamped(2, 2)), ErrGap)
	mustBe(t, one(2, 3, stamped(3, 2)), ErrGap)
	mustBe(t, one(2, 2, bad), ErrFrame)
	mustBe(t, one(2, 2, nil), ErrFrame)
	mustBe(t, one(2, 2, plain(t, 1, 2)[:66]), ErrFrame)
	mustBe(t, one(2, 2, GapFrame(2, 5)), ErrFrame)
	mustBe(t, one(2, 2, InternalFrame(kindCount, nil)), ErrFormat)
	equal(t, f.log.LastIndex(), 1, "last")
	mustBe(t, one(2, 2, stamped(3, 2)), nil)
	equal(t, f.log.Offsets().LogEnd, 4, "end")
	f.verify()
}

func TestAppendStoresRefusals(t *testing.T) {
	f := openFixture(t)
	f.append(1, idem(t, 3, 1, 7, 0, 0), idem(t, 2, 1, 7, 0, 3))
	cases := []struct {
		frame []byte
		want  Refusal
	}{
		{plain(t, 1, 0), Refusal{Reason: RefusedTerm}},
		{idem(t, 1, 1, 7, 0, 6), Refusal{Reason: RefusedSequence}},
		{idem(t, 2, 1, 7, 0, 3), Refusal{Reason: RefusedDuplicate, Base: 3, Last: 4, Timestamp: 1001}},
		{idem(t, 1, 1, 7, 1, 1), Refusal{Reason: RefusedSequence}},
		{idem(t, 1, 1, 8, 0, 1), Refusal{Reason: RefusedUnknownProducer}},
	}
	var frames [][]byte
	for _, c := range cases {
		frames = append(frames, c.frame)
	}
	// One good batch between them: a refusal must not disturb what comes after it in the same call.
	frames = append(frames, idem(t, 1, 1, 7, 0, 5), idem(t, 1, 1, 7, 0, 5))
	es := f.append(1, frames...)
	for i, c := range cases {
		kind, payload, err := ParseInternal(es[i].Frame)
		mustBe(t, err, nil)
		r, err := DecodeRefused(payload)
		mustBe(t, err, nil)
		equal(t, kind, KindRefused, "kind")
		equal(t, es[i].Kind, KindRefused, "entry's kind")
		equal(t, r, c.want, "refusal")
	}
	equal(t, es[5].Kind, KindBatch, "good batch")
	equal(t, es[6].Kind, KindRefused, "its duplicate in the same call")
	equal(t, f.log.Offsets().LogEnd, 6, "end")
	st, ok := f.log.LastProducer(7)
	equal(t, ok, true, "known")
	equal(t, st.LastSequence, 5, "sequence")
	equal(t, f.log.Stats().RefusedEntries, 6, "refused")
	f.crash(vfs.CrashOptions{})
	again, _ := f.log.LastProducer(7)
	equal(t, again.Batches(), st.Batches(), "batches after a crash")
	f.verify()
}

func TestRollAndReopen(t *testing.T) {
	f := openFixture(t, small)
	var want []byte
	for i := range 40 {
		es := f.append(Epoch(1+i/10), idem(t, 2, Epoch(1+i/10), 9, 0, int32(2*i)), noop())
		want = append(want, es[0].Frame...)
	}
	if n := len(f.log.Segments()); n < 10 {
		t.Fatalf("%d segments", n)
	}
	check := func() {
		t.Helper()
		equal(t, f.read(0, 1<<20), want, "all")
		equal(t, f.log.LastIndex(), 80, "last")
		for i := Index(1); i <= 80; i++ {
			e, err := f.log.Entry(i)
			mustBe(t, err, nil)
			equal(t, e.Term, Epoch(1+(i-1)/20), "term")
			term, err := f.log.Term(i)
			mustBe(t, err, nil)
			equal(t, term, e.Term, "term from memory")
		}
		f.verify()
	}
	check()
	f.crash(vfs.CrashOptions{})
	check()
	f.reopen()
	check()
	for _, s := range f.log.Segments() {
		if s.Active {
			continue
		}
		if s.MaxTimestamp != 1001 {
			t.Fatalf("%+v", s)
		}
	}
}

func TestRollByAgeAndIndexSize(t *testing.T) {
	f := openFixture(t, func(o *Options) { o.SegmentIndexBytes = indexHeadSize + 3*slotSize })
	f.append(1, noop(), noop())
	f.append(1, noop())
	equal(t, len(f.log.Segments()), 1, "segments")
	f.append(1, noop())
	equal(t, len(f.log.Segments()), 2, "segments after the index was full")
	f.time.add(DefaultSegmentAge)
	f.append(1, plain(t, 1, 1))
	equal(t, len(f.log.Segments()), 3, "segments after the age")
	f.log.SetLimits(SegmentLimits{SegmentAge: time.Hour})
	rolled, err := f.log.Roll(f.time.now())
	mustBe(t, err, nil)
	equal(t, rolled, false, "rolled too early")
	f.time.add(time.Hour)
	rolled, err = f.log.Roll(f.time.now())
	mustBe(t, err, nil)
	equal(t, rolled, true, "rolled")
	rolled, _ = f.log.Roll(f.time.now())
	equal(t, rolled, false, "an empty segment is not rolled")
	f.verify()
}

func TestProducerExpiry(t *testing.T) {
	f := openFixture(t)
	f.append(1, idem(t, 1, 1, 1, 0, 0), txn(t, 1, 1, 2, 0, 0))
	f.time.add(DefaultProducerExpiry + time.Minute)
	_, ok := f.log.LastProducer(1)
	equal(t, ok, false, "idle producer is known")
	_, ok = f.log.LastProducer(2)
	equal(t, ok, true, "producer in a transaction is known")
	es := f.append(1, idem(t, 1, 1, 1, 0, 1))
	equal(t, es[0].Kind, KindRefused, "sequence 1 of a forgotten producer")
	es = f.append(1, idem(t, 1, 1, 1, 0, 0))
	equal(t, es[0].Kind, KindBatch, "sequence 0 of a forgotten producer")
	f.reopen()
	equal(t, len(f.log.Producers()), 2, "producers")
	f.time.add(DefaultProducerExpiry + time.Minute)
	mustBe(t, f.log.Checkpoint(0), nil)
	anew := idem(t, 1, 1, 1, 0, 9)
	batch.Stamp(anew, batch.UnstampedAnew, 1)
	equal(t, f.append(1, anew)[0].Kind, KindBatch, "it goes on")
	f.verify() // what was forgotten is no damage
	f.append(1, txn(t, 1, 1, 3, 0, 0), markerOf(1, 3, 0, 5, true))
	f.time.add(DefaultProducerExpiry + time.Minute)
	mustBe(t, f.log.Checkpoint(0), nil)
	f.append(1, markerOf(1, 3, 0, 4, true))
	mustBe(t, f.log.Checkpoint(0), nil)
	f.verify() // nor is an older coordinator, of whom nobody knew any more that he is
}

// A log remembers so many producers, whoever invents their ids. Those that were silent for longest are forgotten first, but none that
// has a transaction open.
func TestProducersAreBounded(t *testing.T) {
	f := openFixture(t)
	f.append(1, txn(t, 1, 1, 1, 0, 0))
	f.time.add(time.Minute)
	now := f.time.now().UnixMilli()
	f.log.mu.Lock()
	for i := range int64(maxProducers + 10_000) {
		p := newProducer(100 + i)
		p.LastSeen = now + i/4
		f.log.mu.facts.producers.put(p)
	}
	f.log.mu.Unlock()
	f.append(1, idem(t, 1, 1, 2, 0, 0))
	mustBe(t, f.log.Checkpoint(0), nil)
	all := f.log.Producers()
	if n := len(all); n > maxProducers || n < maxProducers-10 {
		t.Errorf("%d are remembered", n)
	}
	oldest := int64(math.MaxInt64)
	for _, p := range all {
		if p.ID >= 100 {
			oldest = min(oldest, p.ID)
		}
	}
	if oldest < 100+10_000 || oldest > 100+10_010 {
		t.Errorf("the first that is remembered is %d", oldest)
	}
	_, ok := f.log.LastProducer(1)
	equal(t, ok, true, "producer in a transaction is known")
	f.reopen()
	equal(t, len(f.log.Producers()), len(all), "after a restart")
}

func TestCheckpointBoundsRecovery(t *testing.T) {
	f := openFixture(t, func(o *Options) { o.CheckpointBytes = 64 << 10; o.SegmentBytes = 512 << 10 })
	for range 400 {
		f.append(1, frame(t, 4, frameOpt{term: 1, size: 1024}))
	}
	f.apply()
	f.crash(vfs.CrashOptions{})
	s := f.log.Stats()
	if s.OpenScannedBytes > 80<<10 {
		t.Fatalf("%d bytes scanned of %d", s.OpenScannedBytes, f.log.Size())
	}
	equal(t, f.log.LastIndex(), 400, "last")
	f.verify()
}

func TestCheckpointBoundsRecoveryOfSmallEntries(t *testing.T) {
	f := openFixture(t, func(o *Options) { o.CheckpointEntries = 100 })
	for range 1050 {
		f.append(1, plain(t, 1, 1))
		f.apply()
	}
	f.crash(vfs.CrashOptions{})
	equal(t, f.log.LastIndex(), 1050, "last")
	if commit := f.log.CheckpointedCommit(); commit < 950 {
		t.Errorf("a restart reads what follows entry %d", commit)
	}
	f.verify()
	for range 60 { // with the 50 that were read again
		f.append(1, plain(t, 1, 1))
		f.apply()
	}
	if commit := f.log.CheckpointedCommit(); commit < 1090 {
		t.Errorf("after a restart the checkpoint stays at entry %d", commit)
	}
}

func TestBytesAfter(t *testing.T) {
	f := openFixture(t, func(o *Options) { o.SegmentBytes = 2000 })
	var ends []int64 // of the log, after each entry
	for i := range 50 {
		f.append(1, frame(t, 1, frameOpt{term: 1, size: 100 + i}))
		ends = append(ends, f.log.Size())
	}
	f.apply()
	for i, end := range ends {
		got, err := f.log.BytesAfter(Index(i + 1))
		mustBe(t, err, nil)
		equal(t, got, f.log.Size()-end, fmt.Sprintf("bytes after entry %d", i+1))
	}
	for _, i := range []Index{0, 50, 60} {
		got, err := f.log.BytesAfter(i)
		mustBe(t, err, nil)
		equal(t, got, map[bool]int64{true: f.log.Size()}[i == 0], fmt.Sprintf("bytes after entry %d", i))
	}
	mustBe(t, f.log.Close(), nil)
	_, err := f.log.BytesAfter(1)
	mustBe(t, err, ErrClosed)
}

func TestEndOffsetAt(t *testing.T) {
	f := openFixture(t, func(o *Options) { o.SegmentBytes = 2000 })
	ends := []Offset{0} // of the log, after each entry
	for i := range 50 {
		if i%7 == 3 {
			f.append(1, noop())
		} else {
			f.append(1, frame(t, 1+i%3, frameOpt{term: 1, size: 100 + i}))
		}
		ends = append(ends, f.log.Offsets().LogEnd)
	}
	f.apply()
	check := func(from Index) {
		t.Helper()
		for i := from; i <= 50; i++ {
			got, err := f.log.EndOffsetAt(i)
			mustBe(t, err, nil)
			equal(t, got, ends[i], fmt.Sprintf("end at entry %d", i))
		}
	}
	check(0)
	_, err := f.log.EndOffsetAt(51)
	mustBe(t, err, ErrNotFound)
	f.reopen()
	check(0)
	f.log.Apply(Entry{Index: 51, Term: 1, Kind: KindLogStart, Frame: f.append(1, InternalFrame(KindLogStart, EncodeLogStart(ends[30])))[0].Frame})
	if n, err := f.log.DropSegments(); n == 0 || err != nil {
		t.Fatalf("%d segments dropped, %v", n, err)
	}
	boundary, _ := f.log.Boundary()
	check(boundary)
	_, err = f.log.EndOffsetAt(boundary - 1)
	mustBe(t, err, ErrNotFound)
	mustBe(t, f.log.Close(), nil)
	_, err = f.log.EndOffsetAt(50)
	mustBe(t, err, ErrClosed)
}

// An append costs one write and one fsync of the .log, and one unsynced write of the .index behind them.
func TestAppendWritesOnceAndSyncsOnce(t *testing.T) {
	f := newFixture(t, vfs.NewMem())
	in := vfs.Inject(f.fs)
	f.o.FS = in
	f.open()
	in.ResetTrace()
	f.append(1, plain(t, 3, 1), noop(), idem(t, 1, 1, 5, 0, 0))
	base := f.log.mu.segments[0].path("")
	equal(t, in.Trace(), []string{"write " + base + logSuffix, "sync " + base + logSuffix, "write " + base + indexSuffix}, "calls")
	in.ResetTrace()
	f.apply()
	f.read(0, 1<<20)
	equal(t, len(in.Trace()), 0, "calls of apply and read")
	mustBe(t, f.log.Close(), nil)
	f.open()
	in.ResetTrace()
	mustBe(t, f.log.Checkpoint(3), nil)
	in.ResetTrace()
	mustBe(t, f.log.Checkpoint(3), nil)
	equal(t, len(in.Trace()), 0, "calls of a checkpoint with nothing new")
}

// Producers 1 to 3 have an open transaction, a closed one, and none.
func TestAppendRefusesWhatDoesNotFitTheTransaction(t *testing.T) {
	f := openFixture(t)
	f.append(1, txn(t, 1, 1, 1, 4, 0), txn(t, 1, 1, 2, 4, 0), markerOf(1, 2, 5, 7, true))
	for _, c := range []struct {
		frame []byte
		want  Reason
	}{
		{idem(t, 1, 1, 1, 4, 1), RefusedInTransaction},
		{markerOf(1, 1, 3, 9, false), RefusedProducerEpoch},
		{markerOf(1, 2, 6, 6, false), RefusedCoordinator},
		{txn(t, 1, 1, 2, 4, 1), RefusedProducerEpoch}, // of the transaction before the marker
		{txn(t, 1, 1, 1, 4, 1), 0},
		{frame(t, 1, frameOpt{term: 1, txn: true, prod: &batch.Producer{ID: 1, Epoch: 4, Sequence: batch.NoSequence}}), 0},
		{txn(t, 1, 1, 1, 4, 2), 0}, // what a coordinator writes takes no part in the sequence
		{markerOf(1, 1, 4, 0, true), 0},
		{idem(t, 1, 1, 1, 4, 3), 0},
		{markerOf(1, 3, 0, -1, true), 0},
		{idem(t, 1, 1, 3, 0, 0), 0},
		{markerOf(1, 2, 5, 7, true), 0}, // said again
	} {
		es := f.append(1, c.frame)
		got := Reason(0)
		if es[0].Kind == KindRefused {
			_, payload, err := ParseInternal(es[0].Frame)
			mustBe(t, err, nil)
			r, err := DecodeRefused(payload)
			mustBe(t, err, nil)
			got = r.Reason
		}
		equal(t, got, c.want, "refusal")
	}
	f.verify()
	f.reopen()
	st, known := f.log.LastProducer(2)
	equal(t, []any{known, st.Epoch, st.CoordinatorEpoch, st.CurrentTxnStart}, []any{true, int16(5), int32(7), Offset(-1)}, "after a restart")
}

func TestAProducerMayBeginAnew(t *testing.T) {
	f := openFixture(t)
	anew := idem(t, 1, 1, 7, 2, 40)
	batch.Stamp(anew, batch.UnstampedAnew, 1)
	gap := idem(t, 1, 1, 7, 2, 43)
	batch.Stamp(gap, batch.UnstampedAnew, 1)
	es := f.append(1, anew, idem(t, 1, 1, 7, 2, 41), gap)
	equal(t, []Kind{es[0].Kind, es[1].Kind, es[2].Kind}, []Kind{KindBatch, KindBatch, KindRefused}, "kinds")
	f.verify()
}

// stampOf reads base offset and leader epoch of a frame without checking it.
func stampOf(frame []byte) (Offset, Epoch) {
	return Offset(binary.BigEndian.Uint64(frame)), Epoch(binary.BigEndian.Uint32(frame[posLeaderEpoch:]))
}
