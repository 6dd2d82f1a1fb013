package api

import (
	"context"
	"time"

	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// UnregisterBroker, key 64, version 0 (KIP-500), flexible.
//
// The cluster forgets a node that is gone for good. One that is alive or still hosts replicas is refused: its replicas are to
// be moved first.
var unregisterBrokerRow = Row{Key: kafkaproto.KeyUnregisterBroker, Min: 0, Max: 0, AdvertisedMin: 0, Handler: handler(handleUnregisterBroker)}

// unregisterPatience bounds the request, which brings no time-out along.
const unregisterPatience = 30 * time.Second

func handleUnregisterBroker(ctx context.Context, a *API, _ *Request, q *kmsg.UnregisterBrokerRequest) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, unregisterPatience)
	defer cancel()
	err := a.Admin.Unregister(ctx, replication.NodeID(q.BrokerID))
	resp := kmsg.NewPtrUnregisterBrokerResponse()
	resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
	return resp, nil
}
