package api

import (
	"github.com/quorlog/quorlog/broker"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Guards of the keys of producers and transactions: whoever uses a transactional id needs Write on it.

func guardInitProducerID(g *gate, q *kmsg.InitProducerIDRequest, next func() (*kmsg.InitProducerIDResponse, error)) (*kmsg.InitProducerIDResponse, error) {
	var denied error
	switch {
	case q.TransactionalID != nil:
		denied = g.transaction(broker.Write, *q.TransactionalID)
	case g.cluster(broker.IdempotentWrite) != nil && !g.api.Authorizer.AllowedSome(g.caller, broker.Write, broker.TopicResource):
		denied = broker.ErrClusterDenied // KIP-679: whoever may write to some topic may do so idempotently
	}
	if denied != nil {
		resp := kmsg.NewPtrInitProducerIDResponse()
		resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = code(denied), -1, -1
		return resp, nil
	}
	return next()
}

// guardAddPartitionsToTxn: from version 4 on the request is for brokers only, which are trusted with the topics. Of a client's
// request nothing is done if one of its topics is denied; the cluster's own topics are to everybody, since a transaction's end
// is written to each of its partitions.
func guardAddPartitionsToTxn(g *gate, q *kmsg.AddPartitionsToTxnRequest, next func() (*kmsg.AddPartitionsToTxnResponse, error)) (*kmsg.AddPartitionsToTxnResponse, error) {
	if q.Version >= addMany {
		if err := g.cluster(broker.ClusterAction); err != nil {
			resp := kmsg.NewPtrAddPartitionsToTxnResponse()
			resp.ErrorCode = code(err)
			return resp, nil
		}
		return next()
	}
	why, spoiled := g.transaction(broker.Write, q.TransactionalID), false
	codes := make([]int16, len(q.Topics))
	for i := range q.Topics {
		codes[i] = code(broker.ErrOperationNotAttempted)
		if why != nil {
			codes[i], spoiled = code(why), true
		} else if broker.IsInternalTopic(q.Topics[i].Topic) || g.topicDenied(broker.Write, q.Topics[i].Topic, none) {
			codes[i], spoiled = topicDeniedCode, true
		}
	}
	if why == nil && !spoiled {
		return next()
	}
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	for i := range q.Topics {
		t := kmsg.NewAddPartitionsToTxnResponseTopic()
		t.Topic = q.Topics[i].Topic
		for _, index := range q.Topics[i].Partitions {
			p := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			p.Partition, p.ErrorCode = index, codes[i]
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func guardAddOffsetsToTxn(g *gate, q *kmsg.AddOffsetsToTxnRequest, next func() (*kmsg.AddOffsetsToTxnResponse, error)) (*kmsg.AddOffsetsToTxnResponse, error) {
	denied := g.transaction(broker.Write, q.TransactionalID)
	if denied == nil {
		denied = g.group(broker.Read, q.Group)
	}
	if denied != nil {
		resp := kmsg.NewPtrAddOffsetsToTxnResponse()
		resp.ErrorCode = code(denied)
		return resp, nil
	}
	return next()
}

func guardEndTxn(g *gate, q *kmsg.EndTxnRequest, next func() (*kmsg.EndTxnResponse, error)) (*kmsg.EndTxnResponse, error) {
	if err := g.transaction(broker.Write, q.TransactionalID); err != nil {
		resp := kmsg.NewPtrEndTxnResponse()
		resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = code(err), -1, -1
		return resp, nil
	}
	return next()
}

func guardWriteTxnMarkers(g *gate, q *kmsg.WriteTxnMarkersRequest, next func() (*kmsg.WriteTxnMarkersResponse, error)) (*kmsg.WriteTxnMarkersResponse, error) {
	if g.cluster(broker.Alter) == nil || g.cluster(broker.ClusterAction) == nil {
		return next()
	}
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	for i := range q.Markers {
		m := kmsg.NewWriteTxnMarkersResponseMarker()
		m.ProducerID = q.Markers[i].ProducerID
		for j := range q.Markers[i].Topics {
			t := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			t.Topic = q.Markers[i].Topics[j].Topic
			for _, index := range q.Markers[i].Topics[j].Partitions {
				p := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				p.Partition, p.ErrorCode = index, code(broker.ErrClusterDenied)
				t.Partitions = append(t.Partitions, p)
			}
			m.Topics = append(m.Topics, t)
		}
		resp.Markers = append(resp.Markers, m)
	}
	return resp, nil
}

// guardDescribeTransactions leaves topics out of a transaction that the caller may not see.
func guardDescribeTransactions(g *gate, q *kmsg.DescribeTransactionsRequest, next func() (*kmsg.DescribeTransactionsResponse, error)) (*kmsg.DescribeTransactionsResponse, error) {
	allowed, refused := split(q.TransactionalIDs, func(id *string) bool { return g.transaction(broker.Describe, *id) != nil })
	q.TransactionalIDs = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range resp.TransactionStates {
		s := &resp.TransactionStates[i]
		s.Topics, _ = split(s.Topics, func(t *kmsg.DescribeTransactionsResponseTransactionStateTopic) bool {
			return g.topicDenied(broker.Describe, t.Topic, none)
		})
	}
	for _, id := range refused {
		s := kmsg.NewDescribeTransactionsResponseTransactionState()
		s.TransactionalID, s.ErrorCode = id, code(broker.ErrTransactionalIDDenied)
		resp.TransactionStates = append(resp.TransactionStates, s)
	}
	return resp, nil
}

func guardListTransactions(g *gate, _ *kmsg.ListTransactionsRequest, next func() (*kmsg.ListTransactionsResponse, error)) (*kmsg.ListTransactionsResponse, error) {
	resp, err := next()
	if err != nil {
		return nil, err
	}
	resp.TransactionStates, _ = split(resp.TransactionStates, func(s *kmsg.ListTransactionsResponseTransactionState) bool {
		return g.transaction(broker.Describe, s.TransactionalID) != nil
	})
	return resp, nil
}
