package group

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

func (n *node) fetchOne(t *testing.T, stable bool) (batch.Offset, error) {
	t.Helper()
	got := n.Fetch(t.Context(), FetchRequest{Group: "g", RequireStable: stable, Topics: []FetchTopic{{Name: "t", Partitions: []int32{0}}}})
	if got.Err != nil {
		t.Fatal(got.Err)
	}
	p := got.Topics[0].Partitions[0]
	return p.Offset, p.Err
}

// txnCommit commits an offset to the group for a transaction that its coordinator knows.
func (n *node) txnCommit(t *testing.T, p Producer, offset batch.Offset) error {
	t.Helper()
	r := TxnCommitRequest{CommitRequest: commitOf("g", "", NoGeneration, "t", offset), Producer: p, Ask: willing}
	return firstError(n.TxnCommit(t.Context(), r))
}

func willing() error { return nil }

// TestOffsetsThatWaitWhileTheirTransactionEnds: the marker does not wait behind what is to be written. What was verified for a
// transaction that has ended is not stored, which would open one that nobody ends.
func TestOffsetsThatWaitWhileTheirTransactionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newFakeLogs(), DefaultLimits())
		l := n.logOf("g")
		l.mu.Lock()
		l.hold = true
		l.mu.Unlock()
		plain, queued := make(chan error, 1), make(chan error, 1)
		go func() { plain <- firstError(n.Commit(t.Context(), commitOf("g", "", NoGeneration, "t", 1))) }()
		synctest.Wait()
		go func() { queued <- n.txnCommit(t, Producer{ID: 4, Epoch: 2}, 9) }()
		synctest.Wait()
		marker := l.Append(batch.BuildControl(batch.Control{ProducerID: 4, ProducerEpoch: 2, Type: batch.ControlAbort}), nil)
		l.release(nil)
		<-marker.Done()
		wantErr(t, "what was in front", <-plain, nil)
		synctest.Wait()
		l.release(nil)
		wantErr(t, "what waited", <-queued, replication.ErrInvalidTxnState)
		if got, err := n.fetchOne(t, true); got != 1 || err != nil {
			t.Errorf("offset %d, %v", got, err)
		}
		for _, v := range l.asking {
			if !v.ended {
				t.Error("a verification has no end")
			}
		}
	})
}

// Transactional offsets are read from the log as they were before: open, committed or aborted.
func TestTransactionalOffsetsSurviveAReload(t *testing.T) {
	for _, commit := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			logs := newFakeLogs()
			n := newNode(t, logs, DefaultLimits())
			p := coordinator.PartitionOf("g", fakePartitions)
			wantErr(t, "commit", firstError(n.Commit(t.Context(), commitOf("g", "", NoGeneration, "t", 1))), nil)
			wantErr(t, "commit in a transaction", n.txnCommit(t, Producer{ID: 4, Epoch: 2}, 9), nil)
			check := func(n *node, offset batch.Offset, unstable error) {
				t.Helper()
				if got, err := n.fetchOne(t, false); got != offset || err != nil {
					t.Fatalf("offset %d, %v", got, err)
				}
				_, err := n.fetchOne(t, true)
				wantErr(t, "stable", err, unstable)
			}
			check(n, 1, broker.ErrUnstableOffsetCommit)
			all := n.Fetch(t.Context(), FetchRequest{Group: "g", All: true, RequireStable: true})
			wantErr(t, "all, stable", all.Topics[0].Partitions[0].Err, broker.ErrUnstableOffsetCommit)

			again := newNode(t, logs, DefaultLimits())
			check(again, 1, broker.ErrUnstableOffsetCommit)

			control := batch.Control{ProducerID: 4, ProducerEpoch: 2, Type: batch.ControlAbort}
			want := batch.Offset(1)
			if commit {
				control.Type, want = batch.ControlCommit, 9
			}
			<-n.logOf("g").Append(batch.BuildControl(control), nil).Done()
			wantErr(t, "end", again.TxnEnded(t.Context(), p, 4, 2, commit), nil)
			check(again, want, nil)
			check(newNode(t, logs, DefaultLimits()), want, nil)
		})
	}
}

func TestTxnCommitNeedsAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newFakeLogs(), DefaultLimits())
		r := TxnCommitRequest{CommitRequest: commitOf("", "", NoGeneration, "t", 9)}
		wantErr(t, "commit", firstError(n.TxnCommit(t.Context(), r)), broker.ErrInvalidGroupID)
		r.Group = strings.Repeat("g", DefaultLimits().MaxGroupIDBytes+1)
		wantErr(t, "a long name", firstError(n.TxnCommit(t.Context(), r)), broker.ErrInvalidGroupID)
		r.Group, r.Ask = "g", func() error { return broker.ErrTransactionAbortable }
		wantErr(t, "what is not part of the transaction", firstError(n.TxnCommit(t.Context(), r)), broker.ErrTransactionAbortable)
		n.LeaderChanged(coordinator.PartitionOf("g", fakePartitions), 2, false)
		wantErr(t, "another node's", firstError(n.TxnCommit(t.Context(), r)), broker.ErrNotCoordinator)
		wantErr(t, "end", n.TxnEnded(t.Context(), 99, 1, 1, true), broker.ErrNotCoordinator)
	})
}
