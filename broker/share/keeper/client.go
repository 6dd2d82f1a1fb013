package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// The names of the calls between nodes.
const (
	CallName     = "share.keep" // a Request, to the keeper of its key
	ListCallName = "share.list" // a group's id, to all keepers
)

// Peers reaches other nodes, and this one. The answer is what Service.Handle there has returned.
type Peers func(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error)

// Client asks the keeper of a key, wherever it is. It is a share.Store.
type Client struct {
	Cluster coordinator.Cluster
	Peers   Peers

	absent atomic.Pointer[time.Time] // when it was last found that there is no topic
}

// absentFor is how long it holds that there is no topic: a request may name thousands of groups, and each question is an entry of the metadata.
const absentFor = 100 * time.Millisecond

// How a client asks again.
const (
	firstPause = 10 * time.Millisecond
	longPause  = 500 * time.Millisecond
)

// Ask asks the keeper until the answer is known. All requests may be executed twice: a Write is known by its
// version, and for the others twice is once. The errors are those of the machine and broker.ErrCoordinatorNotAvailable, with the last
// reason, when ctx ends.
func (c *Client) Ask(ctx context.Context, q *Request) (d *share.Durable, err error) {
	final := again(ctx, func() bool {
		d, err = c.once(ctx, q)
		return err == nil || errors.Is(err, share.ErrFencedStateEpoch) || errors.Is(err, replication.ErrFencedLeaderEpoch) ||
			errors.Is(err, replication.ErrInvalidRequest)
	})
	if !final {
		return nil, unavailable(err)
	}
	return d, err
}

// again calls ask until it says that its answer is final, with pauses that grow; false if ctx ends before.
func again(ctx context.Context, ask func() bool) bool {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for wait := firstPause; ; wait = min(2*wait, longPause) {
		select {
		case <-pause.C:
		case <-ctx.Done():
			return false
		}
		if ask() {
			return true
		}
		pause.Reset(wait)
	}
}

// unavailable is why nobody could be asked; a nil last reason: there was no time.
func unavailable(last error) error {
	if last == nil {
		last = errNoAnswer
	}
	return fmt.Errorf("%w: %v", broker.ErrCoordinatorNotAvailable, last) // not wrapped: its code would come first
}

func (c *Client) once(ctx context.Context, q *Request) (*share.Durable, error) {
	if q.stores() {
		if err := c.Cluster.EnsureTopic(ctx); err != nil {
			return nil, err
		}
	}
	t, ok, err := c.topic(ctx)
	switch {
	case err != nil:
		return nil, err
	case !ok && q.stores():
		return nil, broker.ErrCoordinatorNotAvailable
	case !ok:
		return nil, nil // nobody ever had a state
	}
	node, ok := c.Cluster.Coordinator(coordinator.PartitionOf(q.Key.String(), t.Partitions), "")
	if !ok {
		return nil, broker.ErrCoordinatorNotAvailable
	}
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	if body, err = c.Peers(ctx, node.ID, CallName, body); err != nil {
		return nil, err
	}
	a, err := decodeAnswer(body)
	return a.State, err
}

// topic is the one with the states. That there is none, so that nobody ever had a state, only a node can say that has heard of all that was
// so when it was asked: one that was cut off from the metadata may not know of it.
func (c *Client) topic(ctx context.Context) (t coordinator.Topic, there bool, err error) {
	if t, there = c.Cluster.Topic(broker.ShareStateTopic); there || c.isAbsent() {
		return t, there, nil
	}
	if err := c.Cluster.Sync(ctx); err != nil {
		return t, false, err
	}
	if t, there = c.Cluster.Topic(broker.ShareStateTopic); !there {
		now := time.Now()
		c.absent.Store(&now)
	}
	return t, there, nil
}

// isAbsent tells that there was no topic a moment ago.
func (c *Client) isAbsent() bool {
	since := c.absent.Load()
	return since != nil && time.Since(*since) < absentFor
}

// partitionOf is the partition of the topic that has the state of a request's key; 0 if the topic is not known.
func (c *Client) partitionOf(q *Request) int32 {
	t, ok := c.Cluster.Topic(broker.ShareStateTopic)
	if !ok {
		return 0
	}
	return coordinator.PartitionOf(q.Key.String(), t.Partitions)
}

