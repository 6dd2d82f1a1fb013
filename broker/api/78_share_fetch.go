package api

import (
	"context"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ShareFetch, key 78, versions 1 to 2 (KIP-932; version 0 was a preview).
//
//	v2         a limit that is kept to the record (KIP-1206), renewed locks (KIP-1222)
//
// Answered as soon as a record is acquired, whatever the least number of bytes. Acknowledgements that come along are durable by
// then. Records go from the file to the socket. As in Kafka any member id may fetch: the group's assignment is a hint.
var shareFetchRow = Row{Key: kafkaproto.KeyShareFetch, Min: 1, Max: 2, AdvertisedMin: 1, Start: starter(handleShareFetch)}

func handleShareFetch(_ context.Context, a *API, in *Request, q *kmsg.ShareFetchRequest) (conn.Call, error) {
	return &shareFetchCall{gate: a.gate(in), listener: in.Session.Listener(), request: q}, nil
}

func shareFetchRequest(q *kmsg.ShareFetchRequest) *share.FetchRequest {
	const exact = 1
	r := &share.FetchRequest{
		Member:  shareMember(q.GroupID, q.MemberID, q.ShareSessionEpoch),
		MaxWait: time.Duration(q.MaxWaitMillis) * time.Millisecond, MaxBytes: int(q.MaxBytes), MaxRecords: int(q.MaxRecords),
		BatchSize: int(q.BatchSize), Exact: q.ShareAcquireMode == exact, Renew: q.IsRenewAck,
	}
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
	for i := range q.ForgottenTopicsData {
		t := &q.ForgottenTopicsData[i]
		for _, p := range t.Partitions {
			r.Forgotten = append(r.Forgotten, share.TopicPartition{Topic: t.TopicID, Partition: p})
		}
	}
	return r
}

// shareFetchCall is a ShareFetch whose turn has not come.
type shareFetchCall struct {
	gate     *gate
	listener string // that the request came in on
	request  *kmsg.ShareFetchRequest
}

// Finish asks who may use the group, polls and encodes. What is denied of the topics is part of the session all the same, as
// clients believe, and is told with each answer.
func (c *shareFetchCall) Finish(ctx context.Context) (conn.Reply, error) {
	q := c.request
	if err := c.gate.group(broker.Read, deref(q.GroupID)); err != nil {
		resp := kmsg.NewPtrShareFetchResponse()
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return reply(resp, q.Version), nil
	}
	asked := shareFetchRequest(q)
	asked.Denied = func(id replication.TopicID) bool { return c.gate.idDenied(broker.Read, id) }
	got, err := c.gate.api.Share.Fetch(ctx, asked)
	if err != nil {
		return conn.Reply{}, err
	}
	resp, regions := c.response(got)
	return conn.Reply{Body: kafkaproto.EncodeShareFetch(resp, regions)}, nil
}

func shareMember(group, member *string, epoch int32) share.Member {
	m := share.Member{Epoch: epoch}
	if group != nil {
		m.Group = *group
	}
	if member != nil {
		m.ID = *member
	}
	return m
}

func shareAck(first, last int64, types []int8) share.Ack {
	a := share.Ack{First: batch.Offset(first), Last: batch.Offset(last), Types: make([]share.AckType, len(types))}
	for i, t := range types {
		a.Types[i] = share.AckType(t)
	}
	return a
}

func (c *shareFetchCall) response(got *share.FetchResponse) (*kmsg.ShareFetchResponse, func(t, p int) kafkaproto.Region) {
	resp := kmsg.NewPtrShareFetchResponse()
	resp.ErrorCode, resp.ErrorMessage = code(got.Err), message(got.Err)
	resp.AcquisitionLockTimeoutMillis = int32(got.Lock.Milliseconds())
	at := map[replication.TopicID]int{}
	var regions [][]kafkaproto.Region // by topic
	var hints leaderHints
	for i := range got.Results {
		r := &got.Results[i]
		n, ok := at[r.Topic]
		if !ok {
			n = len(resp.Topics)
			at[r.Topic] = n
			t := kmsg.NewShareFetchResponseTopic()
			t.TopicID = r.Topic
			resp.Topics = append(resp.Topics, t)
			regions = append(regions, nil)
		}
		p := kmsg.NewShareFetchResponseTopicPartition()
		p.Partition = r.Partition
		p.ErrorCode, p.ErrorMessage = code(r.Err), message(r.Err)
		p.AcknowledgeErrorCode, p.AcknowledgeErrorMessage = code(r.AckErr), message(r.AckErr)
		p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = int32(r.Leader.Node), int32(r.Leader.Epoch)
		for _, run := range r.Acquired {
			acquired := kmsg.NewShareFetchResponseTopicPartitionAcquiredRecord()
			acquired.FirstOffset, acquired.LastOffset, acquired.DeliveryCount = int64(run.First), int64(run.Last), run.Count
			p.AcquiredRecords = append(p.AcquiredRecords, acquired)
		}
		hints.add(r.Leader)
		resp.Topics[n].Partitions = append(resp.Topics[n].Partitions, p)
		regions[n] = append(regions[n], shareRegion(r))
	}
	for _, node := range hints.nodes(c.gate.api, c.listener) {
		resp.NodeEndpoints = append(resp.NodeEndpoints, kmsg.ShareFetchResponseNodeEndpoint{
			NodeID: int32(node.ID), Host: node.Host, Port: node.Port, Rack: rack(node.Rack),
		})
	}
	return resp, func(t, p int) kafkaproto.Region { return regions[t][p] }
}
