package api

import (
	"context"
	"errors"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/txn"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AddPartitionsToTxn, key 24, versions 0 to 5 (KIP-98).
//
//	v0 to v3   one transaction, from its producer
//	v2         PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH (KIP-588)
//	v3         flexible
//	v4         many transactions at once, from brokers, and questions (KIP-890)
//	v5         TRANSACTION_ABORTABLE instead of INVALID_TXN_STATE for a partition that is not part of the transaction
//
// All partitions are added, or none: beside one that does not exist the others get OPERATION_NOT_ATTEMPTED. Our own nodes ask
// each other by calls of their own.
var addPartitionsToTxnRow = Row{Key: kafkaproto.KeyAddPartitionsToTxn, Min: 0, Max: 5, AdvertisedMin: 0, Handler: handler(handleAddPartitionsToTxn)}

const (
	addFenced    = 2
	addMany      = 4
	addAbortable = 5
)

func handleAddPartitionsToTxn(ctx context.Context, a *API, r *Request, q *kmsg.AddPartitionsToTxnRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	if q.Version >= addMany {
		for i := range q.Transactions {
			resp.Transactions = append(resp.Transactions, addTransaction(ctx, a, r, &q.Transactions[i]))
		}
		return resp, nil
	}
	add := txn.AddRequest{ID: q.TransactionalID, Identity: identity(q.ProducerID, q.ProducerEpoch), Version: txn.V1}
	for i := range q.Topics {
		add.Partitions = appendPartitions(add.Partitions, q.Topics[i].Topic, q.Topics[i].Partitions)
	}
	each := addPartitions(ctx, a, add)
	for i := range q.Topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTopic()
		rt.Topic = q.Topics[i].Topic
		for _, p := range q.Topics[i].Partitions {
			rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p, code(fencedAs(each[0], r, addFenced))
			rt.Partitions, each = append(rt.Partitions, rp), each[1:]
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

// addTransaction answers one transaction of a broker's request.
func addTransaction(ctx context.Context, a *API, r *Request, q *kmsg.AddPartitionsToTxnRequestTransaction) kmsg.AddPartitionsToTxnResponseTransaction {
	add := txn.AddRequest{ID: q.TransactionalID, Identity: identity(q.ProducerID, q.ProducerEpoch), VerifyOnly: q.VerifyOnly, Version: txn.V2}
	for i := range q.Topics {
		add.Partitions = appendPartitions(add.Partitions, q.Topics[i].Topic, q.Topics[i].Partitions)
	}
	each := addPartitions(ctx, a, add)
	resp := kmsg.NewAddPartitionsToTxnResponseTransaction()
	resp.TransactionalID = q.TransactionalID
	for i := range q.Topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
		rt.Topic = q.Topics[i].Topic
		for _, p := range q.Topics[i].Partitions {
			err := each[0]
			if r.Header.Version < addAbortable && errors.Is(err, broker.ErrTransactionAbortable) {
				err = broker.ErrInvalidTxnState
			}
			rp := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
			rp.Partition, rp.ErrorCode = p, code(err)
			rt.Partitions, each = append(rt.Partitions, rp), each[1:]
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}

func identity(id int64, epoch int16) txn.Identity {
	return txn.Identity{ProducerID: txn.ProducerID(id), Epoch: txn.Epoch(epoch)}
}

func appendPartitions(all []txn.Partition, topic string, partitions []int32) []txn.Partition {
	for _, p := range partitions {
		all = append(all, txn.Partition{Topic: topic, Index: p})
	}
	return all
}

// addPartitions answers with an error, or nil, for each partition.
func addPartitions(ctx context.Context, a *API, add txn.AddRequest) []error {
	each := make([]error, len(add.Partitions))
	unknown := false
	if !add.VerifyOnly {
		for i, p := range add.Partitions {
			if !a.Txn.Exists(p) {
				each[i], unknown = replication.ErrUnknownPartition, true
			}
		}
	}
	var all error
	switch {
	case unknown:
		all = broker.ErrOperationNotAttempted
	default:
		var got []error
		if got, all = a.Txn.AddPartitions(ctx, add); all == nil {
			return got
		}
	}
	for i := range each {
		if each[i] == nil {
			each[i] = all
		}
	}
	return each
}
