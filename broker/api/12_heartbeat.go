package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Heartbeat, key 12, versions 0 to 4.
//
//	v3         static members (KIP-345)
//	v4         flexible
//
// REBALANCE_IN_PROGRESS asks the member to join again; its session goes on.
var heartbeatRow = Row{Key: kafkaproto.KeyHeartbeat, Min: 0, Max: 4, AdvertisedMin: 0, Handler: handler(handleHeartbeat)}

func handleHeartbeat(ctx context.Context, a *API, _ *Request, q *kmsg.HeartbeatRequest) (kmsg.Response, error) {
	err := a.Group.Heartbeat(ctx, group.HeartbeatRequest{
		Group: q.Group, Member: q.MemberID, Instance: deref(q.InstanceID), Generation: group.Generation(q.Generation),
	})
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.ErrorCode = code(err)
	return resp, nil
}
