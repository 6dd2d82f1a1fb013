package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/txn"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListTransactions, key 66, versions 0 to 2 (KIP-664), flexible.
//
//	v1         those that have been going on for longer than a duration (KIP-994)
//	v2         those whose transactional id matches a regular expression as a whole (KIP-1152)
//
// Each broker lists those that it coordinates.
var listTransactionsRow = Row{Key: kafkaproto.KeyListTransactions, Min: 0, Max: 2, AdvertisedMin: 0, Handler: handler(handleListTransactions)}

// maxPattern bounds a regular expression, in bytes. Go's engine takes time linear in what it is compared with.
const maxPattern = 1 << 10

func handleListTransactions(_ context.Context, a *API, _ *Request, q *kmsg.ListTransactionsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrListTransactionsResponse()
	list := txn.ListRequest{Running: time.Duration(q.DurationFilterMillis) * time.Millisecond}
	if q.DurationFilterMillis < 0 {
		list.Running = -1
	}
	for _, name := range q.StateFilters {
		if s, ok := txn.ParseState(name); ok {
			list.States = append(list.States, s)
		} else if !slices.Contains(otherStates, name) {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, name)
		}
	}
	if len(q.StateFilters) > 0 && len(list.States) == 0 {
		return resp, nil // none can be in any of them
	}
	for _, id := range q.ProducerIDFilters {
		list.ProducerIDs = append(list.ProducerIDs, txn.ProducerID(id))
	}
	found, err := listTransactions(a, list, deref(q.TransactionalIDPattern))
	resp.ErrorCode = code(err)
	for _, l := range found {
		s := kmsg.NewListTransactionsResponseTransactionState()
		s.TransactionalID, s.ProducerID, s.TransactionState = l.ID, int64(l.ProducerID), l.State.String()
		resp.TransactionStates = append(resp.TransactionStates, s)
	}
	return resp, nil
}

// otherStates are Kafka's, in which no transaction is found.
var otherStates = []string{"Dead", "PrepareEpochFence"}

func listTransactions(a *API, list txn.ListRequest, pattern string) ([]txn.Listing, error) {
	if pattern != "" {
		re, err := coordinator.CompilePattern(pattern, maxPattern)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", broker.ErrInvalidRegularExpression, err)
		}
		list.Match = re.MatchString
	}
	found, err := a.Txn.List(list)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b txn.Listing) int { return cmp.Compare(a.ID, b.ID) })
	return found, nil
}
