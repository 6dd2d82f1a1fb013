package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeQuorum, key 55, versions 0 to 2 (KIP-595), always flexible.
//
//	v1         when the leader last heard from a replica, and when that one had everything (KIP-836)
//	v2         data directories, error messages, and the nodes' addresses (KIP-853)
//
// Partition 0 of __cluster_metadata is the metadata group, as from Kafka. Here every partition is a Raft group, so any topic's
// can be asked for too: voters, learners as observers, their log ends in Kafka offsets. Whoever is asked gets it from the
// group's leader.
var describeQuorumRow = Row{Key: kafkaproto.KeyDescribeQuorum, Min: 0, Max: 2, AdvertisedMin: 0, Handler: handler(handleDescribeQuorum)}

// quorumPatience bounds how long the leaders of all groups asked for have for their answers, in milliseconds.
const quorumPatience = 10_000

func handleDescribeQuorum(ctx context.Context, a *API, r *Request, q *kmsg.DescribeQuorumRequest) (kmsg.Response, error) {
	ctx, cancel := within(ctx, quorumPatience)
	defer cancel()
	resp := kmsg.NewPtrDescribeQuorumResponse()
	var members leaderHints
	for i := range q.Topics {
		t := kmsg.NewDescribeQuorumResponseTopic()
		t.Topic = q.Topics[i].Topic
		for _, asked := range q.Topics[i].Partitions {
			quorum, err := a.Admin.DescribeQuorum(ctx, admin.PartitionRef{Topic: t.Topic, Partition: asked.Partition})
			t.Partitions = append(t.Partitions, describedQuorum(asked.Partition, &quorum, err))
			for _, list := range [][]admin.QuorumReplica{quorum.Voters, quorum.Observers} {
				for _, m := range list {
					members.add(replication.Leader{Node: m.Replica.Node})
				}
			}
		}
		resp.Topics = append(resp.Topics, t)
	}
	for _, n := range members.nodes(a, r.Session.Listener()) {
		node := kmsg.NewDescribeQuorumResponseNode()
		l := kmsg.NewDescribeQuorumResponseNodeListener()
		node.NodeID, l.Name, l.Host, l.Port = int32(n.ID), r.Caller().Listener, n.Host, uint16(n.Port)
		node.Listeners = append(node.Listeners, l)
		resp.Nodes = append(resp.Nodes, node)
	}
	return resp, nil
}

func describedQuorum(partition int32, q *admin.Quorum, err error) kmsg.DescribeQuorumResponseTopicPartition {
	p := kmsg.NewDescribeQuorumResponseTopicPartition()
	p.Partition = partition
	if err != nil {
		p.ErrorCode, p.ErrorMessage = code(err), message(err)
		p.LeaderID, p.LeaderEpoch, p.HighWatermark = int32(replication.NoNode), -1, -1
		return p
	}
	p.LeaderID, p.LeaderEpoch, p.HighWatermark = int32(q.Leader.Node), int32(q.Leader.Epoch), q.HighWatermark
	p.CurrentVoters, p.Observers = describedReplicas(q.Voters), describedReplicas(q.Observers)
	return p
}

func describedReplicas(replicas []admin.QuorumReplica) []kmsg.DescribeQuorumResponseTopicPartitionReplicaState {
	out := make([]kmsg.DescribeQuorumResponseTopicPartitionReplicaState, len(replicas))
	for i, r := range replicas {
		out[i].Default()
		out[i].ReplicaID, out[i].ReplicaDirectoryID = int32(r.Replica.Node), r.Directory
		out[i].LogEndOffset, out[i].LastFetchTimestamp, out[i].LastCaughtUpTimestamp = r.LogEnd, r.Contact, r.CaughtUp
	}
	return out
}