// Read tells a new leader the state, and fences those before it.
func (c *Client) Read(ctx context.Context, k share.Key, leader batch.Epoch) (*share.Durable, error) {
	return c.Ask(ctx, &Request{Op: Read, Key: k, LeaderEpoch: leader})
}

// Write replaces the state.
func (c *Client) Write(ctx context.Context, k share.Key, leader batch.Epoch, d *share.Durable) error {
	_, err := c.Ask(ctx, &Request{Op: Write, Key: k, LeaderEpoch: leader, State: d})
	return err
}

// List asks for the share-partitions of a group, until it has heard of all partitions of the topic. broker.ErrCoordinatorNotAvailable,
// with the last reason, when ctx ends.
func (c *Client) List(ctx context.Context, group string) (out []Listed, err error) {
	if !again(ctx, func() bool {
		t, ok, lost := c.topic(ctx)
		if err = lost; ok {
			out, err = c.listOnce(ctx, group, t.Partitions)
		}
		return err == nil
	}) {
		return nil, unavailable(err)
	}
	return out, nil
}

// listOnce asks each node that leads a partition of the topic. A partition that moves meanwhile may be told of twice, or not at all.
func (c *Client) listOnce(ctx context.Context, group string, partitions int32) ([]Listed, error) {
	nodes := map[replication.NodeID]bool{}
	for p := range partitions {
		node, ok := c.Cluster.Coordinator(p, "")
		if !ok {
			return nil, fmt.Errorf("%w: nobody leads partition %d", errNoAnswer, p)
		}
		nodes[node.ID] = true
	}
	told, found := map[int32]bool{}, map[share.Key]Listed{}
	for node := range nodes {
		body, err := c.Peers(ctx, node, ListCallName, []byte(group))
		var a answer
		if err == nil {
			a, err = decodeAnswer(body)
		}
		if err != nil {
			return nil, fmt.Errorf("node %d: %w", node, err)
		}
		for _, p := range a.Partitions {
			told[p] = true
		}
		for _, l := range a.Listed {
			found[l.Key] = l
		}
	}
	if len(told) < int(partitions) {
		return nil, fmt.Errorf("%w: %d of %d partitions are known", errNoAnswer, len(told), partitions)
	}
	return slices.Collect(maps.Values(found)), nil
}

// answer is how the answer to a call travels.
type answer struct {
	State      *share.Durable `json:",omitempty"`
	Listed     []Listed       `json:",omitempty"`
	Partitions []int32        `json:",omitempty"` // of the topic, in which Listed is all that there is of the group
	Error      string         `json:",omitempty"`
	Text       string         `json:",omitempty"`
}

// wireErrors are the errors that keep their kind on the way to another node. One of several kinds is of the first.
var wireErrors = []struct {
	name string
	kind error
}{
	{"fenced_state_epoch", share.ErrFencedStateEpoch},
	{"fenced_leader_epoch", replication.ErrFencedLeaderEpoch},
	{"invalid", replication.ErrInvalidRequest},
}

var (
	errKeeper   = errors.New("the keeper failed")
	errNoAnswer = errors.New("no keeper has answered")
)

// Handle answers the calls.
func (s *Service) Handle(ctx context.Context, name string, body []byte) ([]byte, error) {
	var a answer
	var err error
	if name == ListCallName {
		a.Listed, a.Partitions = s.List(string(body))
	} else {
		var q Request
		if err := json.Unmarshal(body, &q); err != nil {
			return nil, fmt.Errorf("%w: %w", replication.ErrInvalidRequest, err)
		}
		a.State, err = s.Answer(ctx, &q)
	}
	if err != nil {
		a = answer{Error: errorName(err), Text: err.Error()}
	}
	return json.Marshal(a)
}

func errorName(err error) string {
	for _, e := range wireErrors {
		if errors.Is(err, e.kind) {
			return e.name
		}
	}
	return "other"
}

func decodeAnswer(body []byte) (a answer, err error) {
	if err := json.Unmarshal(body, &a); err != nil {
		return a, fmt.Errorf("%w: %w", errKeeper, err)
	}
	if a.Error == "" {
		return a, nil
	}
	for _, e := range wireErrors {
		if a.Error == e.name {
			return a, fmt.Errorf("%w: %s", e.kind, a.Text)
		}
	}
	return a, fmt.Errorf("%w: %s", errKeeper, a.Text)
}
