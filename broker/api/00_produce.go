package api

import (
	"context"
	"errors"
	"time"

	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/broker/produce"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Produce, key 0, versions 3 to 13.
//
// ApiVersions advertises 0: librdkafka before 2.11.1 takes compression for unsupported unless Produce 0 is in the range
// (KAFKA-18659). Kafka does the same; versions 0 to 2 are refused as it refuses them, by closing the connection.
//
//	v3 to v6   record batches of magic 2 (KIP-98)
//	v7         zstd (KIP-110)
//	v8         the records that made a batch fail, and a message (KIP-467)
//	v9         flexible
//	v10        the leader's address with NOT_LEADER_OR_FOLLOWER (KIP-951)
//	v11        the client knows TRANSACTION_ABORTABLE (KIP-890)
//	v12        partitions are added to the transaction by being written to (KIP-890, transaction.version 2)
//	v13        topic ids (KIP-516)
//
// Each partition's field must hold exactly one batch. acks=1 is answered as acks=all. acks=0 gets no answer; if one of its
// batches fails the connection is closed, because a producer that hears nothing would never look for the new leader.
// Transactional batches are verified with the transaction's coordinator, or, since v12, made part of their transaction, where
// they begin it in a partition.
var produceRow = Row{Key: kafkaproto.KeyProduce, Min: 3, Max: 13, AdvertisedMin: 0, Overlaps: true, Start: starter(handleProduce)}

const (
	produceZstd       = 7
	produceLeaderHint = 10
	produceAbortable  = 11
	produceAdds       = 12
	produceTopicIDs   = 13
)

// errAcksNone closes the connection of an acks=0 producer one of whose batches failed.
var errAcksNone = errors.New("a batch sent with acks=0 failed")

func handleProduce(ctx context.Context, a *API, r *Request, q *kmsg.ProduceRequest) (conn.Call, error) {
	count := 0
	for i := range q.Topics {
		count += len(q.Topics[i].Partitions)
	}
	c := &produceCall{api: a, listener: r.Session.Listener(), request: q}
	a.Produce.Begin(&c.call, produce.Request{
		Caller:          r.Caller(),
		Acks:            produce.Acks(q.Acks),
		Timeout:         time.Duration(q.TimeoutMillis) * time.Millisecond,
		ZstdAllowed:     q.Version >= produceZstd,
		TransactionalID: q.TransactionID, Protocol: protocolOf(q.Version),
		FrameSize: r.FrameSize,
		Batches:   count,
	})
	denied := a.gate(r).produceDenied(q)
	if q.TransactionID != nil {
		batches := make([]produce.Batch, 0, count)
		eachBatch(q, denied, func(b produce.Batch) { batches = append(batches, b) })
		c.call.Verify(ctx, batches)
	}
	eachBatch(q, denied, func(b produce.Batch) { c.call.Add(ctx, b) })
	for i := range q.Topics {
		for j := range q.Topics[i].Partitions {
			// The partition owns the bytes now, and lives longer than this request may pin its buffer.
			q.Topics[i].Partitions[j].Records = nil
		}
	}
	return c, nil
}

func eachBatch(q *kmsg.ProduceRequest, denied func(string, replication.TopicID) error, fn func(produce.Batch)) {
	for i := range q.Topics {
		t := &q.Topics[i]
		refused := denied(t.Topic, t.TopicID)
		for j := range t.Partitions {
			p := &t.Partitions[j]
			fn(produce.Batch{
				Refused: refused,
				Topic:   t.Topic, TopicID: t.TopicID, Partition: p.Partition, ByID: q.Version >= produceTopicIDs, Records: p.Records,
			})
		}
	}
}

// protocolOf is the protocol of transactions that a version of Produce stands for.
func protocolOf(version int16) produce.Protocol {
	switch {
	case version >= produceAdds:
		return produce.ProtocolV2
	case version >= produceAbortable:
		return produce.ProtocolV1Abortable
	}
	return produce.ProtocolV1
}

// produceCall is a Produce whose batches are under way.
type produceCall struct {
	api      *API
	listener string // that the request came in on
	request  *kmsg.ProduceRequest
	call     produce.Call
}

// Ready tells whether all batches are answered.
func (c *produceCall) Ready() bool { return c.call.Ready() }

// Finish waits for the batches.
func (c *produceCall) Finish(ctx context.Context) (conn.Reply, error) {
	var few [4]produce.Outcome // most requests go to few partitions, and need no further slice
	outcomes := c.call.Wait(ctx, few[:0])
	if !c.call.AnswerWanted() {
		for i := range outcomes {
			if err := outcomes[i].Err; err != nil {
				return conn.Reply{}, errors.Join(errAcksNone, err)
			}
		}
		return conn.Reply{None: true}, nil
	}
	return reply(c.response(outcomes), c.request.Version), nil
}

func (c *produceCall) response(outcomes []produce.Outcome) *kmsg.ProduceResponse {
	resp := kmsg.NewPtrProduceResponse()
	resp.Topics = make([]kmsg.ProduceResponseTopic, len(c.request.Topics))
	partitions := make([]kmsg.ProduceResponseTopicPartition, len(outcomes))
	var hints leaderHints
	n := 0
	for i := range c.request.Topics {
		t := &c.request.Topics[i]
		from := n
		for j := range t.Partitions {
			fillProduce(&partitions[n], t.Partitions[j].Partition, &outcomes[n])
			hints.add(outcomes[n].Leader)
			n++
		}
		resp.Topics[i].Topic, resp.Topics[i].TopicID = t.Topic, t.TopicID
		resp.Topics[i].Partitions = partitions[from:n:n]
	}
	if c.request.Version >= produceLeaderHint {
		for _, node := range hints.nodes(c.api, c.listener) {
			resp.Brokers = append(resp.Brokers, kmsg.ProduceResponseBroker{
				NodeID: int32(node.ID), Host: node.Host, Port: node.Port, Rack: rack(node.Rack),
			})
		}
	}
	return resp
}

func fillProduce(p *kmsg.ProduceResponseTopicPartition, partition int32, o *produce.Outcome) {
	p.Default()
	p.Partition = partition
	p.BaseOffset, p.LogStartOffset, p.LogAppendTime = int64(o.Base), int64(o.LogStart), o.AppendTime
	p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = int32(o.Leader.Node), int32(o.Leader.Epoch)
	if o.Err == nil {
		return
	}
	p.ErrorCode, p.ErrorMessage = code(o.Err), message(o.Err)
	var invalid *produce.RecordsError
	if errors.As(o.Err, &invalid) {
		for _, r := range invalid.Records {
			p.ErrorRecords = append(p.ErrorRecords, kmsg.ProduceResponseTopicPartitionErrorRecord{
				RelativeOffset: r.Index, ErrorMessage: &r.Message,
			})
		}
	}
}

// leaderHints collects the leaders that answers point to (KIP-951).
type leaderHints struct{ ids []replication.NodeID }

func (h *leaderHints) add(l replication.Leader) {
	if l.Node == replication.NoNode {
		return
	}
	for _, id := range h.ids {
		if id == l.Node {
			return
		}
	}
	h.ids = append(h.ids, l.Node)
}

// nodes returns the addresses of the leaders that the cluster knows and clients of a listener can reach.
func (h *leaderHints) nodes(a *API, listener string) []replication.Node {
	var nodes []replication.Node
	for _, id := range h.ids {
		if n, ok := a.Admin.Node(id); ok {
			nodes = append(nodes, n)
		}
	}
	return atListener(nodes, listener)
}

func rack(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
