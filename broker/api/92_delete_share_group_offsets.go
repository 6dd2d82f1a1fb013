package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteShareGroupOffsets, key 92, version 0 (KIP-932).
//
// Forgets all that is known of a group's progress in the topics; it would begin anew by share.auto.offset.reset. A group with
// members is NON_EMPTY_GROUP.
var deleteShareGroupOffsetsRow = Row{
	Key: kafkaproto.KeyDeleteShareGroupOffsets, Min: 0, Max: 0, AdvertisedMin: 0, Handler: handler(handleDeleteShareGroupOffsets),
}

func handleDeleteShareGroupOffsets(ctx context.Context, a *API, _ *Request, q *kmsg.DeleteShareGroupOffsetsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDeleteShareGroupOffsetsResponse()
	if err := idleShareGroup(a, q.GroupID); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	for i := range q.Topics {
		rt := kmsg.NewDeleteShareGroupOffsetsResponseTopic()
		rt.Topic = q.Topics[i].Topic
		id, partitions, known := a.ShareOffsets.Topic(rt.Topic)
		var err error
		if rt.TopicID = id; !known {
			err = replication.ErrUnknownPartition
		}
		for index := int32(0); index < partitions && err == nil; index++ {
			err = a.ShareOffsets.Delete(ctx, share.Key{Group: q.GroupID, Topic: id, Partition: index})
		}
		rt.ErrorCode, rt.ErrorMessage = code(err), message(err)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}
