package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/replication"
)

// PeerCall sends a request to another node of the cluster and returns its answer.
type PeerCall func(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error)

// PeerHandler answers such a request.
type PeerHandler func(ctx context.Context, from replication.NodeID, body []byte) ([]byte, error)

// The calls between nodes. Bodies are JSON: they are rare and small, and their fields can grow.
const (
	transferCall       = "partition.transfer"
	partitionQuorum    = "partition.status"
	metadataQuorumCall = "metadata.status"
)

// CallNames lists the names of Handlers.
func CallNames() []string { return []string{transferCall, partitionQuorum, metadataQuorumCall} }

// Handlers are what the node's transport must let other nodes call, by name.
func (s *Service) Handlers() map[string]PeerHandler {
	return map[string]PeerHandler{
		transferCall: answering(func(ctx context.Context, q transferQuery) (none struct{}, err error) {
			return none, s.groups.Transfer(ctx, q.ID, q.To)
		}),
		partitionQuorum: answering(func(_ context.Context, id replication.PartitionID) (Quorum, error) {
			return s.groups.Quorum(id)
		}),
		metadataQuorumCall: answering(func(context.Context, struct{}) (Quorum, error) {
			return s.groups.MetadataQuorum()
		}),
	}
}

type transferQuery struct {
	ID replication.PartitionID
	To replication.NodeID
}

// peerAnswer is how an answer travels.
type peerAnswer[A any] struct {
	Error  string `json:",omitempty"` // the kind, from peerErrors; "other" for one that has none
	Text   string `json:",omitempty"`
	Answer A
}

// peerErrors are the errors that keep their kind on the way to another node. One of several kinds is of the first; so they are in the order
// in which Kafka's error codes are looked for.
var peerErrors = []struct {
	name string
	kind error
}{
	{"not_leader", replication.ErrNotLeader},
	{"unknown_outcome", replication.ErrUnknownOutcome},
	{"unknown_partition", replication.ErrUnknownPartition},
	{"invalid_request", replication.ErrInvalidRequest},
	{"not_enough_replicas", replication.ErrNotEnoughReplicas},
	{"storage", replication.ErrStorage},
	{"overloaded", replication.ErrOverloaded},
	{"leader_not_available", ErrLeaderNotAvailable},
	{"preferred_unavailable", ErrPreferredLeaderNotAvailable},
	{"deadline", context.DeadlineExceeded},
	{"canceled", context.Canceled},
	{"unsupported_in_a_group", errNoGroups},
}

func errorName(err error) string {
	for _, e := range peerErrors {
		if errors.Is(err, e.kind) {
			return e.name
		}
	}
	return "other"
}

func errorNamed(name string) error {
	for _, e := range peerErrors {
		if name == e.name {
			return e.kind
		}
	}
	return errRemote
}

// errRemote is an error of another node that has no kind of its own.
var errRemote = errors.New("another node failed")

// answering makes a PeerHandler of a typed function.
func answering[Q, A any](fn func(context.Context, Q) (A, error)) PeerHandler {
	return func(ctx context.Context, _ replication.NodeID, body []byte) ([]byte, error) {
		var q Q
		if err := json.Unmarshal(body, &q); err != nil {
			return nil, fmt.Errorf("%w: %w", replication.ErrInvalidRequest, err)
		}
		var out peerAnswer[A]
		var err error
		if out.Answer, err = fn(ctx, q); err != nil {
			out.Error, out.Text = errorName(err), err.Error()
		}
		return json.Marshal(out)
	}
}

// callPeer asks another node.
func callPeer[A any](ctx context.Context, call PeerCall, to replication.NodeID, name string, query any) (A, error) {
	var out peerAnswer[A]
	if call == nil {
		return out.Answer, fmt.Errorf("%w: node %d can't be reached", ErrLeaderNotAvailable, to)
	}
	body, err := json.Marshal(query)
	if err != nil {
		return out.Answer, err
	}
	body, err = call(ctx, to, name, body)
	if ctx.Err() != nil {
		return out.Answer, ctx.Err()
	}
	if err != nil {
		return out.Answer, fmt.Errorf("%w: node %d: %w", ErrLeaderNotAvailable, to, err)
	}
	if err := json.Unmarshal(body, &out); err != nil {
		return out.Answer, fmt.Errorf("%w: node %d: %w", errRemote, to, err)
	}
	if out.Error == "" {
		return out.Answer, nil
	}
	return out.Answer, fmt.Errorf("%w (node %d: %s)", errorNamed(out.Error), to, out.Text)
}
