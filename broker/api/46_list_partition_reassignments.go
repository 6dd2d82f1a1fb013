package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListPartitionReassignments, key 46, version 0 (KIP-455), flexible.
//
// No topics means all. Partitions that do not move are left out, also where they are asked for. Every node answers from its
// own copy of the metadata.
var listPartitionReassignmentsRow = Row{
	Key: kafkaproto.KeyListPartitionReassignments, Min: 0, Max: 0, AdvertisedMin: 0, Handler: handler(handleListPartitionReassignments),
}

func handleListPartitionReassignments(_ context.Context, a *API, _ *Request, q *kmsg.ListPartitionReassignmentsRequest) (kmsg.Response, error) {
	var wanted []admin.PartitionRef
	if q.Topics != nil {
		wanted = []admin.PartitionRef{}
	}
	for i := range q.Topics {
		for _, p := range q.Topics[i].Partitions {
			wanted = append(wanted, admin.PartitionRef{Topic: q.Topics[i].Topic, Partition: p})
		}
	}
	resp := kmsg.NewPtrListPartitionReassignmentsResponse()
	for _, r := range a.Admin.Reassignments(wanted) {
		if n := len(resp.Topics); n == 0 || resp.Topics[n-1].Topic != r.Topic {
			t := kmsg.NewListPartitionReassignmentsResponseTopic()
			t.Topic = r.Topic
			resp.Topics = append(resp.Topics, t)
		}
		p := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
		p.Partition, p.Replicas = r.Partition, nodeIDs(r.Replicas)
		p.AddingReplicas, p.RemovingReplicas = nodeIDs(r.Adding), nodeIDs(r.Removing)
		last := &resp.Topics[len(resp.Topics)-1]
		last.Partitions = append(last.Partitions, p)
	}
	return resp, nil
}
