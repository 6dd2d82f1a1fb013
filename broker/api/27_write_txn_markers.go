package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/txn"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// WriteTxnMarkers, key 27, versions 1 and 2 (KIP-98).
//
//	v1         flexible
//	v2         the transaction's version (KIP-1228)
//
// Each partition's leader appends the marker. It is how tools abort hanging transactions (KIP-664); our own nodes tell each
// other by calls of their own.
var writeTxnMarkersRow = Row{Key: kafkaproto.KeyWriteTxnMarkers, Min: 1, Max: 2, AdvertisedMin: 1, Handler: handler(handleWriteTxnMarkers)}

func handleWriteTxnMarkers(ctx context.Context, a *API, _ *Request, q *kmsg.WriteTxnMarkersRequest) (kmsg.Response, error) {
	var markers []txn.Marker
	for i := range q.Markers {
		m := &q.Markers[i]
		for j := range m.Topics {
			for _, p := range m.Topics[j].Partitions {
				markers = append(markers, txn.Marker{
					Identity: identity(m.ProducerID, m.ProducerEpoch), CoordinatorEpoch: batch.Epoch(m.CoordinatorEpoch),
					Commit: m.Committed, Version: txn.Version(m.TransactionVersion), Partition: txn.Partition{Topic: m.Topics[j].Topic, Index: p},
				})
			}
		}
	}
	each := a.Txn.WriteMarkers(ctx, markers)
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	for i := range q.Markers {
		rm := kmsg.NewWriteTxnMarkersResponseMarker()
		rm.ProducerID = q.Markers[i].ProducerID
		for j := range q.Markers[i].Topics {
			rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			rt.Topic = q.Markers[i].Topics[j].Topic
			for _, p := range q.Markers[i].Topics[j].Partitions {
				rp := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				rp.Partition, rp.ErrorCode = p, code(each[0])
				rt.Partitions, each = append(rt.Partitions, rp), each[1:]
			}
			rm.Topics = append(rm.Topics, rt)
		}
		resp.Markers = append(resp.Markers, rm)
	}
	return resp, nil
}
