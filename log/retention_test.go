package log

import (
	"os"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/vfs"
)

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

func TestRetentionOfRecordsWithoutTime(t *testing.T) {
	f := openFixture(t, small)
	none := []int64{-1, -1, -1}
	for range 20 {
		f.append(1, frame(t, 3, frameOpt{term: 1, times: none}))
	}
	f.apply()
	segs := f.log.Segments()
	if _, ok := f.log.RetentionStart(f.time.now().Add(time.Minute), time.Hour, -1); ok {
		t.Fatal("segments that were sealed a minute ago are an hour old")
	}
	start, ok := f.log.RetentionStart(f.time.now().Add(2*time.Hour), time.Hour, -1)
	equal(t, ok, true, "ok")
	equal(t, start, segs[len(segs)-1].Base, "all sealed segments")
	off, ts, ok, err := f.log.OffsetForTimestamp(-1, 60)
	mustBe(t, err, nil)
	equal(t, []any{off, ts, ok}, []any{Offset(0), int64(-1), true}, "the first record reaches -1")
	_, _, ok, err = f.log.MaxTimestamp(60)
	mustBe(t, err, nil)
	equal(t, ok, false, "a largest timestamp of none")
}

// tenSegments is a log on a file system whose calls can be met. No slots and frames are known yet, nor, with a damaged footer,
// what the first segment's says: then its .log is read for it.
func tenSegments(t *testing.T, damaged bool) (*fixture, *vfs.Injector, []SegmentInfo) {
	t.Helper()
	f := newFixture(t, vfs.NewMem())
	in := vfs.Inject(f.fs)
	f.o.FS, f.o.SegmentBytes = in, 1
	f.open()
	for i := range 10 {
		f.append(1, frame(t, 2, frameOpt{term: 1, times: []int64{int64(100 * i), int64(100*i) + 1}}))
	}
	f.apply()
	segs := f.log.Segments()
	mustBe(t, f.log.Close(), nil)
	if damaged {
		flip(t, f.fs, f.log.o.Dir+"/"+segmentName(segs[0].Base, segs[0].First)+indexSuffix, indexHeadSize+slotSize+footerSize-9)
	}
	f.open()
	return f, in, segs
}

// A walk over the segments meets retention: what it has not looked at yet is gone. That is no answer; it begins again.
func TestWalksThatRetentionOvertakes(t *testing.T) {
	for _, walk := range []struct {
		name    string
		damaged bool
		do      func(t *testing.T, l *Log)
	}{
		{"offset for a timestamp", true, func(t *testing.T, l *Log) {
			off, ts, ok, err := l.OffsetForTimestamp(901, 20)
			mustBe(t, err, nil)
			equal(t, []any{off, ts, ok}, []any{Offset(19), int64(901), true}, "the record")
		}},
		{"largest timestamp", false, func(t *testing.T, l *Log) {
			off, ts, ok, err := l.MaxTimestamp(20)
			mustBe(t, err, nil)
			equal(t, []any{off, ts, ok}, []any{Offset(19), int64(901), true}, "the record")
		}},
		{"scrub", false, func(t *testing.T, l *Log) {
			_, err := l.Scrub(1 << 20)
			mustBe(t, err, nil)
			r, err := l.Scrub(1 << 20)
			mustBe(t, err, nil)
			equal(t, r.Wrapped, true, "the next step comes to the end")
		}},
	} {
		t.Run(walk.name, func(t *testing.T) {
			f, in, segs := tenSegments(t, walk.damaged)
			f.append(1, logStart(segs[4].Base))
			e, err := f.log.Entry(f.log.LastIndex())
			mustBe(t, err, nil)
			dropped := 0
			in.Arm(vfs.Rule{Op: vfs.OpRead, Path: segmentName(segs[0].Base, segs[0].First) + logSuffix, Do: func(vfs.Call) {
				f.log.Apply(e)
				dropped, err = f.log.DropSegments()
			}})
			walk.do(t, f.log)
			mustBe(t, err, nil)
			equal(t, dropped, 4, "dropped")
		})
	}
}

// A log that is closed during a walk, or was before, has no answer either.
func TestWalksOverAClosedLog(t *testing.T) {
	f, in, segs := tenSegments(t, false)
	in.Arm(vfs.Rule{Op: vfs.OpRead, Path: segmentName(segs[0].Base, segs[0].First) + logSuffix, Do: func(vfs.Call) {
		mustBe(t, f.log.Close(), nil)
	}})
	for range 2 {
		_, _, _, err := f.log.MaxTimestamp(20)
		mustBe(t, err, ErrClosed)
		_, _, _, err = f.log.OffsetForTimestamp(901, 20)
		mustBe(t, err, ErrClosed)
	}
	_, err := f.log.Scrub(1)
	mustBe(t, err, ErrClosed)
}

// damagedFooter has records without a time in sealed segments, and a damaged footer on the first, so that nobody knows when that was
// sealed.
func damagedFooter(t *testing.T, fs vfs.FS, dir string) *fixture {
	t.Helper()
	f := &fixture{t: t, fs: fs, time: newClock()}
	f.o = Options{FS: fs, Dir: dir, Now: f.time.now}
	f.open()
	for _, r := range []string{"a=1", "a=2", "b=1"} {
		f.append(1, kv(t, frameOpt{term: 1, times: []int64{-1}}, r))
		f.seal()
	}
	name := f.log.mu.segments[0].path(indexSuffix)
	mustBe(t, f.log.Close(), nil)
	flip(t, fs, name, indexHeadSize+slotSize+footerSize-9)
	f.open()
	return f
}

const week = 7 * 24 * time.Hour

// What nobody knows the age of is not as old as 1970.
func TestRetentionOfUnknownAge(t *testing.T) {
	f := damagedFooter(t, vfs.NewMem(), testDir)
	if start, ok := f.log.RetentionStart(f.time.now(), week, -1); ok {
		t.Fatalf("what was just written is a week old, up to %d", start)
	}
	f.clean(CleanOptions{})
	if start, ok := f.log.RetentionStart(f.time.now().Add(week), week, -1); ok {
		t.Fatalf("what was just cleaned is a week old, up to %d", start)
	}
	start, ok := f.log.RetentionStart(f.time.now().Add(week+time.Second), week, -1)
	equal(t, []any{start, ok}, []any{Offset(3), true}, "a week after compaction")
}

// The file system knows when the file was last written.
func TestRetentionByTheFilesTime(t *testing.T) {
	f := damagedFooter(t, vfs.OS{}, t.TempDir()+"/p")
	name := f.log.mu.segments[0].path(logSuffix)
	now := f.time.now()
	mustBe(t, os.Chtimes(name, now, now.Add(-time.Hour)), nil)
	_, ok := f.log.RetentionStart(now, week, -1)
	equal(t, ok, false, "may an hour old segment go")
	f.reopen()
	mustBe(t, os.Chtimes(name, now, now.Add(-week-time.Hour)), nil)
	start, ok := f.log.RetentionStart(now, week, -1)
	equal(t, []any{start, ok}, []any{Offset(1), true}, "the old segment")
	mustBe(t, f.log.Close(), nil)
}
