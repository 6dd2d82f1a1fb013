package log

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/batch"
)

// kv is a batch of keyed records: "key=value", or "key" alone for a tombstone.
func kv(t testing.TB, o frameOpt, records ...string) []byte {
	t.Helper()
	b := batch.NewBuilder(batch.BuildOptions{Producer: o.prod, Transactional: o.txn})
	for i, s := range records {
		key, value, ok := strings.Cut(s, "=")
		r := batch.Record{Timestamp: 1000 + int64(i), Key: []byte(key)}
		if i < len(o.times) {
			r.Timestamp = o.times[i]
		}
		if ok {
			r.Value = []byte(value)
		}
		b.Add(r)
	}
	f, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	batch.Stamp(f, batch.Unstamped, o.term)
	return f
}

// stored lists all batches' records as "offset key=value", each followed by a "|" at the end of its batch. A batch without
// records is "-".
func (f *fixture) stored() string {
	f.t.Helper()
	var out []string
	frames, err := batch.Split(f.read(f.log.Offsets().LogStart, 1<<30))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, frame := range frames {
		mustBe(f.t, batch.CheckCRC(frame), nil)
		var records []string
		if c, err := batch.ParseControl(frame); err == nil {
			records = append(records, map[batch.ControlType]string{batch.ControlAbort: "abort", batch.ControlCommit: "commit"}[c.Type])
		} else if err := batch.Iterate(frame, func(r batch.Record) error {
			s := fmt.Sprintf("%d %s", r.Offset, r.Key)
			if r.Value != nil {
				s += "=" + string(r.Value)
			}
			records = append(records, s)
			return nil
		}); err != nil {
			f.t.Fatal(err)
		}
		if len(records) == 0 {
			records = []string{"-"}
		}
		out = append(out, strings.Join(records, ", "))
	}
	return strings.Join(out, " | ")
}

// seal rolls, applies all and writes a checkpoint, so that everything so far may be cleaned.
func (f *fixture) seal() {
	f.t.Helper()
	f.apply()
	f.log.SetLimits(SegmentLimits{SegmentBytes: f.o.SegmentBytes, SegmentAge: time.Millisecond})
	f.time.add(time.Second)
	if _, err := f.log.Roll(f.time.now()); err != nil {
		f.t.Fatal(err)
	}
	f.log.SetLimits(SegmentLimits{SegmentBytes: f.o.SegmentBytes})
	mustBe(f.t, f.log.Checkpoint(0), nil)
}

func (f *fixture) cleaner() *Cleaner { return NewCleaner(f.log) }

