package produce

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// arriving is a node that begins to lead its partition after it was looked for a few times.
type arriving struct {
	part *partition.Partition
	late int
}

func (a *arriving) Lookup(string, int32) (*partition.Partition, error) {
	if a.late--; a.late >= 0 {
		return nil, replication.ErrNotLeader
	}
	return a.part, nil
}

func (a *arriving) LookupID(replication.TopicID, int32) (*partition.Partition, error) {
	return a.Lookup("", 0)
}

// willing is a coordinator that has every partition in every transaction.
type willing struct {
	asked     int
	meanwhile func() // what happens while it is asked
}

func (w *willing) Join(_ context.Context, t Transaction) ([]error, error) {
	w.asked++
	w.meanwhile()
	return make([]error, len(t.Partitions)), nil
}

// What is verified under one leadership and added under the next is told to be sent again, not that its transaction is in a wrong
// state, which is the end of it.
func TestALeadershipThatComesAfterTheVerification(t *testing.T) {
	fsys := vfs.NewMem()
	var manager *partition.Manager
	stop := func() { _ = manager.Close(context.Background()) }
	start := func() *partition.Partition {
		var err error
		manager, err = partition.NewManager(partition.Options{DataDir: "/d", FS: fsys, Node: 1, OnFatal: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		cfg := topicConfig()
		cfg.SegmentBytes, cfg.SegmentIndexBytes = 64<<10, 1<<20
		p, err := manager.Ensure(t.Context(), replication.PartitionID{Topic: replication.TopicID{1}}, "t",
			replication.Assignment{Replicas: []replication.ReplicaID{{Node: 1, Incarnation: 1}}}, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for !p.Leading() {
			<-time.After(time.Millisecond)
		}
		return p
	}
	coordinator := &willing{meanwhile: func() {}}
	here := &arriving{part: start(), late: 1}
	t.Cleanup(func() { stop() })
	s := New(Options{Partitions: here, Transactions: coordinator})
	id := "tx"
	produce := func() error {
		f := frame(t, batch.BuildOptions{Producer: &batch.Producer{ID: 5}, Transactional: true}, record("", "v", time.Now().UnixMilli()))
		b := Batch{Topic: "t", Records: f}
		var c Call
		s.Begin(&c, Request{TransactionalID: &id, Protocol: ProtocolV2, Acks: AcksAll, Timeout: time.Minute, Batches: 1})
		c.Verify(t.Context(), []Batch{b})
		c.Add(b)
		return c.Wait(t.Context(), nil)[0].Err
	}
	if err := produce(); !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("before it led: %v", err)
	}
	coordinator.meanwhile = func() { stop(); here.part = start() }
	if err := produce(); !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("led anew meanwhile: %v", err)
	}
	coordinator.meanwhile = func() {}
	if err := produce(); err != nil || coordinator.asked != 2 {
		t.Errorf("sent again: %v, the coordinator was asked %d times", err, coordinator.asked)
	}
}

// Whatever keeps a coordinator from answering is told by one error, which every producer survives: a partition that the coordinator
// has not heard of must not look like one that does not exist here.
func TestACoordinatorThatCannotTell(t *testing.T) {
	for _, why := range []error{
		replication.ErrUnknownPartition, replication.ErrNotLeader, replication.ErrUnknownOutcome, broker.ErrConcurrentTransactions,
		broker.ErrCoordinatorNotAvailable, context.DeadlineExceeded,
	} {
		if got := ProtocolV2.explain(why); !errors.Is(got, replication.ErrNotEnoughReplicas) || errors.Is(got, why) {
			t.Errorf("%v is explained by %v", why, got)
		}
	}
}
