package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareAcknowledge, key 79, versions 1 to 2 (KIP-932; version 0 was a preview).
//
//	v2         renewed locks (KIP-1222)
//
// Answered when the acknowledgements are durable. It goes on with, or ends, a session that a ShareFetch has begun.
var shareAcknowledgeRow = Row{
	Key: kafkaproto.KeyShareAcknowledge, Min: 1, Max: 2, AdvertisedMin: 1, Handler: handler(handleShareAcknowledge),
}

func handleShareAcknowledge(ctx context.Context, a *API, in *Request, q *kmsg.ShareAcknowledgeRequest) (kmsg.Response, error) {
	r := &share.AckRequest{Member: shareMember(q.GroupID, q.MemberID, q.ShareSessionEpoch), Renew: q.IsRenewAck}
	for i := range q.Topics {
		t := &q.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			w := share.Wanted{TopicPartition: share.TopicPartition{Topic: t.TopicID, Partition: p.Partition}}
			for k := range p.AcknowledgementBatches {
				b := &p.AcknowledgementBatches[k]
				w.Acks = append(w.Acks, shareAck(b.FirstOffset, b.LastOffset, b.AcknowledgeTypes))
			}
			r.Partitions = append(r.Partitions, w)
		}
	}
	got, err := a.Share.Acknowledge(ctx, r)
	if err != nil {
		return nil, err
	}
	return shareAcknowledged(a, in.Session.Listener(), got), nil
}

func shareAcknowledged(a *API, listener string, got *share.AckResponse) *kmsg.ShareAcknowledgeResponse {
	resp := kmsg.NewPtrShareAcknowledgeResponse()
	resp.ErrorCode, resp.ErrorMessage = code(got.Err), message(got.Err)
	resp.AcquisitionLockTimeoutMillis = int32(got.Lock.Milliseconds())
	at := map[replication.TopicID]int{}
	var hints leaderHints
	for i := range got.Results {
		r := &got.Results[i]
		n, ok := at[r.Topic]
		if !ok {
			n = len(resp.Topics)
			at[r.Topic] = n
			t := kmsg.NewShareAcknowledgeResponseTopic()
			t.TopicID = r.Topic
			resp.Topics = append(resp.Topics, t)
		}
		p := kmsg.NewShareAcknowledgeResponseTopicPartition()
		p.Partition, p.ErrorCode, p.ErrorMessage = r.Partition, code(r.Err), message(r.Err)
		p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = int32(r.Leader.Node), int32(r.Leader.Epoch)
		hints.add(r.Leader)
		resp.Topics[n].Partitions = append(resp.Topics[n].Partitions, p)
	}
	for _, node := range hints.nodes(a, listener) {
		resp.NodeEndpoints = append(resp.NodeEndpoints, kmsg.ShareAcknowledgeResponseNodeEndpoint{
			NodeID: int32(node.ID), Host: node.Host, Port: node.Port, Rack: rack(node.Rack),
		})
	}
	return resp
}
