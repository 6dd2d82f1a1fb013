package produce

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// Protocol is how a client makes partitions part of its transaction, as the version of Produce tells (KIP-890).
type Protocol uint8

// The protocols.
const (
	// ProtocolV1: the client has added the partition with AddPartitionsToTxn, and the broker checks that.
	ProtocolV1 Protocol = iota
	// ProtocolV1Abortable is ProtocolV1 of a client that knows TRANSACTION_ABORTABLE (Produce 11).
	ProtocolV1Abortable
	// ProtocolV2: the broker adds the partition (Produce 12).
	ProtocolV2
)

// TopicPartition names a partition.
type TopicPartition struct {
	Topic string
	Index int32
}

// Transaction is what the coordinator is asked: whether partitions are part of a transaction, or to make them so.
type Transaction struct {
	TransactionalID string
	ProducerID      int64
	ProducerEpoch   int16
	Add             bool
	Partitions      []TopicPartition
}

// Transactions is the coordinators of transactional ids, on whichever nodes they are.
type Transactions interface {
	// Join returns an error, or nil, for each partition, or one for all.
	Join(ctx context.Context, t Transaction) ([]error, error)
}

// verified is what was found out about a batch before it is enqueued.
type verified struct {
	token *partition.Verification
	of    batch.Header
	epoch batch.Epoch // in which the partition was led here: of another leadership nothing is known
	err   error
}

// errTwoProducers: Kafka's answer is INVALID_PRODUCER_ID_MAPPING.
var errTwoProducers = fmt.Errorf("%w: the request's batches are of different producers", broker.ErrInvalidProducerIDMapping)

// Verify asks the coordinator about those batches that begin a transaction in their partition; it waits for the answer. It
// comes before the Adds of a request with a transactional id, with the same batches.
func (c *Call) Verify(ctx context.Context, batches []Batch) {
	if c.refused != nil || c.request.TransactionalID == nil {
		return
	}
	c.verified = make([]verified, len(batches))
	t := Transaction{TransactionalID: *c.request.TransactionalID, Add: c.request.Protocol == ProtocolV2, ProducerID: batch.NoProducerID}
	var asked []int
	for i := range batches {
		if batches[i].Refused != nil {
			continue
		}
		h, err := batch.ParseHeader(batches[i].Records)
		if err != nil || !h.IsTransactional() || h.IsControl() || !h.HasProducer() {
			continue // what is wrong with it is told by Add
		}
		if t.ProducerID == batch.NoProducerID {
			t.ProducerID, t.ProducerEpoch = h.ProducerID, h.ProducerEpoch
		}
		if t.ProducerID != h.ProducerID || t.ProducerEpoch != h.ProducerEpoch {
			c.verified[i].err = errTwoProducers
			continue
		}
		p, err := c.lookup(batches[i])
		if err == nil && !p.Leading() {
			err = replication.ErrNotLeader
		}
		if err != nil { // a leadership that is gained until the batch is added must not take it unverified
			c.verified[i].err = err
			continue
		}
		c.verified[i].of, c.verified[i].epoch = h, p.Leader().Epoch
		if c.verified[i].token = partition.Verify(p, h); c.verified[i].token != nil {
			asked = append(asked, i)
			t.Partitions = append(t.Partitions, TopicPartition{p.Topic(), p.ID().Partition})
		}
	}
	if len(asked) > 0 {
		c.ask(ctx, t, asked)
	}
}

func (c *Call) ask(ctx context.Context, t Transaction, asked []int) {
	if c.service.transactions == nil {
		for _, i := range asked {
			c.verified[i].err = broker.ErrNoTransactionalID
		}
		return
	}
	ctx, cancel := context.WithDeadline(ctx, c.deadline)
	defer cancel()
	each, err := c.service.transactions.Join(ctx, t)
	for k, i := range asked {
		one := err
		if err == nil && k < len(each) {
			one = each[k]
		}
		c.verified[i].err = c.request.Protocol.explain(one)
	}
}

// explain turns what the coordinator says into what producers understand.
func (p Protocol) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, broker.ErrProducerFenced):
		// A producer may recover from this one, and take PRODUCER_FENCED for its end (KIP-588).
		return fmt.Errorf("%w: %w", replication.ErrInvalidProducerEpoch, err)
	case errors.Is(err, broker.ErrTransactionAbortable) && p == ProtocolV1:
		return fmt.Errorf("%w: %w", replication.ErrInvalidTxnState, err)
	case errors.Is(err, broker.ErrTransactionAbortable), errors.Is(err, broker.ErrInvalidProducerIDMapping),
		errors.Is(err, replication.ErrInvalidRequest), errors.Is(err, replication.ErrPolicyViolation):
		return err
	}
	// The coordinator could not tell: every producer tries again after this. Its error is not wrapped, because it has a code too.
	return fmt.Errorf("%w: the coordinator of the transaction could not be asked: %v", replication.ErrNotEnoughReplicas, err)
}
