package partition

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

func TestReadChecksEpochAndRange(t *testing.T) {
	_, p, _ := memPartition(t)
	mustAppend(t, p, batch.BuildOptions{}, "a", "b")
	epoch := p.Leader().Epoch
	for _, c := range []struct {
		offset  batch.Offset
		current batch.Epoch
		err     error
	}{
		{0, batch.NoEpoch, nil}, {0, epoch, nil}, {2, epoch, nil},
		{0, epoch - 1, replication.ErrFencedLeaderEpoch}, {0, epoch + 1, replication.ErrUnknownLeaderEpoch},
		{3, epoch, replication.ErrOffsetOutOfRange}, {-1, epoch, replication.ErrOffsetOutOfRange},
	} {
		res, err := p.Read(ReadRequest{Offset: c.offset, MaxBytes: 1000, CurrentEpoch: c.current, LastFetchedEpoch: batch.NoEpoch})
		if !errors.Is(err, c.err) {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil {
			if res.Offsets.HighWatermark != 2 {
				t.Errorf("%+v: %+v", c, res.Offsets)
			}
			res.Range.Release()
		}
	}
	if _, err := p.Offsets(epoch + 1); !errors.Is(err, replication.ErrUnknownLeaderEpoch) {
		t.Error(err)
	}
}

func TestReadTellsWhereLogsPart(t *testing.T) {
	dir := t.TempDir()
	n := open(t, Options{DataDir: dir})
	p := n.partition(0, testConfig())
	mustAppend(t, p, batch.BuildOptions{}, "a", "b", "c")
	first := p.Leader().Epoch
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = open(t, Options{DataDir: dir})
	p = n.partition(0, testConfig())
	mustAppend(t, p, batch.BuildOptions{}, "d")
	second := p.Leader().Epoch
	read := func(offset batch.Offset, last batch.Epoch) (*EpochEnd, error) {
		res, err := p.Read(ReadRequest{Offset: offset, MaxBytes: 1000, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: last})
		if res.Range != nil {
			res.Range.Release()
		}
		return res.Diverging, err
	}
	if d, err := read(2, first); d != nil || err != nil {
		t.Errorf("an equal prefix: %+v, %v", d, err)
	}
	if d, err := read(4, first); err != nil || d == nil || *d != (EpochEnd{Epoch: first, End: 3}) {
		t.Errorf("beyond the epoch's end: %+v, %v", d, err)
	}
	if d, err := read(9, first); err != nil || d == nil || *d != (EpochEnd{Epoch: first, End: 3}) {
		t.Errorf("beyond the log's end, in another epoch: %+v, %v", d, err)
	}
	if d, err := read(9, second); err != nil || d == nil || *d != (EpochEnd{Epoch: second, End: 4}) {
		t.Errorf("beyond the log's end, in its newest epoch: %+v, %v", d, err)
	}
	if d, err := read(4, second); d != nil || err != nil {
		t.Errorf("the newest epoch: %+v, %v", d, err)
	}
	for _, offset := range []batch.Offset{-1, 9} {
		if _, err := read(offset, batch.NoEpoch); !errors.Is(err, replication.ErrOffsetOutOfRange) {
			t.Errorf("%d, in no epoch: %v", offset, err)
		}
	}
	if _, err := read(-1, first); !errors.Is(err, replication.ErrOffsetOutOfRange) {
		t.Errorf("below the log start: %v", err)
	}
	if _, err := read(1, second+5); !errors.Is(err, replication.ErrOffsetOutOfRange) {
		t.Errorf("an epoch of nobody: %v", err)
	}
	if p.EpochOf(1) != first || p.EpochOf(3) != second {
		t.Errorf("epochs %d and %d", p.EpochOf(1), p.EpochOf(3))
	}
}

func TestReadCommittedStopsAtOpenTransactions(t *testing.T) {
	_, p, _ := memPartition(t)
	mustAppend(t, p, batch.BuildOptions{}, "plain")
	producer := &batch.Producer{ID: 3, Epoch: 0}
	mustAppend(t, p, batch.BuildOptions{Producer: producer, Transactional: true}, "in a transaction")
	mustAppend(t, p, batch.BuildOptions{}, "plain again")
	o, err := p.Offsets(batch.NoEpoch)
	if err != nil || o.LastStable != 1 || o.HighWatermark != 3 {
		t.Errorf("%+v, %v", o, err)
	}
	r := ReadRequest{MaxBytes: 1 << 20, ReadCommitted: true, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch}
	res, err := p.Read(r)
	if err != nil || res.Range.Next != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	res.Range.Release()
	if _, err := p.Append(Batch{Frame: batch.BuildControl(batch.Control{ProducerID: 3, ProducerEpoch: 0})}).Wait(ctx); err != nil {
		t.Fatal(err)
	}
	res, err = p.Read(r)
	if err != nil || res.Range.Next != 4 || len(res.Aborted) != 1 || res.Aborted[0].ProducerID != 3 || res.Aborted[0].FirstOffset != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	res.Range.Release()
}

func TestSearchByTime(t *testing.T) {
	_, p, _ := memPartition(t)
	for i, ts := range []int64{1000, 3000, 2000} {
		frame, err := batch.Build(batch.BuildOptions{}, batch.Record{Timestamp: ts, Value: []byte{byte(i)}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Append(Batch{Frame: frame}).Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	epoch := p.Leader().Epoch
	if f, err := p.OffsetForTimestamp(1500, 3, batch.NoEpoch); err != nil || f != (Found{Offset: 1, Timestamp: 3000, Epoch: epoch}) {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err := p.OffsetForTimestamp(9000, 3, batch.NoEpoch); err != nil || f.Offset != -1 {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err := p.MaxTimestamp(3, batch.NoEpoch); err != nil || f.Offset != 1 || f.Timestamp != 3000 {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := p.MaxTimestamp(3, epoch-1); !errors.Is(err, replication.ErrFencedLeaderEpoch) {
		t.Error(err)
	}
}

func TestDeleteRecords(t *testing.T) {
	n, p, _ := memPartition(t)
	mustAppend(t, p, batch.BuildOptions{}, "a", "b", "c", "d")
	for _, c := range []struct {
		before, start batch.Offset
		err           error
	}{{2, 2, nil}, {1, 2, nil}, {9, 0, replication.ErrOffsetOutOfRange}, {-2, 0, replication.ErrOffsetOutOfRange}, {-1, 4, nil}} {
		if start, err := p.DeleteRecords(ctx, c.before); start != c.start || !errors.Is(err, c.err) {
			t.Errorf("before %d: %d, %v", c.before, start, err)
		}
	}
	if _, err := p.Read(ReadRequest{Offset: 3, MaxBytes: 100, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch}); !errors.Is(err, replication.ErrOffsetOutOfRange) {
		t.Error(err)
	}
	if a := mustAppend(t, p, batch.BuildOptions{}, "e"); a.LogStart != 4 {
		t.Errorf("%+v", a)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.DeleteRecords(ctx, 5); !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("after Close: %v", err)
	}
}

func TestWatchTellsOfMoves(t *testing.T) {
	_, p, _ := memPartition(t)
	w := make(chan struct{}, 1)
	cancel := p.Watch(w)
	again := p.Watch(w)
	mustAppend(t, p, batch.BuildOptions{}, "a")
	select {
	case <-w:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing was told")
	}
	cancel()
	cancel()
	if len(p.watchers.set) != 1 {
		t.Error("a watcher was forgotten")
	}
	again()
	if len(p.watchers.set) != 0 {
		t.Error("a watcher is left")
	}
}

// Retention: the leader advances the log start, segments go, and what is left can be read and survives a restart.
func TestMaintainDropsOldSegments(t *testing.T) {
	mem := vfs.NewMem()
	now := time.UnixMilli(1_000_000)
	n := open(t, Options{DataDir: "/d", FS: mem, Now: func() time.Time { return now }})
	cfg := testConfig()
	cfg.SegmentBytes, cfg.RetentionBytes = 2000, 5000
	p := n.partition(0, cfg)
	for range 30 {
		mustAppend(t, p, batch.BuildOptions{}, strings.Repeat("v", 500))
	}
	n.Maintain(ctx)
	n.Maintain(ctx)
	o := p.log.Offsets()
	if o.LogStart == 0 || p.Size() > 8000 || o.HighWatermark != 30 {
		t.Errorf("%+v, %d bytes", o, p.Size())
	}
	if got := readAll(t, p, o.LogStart); len(got) != int(30-o.LogStart) {
		t.Errorf("%d values from %d", len(got), o.LogStart)
	}
	cfg.RetentionBytes, cfg.RetentionTime, cfg.SegmentAge = -1, time.Hour, time.Minute
	p.setConfig(cfg)
	now = now.Add(2 * time.Hour)
	n.Maintain(ctx)
	n.Maintain(ctx)
	if o := p.log.Offsets(); o.LogStart != 30 || p.Size() > 500 {
		t.Errorf("by age: %+v, %d bytes", o, p.Size())
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = open(t, Options{DataDir: "/d", FS: mem, Now: func() time.Time { return now }})
	p = n.partition(0, cfg)
	if a := mustAppend(t, p, batch.BuildOptions{}, "new"); a.Base != 30 || a.LogStart != 30 {
		t.Errorf("%+v", a)
	}
	if len(n.fatals()) > 0 {
		t.Error(n.fatals())
	}
}

func TestCompactedPartitionKeepsItsRecords(t *testing.T) {
	n, p, _ := memPartition(t)
	cfg := testConfig()
	cfg.CleanupPolicy, cfg.RetentionBytes, cfg.SegmentBytes = replication.CleanupCompact, 1, 500
	p.setConfig(cfg)
	for range 10 {
		mustAppend(t, p, batch.BuildOptions{}, strings.Repeat("v", 300))
	}
	n.Maintain(ctx)
	if o := p.log.Offsets(); o.LogStart != 0 {
		t.Errorf("%+v", o)
	}
}

// Above the soft limit batches are refused, internal entries are not; with room again, everything goes on.
func TestFullDiskRefusesBatchesEarly(t *testing.T) {
	mem := vfs.NewMem()
	n := open(t, Options{DataDir: "/d", FS: mem, SoftFree: 64 << 20, BallastBytes: 4 << 20})
	p := n.partition(0, testConfig())
	n.Maintain(ctx)
	if i, err := mem.Stat("/d/ballast"); err != nil || i.Size() != 4<<20 {
		t.Fatalf("ballast: %v", err)
	}
	mustAppend(t, p, batch.BuildOptions{}, "a", "b")
	mem.SetFree(60 << 20)
	n.Maintain(ctx)
	if _, err := p.Append(frameOf(t, batch.BuildOptions{}, "c")).Wait(ctx); !errors.Is(err, replication.ErrStorage) {
		t.Errorf("got %v", err)
	}
	if _, err := p.DeleteRecords(ctx, 1); err != nil {
		t.Errorf("log start: %v", err)
	}
	if got := readAll(t, p, 1); !slices.Equal(got, []string{"a", "b"}) { // whole batches
		t.Error(got)
	}
	mem.SetFree(1 << 20)
	n.Maintain(ctx)
	if _, err := mem.Stat("/d/ballast"); !isNotExist(err) {
		t.Errorf("ballast: %v", err)
	}
	mem.SetFree(1 << 30)
	n.Maintain(ctx)
	mustAppend(t, p, batch.BuildOptions{}, "d")
	// Between two passes, what is appended is counted.
	mem.SetFree(70 << 20)
	var err error
	for i := 0; i < 40 && err == nil; i++ {
		_, err = p.Append(frameOf(t, batch.BuildOptions{}, strings.Repeat("x", 1<<20))).Wait(ctx)
	}
	if !errors.Is(err, replication.ErrStorage) {
		t.Errorf("got %v", err)
	}
	if len(n.fatals()) > 0 {
		t.Error(n.fatals())
	}
}

// A fetch that retention overtakes: the frames of the oldest segment are taken already when it goes, and with it the list of its
// aborted transactions. Without the list a read_committed consumer would take what was aborted for committed.
func TestRetentionDuringAReadOfCommitted(t *testing.T) {
	mem := vfs.NewMem()
	cfg := testConfig()
	cfg.SegmentBytes = 1000
	n := open(t, Options{DataDir: "/d", FS: mem})
	p := n.partition(0, cfg)
	mustAppend(t, p, batch.BuildOptions{Producer: &batch.Producer{ID: 3}, Transactional: true}, strings.Repeat("a", 700))
	if _, err := p.Append(Batch{Frame: batch.BuildControl(batch.Control{ProducerID: 3})}).Wait(ctx); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		mustAppend(t, p, batch.BuildOptions{}, strings.Repeat("b", 700))
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	// Nothing is verified in a new process, so a read has to look at the bytes of the segment behind.
	in := vfs.Inject(mem)
	n = open(t, Options{DataDir: "/d", FS: in})
	p = n.partition(0, cfg)
	r := ReadRequest{MaxBytes: 1 << 20, ReadCommitted: true, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch}
	segs := p.log.Segments()
	i := slices.IndexFunc(segs, func(s log.SegmentInfo) bool { return s.Base >= 2 })
	if i < 1 || segs[i].Active {
		t.Fatalf("segments: %+v", segs)
	}
	behind := segs[i]
	dropped := 0
	rule := in.Arm(vfs.Rule{Op: vfs.OpRead, Path: fmt.Sprintf("%020d-%020d.log", behind.Base, behind.First), Do: func(vfs.Call) {
		if _, err := p.DeleteRecords(ctx, behind.Base); err != nil {
			t.Error(err)
		}
		var err error
		if dropped, err = p.log.DropSegments(); err != nil {
			t.Error(err)
		}
	}})
	res, err := p.Read(r)
	if rule.Hits() != 1 || dropped != i {
		t.Fatalf("%d reads of the segment behind the transaction, %d segments dropped", rule.Hits(), dropped)
	}
	if !errors.Is(err, replication.ErrOffsetOutOfRange) {
		t.Errorf("%v, aborted %v", err, res.Aborted)
	}
	if res.Range != nil {
		res.Range.Release()
	}
	r.Offset = behind.Base
	if res, err = p.Read(r); err != nil || res.Range.Len() == 0 || len(res.Aborted) != 0 {
		t.Fatalf("from the new log start: %+v, %v", res, err)
	}
	res.Range.Release()
}

// A partition that is closed during a fetch lists no aborted transactions any more, while the range keeps its files.
func TestCloseDuringAReadOfCommitted(t *testing.T) {
	mem := vfs.NewMem()
	n := open(t, Options{DataDir: "/d", FS: mem})
	p := n.partition(0, testConfig())
	mustAppend(t, p, batch.BuildOptions{Producer: &batch.Producer{ID: 3}, Transactional: true}, "a")
	if _, err := p.Append(Batch{Frame: batch.BuildControl(batch.Control{ProducerID: 3})}).Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	in := vfs.Inject(mem)
	n = open(t, Options{DataDir: "/d", FS: in})
	p = n.partition(0, testConfig())
	rule := in.Arm(vfs.Rule{Op: vfs.OpRead, Path: ".log", Do: func(vfs.Call) {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}})
	res, err := p.Read(ReadRequest{MaxBytes: 1 << 20, ReadCommitted: true, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch})
	if rule.Hits() == 0 {
		t.Fatal("nothing was read")
	}
	if !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("%v, aborted %v", err, res.Aborted)
	}
	if res.Range != nil {
		res.Range.Release()
	}
}
