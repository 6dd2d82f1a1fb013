package api

import (
	"context"

	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeProducers, key 61, version 0 (KIP-664), flexible.
//
// It lists the producers whose sequences a partition remembers, on any node that has a replica. The coordinator epoch is that of the last marker,
// -1 before the first.
var describeProducersRow = Row{Key: kafkaproto.KeyDescribeProducers, Min: 0, Max: 0, AdvertisedMin: 0, Handler: handler(handleDescribeProducers)}

func handleDescribeProducers(_ context.Context, a *API, _ *Request, q *kmsg.DescribeProducersRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeProducersResponse()
	for i := range q.Topics {
		t := &q.Topics[i]
		rt := kmsg.NewDescribeProducersResponseTopic()
		rt.Topic = t.Topic
		for _, partition := range t.Partitions {
			rt.Partitions = append(rt.Partitions, activeProducers(a, t.Topic, partition))
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

func activeProducers(a *API, topic string, partition int32) kmsg.DescribeProducersResponseTopicPartition {
	rp := kmsg.NewDescribeProducersResponseTopicPartition()
	rp.Partition = partition
	states, err := a.Admin.ActiveProducers(topic, partition)
	rp.ErrorCode, rp.ErrorMessage = code(err), message(err)
	for i := range states {
		st := &states[i]
		p := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		p.ProducerID, p.ProducerEpoch, p.LastSequence = st.ID, int32(st.Epoch), st.LastSequence
		p.CurrentTxnStartOffset = int64(st.CurrentTxnStart)
		if batches := st.Batches(); len(batches) > 0 {
			p.LastTimestamp = batches[len(batches)-1].Timestamp
		}
		p.CoordinatorEpoch = st.CoordinatorEpoch
		rp.ActiveProducers = append(rp.ActiveProducers, p)
	}
	return rp
}
