package api

import (
	"context"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ConsumerGroupHeartbeat, key 68, versions 0 and 1 (KIP-848).
//
//	v0         the broker makes the member's id if it sends none
//	v1         the member makes its id (KIP-1082); subscriptions by regular expression, of RE2
//
// One request does what JoinGroup, SyncGroup, Heartbeat and LeaveGroup do in the classic protocol. Answered when what it
// changes is committed to __consumer_offsets. A regular expression matches topics that the member may describe.
var consumerGroupHeartbeatRow = Row{
	Key: kafkaproto.KeyConsumerGroupHeartbeat, Min: 0, Max: 1, AdvertisedMin: 0, Handler: handler(handleConsumerGroupHeartbeat),
}

func handleConsumerGroupHeartbeat(ctx context.Context, a *API, r *Request, q *kmsg.ConsumerGroupHeartbeatRequest) (kmsg.Response, error) {
	caller := r.Caller()
	req := group.MemberRequest{
		Version: r.Header.Version, Group: q.Group, Member: q.MemberID, Epoch: group.MemberEpoch(q.MemberEpoch), Instance: deref(q.InstanceID),
		Rack: q.RackID, ClientID: caller.ClientID, ClientHost: clientHost(caller.Host), Rebalance: time.Duration(q.RebalanceTimeoutMillis) * time.Millisecond,
		Topics: q.SubscribedTopicNames, Regex: q.SubscribedTopicRegex, Assignor: q.ServerAssignor, Owned: ownedPartitions(q.Topics),
		MaySee: func(topic string) bool { return a.Authorizer.Allowed(caller, broker.Describe, broker.Topic(topic)) },
	}
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	if q.InstanceID != nil && *q.InstanceID == "" {
		resp.ErrorCode = int16(kafkaproto.InvalidRequest)
		return resp, nil
	}
	got := a.Group.ConsumerHeartbeat(ctx, req)
	resp.ErrorCode, resp.ErrorMessage = code(got.Err), message(got.Err)
	if got.Err != nil {
		return resp, nil
	}
	resp.MemberID, resp.MemberEpoch = &got.Member, int32(got.Epoch)
	resp.HeartbeatIntervalMillis = int32(got.Interval.Milliseconds())
	if got.HasAssignment {
		assignment := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
		for _, t := range byTopic(got.Assigned) {
			rt := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
			rt.TopicID, rt.Partitions = t.id, t.partitions
			assignment.Topics = append(assignment.Topics, rt)
		}
		resp.Assignment = &assignment
	}
	return resp, nil
}

// ownedPartitions keeps the difference between none and not said.
func ownedPartitions(topics []kmsg.ConsumerGroupHeartbeatRequestTopic) []group.TopicPartition {
	if topics == nil {
		return nil
	}
	out := []group.TopicPartition{}
	for i := range topics {
		for _, p := range topics[i].Partitions {
			out = append(out, group.TopicPartition{Topic: topics[i].TopicID, Partition: p})
		}
	}
	return out
}

// topicShare is a topic with some of its partitions.
type topicShare struct {
	id         replication.TopicID
	partitions []int32
}

// byTopic gathers sorted partitions by topic.
func byTopic(list []group.TopicPartition) []topicShare {
	var out []topicShare
	for _, p := range list {
		if n := len(out); n == 0 || out[n-1].id != p.Topic {
			out = append(out, topicShare{id: p.Topic})
		}
		last := &out[len(out)-1]
		last.partitions = append(last.partitions, p.Partition)
	}
	return out
}
