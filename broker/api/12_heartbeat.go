package api

import (
	"context"
	"errors"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Heartbeat, key 12, versions 0 to 4.
//
//	v3         static members (KIP-345)
//	v4         flexible
//
// REBALANCE_IN_PROGRESS asks the member to join again; its session goes on. While the coordinator loads, nothing is known of the
// member, and it is told that all is well, as Kafka does: its session begins anew when the group is loaded, and some clients end
// at an answer that they don't expect here.
var heartbeatRow = Row{Key: kafkaproto.KeyHeartbeat, Min: 0, Max: 4, AdvertisedMin: 0, Handler: handler(handleHeartbeat)}

func handleHeartbeat(ctx context.Context, a *API, _ *Request, q *kmsg.HeartbeatRequest) (kmsg.Response, error) {
	err := a.Group.Heartbeat(ctx, group.HeartbeatRequest{
		Group: q.Group, Member: q.MemberID, Instance: deref(q.InstanceID), Generation: group.Generation(q.Generation),
	})
	if errors.Is(err, broker.ErrCoordinatorLoading) {
		err = nil
	}
	resp := kmsg.NewPtrHeartbeatResponse()
	resp.ErrorCode = code(err)
	return resp, nil
}
