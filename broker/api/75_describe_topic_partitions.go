package api

import (
	"context"
	"slices"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeTopicPartitions, key 75, version 0 (KIP-966), flexible.
//
// It is Metadata in pages: topics by name, and as many partitions as the client and this broker allow, with a cursor at
// the first one that was left out. No topics named means all. Eligible leader replicas are not kept, as a leader is always
// one of a majority that has every committed record: their lists are empty, and not null, at which Java's Admin fails.
var describeTopicPartitionsRow = Row{Key: kafkaproto.KeyDescribeTopicPartitions, Min: 0, Max: 0, AdvertisedMin: 0, Handler: handler(handleDescribeTopicPartitions)}

// maxDescribed is Kafka's max.request.partition.size.limit: the most partitions in one answer.
const maxDescribed = 2000

func handleDescribeTopicPartitions(ctx context.Context, a *API, _ *Request, q *kmsg.DescribeTopicPartitionsRequest) (kmsg.Response, error) {
	infos := describedTopics(ctx, a, q)
	left := maxDescribed
	if limit := int(q.ResponsePartitionLimit); limit > 0 {
		left = min(left, limit)
	}
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	for i := range infos {
		info := &infos[i]
		from := 0
		if q.Cursor != nil && info.Name == q.Cursor.Topic {
			from = min(max(0, int(q.Cursor.Partition)), len(info.Partitions))
		}
		to := min(len(info.Partitions), from+left)
		if left == 0 && len(info.Partitions) > 0 {
			resp.NextCursor = cursor(info.Name, 0)
			break
		}
		resp.Topics = append(resp.Topics, describedTopic(info, from, to))
		left -= to - from
		if to < len(info.Partitions) {
			resp.NextCursor = cursor(info.Name, to)
			break
		}
	}
	return resp, nil
}

// describedTopics returns the topics that are asked for from the cursor on, by name.
func describedTopics(ctx context.Context, a *API, q *kmsg.DescribeTopicPartitionsRequest) []admin.TopicInfo {
	var infos []admin.TopicInfo
	if len(q.Topics) == 0 {
		infos = a.Admin.AllTopics()
	} else {
		names := make([]string, len(q.Topics))
		for i := range q.Topics {
			names[i] = q.Topics[i].Topic
		}
		slices.Sort(names)
		var refs []admin.TopicRef
		for _, name := range names {
			refs = append(refs, admin.TopicRef{Name: name})
		}
		infos = a.Admin.Topics(ctx, refs, false)
	}
	if q.Cursor == nil {
		return infos
	}
	return slices.DeleteFunc(infos, func(i admin.TopicInfo) bool { return i.Name < q.Cursor.Topic })
}

func cursor(topic string, partition int) *kmsg.DescribeTopicPartitionsResponseNextCursor {
	c := kmsg.NewDescribeTopicPartitionsResponseNextCursor()
	c.Topic, c.Partition = topic, int32(partition)
	return &c
}

func describedTopic(info *admin.TopicInfo, from, to int) kmsg.DescribeTopicPartitionsResponseTopic {
	t := kmsg.NewDescribeTopicPartitionsResponseTopic()
	t.ErrorCode, t.Topic, t.TopicID, t.IsInternal = code(info.Err), &info.Name, info.ID, info.Internal
	t.AuthorizedOperations = notAsked
	for i := from; i < to; i++ {
		p, from := kmsg.NewDescribeTopicPartitionsResponseTopicPartition(), &info.Partitions[i]
		p.Partition, p.LeaderID, p.LeaderEpoch = from.Index, int32(from.Leader.Node), int32(from.Leader.Epoch)
		p.Replicas, p.ISR, p.OfflineReplicas = nodeIDs(from.Replicas), nodeIDs(from.ISR), nodeIDs(from.Offline)
		p.EligibleLeaderReplicas, p.LastKnownELR = []int32{}, []int32{}
		if from.Leader.Node == replication.NoNode {
			p.ErrorCode = code(admin.ErrLeaderNotAvailable)
		}
		t.Partitions = append(t.Partitions, p)
	}
	return t
}
