package api

import (
	"context"
	"fmt"

	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateTopics, key 19, versions 2 to 7.
//
//	v4         -1 partitions and a replication factor of -1 mean the broker's defaults (KIP-464)
//	v5         flexible; the answer describes what was made (KIP-525)
//	v7         topic ids in the answer (KIP-516)
//
// A topic that the request names twice is INVALID_REQUEST, and so is __cluster_metadata. Any broker accepts the request. The answer comes when the new
// partitions have leaders, so that a client which uses them at once meets no error.
var createTopicsRow = Row{Key: kafkaproto.KeyCreateTopics, Min: 2, Max: 7, AdvertisedMin: 2, Handler: handler(handleCreateTopics)}

func handleCreateTopics(ctx context.Context, a *API, _ *Request, q *kmsg.CreateTopicsRequest) (kmsg.Response, error) {
	ctx, cancel := within(ctx, q.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrCreateTopicsResponse()
	resp.Topics = make([]kmsg.CreateTopicsResponseTopic, len(q.Topics))
	named := make(map[string]int, len(q.Topics))
	for i := range q.Topics {
		named[q.Topics[i].Topic]++
	}
	var good []controller.NewTopic
	var index []int
	for i := range q.Topics {
		rt := &resp.Topics[i]
		rt.Default()
		rt.Topic = q.Topics[i].Topic
		topic, err := newTopic(&q.Topics[i])
		if err != nil && named[topic.Name] == 1 {
			rt.ErrorCode, rt.ErrorMessage = code(err), message(err)
			continue
		}
		// A topic with a fault that is named again goes on, too: without it the other would look as if it were named once.
		good, index = append(good, topic), append(index, i)
	}
	for i, result := range a.Admin.CreateTopics(ctx, good, q.ValidateOnly) {
		fillCreated(a, &resp.Topics[index[i]], result)
	}
	return resp, nil
}

func newTopic(t *kmsg.CreateTopicsRequestTopic) (controller.NewTopic, error) {
	out := controller.NewTopic{Name: t.Topic, Partitions: t.NumPartitions, ReplicationFactor: t.ReplicationFactor}
	if len(t.ReplicaAssignment) > 0 {
		if t.NumPartitions != -1 || t.ReplicationFactor != -1 {
			return out, fmt.Errorf("%w: replicas are assigned by hand, so neither their number nor that of partitions may be given",
				replication.ErrInvalidRequest)
		}
		out.Assignments = make(map[int32][]replication.NodeID, len(t.ReplicaAssignment))
		for i := range t.ReplicaAssignment {
			p := &t.ReplicaAssignment[i]
			if _, twice := out.Assignments[p.Partition]; twice {
				return out, fmt.Errorf("%w: partition %d is assigned twice", replication.ErrInvalidReplicaAssignment, p.Partition)
			}
			out.Assignments[p.Partition] = toNodes(p.Replicas)
		}
	}
	if len(t.Configs) > 0 {
		out.Config = make(map[string]string, len(t.Configs))
		for _, c := range t.Configs {
			if c.Value == nil {
				return out, fmt.Errorf("%w: %s has no value", replication.ErrInvalidConfig, c.Name)
			}
			out.Config[c.Name] = *c.Value
		}
	}
	return out, nil
}

func fillCreated(a *API, rt *kmsg.CreateTopicsResponseTopic, result controller.TopicResult) {
	rt.ErrorCode, rt.ErrorMessage = code(result.Err), message(result.Err)
	if result.Err != nil || result.Topic == nil {
		return
	}
	t := result.Topic
	rt.TopicID, rt.NumPartitions = t.ID, int32(len(t.Partitions))
	if len(t.Partitions) > 0 {
		rt.ReplicationFactor = int16(len(t.Partitions[0].Replicas))
	}
	for _, row := range a.Admin.TopicSettings(t) {
		c := kmsg.NewCreateTopicsResponseTopicConfig()
		c.Name, c.Value, c.ReadOnly, c.Source, c.IsSensitive = row.Name, shown(row), row.ReadOnly, int8(row.Source), row.Sensitive
		rt.Configs = append(rt.Configs, c)
	}
}

func toNodes(ids []int32) []replication.NodeID {
	out := make([]replication.NodeID, len(ids))
	for i, id := range ids {
		out[i] = replication.NodeID(id)
	}
	return out
}
