package api

import (
	"context"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetch, key 1, versions 4 to 18.
//
//	v4         isolation levels: last stable offset and aborted transactions (KIP-98)
//	v5         log start offset
//	v7         sessions (KIP-227)
//	v9         the client's leader epoch fences (KIP-320)
//	v10        zstd (KIP-110)
//	v11        the client's rack: the leader sends it to a replica in that rack, which answers it too (KIP-392)
//	v12        flexible; the epoch of the last record finds diverging logs (KIP-595)
//	v13        topic ids (KIP-516)
//	v15        the replica id moves to a tag (KIP-903)
//	v16        the leader's address with NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH (KIP-951)
//	v17, v18   fields for replicas only
//
// The answer holds whole batches only, from the one that contains the offset on, and always at least one if there is one.
// Records go from the file to the socket. A request that claims to come from a broker gets TOPIC_AUTHORIZATION_FAILED.
var fetchRow = Row{Key: kafkaproto.KeyFetch, Min: 4, Max: 18, AdvertisedMin: 4, Start: starter(handleFetch)}

const (
	fetchSessions     = 7
	fetchTopicIDs     = 13
	fetchReplicaState = 15
	fetchLeaderHint   = 16
)

func handleFetch(_ context.Context, a *API, r *Request, q *kmsg.FetchRequest) (conn.Call, error) {
	return &fetchCall{api: a, listener: r.Session.Listener(), request: q, asked: fetchRequest(a, r, q)}, nil
}

func fetchRequest(a *API, r *Request, q *kmsg.FetchRequest) *fetch.Request {
	out := &fetch.Request{
		Caller:        r.Caller(),
		FromReplica:   q.ReplicaID >= 0,
		UsesTopicIDs:  q.Version >= fetchTopicIDs,
		SessionID:     q.SessionID,
		SessionEpoch:  q.SessionEpoch,
		MaxWait:       time.Duration(q.MaxWaitMillis) * time.Millisecond,
		MinBytes:      int(q.MinBytes),
		MaxBytes:      int(q.MaxBytes),
		ReadCommitted: q.IsolationLevel == readCommitted,
		Rack:          q.Rack,
	}
	if q.Version < fetchSessions {
		out.SessionID, out.SessionEpoch = 0, fetch.FinalEpoch
	}
	if q.Version >= fetchReplicaState {
		out.FromReplica = q.ReplicaState.ID >= 0
	}
	gate := a.gate(r)
	out.Denied = func(k fetch.Key) bool {
		if out.UsesTopicIDs {
			return gate.idDenied(broker.Read, k.TopicID)
		}
		return gate.topicDenied(broker.Read, k.Topic, none)
	}
	count := 0
	for i := range q.Topics {
		count += len(q.Topics[i].Partitions)
	}
	out.Partitions = make([]fetch.Params, 0, count)
	for i := range q.Topics {
		t := &q.Topics[i]
		for j := range t.Partitions {
			p := &t.Partitions[j]
			out.Partitions = append(out.Partitions, fetch.Params{
				Key:          fetch.Key{Topic: t.Topic, TopicID: t.TopicID, Partition: p.Partition},
				Offset:       batch.Offset(p.FetchOffset),
				MaxBytes:     int(p.PartitionMaxBytes),
				CurrentEpoch: batch.Epoch(p.CurrentLeaderEpoch),
				LastEpoch:    batch.Epoch(p.LastFetchedEpoch),
			})
		}
	}
	for i := range q.ForgottenTopics {
		t := &q.ForgottenTopics[i]
		for _, p := range t.Partitions {
			out.Forgotten = append(out.Forgotten, fetch.Key{Topic: t.Topic, TopicID: t.TopicID, Partition: p})
		}
	}
	return out
}

// fetchCall is a Fetch whose turn has not come.
type fetchCall struct {
	api      *API
	listener string // that the request came in on
	request  *kmsg.FetchRequest
	asked    *fetch.Request
}

// Finish polls and encodes.
func (c *fetchCall) Finish(ctx context.Context) (conn.Reply, error) {
	got, err := c.api.Fetch.Fetch(ctx, c.asked)
	if err != nil {
		return conn.Reply{}, err
	}
	resp, regions := c.response(got)
	return conn.Reply{Body: kafkaproto.EncodeFetch(c.request.Version, resp, regions)}, nil
}

func (c *fetchCall) response(got *fetch.Response) (*kmsg.FetchResponse, func(t, p int) kafkaproto.Region) {
	resp := kmsg.NewPtrFetchResponse()
	resp.Version = c.request.Version
	resp.ErrorCode, resp.SessionID = code(got.Err), got.SessionID
	partitions := make([]kmsg.FetchResponseTopicPartition, len(got.Results))
	var first []int // index of the first result of each topic of the response
	var hints leaderHints
	for i := range got.Results {
		r := &got.Results[i]
		if i == 0 || !sameTopic(&got.Results[i-1], r) {
			first = append(first, i)
			resp.Topics = append(resp.Topics, kmsg.FetchResponseTopic{Topic: r.Topic, TopicID: r.TopicID})
		}
		fillFetch(&partitions[i], r, c.asked.ReadCommitted)
		hints.add(r.Leader)
		last := &resp.Topics[len(resp.Topics)-1]
		last.Partitions = partitions[first[len(first)-1] : i+1 : i+1]
	}
	if c.request.Version >= fetchLeaderHint {
		for _, node := range hints.nodes(c.api, c.listener) {
			resp.Brokers = append(resp.Brokers, kmsg.FetchResponseBroker{
				NodeID: int32(node.ID), Host: node.Host, Port: node.Port, Rack: rack(node.Rack),
			})
		}
	}
	return resp, func(t, p int) kafkaproto.Region { return region(&got.Results[first[t]+p]) }
}

func sameTopic(a, b *fetch.Result) bool { return a.Topic == b.Topic && a.TopicID == b.TopicID }

func fillFetch(p *kmsg.FetchResponseTopicPartition, r *fetch.Result, readCommitted bool) {
	p.Default()
	p.Partition, p.ErrorCode = r.Partition, code(r.Err)
	p.HighWatermark, p.LastStableOffset, p.LogStartOffset = int64(r.HighWatermark), int64(r.LastStable), int64(r.LogStart)
	p.PreferredReadReplica = int32(r.Preferred)
	if readCommitted {
		// A list, though empty, tells a consumer that it may trust it.
		p.AbortedTransactions = make([]kmsg.FetchResponseTopicPartitionAbortedTransaction, len(r.Aborted))
		for i, txn := range r.Aborted {
			p.AbortedTransactions[i].ProducerID = txn.ProducerID
			p.AbortedTransactions[i].FirstOffset = int64(txn.FirstOffset)
		}
	}
	if r.Diverging != nil {
		p.DivergingEpoch.Epoch, p.DivergingEpoch.EndOffset = int32(r.Diverging.Epoch), int64(r.Diverging.End)
	}
	p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = int32(r.Leader.Node), int32(r.Leader.Epoch)
}
