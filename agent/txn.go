package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/coordinator/replicated"
	"github.com/quorlog/quorlog/broker/produce"
	"github.com/quorlog/quorlog/broker/txn"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
	"github.com/quorlog/quorlog/replication/transport"
)

// The calls between nodes that transactions need. Bodies are JSON. Each may be made twice: a partition that is part of the
// transaction already, or a marker that is written already, is no error.
const (
	txnAddCall  = "txn.add"  // txnAdd, to the coordinator
	txnMarkCall = "txn.mark" // []txn.Marker, to the leader of their partitions
)

// txnAdd is how a txn.AddRequest travels. JSON would make another id of one that is not UTF-8, which clients may use.
type txnAdd struct {
	txn.AddRequest
	Bytes []byte `json:",omitempty"` // of such an id
}

func newTxnAdd(r txn.AddRequest) txnAdd {
	a := txnAdd{AddRequest: r}
	if !utf8.ValidString(r.ID) {
		a.Bytes = []byte(r.ID)
	}
	return a
}

// request is what was asked for.
func (a *txnAdd) request() txn.AddRequest {
	if len(a.Bytes) > 0 {
		a.ID = string(a.Bytes)
	}
	return a.AddRequest
}

// txnErrors are the errors that keep their kind on the way to another node. The first that matches is told.
var txnErrors = []struct {
	name string
	err  error
}{
	{"not_coordinator", broker.ErrNotCoordinator},
	{"loading", broker.ErrCoordinatorLoading},
	{"unavailable", broker.ErrCoordinatorNotAvailable},
	{"concurrent", broker.ErrConcurrentTransactions},
	{"producer_fenced", broker.ErrProducerFenced},
	{"producer_id", broker.ErrInvalidProducerIDMapping},
	{"abortable", broker.ErrTransactionAbortable},
	{"not_leader", replication.ErrNotLeader},
	{"unknown_outcome", replication.ErrUnknownOutcome},
	{"unknown_partition", replication.ErrUnknownPartition},
	{"producer_epoch", replication.ErrInvalidProducerEpoch},
	{"coordinator_fenced", replication.ErrCoordinatorFenced},
	{"not_enough_replicas", replication.ErrNotEnoughReplicas},
	{"storage", replication.ErrStorage},
	{"overloaded", replication.ErrOverloaded},
	{"policy", replication.ErrPolicyViolation},
	{"invalid", replication.ErrInvalidRequest},
}

var errTxnPeer = errors.New("another node failed")

func txnErrorName(err error) string {
	if err == nil {
		return ""
	}
	for _, e := range txnErrors {
		if errors.Is(err, e.err) {
			return e.name
		}
	}
	return "other: " + err.Error()
}

func txnErrorNamed(name string) error {
	if name == "" {
		return nil
	}
	for _, e := range txnErrors {
		if name == e.name {
			return e.err
		}
	}
	return fmt.Errorf("%w: %s", errTxnPeer, name)
}

// txnAnswer is how an answer to both calls travels: an error for all, or one, or none, for each.
type txnAnswer struct {
	All  string   `json:",omitempty"`
	Each []string `json:",omitempty"`
}

func answerTxn(each []error, all error) ([]byte, error) {
	a := txnAnswer{All: txnErrorName(all), Each: make([]string, len(each))}
	for i := range each {
		a.Each[i] = txnErrorName(each[i])
	}
	return json.Marshal(a)
}

// askTxn makes one of the calls. The first error is the other node's, the second says that it did not answer.
func (t *transactions) askTxn(ctx context.Context, to replication.NodeID, call string, query any) (each []error, all, failed error) {
	body, err := json.Marshal(query)
	if err == nil {
		body, err = t.call(ctx, to, call, body)
	}
	if err != nil {
		return nil, nil, err
	}
	var a txnAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errTxnPeer, err)
	}
	for _, name := range a.Each {
		each = append(each, txnErrorNamed(name))
	}
	return each, txnErrorNamed(a.All), nil
}