func (f *fixture) clean(o CleanOptions) CleanResult {
	f.t.Helper()
	o.Everywhere = f.log.LastIndex()
	r, err := f.cleaner().Clean(o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.verify()
	return r
}

func TestCleanKeepsTheNewestOfEachKey(t *testing.T) {
	f := openFixture(t)
	f.append(1, config("c"), kv(t, frameOpt{term: 1}, "a=1", "b=1", "c=1"), noop(), kv(t, frameOpt{term: 1}, "a=2"))
	f.seal()
	f.append(2, noop(), kv(t, frameOpt{term: 2}, "b=2", "a=3"), plain(t, 1, 2), kv(t, frameOpt{term: 2}, "d=1"))
	f.seal()
	f.append(2, kv(t, frameOpt{term: 2}, "c=9"))
	f.apply()
	before := f.log.Offsets()
	d, err := f.cleaner().Dirt(f.time.now(), 0)
	mustBe(t, err, nil)
	equal(t, d.Ratio(), 1, "ratio")
	equal(t, d.Oldest, 1002, "oldest")
	r := f.clean(CleanOptions{})
	equal(t, r.Segments, 2, "segments")
	equal(t, f.stored(), "2 c=1 | 4 b=2, 5 a=3 | 7 d=1 | 8 c=9", "records")
	check := func() {
		t.Helper()
		equal(t, f.log.Offsets(), before, "offsets")
		equal(t, f.stored(), "2 c=1 | 4 b=2, 5 a=3 | 7 d=1 | 8 c=9", "records")
		c, i := f.log.Configuration()
		equal(t, string(c), "c", "configuration")
		equal(t, i, 1, "its index")
		for i := Index(1); i <= f.log.LastIndex(); i++ {
			e, err := f.log.Entry(i)
			mustBe(t, err, nil)
			want, _ := f.log.Term(i)
			equal(t, e.Term, want, "term")
		}
	}
	check()
	f.reopen()
	check()
	d, err = f.cleaner().Dirt(f.time.now(), 0)
	mustBe(t, err, nil)
	equal(t, d.Ratio(), 0, "ratio of a clean log")
	equal(t, f.clean(CleanOptions{}).Segments, 0, "segments of a clean log")
	f.seal()
	f.append(2, kv(t, frameOpt{term: 2}, "z=1"))
	f.apply()
	f.clean(CleanOptions{})
	equal(t, f.stored(), "4 b=2, 5 a=3 | 7 d=1 | 8 c=9 | 9 z=1", "records of a second pass")
	equal(t, len(f.log.Segments()), 2, "segments")
	off, ts, ok, err := f.log.OffsetForTimestamp(1001, 10)
	mustBe(t, err, nil)
	equal(t, []any{off, ts, ok}, []any{Offset(5), int64(1001), true}, "offset of a time")
}

// A tombstone stays until its horizon, and its key's older records are gone from the first pass on.
func TestCleanTombstones(t *testing.T) {
	f := openFixture(t)
	o := CleanOptions{DeleteRetention: time.Hour}
	f.append(1, kv(t, frameOpt{term: 1}, "a=1", "b=1"), kv(t, frameOpt{term: 1}, "a", "c=1"))
	f.seal()
	f.append(1, kv(t, frameOpt{term: 1}, "x=1"))
	f.clean(o)
	equal(t, f.stored(), "1 b=1 | 2 a, 3 c=1 | 4 x=1", "after one pass")
	more := func() {
		f.seal()
		f.append(1, kv(t, frameOpt{term: 1}, "x=1"))
		f.clean(o)
	}
	f.time.add(50 * time.Minute)
	more()
	equal(t, f.stored(), "1 b=1 | 2 a, 3 c=1 | 4 x=1 | 5 x=1", "before the horizon")
	f.time.add(11 * time.Minute)
	more()
	equal(t, f.stored(), "1 b=1 | 3 c=1 | 5 x=1 | 6 x=1", "behind the horizon")
	_, ts, ok, err := f.log.OffsetForTimestamp(1001, 4)
	mustBe(t, err, nil)
	equal(t, []any{ts, ok}, []any{int64(1001), true}, "timestamps survive a horizon")
}

// Committed data is compacted, aborted data goes, markers go once their data is gone and their horizon has passed, and
// what .txnindex says goes with them.
func TestCleanTransactions(t *testing.T) {
	f := openFixture(t)
	o := CleanOptions{DeleteRetention: time.Hour}
	tx := func(id int64, seq int32) frameOpt {
		return frameOpt{term: 1, txn: true, prod: &batch.Producer{ID: id, Sequence: seq}}
	}
	f.append(1, kv(t, tx(1, 0), "a=1"), kv(t, tx(2, 0), "a=2"), marker(1, 2, 0, false), marker(1, 1, 0, true),
		kv(t, tx(1, 1), "a=3"), marker(1, 1, 0, true), kv(t, tx(2, 1), "b=1"), marker(1, 2, 0, true))
	// Later ones take the place of the first as the newest of their producers.
	for i := range int32(5) {
		f.append(1, kv(t, tx(1, 2+i), "p=1"), kv(t, tx(2, 2+i), "p=1"))
	}
	f.append(1, marker(1, 1, 0, true), marker(1, 2, 0, true))
	f.seal()
	f.append(1, kv(t, frameOpt{term: 1}, "x=1"))
	f.apply()
	aborted, err := f.log.Aborted(0, 100)
	mustBe(t, err, nil)
	equal(t, len(aborted), 1, "aborted")
	f.clean(o)
	equal(t, f.stored(), "abort | commit | 4 a=3 | commit | 6 b=1 | commit | - | - | - | - | - | - | - | - | - | 17 p=1 | commit | commit | 20 x=1", "first pass")
	more := func() {
		f.seal()
		f.append(1, kv(t, frameOpt{term: 1}, "x=1"))
		f.apply()
		f.clean(o)
	}
	more()
	aborted, err = f.log.Aborted(0, 100)
	mustBe(t, err, nil)
	equal(t, len(aborted), 1, "aborted, as long as its marker is there")
	f.time.add(2 * time.Hour)
	more()
	equal(t, f.stored(), "4 a=3 | commit | 6 b=1 | commit | - | - | - | - | - | - | - | - | - | 17 p=1 | commit | commit | 21 x=1 | 22 x=1", "markers go")
	aborted, err = f.log.Aborted(0, 100)
	mustBe(t, err, nil)
	equal(t, len(aborted), 0, "aborted")
	f.reopen()
	equal(t, f.log.Offsets().LastStable, 23, "last stable")
}

// A marker stays where the state of its segment says that the transaction is open: retention may make that the first, and a
// new replica, which begins with it, would wait for the marker for ever.
func TestCleanKeepsMarkersOfOpenStates(t *testing.T) {
	f := openFixture(t)
	f.append(1, noop(), txn(t, 1, 1, 7, 0, 0), kv(t, frameOpt{term: 1}, "a=1"))
	f.o.SegmentBytes = 300
	f.seal()
	f.append(1, marker(1, 7, 0, false), kv(t, frameOpt{term: 1}, "a=2", "b="+strings.Repeat("x", 200)))
	f.seal()
	f.time.add(48 * time.Hour) // the producer is forgotten
	f.append(1, kv(t, frameOpt{term: 1}, "z=1"), logStart(2))
	f.apply()
	for range 3 {
		f.clean(CleanOptions{})
		f.seal()
		f.append(1, kv(t, frameOpt{term: 1}, "z=1"))
		f.apply()
	}
	f.reopen() // or the entries would come from memory
	n, err := f.log.DropSegments()
	mustBe(t, err, nil)
	equal(t, n, 1, "segments dropped")
	g := openFixture(t)
	s, err := f.log.StartState()
	mustBe(t, err, nil)
	mustBe(t, g.log.Reset(s), nil)
	for i := f.log.FirstIndex(); i <= f.log.LastIndex(); i++ {
		e, err := f.log.Entry(i)
		mustBe(t, err, nil)
		mustBe(t, g.log.Append([]Entry{e}), nil)
	}
	g.apply()
	equal(t, g.log.Offsets(), f.log.Offsets(), "offsets of a new replica")
}

// An open transaction, young records and what is not committed stay as they are.
func TestCleanStaysBelowItsBounds(t *testing.T) {
	f := openFixture(t)
	f.append(1, kv(t, frameOpt{term: 1}, "a=1"), kv(t, frameOpt{term: 1}, "a=2"))
	f.seal()
	f.append(1, txn(t, 1, 1, 7, 0, 0), kv(t, frameOpt{term: 1, times: []int64{f.time.ms.Load()}}, "a=3"))
	f.seal()
	f.clean(CleanOptions{})
	equal(t, f.stored(), "1 a=2 | 2 =v0 | 3 a=3", "an open transaction stops it")
	f.append(1, marker(1, 7, 0, true))
	f.apply()
	mustBe(t, f.log.Checkpoint(0), nil)
	f.clean(CleanOptions{MinLag: time.Minute})
	equal(t, f.stored(), "1 a=2 | 2 =v0 | 3 a=3 | commit", "young records stay")
	f.time.add(time.Hour)
	f.clean(CleanOptions{MinLag: time.Minute})
	equal(t, f.stored(), "- | 3 a=3 | commit", "records without a key go")
}

// A map that is too small means several passes, and the same end.
func TestCleanWithASmallMap(t *testing.T) {
	f := openFixture(t)
	const keys = 3 * leastKeys
	for round := range 3 {
		for k := 0; k < keys; k += 100 {
			var rs []string
			for i := k; i < min(k+100, keys); i++ {
				rs = append(rs, fmt.Sprintf("k%d=%d", i, round))
			}
			f.append(1, kv(t, frameOpt{term: 1}, rs...))
		}
	}
	f.seal()
	passes := 0
	for {
		r := f.clean(CleanOptions{MapBytes: 1})
		if r.Segments == 0 {
			break
		}
		passes++
	}
	if passes < 9 {
		t.Errorf("%d passes", passes)
	}
	seen := map[string]string{}
	frames, _ := batch.Split(f.read(0, 1<<30))
	for _, frame := range frames {
		mustBe(t, batch.Iterate(frame, func(r batch.Record) error {
			if old, ok := seen[string(r.Key)]; ok {
				t.Fatalf("key %s twice: %s and %s", r.Key, old, r.Value)
			}
			seen[string(r.Key)] = string(r.Value)
			return nil
		}), nil)
	}
	equal(t, len(seen), keys, "keys")
	for k, v := range seen {
		equal(t, v, "2", "value of "+k)
	}
}

// Readers that began before a swap keep what they have.
func TestCleanBesideReaders(t *testing.T) {
	f := openFixture(t)
	f.append(1, kv(t, frameOpt{term: 1}, "a=1"), kv(t, frameOpt{term: 1}, "a=2"))
	f.seal()
	want := f.read(0, 1<<20)
	r, err := f.log.Read(0, 2, 1<<20, true)
	mustBe(t, err, nil)
	f.clean(CleanOptions{})
	got, err := r.AppendTo(nil)
	mustBe(t, err, nil)
	equal(t, got, want, "bytes of an old range")
	r.Release()
	equal(t, f.stored(), "1 a=2", "bytes of a new one")
}

func TestCleanEndsEarly(t *testing.T) {
	f := openFixture(t)
	f.append(1, kv(t, frameOpt{term: 1}, "a=1"), kv(t, frameOpt{term: 1}, "a=2"))
	f.seal()
	stop, k := errors.New("stop"), f.cleaner()
	for n := range 3 {
		left := n
		_, err := k.Clean(CleanOptions{Pace: func(int) error {
			if left--; left < 0 {
				return stop
			}
			_, err := k.Clean(CleanOptions{})
			mustBe(t, err, ErrCleaning)
			return nil
		}})
		mustBe(t, err, stop)
		equal(t, f.stored(), "0 a=1 | 1 a=2", "records")
		f.verify()
	}
	f.reopen()
	f.clean(CleanOptions{})
	equal(t, f.stored(), "1 a=2", "records")
}

// A replica that is sent a cleaned log, an uncleaned one, and parts of both ends with the same offsets.
func TestGapsFromSeveralLeaders(t *testing.T) {
	full, cleaned := openFixture(t), openFixture(t)
	for _, f := range []*fixture{full, cleaned} {
		for i := range 12 {
			f.append(1, kv(t, frameOpt{term: 1}, "a=1", fmt.Sprintf("b%d=1", i/6)))
		}
		f.seal()
		f.append(2, noop(), kv(t, frameOpt{term: 2}, "z=1"))
		f.apply()
	}
	cleaned.clean(CleanOptions{})
	cleaned.reopen() // or the entries would come from memory
	last := full.log.LastIndex()
	for from := Index(1); from <= last; from++ {
		for to := from; to <= last; to++ {
			g := openFixture(t)
			for i := Index(1); i <= last; i++ {
				source := full
				if i >= from && i <= to {
					source = cleaned
				}
				e, err := source.log.Entry(i)
				mustBe(t, err, nil)
				e.Frame = append([]byte(nil), e.Frame...)
				mustBe(t, g.log.Append([]Entry{e}), nil)
				if (from+to+i)%5 == 0 {
					g.reopen()
				}
			}
			g.apply()
			equal(t, g.log.Offsets(), full.log.Offsets(), "offsets")
			equal(t, g.log.Size() > 0, true, "size")
			g.verify()
			g.seal()
			g.clean(CleanOptions{})
			equal(t, g.stored(), cleaned.stored(), "records")
		}
	}
}
