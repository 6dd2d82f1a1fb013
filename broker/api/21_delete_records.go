package api

import (
	"context"

	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteRecords, key 21, versions 0 to 2 (KIP-107).
//
//	v2         flexible
//
// Offset -1 means everything that is committed. Answers come when a majority has the new log start. Internal topics are
// INVALID_TOPIC_EXCEPTION, topics that are only compacted POLICY_VIOLATION, as in Kafka.
var deleteRecordsRow = Row{Key: kafkaproto.KeyDeleteRecords, Min: 0, Max: 2, AdvertisedMin: 0, Handler: handler(handleDeleteRecords)}

func handleDeleteRecords(ctx context.Context, a *API, _ *Request, q *kmsg.DeleteRecordsRequest) (kmsg.Response, error) {
	ctx, cancel := within(ctx, q.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrDeleteRecordsResponse()
	for i := range q.Topics {
		t := &q.Topics[i]
		rt := kmsg.NewDeleteRecordsResponseTopic()
		rt.Topic = t.Topic
		for j := range t.Partitions {
			p := &t.Partitions[j]
			low, err := a.Admin.DeleteRecords(ctx, t.Topic, p.Partition, batch.Offset(p.Offset))
			rp := kmsg.NewDeleteRecordsResponseTopicPartition()
			rp.Partition, rp.LowWatermark, rp.ErrorCode = p.Partition, int64(low), code(err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}