// transactions connects the transaction coordinator with partitions and with other nodes. It is a txn.Peers and a
// produce.Transactions.
type transactions struct {
	agent   *Agent
	service *txn.Service
	topic   *replicated.Node // __transaction_state
}

func (a *Agent) openTransactions() error {
	t := &transactions{agent: a}
	t.topic = replicated.New(replicated.Options{
		Partitions: a.partitions, Controller: a.controller, Leaders: a.table, Topic: broker.TransactionTopic,
		Count:    int32(a.layers.Int("transaction.state.log.num.partitions")),
		Replicas: int16(a.layers.Int("transaction.state.log.replication.factor")),
		Config: map[string]string{
			"segment.bytes":       fmt.Sprint(a.layers.Int("transaction.state.log.segment.bytes")),
			"min.insync.replicas": fmt.Sprint(a.layers.Int("transaction.state.log.min.isr")),
		},
	})
	limits, err := txn.LimitsOf(a.node.Kafka)
	if err != nil {
		return err
	}
	t.service, err = txn.New(txn.Options{
		Logs: t.topic, Cluster: t.topic, Node: a.node.NodeID, Peers: t, NewID: t.newID, Limits: limits, Logger: a.levels.Logger("txn"),
	})
	a.transactions = t
	a.txn.Store(t)
	return err
}

// newID takes a producer id from this node's block.
func (t *transactions) newID(ctx context.Context) (txn.ProducerID, error) {
	s := t.agent.admin.Load()
	if s == nil {
		return txn.None, errStarting
	}
	got, err := s.InitProducerID(ctx, admin.InitProducer{ProducerIdentity: admin.ProducerIdentity{ID: -1, Epoch: -1}})
	return txn.ProducerID(got.ID), err
}

// call reaches a node, this one too.
func (t *transactions) call(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error) {
	if to == t.agent.node.NodeID {
		return t.handle(ctx, name, body)
	}
	return t.agent.callPeer(ctx, to, name, body)
}

// handle answers one of the calls.
func (t *transactions) handle(ctx context.Context, name string, body []byte) ([]byte, error) {
	if name == txnAddCall {
		var a txnAdd
		if err := json.Unmarshal(body, &a); err != nil {
			return nil, fmt.Errorf("%w: %w", replication.ErrInvalidRequest, err)
		}
		return answerTxn(t.service.AddPartitions(ctx, a.request()))
	}
	var markers []txn.Marker
	if err := json.Unmarshal(body, &markers); err != nil {
		return nil, fmt.Errorf("%w: %w", replication.ErrInvalidRequest, err)
	}
	return answerTxn(t.mark(ctx, markers), nil)
}

// handleTxn answers the calls of other nodes. There are none before the partitions are open.
func (c *contacts) handleTxn() {
	for _, name := range []string{txnAddCall, txnMarkCall} {
		c.peers.Handle(name, func(ctx context.Context, _ transport.PeerInfo, body []byte) ([]byte, error) {
			t := c.txn.Load()
			if t == nil {
				return nil, errStarting
			}
			return t.handle(ctx, name, body)
		})
	}
}

// AddPartitions asks the coordinator on a node.
func (t *transactions) AddPartitions(ctx context.Context, to replication.NodeID, r txn.AddRequest) ([]error, error) {
	each, all, err := t.askTxn(ctx, to, txnAddCall, newTxnAdd(r))
	if err != nil {
		return nil, fmt.Errorf("%w: node %d: %w", broker.ErrCoordinatorNotAvailable, to, err)
	}
	if all == nil && len(each) != len(r.Partitions) {
		return nil, fmt.Errorf("%w: node %d answered for %d of %d partitions", errTxnPeer, to, len(each), len(r.Partitions))
	}
	return each, all
}

