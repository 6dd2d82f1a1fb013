package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareGroupDescribe, key 77, version 1 (KIP-932; version 0 was a preview).
//
// A group of another type is GROUP_ID_NOT_FOUND. Topics that are no more are left out of assignments: nothing names them.
var shareGroupDescribeRow = Row{
	Key: kafkaproto.KeyShareGroupDescribe, Min: 1, Max: 1, AdvertisedMin: 1, Handler: handler(handleShareGroupDescribe),
}

func handleShareGroupDescribe(_ context.Context, a *API, _ *Request, q *kmsg.ShareGroupDescribeRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrShareGroupDescribeResponse()
	for _, g := range a.Group.DescribeShares(q.GroupIDs) {
		rg := kmsg.NewShareGroupDescribeResponseGroup()
		rg.GroupID, rg.ErrorCode, rg.ErrorMessage = g.Group, code(g.Err), message(g.Err)
		rg.GroupState, rg.GroupEpoch, rg.AssignmentEpoch, rg.Assignor = g.State, int32(g.Epoch), int32(g.AssignmentEpoch), g.Assignor
		for i := range g.Members {
			rg.Members = append(rg.Members, describedSharer(a, &g.Members[i]))
		}
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

func describedSharer(a *API, m *group.MemberShown) kmsg.ShareGroupDescribeResponseGroupMember {
	rm := kmsg.NewShareGroupDescribeResponseGroupMember()
	rm.MemberID, rm.RackID, rm.MemberEpoch = m.Member, orNull(m.Rack), int32(m.Epoch)
	rm.ClientID, rm.ClientHost, rm.SubscribedTopicNames = m.ClientID, m.ClientHost, m.Topics
	for _, t := range namedPartitions(a, m.Assigned).TopicPartitions {
		tp := kmsg.NewShareGroupDescribeResponseGroupMemberAssignmentTopicPartition()
		tp.TopicID, tp.Topic, tp.Partitions = t.TopicID, t.Topic, t.Partitions
		rm.Assignment.TopicPartitions = append(rm.Assignment.TopicPartitions, tp)
	}
	return rm
}
