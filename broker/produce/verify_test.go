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
	err       error
	meanwhile func() // what happens while it is asked
}

func (w *willing) Join(_ context.Context, t Transaction) ([]error, error) {
	w.asked++
	w.meanwhile()
	return make([]error, len(t.Partitions)), w.err
}

// onePartition is a partition that this node leads, until it is stopped.
func onePartition(t *testing.T, fsys vfs.FS) (p *partition.Partition, stop func()) {
	t.Helper()
	manager, err := partition.NewManager(partition.Options{DataDir: "/d", FS: fsys, Node: 1, OnFatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	cfg := topicConfig()
	cfg.SegmentBytes, cfg.SegmentIndexBytes = 64<<10, 1<<20
	p, err = manager.Ensure(t.Context(), replication.PartitionID{Topic: replication.TopicID{1}}, "t",
		replication.Assignment{Replicas: []replication.ReplicaID{{Node: 1, Incarnation: 1}}}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for !p.Leading() {
		<-time.After(time.Millisecond)
	}
	return p, func() { _ = manager.Close(context.Background()) }
}

// TestAProducerThatWasForgotten: of a producer that was silent for long nothing is known. An old client's goes on where it was, but
// not behind a batch that could not be verified.
func TestAProducerThatWasForgotten(t *testing.T) {
	p, stop := onePartition(t, vfs.NewMem())
	defer stop()
	coordinator := &willing{meanwhile: func() {}}
	s := New(Options{Partitions: &arriving{part: p}, Transactions: coordinator})
	id := "tx"
	produce := func(protocol Protocol, producer int64, sequence int32) error {
		f := frame(t, batch.BuildOptions{Producer: &batch.Producer{ID: producer, Sequence: sequence}, Transactional: true}, record("", "v", time.Now().UnixMilli()))
		b := Batch{Topic: "t", Records: f}
		var c Call
		s.Begin(&c, Request{TransactionalID: &id, Protocol: protocol, Acks: AcksAll, Timeout: time.Minute, Batches: 1})
		c.Verify(t.Context(), []Batch{b})
		c.Add(t.Context(), b)
		return c.Wait(t.Context(), nil)[0].Err
	}
	coordinator.err = broker.ErrCoordinatorNotAvailable
	if err := produce(ProtocolV1, 5, 40); !errors.Is(err, replication.ErrNotEnoughReplicas) {
		t.Errorf("not verified: %v", err)
	}
	coordinator.err = nil
	for _, c := range []struct {
		protocol Protocol
		producer int64
		sequence int32
		want     error
	}{
		{ProtocolV1, 5, 41, replication.ErrOutOfOrderSequence}, {ProtocolV1, 5, 40, nil}, {ProtocolV1, 5, 41, nil},
		{ProtocolV1Abortable, 6, 40, nil}, {ProtocolV2, 7, 40, replication.ErrOutOfOrderSequence}, {ProtocolV2, 7, 0, nil},
	} {
		if err := produce(c.protocol, c.producer, c.sequence); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// What is verified under one leadership and added under the next is told to be sent again, not that its transaction is in a wrong
// state, which is the end of it.
func TestALeadershipThatComesAfterTheVerification(t *testing.T) {
	fsys := vfs.NewMem()
	var stop func()
	start := func() (p *partition.Partition) {
		p, stop = onePartition(t, fsys)
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
		c.Add(t.Context(), b)
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
