package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterPartitionReassignments, key 45, versions 0 and 1 (KIP-455), always flexible.
//
//	v1         the client may forbid to change the number of replicas (KIP-860)
//
// A partition moves by its own leader: new replicas join as learners, catch up and get their votes one at a time, then the
// others go. The answer says that it has begun. Null replicas cancel a move that is under way.
var alterPartitionReassignmentsRow = Row{
	Key: kafkaproto.KeyAlterPartitionReassignments, Min: 0, Max: 1, AdvertisedMin: 0, Handler: handler(handleAlterPartitionReassignments),
}

const reassignFactor = 1

func handleAlterPartitionReassignments(ctx context.Context, a *API, _ *Request, q *kmsg.AlterPartitionAssignmentsRequest) (kmsg.Response, error) {
	ctx, cancel := within(ctx, q.TimeoutMillis)
	defer cancel()
	var moves []admin.Move
	for i := range q.Topics {
		for _, p := range q.Topics[i].Partitions {
			moves = append(moves, admin.Move{
				PartitionRef: admin.PartitionRef{Topic: q.Topics[i].Topic, Partition: p.Partition}, Replicas: replicasAsked(p.Replicas),
			})
		}
	}
	errs := a.Admin.Reassign(ctx, moves, admin.MoveRules{SameFactor: q.Version >= reassignFactor && !q.AllowReplicationFactorChange})
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	resp.AllowReplicationFactorChange = q.AllowReplicationFactorChange
	n := 0
	for i := range q.Topics {
		t := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		t.Topic = q.Topics[i].Topic
		for _, asked := range q.Topics[i].Partitions {
			p := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			p.Partition, p.ErrorCode, p.ErrorMessage = asked.Partition, code(errs[n]), message(errs[n])
			t.Partitions = append(t.Partitions, p)
			n++
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

// replicasAsked keeps the difference between null, which cancels, and an empty list, which is an error.
func replicasAsked(ids []int32) []replication.NodeID {
	if ids == nil {
		return nil
	}
	out := make([]replication.NodeID, len(ids))
	for i, id := range ids {
		out[i] = replication.NodeID(id)
	}
	return out
}
