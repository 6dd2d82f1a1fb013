package api

import (
	"context"

	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeTransactions, key 65, version 0 (KIP-664), flexible. A transaction whose end is decided shows the partitions that have
// no marker yet.
var describeTransactionsRow = Row{Key: kafkaproto.KeyDescribeTransactions, Min: 0, Max: 0, AdvertisedMin: 0, Handler: handler(handleDescribeTransactions)}

func handleDescribeTransactions(_ context.Context, a *API, _ *Request, q *kmsg.DescribeTransactionsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeTransactionsResponse()
	for _, id := range q.TransactionalIDs {
		resp.TransactionStates = append(resp.TransactionStates, describeTransaction(a, id))
	}
	return resp, nil
}

func describeTransaction(a *API, id string) kmsg.DescribeTransactionsResponseTransactionState {
	s := kmsg.NewDescribeTransactionsResponseTransactionState()
	s.TransactionalID = id
	m, err := a.Txn.Describe(id)
	if err != nil {
		s.ErrorCode = code(err)
		return s
	}
	s.State, s.TimeoutMillis, s.StartTimestamp = m.State.String(), int32(m.Timeout.Milliseconds()), -1
	s.ProducerID, s.ProducerEpoch = int64(m.ProducerID), int16(m.Epoch)
	if !m.Started.IsZero() {
		s.StartTimestamp = m.Started.UnixMilli()
	}
	for i, p := range m.Partitions {
		if i == 0 || m.Partitions[i-1].Topic != p.Topic {
			t := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
			t.Topic = p.Topic
			s.Topics = append(s.Topics, t)
		}
		t := &s.Topics[len(s.Topics)-1]
		t.Partitions = append(t.Partitions, p.Index)
	}
	return s
}
