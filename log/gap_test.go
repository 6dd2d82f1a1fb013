package log

import (
	"bytes"
	"testing"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// gapLog writes what compaction will: a segment with a gap frame for entries 2 to 6, offsets 3 to 9, of term 2.
func gapLog(t *testing.T) (*fixture, [][]byte) {
	t.Helper()
	first, gap, third := plain(t, 3, 0), GapFrame(5, 7), plain(t, 2, 0)
	batch.Stamp(first, 0, 1)
	batch.Stamp(gap, 3, 2)
	batch.Stamp(third, 10, 3)
	name := segmentName(0, 1)
	f := newFixture(t, restore(t, map[string][]byte{
		name + logSuffix:   bytes.Join([][]byte{first, gap, third}, nil),
		name + stateSuffix: (&State{}).Encode(),
	}))
	f.open()
	return f, [][]byte{first, gap, third}
}

func TestGapsAnswerForWhatTheyReplaced(t *testing.T) {
	f, frames := gapLog(t)
	check := func() {
		t.Helper()
		equal(t, f.log.LastIndex(), 7, "last")
		equal(t, f.log.Offsets().LogEnd, 12, "end")
		for i := Index(2); i <= 6; i++ {
			e, err := f.log.Entry(i)
			mustBe(t, err, nil)
			equal(t, e.Term, 2, "term")
			equal(t, e.Kind, KindGap, "kind")
			p, err := parseFrame(e.Frame)
			mustBe(t, err, nil)
			mustBe(t, batch.CheckCRC(e.Frame), nil)
			equal(t, p.indexes, 1, "entries of one")
			equal(t, p.BaseOffset, 3, "base offset")
			equal(t, p.NextOffset(), map[bool]Offset{true: 10, false: 3}[i == 6], "next offset")
			term, err := f.log.Term(i)
			mustBe(t, err, nil)
			equal(t, term, 2, "term from memory")
			end, err := f.log.EndOffsetAt(i)
			mustBe(t, err, nil)
			equal(t, end, p.NextOffset(), "where a log ends that has got this far")
		}
		e, err := f.log.Entry(7)
		mustBe(t, err, nil)
		equal(t, e.Frame, frames[2], "entry behind the gap")
		equal(t, f.read(0, 1<<20), append(bytes.Clone(frames[0]), frames[2]...), "a read cuts the gap out")
		for o := Offset(3); o < 12; o++ {
			equal(t, f.read(o, 1<<20), frames[2], "a read from inside the gap")
		}
		r, err := f.log.Read(4, 10, 1<<20, true)
		mustBe(t, err, nil)
		equal(t, r.Len(), 0, "length up to the gap's end")
		equal(t, r.Next, 10, "next")
		r.Release()
	}
	check()
	f.verify()
	f.crash(vfs.CrashOptions{})
	check()
	f.append(3, plain(t, 1, 3), noop())
	f.crash(vfs.CrashOptions{})
	equal(t, f.log.LastIndex(), 9, "last")
	mustBe(t, f.log.TruncateSuffix(4), ErrCommitted)
	mustBe(t, f.log.TruncateSuffix(8), nil)
	check()
	f.o.SegmentBytes = 100
	f.log.SetLimits(SegmentLimits{SegmentBytes: 100})
	f.append(3, plain(t, 1, 3))
	f.reopen()
	equal(t, f.log.LastIndex(), 8, "last")
	f.append(3, plain(t, 1, 3))
	f.verify()
	// The same from a sealed, mapped index.
	for i := Index(1); i <= 9; i++ {
		_, err := f.log.Entry(i)
		mustBe(t, err, nil)
	}
	equal(t, f.read(5, 1)[:0], []byte{}, "")
	equal(t, f.read(5, 1), frames[2], "sealed")
}

// A follower that is sent the entries of a gap one by one ends with the same offsets.
func TestGapsReplicate(t *testing.T) {
	f, frames := gapLog(t)
	g := openFixture(t)
	for i := Index(1); i <= 7; i++ {
		e, err := f.log.Entry(i)
		mustBe(t, err, nil)
		e.Frame = bytes.Clone(e.Frame)
		mustBe(t, g.log.Append([]Entry{e}), nil)
	}
	equal(t, g.log.Offsets(), f.log.Offsets(), "offsets")
	equal(t, g.read(0, 1<<20), append(bytes.Clone(frames[0]), frames[2]...), "records")
	g.apply()
	equal(t, g.log.Offsets().HighWatermark, 12, "high watermark")
	g.verify()
}
