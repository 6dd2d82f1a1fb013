package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetForLeaderEpoch, key 23, versions 2 to 4 (KIP-101, KIP-279, KIP-320).
//
//	v2         the client's leader epoch fences; librdkafka sends exactly this version
//	v3         the replica id, which is not looked at: everybody is answered as a consumer
//	v4         flexible
//
// The answer is the largest epoch at or below the one asked for, and the offset at which it ends, which for the newest
// epoch is the log end. An epoch that the log never had is -1, -1.
var offsetForLeaderEpochRow = Row{Key: kafkaproto.KeyOffsetForLeaderEpoch, Min: 2, Max: 4, AdvertisedMin: 2, Handler: handler(handleOffsetForLeaderEpoch)}

func handleOffsetForLeaderEpoch(_ context.Context, a *API, _ *Request, q *kmsg.OffsetForLeaderEpochRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	for i := range q.Topics {
		t := &q.Topics[i]
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = t.Topic
		for j := range t.Partitions {
			p := &t.Partitions[j]
			end, err := a.Fetch.EpochEnd(fetch.Key{Topic: t.Topic, Partition: p.Partition},
				batch.Epoch(p.CurrentLeaderEpoch), batch.Epoch(p.LeaderEpoch))
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, code(err)
			rp.LeaderEpoch, rp.EndOffset = int32(end.Epoch), int64(end.End)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}
