package grpcapi

import (
	"context"
	"math"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

// CreateTopic makes a topic. As with Kafka, the right to create may be to the cluster or to the topic's name.
func (s *management) CreateTopic(ctx context.Context, req *quorlogv1.CreateTopicRequest) (*quorlogv1.Topic, error) {
	name := req.GetName()
	if !s.mayCreate(ctx, name) {
		return nil, s.failure(broker.ErrTopicDenied)
	}
	if req.GetPartitions() < 0 || req.GetReplicationFactor() < 0 || req.GetReplicationFactor() > math.MaxInt16 {
		return nil, s.failure(invalid("%d partitions with %d replicas", req.GetPartitions(), req.GetReplicationFactor()))
	}
	t := controller.NewTopic{Name: name, Partitions: req.GetPartitions(), ReplicationFactor: int16(req.GetReplicationFactor()), Config: req.GetConfig()}
	if t.Partitions == 0 {
		t.Partitions = -1
	}
	if t.ReplicationFactor == 0 {
		t.ReplicationFactor = -1
	}
	made := s.o.Admin.CreateTopics(ctx, []controller.NewTopic{t}, req.GetValidateOnly())[0]
	if made.Err != nil {
		return nil, s.failure(made.Err)
	}
	if req.GetValidateOnly() {
		out := &quorlogv1.Topic{Name: name}
		for i := range made.Topic.Partitions {
			out.Partitions = append(out.Partitions, &quorlogv1.Partition{Partition: int32(i), Leader: int32(replication.NoNode), LeaderEpoch: -1})
		}
		return out, nil
	}
	return s.described(ctx, name)
}

// DeleteTopic deletes a topic. As in Kafka, the right to delete in the cluster is one to delete each.
func (s *management) DeleteTopic(ctx context.Context, req *quorlogv1.DeleteTopicRequest) (*quorlogv1.DeleteTopicResponse, error) {
	if !s.may(ctx, broker.Delete, broker.Cluster) && !s.may(ctx, broker.Delete, broker.Topic(req.GetName())) {
		return nil, s.failure(broker.ErrTopicDenied)
	}
	if err := s.o.Admin.DeleteTopics(ctx, []admin.TopicRef{{Name: req.GetName()}})[0].Err; err != nil {
		return nil, s.failure(err)
	}
	return &quorlogv1.DeleteTopicResponse{}, nil
}

// ListTopics lists the topics that the caller may know of.
func (s *management) ListTopics(ctx context.Context, req *quorlogv1.ListTopicsRequest) (*quorlogv1.ListTopicsResponse, error) {
	out := &quorlogv1.ListTopicsResponse{}
	for _, t := range s.o.Admin.AllTopics() {
		if (req.GetInternal() || !t.Internal) && s.may(ctx, broker.Describe, broker.Topic(t.Name)) {
			out.Topics = append(out.Topics, topicOf(&t))
		}
	}
	return out, nil
}

// DescribeTopic tells where a topic's partitions are, and its settings if the caller may see them.
func (s *management) DescribeTopic(ctx context.Context, req *quorlogv1.DescribeTopicRequest) (*quorlogv1.Topic, error) {
	if err := s.need(ctx, broker.Describe, broker.Topic(req.GetName())); err != nil {
		return nil, s.failure(err)
	}
	return s.described(ctx, req.GetName())
}

func (s *management) described(ctx context.Context, name string) (*quorlogv1.Topic, error) {
	info := s.o.Admin.Topics(ctx, []admin.TopicRef{{Name: name}}, false)[0]
	if info.Err != nil {
		return nil, s.failure(info.Err)
	}
	out := topicOf(&info)
	if !s.may(ctx, broker.DescribeConfigs, broker.Topic(name)) {
		return out, nil
	}
	settings, err := s.o.Admin.DescribeConfigs(admin.Resource{Kind: admin.TopicResource, Name: name}, nil)
	if err != nil {
		return nil, s.failure(err)
	}
	out.Config = make(map[string]string, len(settings))
	for _, set := range settings {
		if !set.Sensitive {
			out.Config[set.Name] = text(set.Value)
		}
	}
	return out, nil
}

func topicOf(t *admin.TopicInfo) *quorlogv1.Topic {
	out := &quorlogv1.Topic{Name: t.Name, Id: t.ID.String(), Internal: t.Internal}
	for _, p := range t.Partitions {
		out.Partitions = append(out.Partitions, &quorlogv1.Partition{
			Partition: p.Index, Leader: int32(p.Leader.Node), LeaderEpoch: int32(p.Leader.Epoch),
			Replicas: numbers(p.Replicas), InSync: numbers(p.ISR), Offline: numbers(p.Offline),
		})
	}
	return out
}

func numbers(ids []replication.NodeID) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}

// AlterTopic changes settings and the number of partitions. All rights are looked at before anything is changed.
func (s *management) AlterTopic(ctx context.Context, req *quorlogv1.AlterTopicRequest) (*quorlogv1.Topic, error) {
	topic := broker.Topic(req.GetName())
	var ops []admin.ConfigOp
	for name, value := range req.GetSet() {
		ops = append(ops, admin.ConfigOp{Name: name, Kind: admin.OpSet, Value: &value})
	}
	for _, name := range req.GetReset_() {
		ops = append(ops, admin.ConfigOp{Name: name, Kind: admin.OpDelete})
	}
	if len(ops) > 0 {
		if err := s.need(ctx, broker.AlterConfigs, topic); err != nil {
			return nil, s.failure(err)
		}
	}
	if req.GetPartitions() != 0 {
		if err := s.need(ctx, broker.Alter, topic); err != nil {
			return nil, s.failure(err)
		}
	}
	if len(ops) == 0 && req.GetPartitions() == 0 {
		return nil, s.failure(invalid("nothing to alter"))
	}
	if len(ops) > 0 {
		change := admin.ConfigChange{Resource: admin.Resource{Kind: admin.TopicResource, Name: req.GetName()}, Ops: ops}
		if err := s.o.Admin.AlterConfigs(ctx, []admin.ConfigChange{change}, false)[0]; err != nil {
			return nil, s.failure(err)
		}
	}
	if req.GetPartitions() != 0 {
		more := admin.MorePartitions{Topic: req.GetName(), Count: req.GetPartitions()}
		if err := s.o.Admin.CreatePartitions(ctx, []admin.MorePartitions{more}, false)[0]; err != nil {
			return nil, s.failure(err)
		}
	}
	if !s.may(ctx, broker.Describe, topic) { // the right to change settings does not bring it along
		return &quorlogv1.Topic{Name: req.GetName()}, nil
	}
	return s.described(ctx, req.GetName())
}
