package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/txn"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerId, key 22, versions 0 to 5 (KIP-98).
//
//	v2         flexible
//	v3         the identity that the producer has, for KIP-360
//	v4         PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH (KIP-588)
//	v5         tells that the client knows TRANSACTION_ABORTABLE (KIP-890)
//
// Without a transactional id any broker gives a fresh id and epoch 0. With one, the coordinator of the id bumps its epoch, which
// fences every producer of before; their transaction is aborted first, and the answer CONCURRENT_TRANSACTIONS meanwhile.
// Version 6 (two-phase commits, KIP-939) is not served.
var initProducerIDRow = Row{Key: kafkaproto.KeyInitProducerID, Min: 0, Max: 5, AdvertisedMin: 0, Handler: handler(handleInitProducerID)}

const initFenced = 4 // the first InitProducerId that knows PRODUCER_FENCED

func handleInitProducerID(ctx context.Context, a *API, r *Request, q *kmsg.InitProducerIDRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrInitProducerIDResponse()
	if q.TransactionalID == nil {
		got, err := a.Admin.InitProducerID(ctx, admin.InitProducer{ProducerIdentity: admin.ProducerIdentity{ID: q.ProducerID, Epoch: q.ProducerEpoch}})
		resp.ProducerID, resp.ProducerEpoch, resp.ErrorCode = got.ID, got.Epoch, code(err)
		return resp, nil
	}
	got := txn.Identity{ProducerID: txn.None, Epoch: txn.NoEpoch}
	err := fmt.Errorf("%w: producer id and epoch must be given together", replication.ErrInvalidRequest)
	if (q.ProducerID == -1) == (q.ProducerEpoch == -1) {
		got, err = a.Txn.InitProducerID(ctx, txn.InitRequest{
			ID: *q.TransactionalID, Timeout: time.Duration(q.TransactionTimeoutMillis) * time.Millisecond,
			Expected: txn.Identity{ProducerID: txn.ProducerID(q.ProducerID), Epoch: txn.Epoch(q.ProducerEpoch)},
		})
	}
	resp.ProducerID, resp.ProducerEpoch, resp.ErrorCode = int64(got.ProducerID), int16(got.Epoch), code(fencedAs(err, r, initFenced))
	return resp, nil
}

// fencedAs tells clients of before KIP-588 of fencing in the words that they know.
func fencedAs(err error, r *Request, since int16) error {
	if r.Header.Version < since && errors.Is(err, broker.ErrProducerFenced) {
		return replication.ErrInvalidProducerEpoch
	}
	return err
}
