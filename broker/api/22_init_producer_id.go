package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerId, key 22, versions 0 to 5 (KIP-98).
//
//	v2         flexible
//	v3         the identity that the producer has, for KIP-360
//	v4         PRODUCER_FENCED instead of INVALID_PRODUCER_EPOCH (KIP-588)
//	v5         tells that the client knows TRANSACTION_ABORTABLE (KIP-890)
//
// Without a transactional id any broker gives a fresh id and epoch 0. With one, the answer is
// TRANSACTIONAL_ID_AUTHORIZATION_FAILED until there is a transaction coordinator: every client takes it as final and says
// so at once, where COORDINATOR_NOT_AVAILABLE would be retried until the client's patience ends.
var initProducerIDRow = Row{Key: kafkaproto.KeyInitProducerID, Min: 0, Max: 5, AdvertisedMin: 0, Handler: handler(handleInitProducerID)}

func handleInitProducerID(ctx context.Context, a *API, _ *Request, q *kmsg.InitProducerIDRequest) (kmsg.Response, error) {
	got, err := a.Admin.InitProducerID(ctx, admin.InitProducer{
		TransactionalID:  q.TransactionalID,
		ProducerIdentity: admin.ProducerIdentity{ID: q.ProducerID, Epoch: q.ProducerEpoch},
	})
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.ProducerID, resp.ProducerEpoch, resp.ErrorCode = got.ID, got.Epoch, code(err)
	return resp, nil
}
