package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeLogDirs, key 35, versions 1 to 5 (KIP-113).
//
//	v2         flexible
//	v3         an error code for the whole answer
//	v4         size and free space of the volume (KIP-827)
//	v5         cordoned directories; none ever is
//
// A node has one log directory. Null topics mean all; an empty list, or a topic without partitions, means none of them.
var describeLogDirsRow = Row{Key: kafkaproto.KeyDescribeLogDirs, Min: 1, Max: 5, AdvertisedMin: 1, Handler: handler(handleDescribeLogDirs)}

func handleDescribeLogDirs(_ context.Context, a *API, _ *Request, q *kmsg.DescribeLogDirsRequest) (kmsg.Response, error) {
	var wanted func(topic string, partition int32) bool
	if q.Topics != nil {
		set := make(map[topicPartition]struct{})
		for i := range q.Topics {
			for _, p := range q.Topics[i].Partitions {
				set[topicPartition{q.Topics[i].Topic, p}] = struct{}{}
			}
		}
		wanted = func(topic string, partition int32) bool {
			_, ok := set[topicPartition{topic, partition}]
			return ok
		}
	}
	dir := a.Admin.LogDir(wanted)
	rd := kmsg.NewDescribeLogDirsResponseDir()
	rd.Dir, rd.TotalBytes, rd.UsableBytes, rd.ErrorCode = dir.Path, dir.Total, dir.Usable, code(dir.Err)
	for i := range dir.Replicas {
		if i == 0 || dir.Replicas[i-1].Topic != dir.Replicas[i].Topic {
			rt := kmsg.NewDescribeLogDirsResponseDirTopic()
			rt.Topic = dir.Replicas[i].Topic
			rd.Topics = append(rd.Topics, rt)
		}
		last := &rd.Topics[len(rd.Topics)-1]
		last.Partitions = append(last.Partitions, logDirPartition(&dir.Replicas[i]))
	}
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	resp.Dirs = append(resp.Dirs, rd)
	return resp, nil
}

func logDirPartition(r *admin.LogDirReplica) kmsg.DescribeLogDirsResponseDirTopicPartition {
	p := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
	p.Partition, p.Size = r.Partition, r.Size
	return p
}