// Join asks the coordinator for a producer, wherever it is.
func (t *transactions) Join(ctx context.Context, q produce.Transaction) ([]error, error) {
	r := txn.AddRequest{
		ID: q.TransactionalID, Identity: txn.Identity{ProducerID: txn.ProducerID(q.ProducerID), Epoch: txn.Epoch(q.ProducerEpoch)},
		VerifyOnly: !q.Add, Version: txn.V2,
	}
	for _, p := range q.Partitions {
		r.Partitions = append(r.Partitions, txn.Partition{Topic: p.Topic, Index: p.Index})
	}
	return t.service.Join(ctx, r)
}

// Leader finds the node that leads a partition.
func (t *transactions) Leader(p txn.Partition) (replication.NodeID, error) {
	id, err := t.find(p)
	if err != nil {
		return replication.NoNode, err
	}
	if local, ok := t.agent.partitions.Get(id); ok && local.Leading() {
		return t.agent.node.NodeID, nil
	}
	if l, _, ok := t.agent.table.Leader(id); ok {
		return l.Node, nil
	}
	return replication.NoNode, nil
}

// Sync waits until this node knows what the metadata says now.
func (t *transactions) Sync(ctx context.Context) error { return t.agent.controller.Sync(ctx) }

// find names a partition for ever.
func (t *transactions) find(p txn.Partition) (replication.PartitionID, error) {
	topic := t.agent.controller.Image().Topics[p.Topic]
	if topic == nil || p.Index < 0 || int(p.Index) >= len(topic.Partitions) {
		return replication.PartitionID{}, replication.ErrUnknownPartition
	}
	return replication.PartitionID{Topic: topic.ID, Partition: p.Index}, nil
}

// WriteMarkers has a node write markers.
func (t *transactions) WriteMarkers(ctx context.Context, to replication.NodeID, markers []txn.Marker) ([]error, error) {
	each, all, err := t.askTxn(ctx, to, txnMarkCall, markers)
	return each, errors.Join(all, err)
}

// mark appends markers to partitions that this node leads, and waits until they are committed.
func (t *transactions) mark(ctx context.Context, markers []txn.Marker) []error {
	each := make([]error, len(markers))
	pending := make([]*partition.Pending, len(markers))
	for i, m := range markers {
		if m.ProducerID < 0 || m.Epoch < 0 {
			each[i] = fmt.Errorf("%w: a marker of producer %d, epoch %d", replication.ErrInvalidRequest, m.ProducerID, m.Epoch)
			continue
		}
		id, err := t.find(m.Partition)
		if err != nil {
			each[i] = err
			continue
		}
		p, ok := t.agent.partitions.Get(id)
		if !ok {
			each[i] = replication.ErrNotLeader
			continue
		}
		pending[i] = p.Append(partition.Marker{
			ProducerID: int64(m.ProducerID), ProducerEpoch: int16(m.Epoch), CoordinatorEpoch: int32(m.CoordinatorEpoch),
			Commit: m.Commit, Bumped: m.Version >= txn.V2,
		}.Batch(t.agent.config.Now()))
	}
	for i, pd := range pending {
		if pd == nil {
			continue
		}
		if _, each[i] = pd.Wait(ctx); each[i] == nil && markers[i].Partition.Topic == broker.OffsetsTopic {
			each[i] = t.ended(ctx, &markers[i])
		}
	}
	return each
}

// ended tells the group coordinator of a transaction's end, and waits until its offsets are visible. A coordinator that is
// loading, or is elsewhere by now, reads it from the partition.
func (t *transactions) ended(ctx context.Context, m *txn.Marker) error {
	err := t.agent.groups.TxnEnded(ctx, m.Partition.Index, int64(m.ProducerID), int16(m.Epoch), m.Commit)
	if errors.Is(err, broker.ErrCoordinatorLoading) || errors.Is(err, broker.ErrNotCoordinator) {
		return nil
	}
	return err
}
