package api

import (
	"context"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/txn"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AddOffsetsToTxn, key 25, versions 0 to 4 (KIP-98).
//
//	v2         PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH (KIP-588)
//	v3         flexible
//	v4         tells that the client knows TRANSACTION_ABORTABLE (KIP-890)
//
// It adds the partition of __consumer_offsets that has the group's offsets. Clients of transaction.version 2 do not send it.
var addOffsetsToTxnRow = Row{Key: kafkaproto.KeyAddOffsetsToTxn, Min: 0, Max: 4, AdvertisedMin: 0, Handler: handler(handleAddOffsetsToTxn)}

func handleAddOffsetsToTxn(ctx context.Context, a *API, r *Request, q *kmsg.AddOffsetsToTxnRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrAddOffsetsToTxnResponse()
	resp.ErrorCode = code(fencedAs(addOffsets(ctx, a, r, q), r, addFenced))
	return resp, nil
}

func addOffsets(ctx context.Context, a *API, r *Request, q *kmsg.AddOffsetsToTxnRequest) error {
	if q.Group == "" {
		return broker.ErrInvalidGroupID
	}
	p, err := a.Txn.GroupPartition(q.Group)
	if err != nil {
		// The first use of a group in this cluster may be in a transaction.
		a.Group.FindCoordinators(ctx, []string{q.Group}, r.Caller().Listener)
		if p, err = a.Txn.GroupPartition(q.Group); err != nil {
			return err
		}
	}
	_, err = a.Txn.AddPartitions(ctx, txn.AddRequest{
		ID: q.TransactionalID, Identity: identity(q.ProducerID, q.ProducerEpoch), Partitions: []txn.Partition{p}, Version: txn.V1,
	})
	return err
}
