package replicated

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// txnCommit commits an offset for a transaction that its coordinator knows.
func (l *life) txnCommit(ctx context.Context, name string, p group.Producer) error {
	return commitErr(l.TxnCommit(ctx, group.TxnCommitRequest{
		CommitRequest: commitRequest(name, "", group.NoGeneration, 9), Producer: p, Ask: func() error { return nil },
	}))
}

// TestOffsetsAreNotStoredBehindTheirMarker: an old client's transactions have one epoch, so nothing but the verification tells that
// offsets which waited for the disk are of the one before. Stored, they would open a transaction that nobody ends.
func TestOffsetsAreNotStoredBehindTheirMarker(t *testing.T) {
	image, fsys := lifeImage(), vfs.Inject(vfs.NewMem())
	l := beginOn(t, fsys, "/d", image)
	defer l.end(t)
	const name = "group-0"
	who := group.Producer{ID: 4, Epoch: 2}
	index := coordinator.PartitionOf(name, lifePartitions)
	p, _ := l.manager.Get(replication.PartitionID{Topic: image.Topics[broker.OffsetsTopic].ID, Partition: index})
	hang, entered := make(chan struct{}), make(chan struct{})
	fsys.Add(vfs.Rule{Op: vfs.OpSync, Path: ".log", Hang: hang, Do: func(vfs.Call) { close(entered) }})
	plain, queued := make(chan error, 1), make(chan error, 1)
	go func() { plain <- commitErr(l.Commit(t.Context(), commitRequest(name, "", group.NoGeneration, 1))) }()
	<-entered
	go func() { queued <- l.txnCommit(t.Context(), name, who) }()
	unstable := func() error {
		q := group.FetchRequest{Group: name, RequireStable: true, Topics: []group.FetchTopic{{Name: "work", Partitions: []int32{0}}}}
		return l.Fetch(t.Context(), q).Topics[0].Partitions[0].Err
	}
	for tick := time.Tick(time.Millisecond); !errors.Is(unstable(), broker.ErrUnstableOffsetCommit); {
		<-tick // until the offsets wait for those in front of them
	}
	end := func() *partition.Pending {
		return p.Append(partition.Marker{ProducerID: who.ID, ProducerEpoch: who.Epoch}.Batch(time.Now()))
	}
	marker := end()
	close(hang)
	if _, err := marker.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-plain; err != nil {
		t.Error(err)
	}
	if err := <-queued; !errors.Is(err, replication.ErrInvalidTxnState) {
		t.Errorf("what waited while its transaction ended: %v", err)
	}
	open := func() bool {
		o, err := p.Offsets(batch.NoEpoch)
		if err != nil {
			t.Fatal(err)
		}
		return o.LastStable < o.HighWatermark
	}
	if open() {
		t.Error("it has opened a transaction")
	}
	for range 2 { // the second joins the first
		if err := l.txnCommit(t.Context(), name, who); err != nil || !open() {
			t.Errorf("in the next transaction: %v", err)
		}
	}
	if _, err := end().Wait(t.Context()); err != nil || open() {
		t.Errorf("its end: %v", err)
	}
}

// A verification of an earlier leadership is worth nothing: the marker may have been another leader's.
func TestAVerificationOfAnotherEpoch(t *testing.T) {
	image := lifeImage()
	l := beginOn(t, vfs.NewMem(), "/d", image)
	defer l.end(t)
	n := New(Options{Partitions: l.manager, Controller: &fakeController{image: image}})
	p, _ := l.manager.Get(replication.PartitionID{Topic: image.Topics[broker.OffsetsTopic].ID})
	epoch := p.Leader().Epoch
	who := batch.Producer{ID: 4, Epoch: 2, Sequence: batch.NoSequence}
	for _, c := range []struct {
		verified batch.Epoch // none: 0
		want     error
	}{{0, replication.ErrInvalidTxnState}, {epoch + 1, replication.ErrNotLeader}, {epoch, nil}, {epoch + 1, replication.ErrNotLeader}} {
		var v coordinator.Verified
		if c.verified > 0 {
			log, err := n.Open(0, c.verified)
			if err != nil {
				t.Fatal(err)
			}
			v = log.Verify(who)
			defer v.End()
		}
		log, err := n.Open(0, epoch)
		if err != nil {
			t.Fatal(err)
		}
		b := batch.NewBuilder(batch.BuildOptions{Producer: &who, Transactional: true})
		b.Add(batch.Record{Key: []byte("k"), Value: []byte("v")})
		frame, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		pending := log.Append(frame, v)
		<-pending.Done()
		if err := pending.Err(); !errors.Is(err, c.want) {
			t.Errorf("verified in epoch %d of %d: %v, want %v", c.verified, epoch, err, c.want)
		}
	}
}
