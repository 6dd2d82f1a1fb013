package controller

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
	"github.com/quorlog/quorlog/replication/transport"
)

// ProposeCall is the name of the call by which a node hands a command to the controller. HandlePropose answers it.
const ProposeCall = "controller.propose"

// Caller reaches other nodes. An error that is transport.ErrUnreachable is definite: nothing was delivered. After any other one
// the command may have been applied.
type Caller interface {
	Call(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error)
}

const (
	// leaderPatience bounds how long a change waits for a controller, if its context has no earlier end. An election takes a
	// second; whoever waits longer is better told.
	leaderPatience = 30 * time.Second
	// leaderPause is how long it waits before it looks for the controller again.
	leaderPause = 20 * time.Millisecond
	// DefaultSpreadPatience bounds how long an answer waits for all live nodes to have applied a change.
	DefaultSpreadPatience = time.Second
	// mostRepeats bounds how often a change that may be made twice is proposed again when its outcome is unknown.
	mostRepeats = 10
	// spreadPause is how often that is looked at.
	spreadPause = 2 * time.Millisecond
)

// router brings commands to the metadata group's leader, wherever that is.
type router struct {
	group     Proposer
	machine   *Machine
	forward   Caller // nil without other nodes
	around    around
	appliedOn func(replication.NodeID) (uint64, bool)
	members   Members       // nil: nobody is known not to be one
	patience  time.Duration // for a change to be applied everywhere
}

// propose replicates a command, wherever the controller is. It returns once this node and, if anything was changed, every live
// node has applied it, or after the patience for that.
func (rt *router) propose(ctx context.Context, cmd *metapb.Command) (*Result, error) {
	data, err := encodeCommand(cmd)
	if err != nil {
		return nil, failf(replication.ErrInvalidRequest, "%v", err)
	}
	if len(data) > maxCommand {
		return nil, failf(replication.ErrInvalidRequest, "a change of %d bytes is larger than %d", len(data), maxCommand)
	}
	r, err := rt.route(ctx, data)
	if err != nil {
		return nil, err
	}
	rt.awaitSpread(ctx, r)
	return r, r.Err
}

// route brings a command to the controller. It looks for one again for as long as it is certain that nothing was applied.
func (rt *router) route(ctx context.Context, command []byte) (*Result, error) {
	limit, cancel := context.WithTimeout(ctx, leaderPatience)
	defer cancel()
	for {
		r, err := rt.routeOnce(limit, command)
		if !errors.Is(err, ErrNotController) || rt.forward == nil {
			return r, err
		}
		select {
		case <-limit.Done():
			return nil, err
		case <-time.After(leaderPause):
		}
	}
}

func (rt *router) routeOnce(ctx context.Context, command []byte) (*Result, error) {
	leader := rt.group.Leader()
	if rt.forward == nil || rt.group.IsLeader() {
		return rt.proposeHere(ctx, command)
	}
	if leader == replication.NoNode || leader == rt.machine.local.node {
		return nil, failf(ErrNotController, "no controller is known")
	}
	body, err := proto.Marshal(&metapb.ProposeRequest{Command: command})
	if err != nil {
		return nil, failf(replication.ErrInvalidRequest, "%v", err)
	}
	answer, err := rt.forward.Call(ctx, leader, ProposeCall, body)
	switch {
	case errors.Is(err, transport.ErrUnreachable):
		return nil, failf(ErrNotController, "node %d, the controller: %v", leader, err)
	case err != nil:
		return nil, failf(replication.ErrUnknownOutcome, "node %d, the controller: %v", leader, err)
	}
	return decodeReply(answer)
}

// proposeHere replicates a command through this node, which leads the metadata group.
func (rt *router) proposeHere(ctx context.Context, command []byte) (*Result, error) {
	// What can't be read would end every node that applies it, and what this node knows of the others is newest.
	cmd, err := decodeCommand(command)
	if err != nil {
		return nil, err
	}
	if err := rt.vet(cmd); err != nil {
		return nil, err
	}
	answer, err := rt.group.Propose(ctx, command)
	if err != nil {
		return nil, proposalError(err)
	}
	switch r := answer.(type) {
	case *Result:
		return r, nil
	case error:
		return nil, proposalError(r)
	}
	return nil, failf(replication.ErrUnknownOutcome, "the metadata group answered with a %T", answer)
}

// vet refuses what contradicts who is alive. That is no part of the metadata, so it can't be asked when a command is applied.
func (rt *router) vet(cmd *metapb.Command) error {
	switch k := cmd.GetKind().(type) {
	case *metapb.Command_RegisterNode:
		id := replication.NodeID(k.RegisterNode.GetNode().GetId())
		var known DirectoryID
		copy(known[:], k.RegisterNode.GetKnownDirectory())
		if k.RegisterNode.GetRenew() && rt.around.oldAlive(id, known) {
			return failf(ErrDuplicateNode, "node %d", id)
		}
	case *metapb.Command_UnregisterNode:
		if id := replication.NodeID(k.UnregisterNode.GetNode()); rt.around.isLive(id) {
			return failf(ErrNodeInUse, "node %d is alive; stop it first", id)
		}
	}
	return nil
}

// HandlePropose answers a ProposeCall: body is a command that another node wants to be replicated. A nil Controller, one that is
// not there yet or any more, answers that it is not the controller.
func (c *Controller) HandlePropose(ctx context.Context, _ replication.NodeID, body []byte) ([]byte, error) {
	request := &metapb.ProposeRequest{}
	if err := proto.Unmarshal(body, request); err != nil || len(request.GetCommand()) > maxCommand {
		return encodeReply(nil, failf(replication.ErrInvalidRequest, "a command of %d bytes that can't be read or is too large", len(request.GetCommand())))
	}
	if c == nil || !c.router.group.IsLeader() {
		return encodeReply(nil, ErrNotController)
	}
	return encodeReply(c.router.proposeHere(ctx, request.GetCommand()))
}

// awaitSpread waits until a command is applied here, so that a caller who looks sees what it did, and what it changed
// everywhere, so that the caller may ask any node. A node that does not follow costs its patience and nothing else.
func (rt *router) awaitSpread(ctx context.Context, r *Result) {
	if rt.forward == nil || rt.hasSpread(r) {
		return
	}
	limit, cancel := context.WithTimeout(ctx, rt.patience)
	defer cancel()
	tick := time.NewTicker(spreadPause)
	defer tick.Stop()
	for !rt.hasSpread(r) {
		select {
		case <-limit.Done():
			return
		case <-tick.C:
		}
	}
}

func (rt *router) hasSpread(r *Result) bool {
	if rt.machine.Applied() < r.Index {
		return false
	}
	if !r.Changed || rt.around.live == nil || rt.appliedOn == nil {
		return true
	}
	for _, id := range rt.around.live() {
		if id == rt.machine.local.node || !rt.isMember(id) {
			continue
		}
		if index, ok := rt.appliedOn(id); !ok || index < r.Index {
			return false
		}
	}
	return true
}

// isMember tells whether a node gets the metadata by now. One that is only about to join need not be waited for.
func (rt *router) isMember(id replication.NodeID) bool {
	if rt.members == nil {
		return true
	}
	m := rt.members.Members()
	on := func(r replication.ReplicaID) bool { return r.Node == id }
	return slices.ContainsFunc(m.Voters, on) || slices.ContainsFunc(m.Learners, on)
}
