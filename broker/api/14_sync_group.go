package api

import (
	"context"
	"errors"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// SyncGroup, key 14, versions 0 to 5.
//
//	v3         static members (KIP-345)
//	v4         flexible
//	v5         protocol type and name are checked and answered (KIP-559)
//
// Waits until the leader's assignments are committed to __consumer_offsets. A coordinator that loads has lost the rebalance that
// was under way, and has the member join again: clients don't expect here to hear that it loads. One that has loaded does the same
// for a generation that the one before began (Kafka: ILLEGAL_GENERATION).
var syncGroupRow = Row{Key: kafkaproto.KeySyncGroup, Min: 0, Max: 5, AdvertisedMin: 0, Handler: handler(handleSyncGroup)}

func handleSyncGroup(ctx context.Context, a *API, _ *Request, q *kmsg.SyncGroupRequest) (kmsg.Response, error) {
	req := group.SyncRequest{
		Group: q.Group, Member: q.MemberID, Instance: deref(q.InstanceID), Generation: group.Generation(q.Generation),
		ProtocolType: q.ProtocolType, Protocol: q.Protocol, Assignments: make([]group.Assignment, len(q.GroupAssignment)),
	}
	for i := range q.GroupAssignment {
		s := &q.GroupAssignment[i]
		req.Assignments[i] = group.Assignment{Member: s.MemberID, Data: s.MemberAssignment}
	}
	got := a.Group.Sync(ctx, req)
	if errors.Is(got.Err, broker.ErrCoordinatorLoading) {
		got.Err = broker.ErrRebalanceInProgress
	}
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.ErrorCode, resp.MemberAssignment = code(got.Err), got.Assignment
	if got.Err == nil {
		resp.ProtocolType, resp.Protocol = &got.ProtocolType, &got.Protocol
	}
	return resp, nil
}
