package group

import (
	"testing"
	"testing/synctest"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
)

func (n *node) fetchOne(t *testing.T, stable bool) (batch.Offset, error) {
	t.Helper()
	got := n.Fetch(FetchRequest{Group: "g", RequireStable: stable, Topics: []FetchTopic{{Name: "t", Partitions: []int32{0}}}})
	if got.Err != nil {
		t.Fatal(got.Err)
	}
	p := got.Topics[0].Partitions[0]
	return p.Offset, p.Err
}

// Transactional offsets are read from the log as they were before: open, committed or aborted.
func TestTransactionalOffsetsSurviveAReload(t *testing.T) {
	for _, commit := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			logs := newFakeLogs()
			n := newNode(t, logs, DefaultLimits())
			p := coordinator.PartitionOf("g", fakePartitions)
			wantErr(t, "commit", firstError(n.Commit(t.Context(), commitOf("g", "", NoGeneration, "t", 1))), nil)
			r := TxnCommitRequest{CommitRequest: commitOf("g", "", NoGeneration, "t", 9), Producer: Producer{ID: 4, Epoch: 2}}
			wantErr(t, "commit in a transaction", firstError(n.TxnCommit(t.Context(), r)), nil)
			check := func(n *node, offset batch.Offset, unstable error) {
				t.Helper()
				if got, err := n.fetchOne(t, false); got != offset || err != nil {
					t.Fatalf("offset %d, %v", got, err)
				}
				_, err := n.fetchOne(t, true)
				wantErr(t, "stable", err, unstable)
			}
			check(n, 1, broker.ErrUnstableOffsetCommit)
			all := n.Fetch(FetchRequest{Group: "g", All: true, RequireStable: true})
			wantErr(t, "all, stable", all.Topics[0].Partitions[0].Err, broker.ErrUnstableOffsetCommit)

			again := newNode(t, logs, DefaultLimits())
			check(again, 1, broker.ErrUnstableOffsetCommit)

			control := batch.Control{ProducerID: 4, ProducerEpoch: 2, Type: batch.ControlAbort}
			want := batch.Offset(1)
			if commit {
				control.Type, want = batch.ControlCommit, 9
			}
			<-n.logOf("g").Append(batch.BuildControl(control)).Done()
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
		wantErr(t, "end", n.TxnEnded(t.Context(), 99, 1, 1, true), broker.ErrNotCoordinator)
	})
}
