package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetDelete, key 47, version 0 (KIP-496).
//
// Drops committed offsets of topics to which no member of the group subscribes. A group with members whose protocol is
// not "consumer" is NON_EMPTY_GROUP, because nobody knows what they read.
var offsetDeleteRow = Row{Key: kafkaproto.KeyOffsetDelete, Min: 0, Max: 0, AdvertisedMin: 0, Handler: handler(handleOffsetDelete)}

func handleOffsetDelete(ctx context.Context, a *API, _ *Request, q *kmsg.OffsetDeleteRequest) (kmsg.Response, error) {
	req := group.DeleteOffsetsRequest{Group: q.Group, Topics: make([]group.DeleteOffsetsTopic, len(q.Topics))}
	for i := range q.Topics {
		req.Topics[i].Name = q.Topics[i].Topic
		for j := range q.Topics[i].Partitions {
			req.Topics[i].Partitions = append(req.Topics[i].Partitions, q.Topics[i].Partitions[j].Partition)
		}
	}
	errs, err := a.Group.DeleteOffsets(ctx, req)
	resp := kmsg.NewPtrOffsetDeleteResponse()
	if err != nil {
		resp.ErrorCode = code(err)
		return resp, nil
	}
	for i := range req.Topics {
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = req.Topics[i].Name
		for j, p := range req.Topics[i].Partitions {
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p, code(errs[i][j])
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}
