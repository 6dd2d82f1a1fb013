package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/broker/txn"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TxnOffsetCommit, key 28, versions 0 to 5 (KIP-98).
//
//	v2         leader epochs (KIP-320)
//	v3         flexible; the member and its generation, which are checked if they are given (KIP-447)
//	v4         the client knows TRANSACTION_ABORTABLE (KIP-890)
//	v5         the partition of __consumer_offsets is added to the transaction by this request (KIP-890, transaction.version 2)
//
// Answered when the offsets are committed to __consumer_offsets as part of the transaction; they count once it is committed.
var txnOffsetCommitRow = Row{Key: kafkaproto.KeyTxnOffsetCommit, Min: 0, Max: 5, AdvertisedMin: 0, Handler: handler(handleTxnOffsetCommit)}

const (
	offsetsAbortable = 4
	offsetsAdd       = 5
)

func handleTxnOffsetCommit(ctx context.Context, a *API, r *Request, q *kmsg.TxnOffsetCommitRequest) (kmsg.Response, error) {
	req := group.TxnCommitRequest{
		CommitRequest: group.CommitRequest{
			Group: q.Group, Member: q.MemberID, Instance: deref(q.InstanceID), Generation: group.Generation(q.Generation),
			Retention: -1, Topics: make([]group.CommitTopic, len(q.Topics)),
		},
		Producer: group.Producer{ID: q.ProducerID, Epoch: q.ProducerEpoch},
	}
	for i := range q.Topics {
		t := &q.Topics[i]
		req.Topics[i] = group.CommitTopic{Name: t.Topic, Partitions: make([]group.CommitPartition, len(t.Partitions))}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			req.Topics[i].Partitions[j] = group.CommitPartition{
				Partition: p.Partition, Offset: batch.Offset(p.Offset), LeaderEpoch: batch.Epoch(p.LeaderEpoch), Metadata: deref(p.Metadata),
			}
		}
	}
	req.Ask = func() error { return joinOffsets(ctx, a, r, q) }
	each := a.Group.TxnCommit(ctx, req)
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	for i := range q.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic = q.Topics[i].Topic
		for j := range q.Topics[i].Partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = q.Topics[i].Partitions[j].Partition, code(each[i][j])
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

// joinOffsets asks the transaction's coordinator whether the group's offsets are part of the transaction, or makes them so.
func joinOffsets(ctx context.Context, a *API, r *Request, q *kmsg.TxnOffsetCommitRequest) error {
	p, err := a.Txn.GroupPartition(q.Group)
	if err != nil {
		return broker.ErrNotCoordinator // the client looks for the group's coordinator, and so creates the topic
	}
	each, err := a.Txn.Join(ctx, txn.AddRequest{
		ID: q.TransactionalID, Identity: identity(q.ProducerID, q.ProducerEpoch), Partitions: []txn.Partition{p},
		VerifyOnly: r.Header.Version < offsetsAdd, Version: txn.V2,
	})
	if err == nil {
		err = each[0]
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, broker.ErrProducerFenced):
		return replication.ErrInvalidProducerEpoch
	case errors.Is(err, broker.ErrTransactionAbortable) && r.Header.Version < offsetsAbortable:
		return broker.ErrInvalidTxnState
	case errors.Is(err, broker.ErrTransactionAbortable), errors.Is(err, broker.ErrInvalidProducerIDMapping),
		errors.Is(err, replication.ErrInvalidRequest), errors.Is(err, replication.ErrPolicyViolation):
		return err
	}
	// Not wrapped: an error of the other coordinator has a code too, which would be taken for the group's.
	return fmt.Errorf("%w: the coordinator of the transaction could not be asked: %v", broker.ErrCoordinatorLoading, err)
}
