package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/txn"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// EndTxn, key 26, versions 0 to 5 (KIP-98).
//
//	v2         PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH (KIP-588)
//	v3         flexible
//	v4         tells that the client knows TRANSACTION_ABORTABLE (KIP-890)
//	v5         each transaction has its own epoch; the answer has the next one (KIP-890, transaction.version 2)
//
// It is answered when the decision is committed to __transaction_state. The markers follow.
var endTxnRow = Row{Key: kafkaproto.KeyEndTxn, Min: 0, Max: 5, AdvertisedMin: 0, Handler: handler(handleEndTxn)}

const endBumps = 5

func handleEndTxn(ctx context.Context, a *API, r *Request, q *kmsg.EndTxnRequest) (kmsg.Response, error) {
	version := txn.V1
	if r.Header.Version >= endBumps {
		version = txn.V2
	}
	next, err := a.Txn.End(ctx, txn.EndRequest{
		ID: q.TransactionalID, Identity: identity(q.ProducerID, q.ProducerEpoch), Commit: q.Commit, Version: version,
	})
	resp := kmsg.NewPtrEndTxnResponse()
	resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = code(fencedAs(err, r, addFenced)), int64(next.ProducerID), int16(next.Epoch)
	return resp, nil
}
