package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ConsumerGroupDescribe, key 69, versions 0 and 1 (KIP-848).
//
//	v1         the members' type (KIP-1099): of the consumer protocol, or of the classic one while a group changes from the one
//	           to the other
//
// A group of another type is GROUP_ID_NOT_FOUND. Topics that are no more are left out of assignments: nothing names them.
var consumerGroupDescribeRow = Row{
	Key: kafkaproto.KeyConsumerGroupDescribe, Min: 0, Max: 1, AdvertisedMin: 0, Handler: handler(handleConsumerGroupDescribe),
}

// The types of members.
const (
	memberOfClassicProtocol  = 0
	memberOfConsumerProtocol = 1
)

func handleConsumerGroupDescribe(_ context.Context, a *API, _ *Request, q *kmsg.ConsumerGroupDescribeRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrConsumerGroupDescribeResponse()
	for _, g := range a.Group.DescribeConsumers(q.Groups) {
		rg := kmsg.NewConsumerGroupDescribeResponseGroup()
		rg.Group, rg.ErrorCode, rg.ErrorMessage = g.Group, code(g.Err), message(g.Err)
		rg.State, rg.Epoch, rg.AssignmentEpoch, rg.AssignorName = g.State, int32(g.Epoch), int32(g.AssignmentEpoch), g.Assignor
		for i := range g.Members {
			rg.Members = append(rg.Members, describedConsumer(a, &g.Members[i]))
		}
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

func describedConsumer(a *API, m *group.MemberShown) kmsg.ConsumerGroupDescribeResponseGroupMember {
	rm := kmsg.NewConsumerGroupDescribeResponseGroupMember()
	rm.MemberID, rm.InstanceID, rm.RackID, rm.MemberEpoch = m.Member, orNull(m.Instance), orNull(m.Rack), int32(m.Epoch)
	rm.ClientID, rm.ClientHost = m.ClientID, m.ClientHost
	rm.SubscribedTopics, rm.SubscribedTopicRegex = m.Topics, orNull(m.Regex)
	rm.Assignment, rm.TargetAssignment = namedPartitions(a, m.Assigned), namedPartitions(a, m.Target)
	rm.MemberType = memberOfConsumerProtocol
	if m.Classic {
		rm.MemberType = memberOfClassicProtocol
	}
	return rm
}

func namedPartitions(a *API, list []group.TopicPartition) (out kmsg.Assignment) {
	for _, t := range byTopic(list) {
		topic, ok := a.Group.TopicByID(t.id)
		if !ok {
			continue
		}
		tp := kmsg.NewAssignmentTopicPartition()
		tp.TopicID, tp.Topic, tp.Partitions = t.id, topic.Name, t.partitions
		out.TopicPartitions = append(out.TopicPartitions, tp)
	}
	return out
}
