package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// FindCoordinator, key 10, versions 0 to 6.
//
//	v1         key types: 0 a group, 1 a transactional id, 2 a share group (refused)
//	v3         flexible
//	v4         many keys at once (KIP-699)
//	v5         as v4; tells clients that the errors of KIP-890 may come
//	v6         share groups (KIP-932)
//
// The first group that is looked for creates __consumer_offsets, the first transactional id __transaction_state. The address is that of the listener on which the
// request came.
var findCoordinatorRow = Row{Key: kafkaproto.KeyFindCoordinator, Min: 0, Max: 6, AdvertisedMin: 0, Handler: handler(handleFindCoordinator)}

const (
	versionFindMany = 4

	coordinatorOfGroup       = 0
	coordinatorOfTransaction = 1
)

func handleFindCoordinator(ctx context.Context, a *API, r *Request, q *kmsg.FindCoordinatorRequest) (kmsg.Response, error) {
	many := r.Header.Version >= versionFindMany
	keys := q.CoordinatorKeys
	if !many {
		keys = []string{q.CoordinatorKey}
	}
	found := coordinators(ctx, a, r, keys, q.CoordinatorType)

	resp := kmsg.NewPtrFindCoordinatorResponse()
	if !many {
		c := &found[0]
		resp.ErrorCode, resp.ErrorMessage = code(c.Err), message(c.Err)
		resp.NodeID, resp.Host, resp.Port = int32(c.Node.ID), c.Node.Host, c.Node.Port
		return resp, nil
	}
	for i := range found {
		c := &found[i]
		rc := kmsg.NewFindCoordinatorResponseCoordinator()
		rc.Key, rc.ErrorCode, rc.ErrorMessage = c.Key, code(c.Err), message(c.Err)
		rc.NodeID, rc.Host, rc.Port = int32(c.Node.ID), c.Node.Host, c.Node.Port
		resp.Coordinators = append(resp.Coordinators, rc)
	}
	return resp, nil
}

func coordinators(ctx context.Context, a *API, r *Request, keys []string, kind int8) []coordinator.Found {
	var err error
	switch kind {
	case coordinatorOfGroup:
		return a.Group.FindCoordinators(ctx, keys, r.Caller().Listener)
	case coordinatorOfTransaction:
		return a.Txn.FindCoordinators(ctx, keys, r.Caller().Listener)
	default:
		err = replication.ErrInvalidRequest
	}
	out := make([]coordinator.Found, len(keys))
	for i, key := range keys {
		out[i] = coordinator.Found{Key: key, Node: replication.Node{ID: replication.NoNode, Port: -1}, Err: err}
	}
	return out
}
