package log

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

func mustBe(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || (want == nil) != (err == nil) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func equal[T any](t testing.TB, got, want T, what string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

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

func TestReadBounds(t *testing.T) {
	f := openFixture(t)
	f.append(1, plain(t, 3, 1), plain(t, 3, 1), plain(t, 3, 1))
	one := len(f.read(0, 1))
	lens := func(from, below Offset, maxBytes int, force bool) (int, Offset) {
		t.Helper()
		r, err := f.log.Read(from, below, maxBytes, force)
		mustBe(t, err, nil)
		defer r.Release()
		return r.Len() / one, r.Next
	}
	for _, c := range []struct {
		from, below Offset
		max         int
		force       bool
		batches     int
		next        Offset
	}{
		{0, 9, 3 * one, false, 3, 9},
		{0, 9, 3*one - 1, false, 2, 6},
		{0, 9, one - 1, false, 0, 0},
		{0, 9, 0, true, 1, 3},
		{0, 5, 3 * one, true, 1, 3}, // whole batches only
		{0, 6, 3 * one, true, 2, 6},
		{4, 99, 3 * one, true, 2, 9},
		{9, 99, 3 * one, true, 0, 9},
		{3, 3, 3 * one, true, 0, 3},
	} {
		n, next := lens(c.from, c.below, c.max, c.force)
		if n != c.batches || next != c.next {
			t.Errorf("%+v: %d batches up to %d", c, n, next)
		}
	}
	_, err := f.log.Read(10, 99, 1, true)
	mustBe(t, err, ErrOffsetOutOfRange)
	_, err = f.log.Read(-1, 99, 1, true)
	mustBe(t, err, ErrOffsetOutOfRange)
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
	mustBe(t, one(2, 2, GapFrame(Gap{Count: 2}, 5)), ErrFrame)
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

func TestApplyMovesTransactions(t *testing.T) {
	f := openFixture(t, small)
	offsets := func(start, stable, high, end Offset) {
		t.Helper()
		equal(t, f.log.Offsets(), Offsets{start, stable, high, end}, "offsets")
	}
	f.append(1, plain(t, 2, 1), txn(t, 2, 1, 1, 0, 0)) // 0-1, 2-3
	f.append(1, txn(t, 2, 1, 2, 0, 0))                 // 4-5
	offsets(0, 0, 0, 6)
	f.apply()
	offsets(0, 2, 6, 6)
	f.append(1, marker(1, 1, 0, false)) // 6
	offsets(0, 2, 6, 7)
	f.apply()
	offsets(0, 4, 7, 7)
	f.append(1, plain(t, 3, 1), marker(1, 2, 0, true)) // 7-9, 10
	f.apply()
	offsets(0, 11, 11, 11)
	f.append(1, txn(t, 1, 1, 1, 0, 2), marker(1, 1, 0, false)) // 11, 12
	f.apply()
	all := []AbortedTxn{{1, 2, 6}, {1, 11, 12}}
	check := func() {
		t.Helper()
		got, err := f.log.Aborted(0, 13)
		mustBe(t, err, nil)
		equal(t, got, all, "aborted")
		got, _ = f.log.Aborted(7, 11)
		equal(t, len(got), 0, "aborted between")
		got, _ = f.log.Aborted(3, 4)
		equal(t, got, all[:1], "aborted at the front")
	}
	check()
	mustBe(t, f.log.Checkpoint(f.log.LastIndex()), nil)
	f.append(1, txn(t, 1, 1, 1, 0, 3))
	f.apply()
	f.crash(vfs.CrashOptions{})
	equal(t, f.log.AppliedIndex(), f.log.LastIndex()-1, "applied after a crash")
	check()
	offsets(0, 13, 13, 14)
	f.apply()
	f.append(1, marker(1, 1, 0, false))
	f.apply()
	all = append(all, AbortedTxn{1, 13, 14})
	got, err := f.log.Aborted(0, 15)
	mustBe(t, err, nil)
	equal(t, got, all, "aborted at the end")
	f.reopen()
	got, err = f.log.Aborted(0, 15)
	mustBe(t, err, nil)
	equal(t, got, all, "aborted after reopening")
	f.verify()
}

func TestTruncateSuffix(t *testing.T) {
	for _, cp := range []bool{false, true} {
		t.Run(fmt.Sprintf("checkpoint=%t", cp), func(t *testing.T) {
			f := openFixture(t, small)
			f.append(1, noop(), idem(t, 1, 1, 5, 0, 0))
			f.apply()
			for i := range 30 {
				f.append(Epoch(2+i/10), idem(t, 1, Epoch(2+i/10), 5, 0, int32(1+i)), config(fmt.Sprint(i)))
				if cp && i%7 == 3 {
					mustBe(t, f.log.Checkpoint(99), nil)
				}
			}
			mustBe(t, f.log.TruncateSuffix(2), ErrCommitted)
			mustBe(t, f.log.TruncateSuffix(100), nil)
			for last := Index(61); last >= 8; last -= 7 {
				mustBe(t, f.log.TruncateSuffix(last+1), nil)
				equal(t, f.log.LastIndex(), last, "last")
				f.verify()
				if last%3 == 0 {
					f.crash(vfs.CrashOptions{})
					equal(t, f.log.LastIndex(), last, "last after a crash")
				}
				st, _ := f.log.LastProducer(5)
				equal(t, st.LastSequence, int32(last-1)/2, "sequence")
				c, i := f.log.Configuration()
				want := (last - 2) / 2 * 2
				if want == 0 {
					equal(t, c, nil, "configuration")
				} else {
					equal(t, i, 2+want, "configuration's index")
					at, j, err := f.log.ConfigurationAt(i - 1)
					mustBe(t, err, nil)
					if j != i-2 && i > 4 {
						t.Fatalf("configuration at %d is %q at %d", i-1, at, j)
					}
				}
				if _, err := f.log.Entry(last + 1); err != ErrNotFound {
					t.Fatal(err)
				}
				equal(t, f.log.EpochOf(f.log.Offsets().LogEnd-1), mustTerm(t, f.log, last), "epoch")
			}
			f.append(9, plain(t, 1, 9))
			f.verify()
			f.crash(vfs.CrashOptions{})
			f.verify()
		})
	}
}

func mustTerm(t *testing.T, l *Log, i Index) Epoch {
	t.Helper()
	e, err := l.Term(i)
	mustBe(t, err, nil)
	return e
}

func TestRetention(t *testing.T) {
	f := openFixture(t, small)
	now := f.time.now()
	for i := range 40 {
		f.append(1, frame(t, 2, frameOpt{term: 1, times: []int64{now.UnixMilli() + int64(i)*1000, 5}}))
	}
	segs := f.log.Segments()
	if _, ok := f.log.RetentionStart(now.Add(time.Hour), time.Second, -1); ok {
		t.Fatal("nothing is applied: nothing may go")
	}
	f.apply()
	start, ok := f.log.RetentionStart(time.UnixMilli(segs[2].MaxTimestamp+1001), time.Second, -1)
	equal(t, ok, true, "ok")
	equal(t, start, segs[3].Base, "by time")
	start, ok = f.log.RetentionStart(now, -1, f.log.Size()-segs[0].Bytes-segs[1].Bytes)
	equal(t, ok, true, "ok")
	equal(t, start, segs[2].Base, "by size")
	n, err := f.log.DropSegments()
	mustBe(t, err, nil)
	equal(t, n, 0, "dropped before the log start moved")

	held, err := f.log.Read(0, 80, 1<<20, true)
	mustBe(t, err, nil)
	before, _ := held.AppendTo(nil)
	f.append(1, logStart(segs[3].Base+1))
	f.apply()
	_, err = f.log.Read(0, 40, 1, true)
	mustBe(t, err, ErrOffsetOutOfRange)
	n, err = f.log.DropSegments()
	mustBe(t, err, nil)
	equal(t, n, 3, "dropped")
	after, err := held.AppendTo(nil)
	mustBe(t, err, nil)
	equal(t, after, before, "a range that was out keeps its bytes")
	held.Release()

	check := func() {
		t.Helper()
		equal(t, f.log.FirstIndex(), segs[3].First, "first index")
		e, err := f.log.Entry(segs[3].First - 1)
		mustBe(t, err, nil)
		equal(t, e, Entry{Index: segs[3].First - 1, Term: 1, Kind: KindNoop}, "boundary")
		if _, err := f.log.Entry(segs[3].First - 2); err != ErrNotFound {
			t.Fatal(err)
		}
		equal(t, f.log.Offsets().LogStart, segs[3].Base+1, "log start")
		st, err := f.log.StartState()
		mustBe(t, err, nil)
		equal(t, st.Index, segs[3].First-1, "start state")
		f.verify()
	}
	check()
	f.crash(vfs.CrashOptions{})
	check()
}

func TestBoundaryIsNeverIndexOne(t *testing.T) {
	f := openFixture(t, func(o *Options) { o.SegmentBytes = 1 })
	f.append(1, plain(t, 1, 1))
	f.append(1, plain(t, 1, 1))
	f.append(1, logStart(1))
	f.apply()
	n, err := f.log.DropSegments()
	mustBe(t, err, nil)
	equal(t, n, 0, "dropped")
	equal(t, f.log.FirstIndex(), 1, "first")
	mustBe(t, f.log.Reset(State{Index: 1, Term: 1}), ErrBoundary)
	f.append(1, logStart(2))
	f.apply()
	n, err = f.log.DropSegments()
	mustBe(t, err, nil)
	equal(t, n, 3, "dropped")
}

func TestRollOfAnIdleExpiredSegment(t *testing.T) {
	f := openFixture(t)
	f.append(1, plain(t, 3, 1))
	f.append(1, logStart(3))
	rolled, err := f.log.Roll(f.time.now())
	mustBe(t, err, nil)
	equal(t, rolled, false, "not applied yet")
	f.apply()
	rolled, err = f.log.Roll(f.time.now())
	mustBe(t, err, nil)
	equal(t, rolled, true, "rolled")
	n, err := f.log.DropSegments()
	mustBe(t, err, nil)
	equal(t, n, 1, "dropped")
	equal(t, f.log.FirstIndex(), 0, "first index of an empty log")
	equal(t, f.log.LastIndex(), 2, "last index is the boundary")
	f.crash(vfs.CrashOptions{})
	equal(t, f.log.LastIndex(), 2, "last index after a crash")
	f.append(1, plain(t, 1, 1))
	equal(t, f.log.Offsets(), Offsets{3, 3, 3, 4}, "offsets")
}

func TestReset(t *testing.T) {
	donor := openFixture(t, small)
	donor.append(1, config("first"), txn(t, 2, 1, 1, 0, 0))
	for i := range 20 {
		donor.append(3, idem(t, 1, 3, 2, 0, int32(i)))
	}
	donor.append(3, logStart(10))
	donor.apply()
	if _, err := donor.log.DropSegments(); err != nil {
		t.Fatal(err)
	}
	state, err := donor.log.StartState()
	mustBe(t, err, nil)
	decoded, err := DecodeState(state.Encode())
	mustBe(t, err, nil)
	equal(t, decoded, state, "state")

	f := openFixture(t, small)
	for range 10 {
		f.append(1, plain(t, 3, 1))
	}
	f.apply()
	held, err := f.log.Read(0, 30, 1<<20, true)
	mustBe(t, err, nil)
	mustBe(t, f.log.Reset(state), nil)
	_, err = held.AppendTo(nil)
	mustBe(t, err, nil)
	held.Release()
	check := func() {
		t.Helper()
		equal(t, f.log.LastIndex(), state.Index, "last")
		equal(t, f.log.FirstIndex(), 0, "first")
		equal(t, f.log.AppliedIndex(), state.Index, "applied")
		equal(t, f.log.CheckpointedCommit(), state.Index, "commit")
		o := state.Offset
		equal(t, f.log.Offsets(), Offsets{o, o, o, o}, "offsets")
		c, i := f.log.Configuration()
		equal(t, string(c), "first", "configuration")
		equal(t, i, 1, "configuration's index")
		c, i, err := f.log.ConfigurationAt(state.Index)
		mustBe(t, err, nil)
		equal(t, string(c)+fmt.Sprint(i), "first1", "configuration at the boundary")
		equal(t, len(f.log.Producers()), 2, "producers")
	}
	check()
	f.crash(vfs.CrashOptions{})
	check()
	// Everything the donor still has arrives as ordinary entries, and the logs are equal.
	for i := state.Index + 1; i <= donor.log.LastIndex(); i++ {
		e, err := donor.log.Entry(i)
		mustBe(t, err, nil)
		e.Frame = bytes.Clone(e.Frame)
		mustBe(t, f.log.Append([]Entry{e}), nil)
	}
	f.apply()
	equal(t, f.log.Offsets(), donor.log.Offsets(), "offsets")
	equal(t, f.read(10, 1<<20), donor.read(10, 1<<20), "records")
	f.verify()
}

func TestOffsetForTimestamp(t *testing.T) {
	f := openFixture(t, small)
	times := []int64{}
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 25 {
		var ts []int64
		for range 3 {
			ts = append(ts, int64(i*10)+rng.Int64N(40))
		}
		times = append(times, ts...)
		f.append(1, frame(t, 3, frameOpt{term: 1, times: ts}), noop())
	}
	f.apply()
	for _, start := range []Offset{0, 1, 13, 40, 74} {
		if start > 0 {
			f.append(1, logStart(start))
			f.apply()
		}
		for _, below := range []Offset{75, 60, 30} {
			for ts := int64(-1); ts < 300; ts += 3 {
				wantOff, wantOK := Offset(0), false
				for o := start; o < below && !wantOK; o++ {
					if times[o] >= ts {
						wantOff, wantOK = o, true
					}
				}
				off, at, ok, err := f.log.OffsetForTimestamp(ts, below)
				mustBe(t, err, nil)
				if ok != wantOK || ok && (off != wantOff || at != times[off]) {
					t.Fatalf("start %d below %d ts %d: got %d at %d %t, want %d %t", start, below, ts, off, at, ok, wantOff, wantOK)
				}
			}
			wantOff, wantOK := Offset(0), false
			for o := start; o < below/3*3; o++ {
				if !wantOK || times[o] > times[wantOff] {
					wantOff, wantOK = o, true
				}
			}
			off, at, ok, err := f.log.MaxTimestamp(below)
			mustBe(t, err, nil)
			if ok != wantOK || ok && (off != wantOff || at != times[off]) {
				t.Fatalf("start %d below %d: largest at %d (%d) %t, want %d %t", start, below, off, at, ok, wantOff, wantOK)
			}
		}
	}
}

func TestEndOffsetForEpoch(t *testing.T) {
	f := openFixture(t)
	f.append(2, noop(), plain(t, 5, 2))
	f.append(4, noop())
	f.append(5, noop(), plain(t, 3, 5))
	for _, c := range []struct {
		ask, epoch Epoch
		end        Offset
	}{{-1, -1, -1}, {0, 0, 0}, {1, 1, 0}, {2, 2, 5}, {3, 2, 5}, {4, 4, 5}, {5, 5, 8}, {6, -1, -1}} {
		e, o := f.log.EndOffsetForEpoch(c.ask)
		if e != c.epoch || o != c.end {
			t.Errorf("epoch %d ends as %d at %d, want %d at %d", c.ask, e, o, c.epoch, c.end)
		}
	}
	equal(t, f.log.EpochOf(4), 2, "epoch of 4")
	equal(t, f.log.EpochOf(5), 5, "epoch of 5")
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

func TestTailServesRecentEntries(t *testing.T) {
	f := openFixture(t, func(o *Options) { o.TailBytes = 2000 })
	for range 30 {
		f.append(1, plain(t, 3, 1))
	}
	want, err := f.log.Entry(30)
	mustBe(t, err, nil)
	equal(t, f.log.Stats().TailHits, 1, "hits")
	_, err = f.log.Entry(2)
	mustBe(t, err, nil)
	equal(t, f.log.Stats().TailMisses, 1, "misses")
	f.log.tail.drop()
	got, err := f.log.Entry(30)
	mustBe(t, err, nil)
	equal(t, got, want, "from disk")
}

func TestTailBudgetIsShared(t *testing.T) {
	b := NewTailBudget(10 * (100 + entryOverhead))
	mk := func() *tail { return &tail{budget: b, limit: 1 << 20} }
	fill := func(tl *tail, from Index, n int) {
		for i := range n {
			tl.push([]Entry{{Index: from + Index(i), Frame: make([]byte, 100)}})
		}
	}
	idle, busy := mk(), mk()
	fill(idle, 1, 10)
	fill(busy, 1, 8)
	if b.Used() > b.limit {
		t.Fatalf("%d bytes used of %d", b.Used(), b.limit)
	}
	if _, ok := busy.get(8); !ok {
		t.Fatal("the newest entry of the busy log is gone")
	}
	if _, ok := idle.get(1); ok {
		t.Fatal("the oldest entry of the idle log is still held")
	}
	fill(busy, 9, 50)
	for i := Index(1); i <= 58; i++ {
		if e, ok := busy.get(i); ok && e.Index != i {
			t.Fatalf("%d answered for %d", e.Index, i)
		}
	}
	busy.truncate(55)
	if _, ok := busy.get(55); ok {
		t.Fatal("truncated entry is still held")
	}
	idle.drop()
	busy.drop()
	equal(t, b.Used(), 0, "used")
}

func TestScrubFindsDamage(t *testing.T) {
	f := openFixture(t, small)
	for range 20 {
		f.append(1, plain(t, 3, 1))
	}
	f.apply()
	steps, total := 0, int64(0)
	for {
		r, err := f.log.Scrub(300)
		mustBe(t, err, nil)
		total += r.Bytes
		steps++
		if r.Wrapped {
			break
		}
	}
	equal(t, total, f.log.Size(), "scrubbed")
	if steps < 5 {
		t.Fatalf("%d steps", steps)
	}
	f.reopen()
	flip(t, f.fs, f.log.mu.segments[1].path(logSuffix), 150)
	_, err := f.log.Read(0, 60, 1<<20, true)
	mustBe(t, err, ErrCorrupt)
	for {
		r, err := f.log.Scrub(300)
		if err != nil {
			mustBe(t, err, ErrCorrupt)
			break
		}
		if r.Wrapped {
			t.Fatal("the scrub found nothing")
		}
	}
}

// flip changes one bit of a file.
func flip(t testing.TB, fs vfs.FS, name string, at int64) {
	t.Helper()
	f, err := fs.Open(name)
	mustBe(t, err, nil)
	defer f.Close()
	var b [1]byte
	mustBe(t, readFull(f, b[:], at), nil)
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], at)
	mustBe(t, err, nil)
	mustBe(t, f.Sync(), nil)
}
