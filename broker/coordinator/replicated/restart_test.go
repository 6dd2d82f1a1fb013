package replicated

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var offsetsConfig = replication.TopicConfig{
	CleanupPolicy: replication.CleanupCompact, RetentionTime: -1, RetentionBytes: -1,
	SegmentBytes: 1 << 30, SegmentAge: 7 * 24 * time.Hour, SegmentIndexBytes: 10 << 20, MinInsyncReplicas: 1,
}

// life is a coordinator over real partitions in a directory, from start to stop.
type life struct {
	*group.Service
	manager *partition.Manager
}

const lifePartitions = 2

func begin(t testing.TB, dir string, image *controller.Image) *life {
	return beginOn(t, vfs.OS{}, dir, image)
}

func beginOn(t testing.TB, fsys vfs.FS, dir string, image *controller.Image) *life {
	t.Helper()
	l := &life{}
	ctl := &fakeController{image: image}
	// Leadership may change before the service is there to hear of it.
	ready := make(chan struct{})
	var node *Node
	manager, err := partition.NewManager(partition.Options{
		DataDir: dir, FS: fsys, Node: 1, Logger: slog.New(slog.DiscardHandler),
		OnLeader: func(c partition.LeaderChange) {
			<-ready
			node.Forward(l.Service, c)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	l.manager = manager
	node = New(Options{Partitions: manager, Controller: ctl})
	l.Service, err = group.New(group.Options{Logs: node, Cluster: node, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	close(ready)
	topic := image.Topics[broker.OffsetsTopic]
	for p := range int32(lifePartitions) {
		id := replication.PartitionID{Topic: topic.ID, Partition: p}
		assignment := replication.Assignment{Replicas: []replication.ReplicaID{{Node: 1}}}
		if _, err := manager.Ensure(context.Background(), id, topic.Name, assignment, offsetsConfig); err != nil {
			t.Fatal(err)
		}
	}
	l.awaitReady(t)
	return l
}

// awaitReady waits until every partition is led and loaded.
func (l *life) awaitReady(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := 0; i < 20; {
		err := l.Fetch(t.Context(), group.FetchRequest{Group: fmt.Sprint("group-", i), All: true}).Err
		if err == nil {
			i++
			continue
		}
		if !errors.Is(err, broker.ErrNotCoordinator) && !errors.Is(err, broker.ErrCoordinatorLoading) {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not ready: %v", err)
		case <-tick.C:
		}
	}
}

func (l *life) end(t testing.TB) {
	t.Helper()
	l.Close()
	if err := l.manager.Close(); err != nil {
		t.Fatal(err)
	}
}

func lifeImage() *controller.Image {
	image := imageOf(broker.OffsetsTopic, lifePartitions)
	work := &controller.Topic{Name: "work", ID: replication.NewTopicID(), Partitions: make([]replication.Assignment, 10)}
	image.Topics[work.Name], image.ByID[work.ID] = work, work
	return image
}

func commitRequest(name, member string, g group.Generation, offset batch.Offset) group.CommitRequest {
	r := group.CommitRequest{Group: name, Member: member, Generation: g, Retention: -1, Topics: []group.CommitTopic{{Name: "work"}}}
	for p := range int32(10) {
		r.Topics[0].Partitions = append(r.Topics[0].Partitions, group.CommitPartition{Partition: p, Offset: offset, LeaderEpoch: 1})
	}
	return r
}

func commitErr(results [][]error) error {
	for _, each := range results {
		if err := errors.Join(each...); err != nil {
			return err
		}
	}
	return nil
}

// TestGroupsSurviveARestart writes groups through Raft to disk, and goes on with their members after a restart.
func TestGroupsSurviveARestart(t *testing.T) {
	dir, image := t.TempDir(), lifeImage()
	ctx := t.Context()
	first := begin(t, dir, image)
	members := map[string]string{}
	for i := range 20 {
		g := fmt.Sprint("group-", i)
		j := first.Join(ctx, group.JoinRequest{
			Group: g, ClientID: "client", ProtocolType: group.ConsumerProtocol, Protocols: []group.Protocol{{Name: "range", Metadata: []byte{0, 0, 0, 0, 0, 0}}},
			SessionTimeout: time.Minute, RebalanceTimeout: time.Minute,
		})
		s := first.Sync(ctx, group.SyncRequest{
			Group: g, Member: j.Member, Generation: j.Generation, Assignments: []group.Assignment{{Member: j.Member, Data: []byte("all")}},
		})
		if err := errors.Join(j.Err, s.Err, commitErr(first.Commit(ctx, commitRequest(g, j.Member, j.Generation, batch.Offset(i))))); err != nil {
			t.Fatal(err)
		}
		members[g] = j.Member
	}
	if err := first.Delete(ctx, []string{"group-0"})[0]; !errors.Is(err, broker.ErrNonEmptyGroup) {
		t.Fatal(err)
	}
	before := everything(t, first)
	first.end(t)

	second := begin(t, dir, image)
	defer second.end(t)
	if after := everything(t, second); !reflect.DeepEqual(before, after) {
		t.Fatalf("before %v\nafter %v", before, after)
	}
	for g, member := range members {
		if err := second.Heartbeat(ctx, group.HeartbeatRequest{Group: g, Member: member, Generation: 1}); err != nil {
			t.Fatal(err)
		}
		if err := commitErr(second.Commit(ctx, commitRequest(g, member, 1, 100))); err != nil {
			t.Fatal(err)
		}
	}
}

func everything(t *testing.T, l *life) map[string]any {
	t.Helper()
	list, err := l.List(group.ListRequest{})
	if err != nil || len(list) != 20 {
		t.Fatalf("%d groups, %v", len(list), err)
	}
	out := map[string]any{}
	for _, g := range list {
		out[g.Group] = []any{l.Describe([]string{g.Group}), l.Fetch(t.Context(), group.FetchRequest{Group: g.Group, All: true})}
	}
	return out
}

// BenchmarkCommit has clients of as many groups commit ten offsets each, through Raft to disk. Those that wait at the same
// time share a batch and an fsync.
func BenchmarkCommit(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprint(clients, "clients"), func(b *testing.B) {
			l := begin(b, b.TempDir(), lifeImage())
			defer l.end(b)
			b.ResetTimer()
			var wg sync.WaitGroup
			for c := range clients {
				wg.Go(func() {
					r := commitRequest(fmt.Sprint("group-", c), "", group.NoGeneration, 5)
					for range b.N / clients {
						if err := commitErr(l.Commit(context.Background(), r)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// A replica that leads again is another one: what was known in the epoch before is worth nothing.
func TestALogOfAnotherEpoch(t *testing.T) {
	image := lifeImage()
	l := begin(t, t.TempDir(), image)
	defer l.end(t)
	n := New(Options{Partitions: l.manager, Controller: &fakeController{image: image}})
	p, _ := l.manager.Get(replication.PartitionID{Topic: image.Topics[broker.OffsetsTopic].ID})
	epoch := p.Leader().Epoch
	frame := batch.NewBuilder(batch.BuildOptions{})
	frame.Add(batch.Record{Key: []byte("k"), Value: []byte("v")})
	built, err := frame.Build()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []batch.Epoch{epoch, epoch + 1} {
		log, err := n.Open(0, e)
		if err != nil {
			t.Fatal(err)
		}
		var want error
		if e != epoch {
			want = replication.ErrNotLeader
		}
		if _, err := log.Bounds(); !errors.Is(err, want) {
			t.Errorf("bounds in epoch %d: %v", e, err)
		}
		if _, err := log.Read(0, 100); !errors.Is(err, want) {
			t.Errorf("read in epoch %d: %v", e, err)
		}
		pending := log.Append(append([]byte(nil), built...), nil)
		<-pending.Done()
		if err := pending.Err(); !errors.Is(err, want) {
			t.Errorf("append in epoch %d: %v", e, err)
		}
	}
}
