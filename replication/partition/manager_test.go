package partition

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	testTopic = replication.TopicID{1, 2, 3, 4}
	ctx       = context.Background()
)

func testID(n int32) replication.PartitionID {
	return replication.PartitionID{Topic: testTopic, Partition: n}
}

func testConfig() replication.TopicConfig {
	return replication.TopicConfig{
		CleanupPolicy: replication.CleanupDelete, RetentionTime: -1, RetentionBytes: -1,
		SegmentBytes: 1 << 30, SegmentAge: 7 * 24 * time.Hour, SegmentIndexBytes: 10 << 20, MinInsyncReplicas: 1,
	}
}

func single(node replication.NodeID) replication.Assignment {
	return replication.Assignment{Replicas: []replication.ReplicaID{{Node: node}}}
}

// node is a manager whose changes of leadership can be waited for.
type node struct {
	*Manager
	t     testing.TB
	mu    sync.Mutex
	fatal []error
	moved chan struct{}
	seen  []LeaderChange
}

func open(t testing.TB, o Options) *node {
	t.Helper()
	n := &node{t: t, moved: make(chan struct{}, 1)}
	if o.Node == 0 {
		o.Node = 1
	}
	o.OnLeader = n.led
	o.OnFatal = func(err error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.fatal = append(n.fatal, err)
	}
	if o.BallastBytes == 0 {
		o.BallastBytes = -1
	}
	m, err := NewManager(o)
	if err != nil {
		t.Fatal(err)
	}
	n.Manager = m
	t.Cleanup(func() { _ = m.Close() })
	return n
}

func (n *node) led(c LeaderChange) {
	n.mu.Lock()
	n.seen = append(n.seen, c)
	n.mu.Unlock()
	select {
	case n.moved <- struct{}{}:
	default:
	}
}

func (n *node) fatals() []error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.fatal)
}

