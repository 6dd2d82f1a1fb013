package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareGroupHeartbeat, key 76, version 1 (KIP-932; version 0 was a preview).
//
// A member joins with an id of its own making and epoch 0, and leaves with epoch -1. Answered when what it changes is
// committed to __consumer_offsets.
var shareGroupHeartbeatRow = Row{
	Key: kafkaproto.KeyShareGroupHeartbeat, Min: 1, Max: 1, AdvertisedMin: 1, Handler: handler(handleShareGroupHeartbeat),
}

func handleShareGroupHeartbeat(ctx context.Context, a *API, r *Request, q *kmsg.ShareGroupHeartbeatRequest) (kmsg.Response, error) {
	caller := r.Caller()
	got := a.Group.ShareHeartbeat(ctx, group.MemberRequest{
		Version: r.Header.Version, Group: q.GroupID, Member: q.MemberID, Epoch: group.MemberEpoch(q.MemberEpoch), Rack: q.RackID,
		ClientID: caller.ClientID, ClientHost: clientHost(caller.Host), Rebalance: -1, Topics: q.SubscribedTopicNames,
	})
	resp := kmsg.NewPtrShareGroupHeartbeatResponse()
	resp.ErrorCode, resp.ErrorMessage = code(got.Err), message(got.Err)
	if got.Err != nil {
		return resp, nil
	}
	resp.MemberID, resp.MemberEpoch = &got.Member, int32(got.Epoch)
	resp.HeartbeatIntervalMillis = int32(got.Interval.Milliseconds())
	if got.HasAssignment {
		assignment := kmsg.NewShareGroupHeartbeatResponseAssignment()
		for _, t := range byTopic(got.Assigned) {
			rt := kmsg.NewShareGroupHeartbeatResponseAssignmentTopicPartition()
			rt.TopicID, rt.Partitions = t.id, t.partitions
			assignment.TopicPartitions = append(assignment.TopicPartitions, rt)
		}
		resp.Assignment = &assignment
	}
	return resp, nil
}