// partition opens a partition of one replica and waits until it leads.
func (n *node) partition(i int32, cfg replication.TopicConfig) *Partition {
	n.t.Helper()
	p, err := n.Ensure(ctx, testID(i), "topic", single(n.o.Node), cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.waitLead(p)
	return p
}

func (n *node) waitLead(p *Partition) {
	n.t.Helper()
	moved := make(chan struct{}, 1)
	defer p.Watch(moved)()
	for deadline := time.After(30 * time.Second); !p.Leading(); {
		select {
		case <-moved:
		case <-deadline:
			n.t.Fatalf("%v does not lead; offline: %v", p.ID(), p.Err())
		}
	}
}

// frameOf builds a batch.
func frameOf(t testing.TB, o batch.BuildOptions, values ...string) Batch {
	t.Helper()
	b := batch.NewBuilder(o)
	for _, v := range values {
		b.Add(batch.Record{Timestamp: 1000, Value: []byte(v)})
	}
	frame, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := batch.ParseHeader(frame)
	if err != nil {
		t.Fatal(err)
	}
	return Batch{Frame: frame, Info: batch.Info{Header: h}}
}

func mustAppend(t testing.TB, p *Partition, o batch.BuildOptions, values ...string) Appended {
	t.Helper()
	a, err := p.Append(frameOf(t, o, values...)).Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// readAll returns the values from an offset on.
func readAll(t testing.TB, p *Partition, from batch.Offset) (values []string) {
	t.Helper()
	res, err := p.Read(ReadRequest{Offset: from, MaxBytes: 1 << 24, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Range.Release()
	b, err := res.Range.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		h, err := batch.ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := batch.Iterate(b[:h.Size()], func(r batch.Record) error { values = append(values, string(r.Value)); return nil }); err != nil {
			t.Fatal(err)
		}
		b = b[h.Size():]
	}
	return values
}

func TestProduceReadRestart(t *testing.T) {
	dir := t.TempDir()
	n := open(t, Options{DataDir: dir})
	p := n.partition(0, testConfig())
	if a := mustAppend(t, p, batch.BuildOptions{}, "a", "b", "c"); a.Base != 0 || a.Last != 2 || a.LogStart != 0 || a.Timestamp != -1 || a.Duplicate || a.Epoch != p.Leader().Epoch {
		t.Errorf("%+v", a)
	}
	if a := mustAppend(t, p, batch.BuildOptions{Codec: batch.Zstd}, "d"); a.Base != 3 {
		t.Errorf("%+v", a)
	}
	if got := readAll(t, p, 0); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Error(got)
	}
	o, err := p.Offsets(p.Leader().Epoch)
	if err != nil || o != (Offsets{LogStart: 0, LastStable: 4, HighWatermark: 4, LogEnd: 4}) {
		t.Errorf("%+v, %v", o, err)
	}
	epoch := p.Leader().Epoch
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Append(frameOf(t, batch.BuildOptions{}, "x")).Wait(ctx); !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("after Close: %v", err)
	}

	n = open(t, Options{DataDir: dir})
	p = n.partition(0, testConfig())
	if p.Leader().Epoch <= epoch {
		t.Errorf("epoch %d after %d", p.Leader().Epoch, epoch)
	}
	if c := p.group.Counts(); c.GetLog > 8 {
		t.Errorf("a clean restart read %d entries", c.GetLog)
	}
	mustAppend(t, p, batch.BuildOptions{}, "e")
	if got := readAll(t, p, 2); !slices.Equal(got, []string{"a", "b", "c", "d", "e"}) {
		t.Error(got)
	}
	if got, err := p.EndOffsetForEpoch(epoch, batch.NoEpoch); err != nil || got != (EpochEnd{Epoch: epoch, End: 4}) {
		t.Errorf("%+v, %v", got, err)
	}
	if len(n.fatals()) > 0 {
		t.Error(n.fatals())
	}
}

// Group commit: what comes while a write is under way shares the next one, and each write is one fsync.
func TestConcurrentAppendsShareAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys, counts := vfs.Count(vfs.NewMem())
		slow := vfs.Inject(fsys) // a disk on which an fsync takes longer than all else
		n := open(t, Options{DataDir: "/d", FS: slow})
		p := n.partition(0, testConfig())
		slow.Add(vfs.Rule{Op: vfs.OpSync, Path: ".log", Delay: 2 * time.Millisecond, Last: -1})
		before, syncs := p.group.Counts(), counts.LogSyncs()
		const appenders, each = 64, 20
		var wg sync.WaitGroup
		for range appenders {
			wg.Go(func() {
				for range each {
					if _, err := p.Append(frameOf(t, batch.BuildOptions{}, "v")).Wait(ctx); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		after := p.group.Counts()
		entries, stores := after.Entries-before.Entries, after.Stores-before.Stores
		t.Logf("%d entries in %d StoreLogs: %.1f each", entries, stores, float64(entries)/float64(stores))
		if entries != appenders*each || entries < 16*stores {
			t.Errorf("%d entries in %d StoreLogs", entries, stores)
		}
		if got := counts.LogSyncs() - syncs; got != stores {
			t.Errorf("%d fsyncs for %d StoreLogs", got, stores)
		}
	})
}

// One broken partition does not keep the others from opening, and says so.
func TestDamagedPartitionIsOfflineAlone(t *testing.T) {
	mem := vfs.NewMem()
	n := open(t, Options{DataDir: "/d", FS: mem})
	for i := range int32(3) {
		mustAppend(t, n.partition(i, testConfig()), batch.BuildOptions{}, "a", "b")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	// The log of one is gone, though its checkpoint says that it was there.
	truncateLog(t, mem, filepath.Join("/d/partitions", testID(1).String()))
	n = open(t, Options{DataDir: "/d", FS: mem})
	for i := range int32(3) {
		p, err := n.Ensure(ctx, testID(i), "topic", single(1), testConfig())
		if i != 1 {
			if err != nil {
				t.Fatal(err)
			}
			n.waitLead(p)
			mustAppend(t, p, batch.BuildOptions{}, "c")
			continue
		}
		if !errors.Is(err, replication.ErrStorage) || !errors.Is(err, log.ErrDataLoss) || p == nil {
			t.Fatalf("%v, %v", p, err)
		}
		checkOffline(t, p)
	}
	n.Maintain(ctx)
	if len(n.fatals()) > 0 || len(n.All()) != 3 {
		t.Error(n.fatals(), len(n.All()))
	}
}

// checkOffline asks an offline partition for everything.
func checkOffline(t *testing.T, p *Partition) {
	t.Helper()
	_, read := p.Read(ReadRequest{CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch})
	_, offsets := p.Offsets(batch.NoEpoch)
	_, byTime := p.OffsetForTimestamp(0, 1, batch.NoEpoch)
	_, newest := p.MaxTimestamp(1, batch.NoEpoch)
	_, byEpoch := p.EndOffsetForEpoch(1, batch.NoEpoch)
	_, deleted := p.DeleteRecords(ctx, 1)
	_, appended := p.Append(frameOf(t, batch.BuildOptions{}, "x")).Wait(ctx)
	for name, err := range map[string]error{
		"Read": read, "Offsets": offsets, "OffsetForTimestamp": byTime, "MaxTimestamp": newest, "EndOffsetForEpoch": byEpoch,
		"DeleteRecords": deleted, "Append": appended, "Err": p.Err(),
	} {
		if !errors.Is(err, replication.ErrStorage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.setConfig(testConfig())
	if p.Leader().Node != replication.NoNode || p.Leading() || len(p.ISR()) > 0 || p.Size() != 0 || len(p.Producers()) > 0 || p.EpochOf(0) != batch.NoEpoch {
		t.Error("an offline partition claims something")
	}
}

func truncateLog(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	names, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if vfs.ClassOf(name) != vfs.ClassLog {
			continue
		}
		f, err := fsys.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(100), f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// A failed fsync is the process's end: reported once, whatever else happens.
func TestFailedFsyncIsFatalOnce(t *testing.T) {
	fsys := vfs.Inject(vfs.NewMem())
	n := open(t, Options{DataDir: "/d", FS: fsys})
	p, q := n.partition(0, testConfig()), n.partition(1, testConfig())
	mustAppend(t, p, batch.BuildOptions{}, "a")
	fsys.Add(vfs.Rule{Op: vfs.OpSync, Path: ".log", Err: syscall.EIO, Last: -1})
	for _, x := range []*Partition{p, q, p} {
		if _, err := x.Append(frameOf(t, batch.BuildOptions{}, "b")).Wait(ctx); !errors.Is(err, replication.ErrUnknownOutcome) && !errors.Is(err, replication.ErrStorage) {
			t.Errorf("got %v", err)
		}
	}
	if f := n.fatals(); len(f) != 1 || !errors.Is(f[0], syscall.EIO) || !errors.Is(f[0], log.ErrFailed) {
		t.Errorf("reports: %v", f)
	}
	if !errors.Is(p.Err(), replication.ErrStorage) {
		t.Errorf("partition: %v", p.Err())
	}
}

// Damage that a read finds takes the partition offline: it must not lead with it.
// damagedNode is a node whose partition 0 has a wrong byte among what was durable at its clean stop.
func damagedNode(t *testing.T) (*node, *Partition) {
	t.Helper()
	mem := vfs.NewMem()
	n := open(t, Options{DataDir: "/d", FS: mem})
	p := n.partition(0, testConfig())
	mustAppend(t, p, batch.BuildOptions{}, strings.Repeat("a", 100))
	mustAppend(t, p, batch.BuildOptions{}, strings.Repeat("b", 100))
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("/d/partitions", testID(0).String())
	names, err := mem.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if vfs.ClassOf(name) == vfs.ClassLog {
			f, err := mem.Open(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			size, _ := f.Size()
			whole := make([]byte, size)
			if _, err := f.ReadAt(whole, 0); err != nil {
				t.Fatal(err)
			}
			at := strings.Index(string(whole), "aaaa")
			if _, err := f.WriteAt([]byte("X"), int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	n = open(t, Options{DataDir: "/d", FS: mem})
	return n, n.partition(0, testConfig())
}

func TestDamageFoundByAReadTakesThePartitionOffline(t *testing.T) {
	n, p := damagedNode(t)
	if _, err := p.Read(ReadRequest{MaxBytes: 1 << 20, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch}); !errors.Is(err, replication.ErrStorage) {
		t.Fatalf("got %v", err)
	}
	if !errors.Is(p.Err(), log.ErrCorrupt) {
		t.Errorf("partition: %v", p.Err())
	}
	if len(n.fatals()) > 0 {
		t.Error(n.fatals())
	}
}

// So does a file of a format that this build does not know: a sealed index is looked at when it is first needed.
func TestUnknownFormatFoundByAReadTakesThePartitionOffline(t *testing.T) {
	mem := vfs.NewMem()
	n := open(t, Options{DataDir: "/d", FS: mem})
	cfg := testConfig()
	cfg.SegmentBytes = 300
	p := n.partition(0, cfg)
	for range 6 {
		mustAppend(t, p, batch.BuildOptions{}, strings.Repeat("a", 100))
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	const versionAt, version = 8, 77
	dir := filepath.Join("/d/partitions", testID(0).String())
	indexes := slices.DeleteFunc(mustList(t, mem, dir), func(name string) bool { return vfs.ClassOf(name) != vfs.ClassIndex })
	for _, name := range indexes[:len(indexes)-1] { // the last is not sealed
		f, err := mem.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{version}, versionAt); err != nil {
			t.Fatal(err)
		}
	}
	n = open(t, Options{DataDir: "/d", FS: mem})
	p = n.partition(0, cfg)
	if _, err := p.Read(ReadRequest{MaxBytes: 1 << 20, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch}); !errors.Is(err, replication.ErrStorage) {
		t.Fatalf("got %v", err)
	}
	if !errors.Is(p.Err(), log.ErrFormat) {
		t.Errorf("partition: %v", p.Err())
	}
}

func mustList(t *testing.T, fsys vfs.FS, dir string) []string {
	t.Helper()
	names, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(slices.Values(names))
}

// TestDamageFoundByTheScrub: nobody has read the bytes when the scrub comes by.
func TestDamageFoundByTheScrub(t *testing.T) {
	n, p := damagedNode(t)
	for range 10 {
		n.Scrub(1)
	}
	if !errors.Is(p.Err(), log.ErrCorrupt) {
		t.Errorf("partition: %v", p.Err())
	}
	if len(n.fatals()) > 0 {
		t.Error(n.fatals())
	}
}

func TestDeleteIsDurableAndFinishedAtTheStart(t *testing.T) {
	mem := vfs.NewMem()
	n := open(t, Options{DataDir: "/d", FS: mem})
	p := n.partition(0, testConfig())
	mustAppend(t, p, batch.BuildOptions{}, "a")
	other := n.partition(1, testConfig())
	if err := n.Delete(ctx, testID(0)); err != nil {
		t.Fatal(err)
	}
	if err := n.Delete(ctx, testID(7)); err != nil {
		t.Errorf("of nothing: %v", err)
	}
	if _, ok := n.Get(testID(0)); ok || len(n.All()) != 1 {
		t.Error("it is still there")
	}
	if _, err := p.Append(frameOf(t, batch.BuildOptions{}, "x")).Wait(ctx); !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("append: %v", err)
	}
	if ids, err := n.Stored(); err != nil || len(ids) != 1 || ids[0] != testID(1) {
		t.Error(ids, err)
	}
	if g := n.votes.Groups(); len(g) != 1 {
		t.Errorf("votes of %v", g)
	}
	// Made again, it begins anew.
	p = n.partition(0, testConfig())
	if a := mustAppend(t, p, batch.BuildOptions{}, "b"); a.Base != 0 {
		t.Errorf("%+v", a)
	}
	mustAppend(t, other, batch.BuildOptions{}, "c")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	// A deletion that was cut short after its commit point.
	dir := filepath.Join("/d/partitions", testID(1).String())
	if err := errors.Join(mem.Rename(dir, dir+deletedSuffix), mem.SyncDir("/d/partitions")); err != nil {
		t.Fatal(err)
	}
	n = open(t, Options{DataDir: "/d", FS: mem})
	if _, err := mem.Stat(dir + deletedSuffix); !isNotExist(err) {
		t.Errorf("leftovers: %v", err)
	}
	if g := n.votes.Groups(); len(g) != 1 {
		t.Errorf("votes of %v", g)
	}
}

func TestEnsureJudgesWhatItFinds(t *testing.T) {
	mem := vfs.NewMem()
	n := open(t, Options{DataDir: "/d", FS: mem})
	p := n.partition(0, testConfig())
	mustAppend(t, p, batch.BuildOptions{}, "a")
	cfg := testConfig()
	cfg.MaxMessageBytes = 77
	if again, err := n.Ensure(ctx, testID(0), "topic", single(1), cfg); err != nil || again != p || p.Config().MaxMessageBytes != 77 {
		t.Errorf("%v, %v", again, err)
	}
	if _, err := n.Ensure(ctx, testID(1), "topic", single(2), cfg); !errors.Is(err, replication.ErrInvalidReplicaAssignment) {
		t.Errorf("elsewhere: %v", err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := n.Ensure(cancelled, testID(1), "topic", single(1), cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Ensure(ctx, testID(1), "topic", single(1), cfg); !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("closed: %v", err)
	}
	// A directory without partition.meta, but with something in it, is nobody's.
	dir := filepath.Join("/d/partitions", testID(0).String())
	if err := mem.Remove(filepath.Join(dir, metaName)); err != nil {
		t.Fatal(err)
	}
	n = open(t, Options{DataDir: "/d", FS: mem})
	if p, err := n.Ensure(ctx, testID(0), "topic", single(1), cfg); !errors.Is(err, replication.ErrStorage) || p == nil {
		t.Errorf("without partition.meta: %v", err)
	}
}

// A new incarnation knows nothing of what an earlier one had, least of all its vote.
func TestNewIncarnationBeginsAnew(t *testing.T) {
	mem := vfs.NewMem()
	n := open(t, Options{DataDir: "/d", FS: mem})
	mustAppend(t, n.partition(0, testConfig()), batch.BuildOptions{}, "a")
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = open(t, Options{DataDir: "/d", FS: mem})
	a := replication.Assignment{Replicas: []replication.ReplicaID{{Node: 1, Incarnation: 1}}}
	p, err := n.Ensure(ctx, testID(0), "topic", a, testConfig())
	if err != nil {
		t.Fatal(err)
	}
	if o := p.log.Offsets(); o.LogEnd != 0 || p.log.LastIndex() != 0 || p.Leading() {
		t.Errorf("%+v", o)
	}
	for _, g := range n.votes.Groups() {
		if strings.HasSuffix(g, ".0") {
			t.Errorf("votes of %v", g)
		}
	}
}

func TestParseName(t *testing.T) {
	for _, id := range []replication.PartitionID{testID(0), testID(12345), {Topic: replication.NewTopicID(), Partition: 3}} {
		if got, ok := parseName(id.String()); !ok || got != id {
			t.Errorf("%s: %v, %v", id, got, ok)
		}
	}
	for _, name := range []string{"", "x", "0102-1", testID(0).String() + deletedSuffix, strings.ToUpper(testTopic.Hex()) + "x-0", testTopic.Hex() + "-01", testTopic.Hex() + "--1"} {
		if _, ok := parseName(name); ok {
			t.Errorf("%q is a partition", name)
		}
	}
}

// Changes of leadership are told in order, and who hears of one finds the partition.
func TestLeaderChangesAreTold(t *testing.T) {
	n := open(t, Options{DataDir: "/d", FS: vfs.NewMem()})
	for i := range int32(8) {
		n.partition(i, testConfig())
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	last := make(map[replication.PartitionID][]LeaderChange)
	for _, c := range n.seen {
		if _, ok := n.Get(c.ID); !ok {
			t.Errorf("%v is not found", c.ID)
		}
		last[c.ID] = append(last[c.ID], c)
	}
	for id, seen := range last {
		if len(seen) != 2 || !seen[0].Local || seen[0].Leader.Node != 1 || seen[1].Local || seen[1].Leader.Node != replication.NoNode || seen[1].Leader.Epoch != seen[0].Leader.Epoch {
			t.Errorf("%v: %+v", id, seen)
		}
	}
	if len(last) != 8 {
		t.Errorf("%d partitions", len(last))
	}
}

// Many partitions open and close without getting into each other's way.
func TestManyPartitions(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		n := open(t, Options{DataDir: dir})
		var wg sync.WaitGroup
		for i := range int32(50) {
			wg.Go(func() {
				p, err := n.Ensure(ctx, testID(i), "topic", single(1), testConfig())
				if err != nil {
					t.Error(err)
					return
				}
				n.waitLead(p)
				if _, err := p.Append(frameOf(t, batch.BuildOptions{}, fmt.Sprint(i))).Wait(ctx); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
