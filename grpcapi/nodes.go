package grpcapi

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/replication"

	"golang.org/x/sync/semaphore"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Calls between nodes go over the connection that carries votes and heartbeats, and a node answers so many of another at a time:
// clients must not be able to fill either.
const (
	// maxOnTheWay bounds what is on its way to another node and back, in bytes; a single call may be larger.
	maxOnTheWay = 1 << 20
	// leastOnTheWay is what a call counts for, however small it is: so many calls are under way at most, an eighth of what a node
	// answers.
	leastOnTheWay = maxOnTheWay / 32
)

// nodes bounds what is on its way to each of the other nodes.
type nodes struct {
	mu   sync.Mutex
	ways map[replication.NodeID]*semaphore.Weighted
}

func (n *nodes) way(to replication.NodeID) *semaphore.Weighted {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ways == nil {
		n.ways = map[replication.NodeID]*semaphore.Weighted{}
	}
	if n.ways[to] == nil {
		n.ways[to] = semaphore.NewWeighted(maxOnTheWay)
	}
	return n.ways[to]
}

// callNode makes a call to another node. size is that of the body or of the answer, in bytes, whichever may be larger. The error is
// replication.ErrNotLeader or ErrOverloaded if the call was certainly not executed, else replication.ErrUnknownOutcome.
func (s *core) callNode(ctx context.Context, to replication.NodeID, name string, body []byte, size int) ([]byte, error) {
	if s.o.Forward == nil {
		return nil, replication.ErrNotLeader
	}
	n := int64(min(max(size, leastOnTheWay), maxOnTheWay))
	way := s.nodes.way(to)
	if err := way.Acquire(ctx, n); err != nil {
		return nil, fmt.Errorf("%w: too much is on its way to node %d: %w", replication.ErrOverloaded, to, err)
	}
	defer way.Release(n)
	return s.o.Forward(ctx, to, name, body)
}

// The calls that nodes make to each other, beside those of produce.go and consume.go.
const (
	consumeCall = "grpc.consume"
	groupCall   = "grpc.group." // and the method
)

// CallNames are the names of the calls that nodes make to each other; see HandleCall.
func CallNames() []string {
	names := []string{forwardCall, offsetCall, consumeCall}
	for _, method := range []string{listGroups, describeGroup, deleteGroup, commitOffsets, fetchOffsets} {
		names = append(names, groupCall+method)
	}
	return names
}

// HandleCall answers a call that another node makes for one of its clients. Who that is, the other node says, which is believed: it
// is a member of the cluster. What came by such a call is never handed on again.
func (s *Server) HandleCall(ctx context.Context, name string, body []byte) ([]byte, error) {
	m := &management{core: s.core}
	switch name {
	case forwardCall:
		return s.records.handleForward(ctx, body)
	case offsetCall:
		return s.records.handleOffset(body)
	case consumeCall:
		return handle(ctx, s.core, body, s.records.Consume)
	case groupCall + listGroups:
		return handle(ctx, s.core, body, m.ListGroups)
	case groupCall + describeGroup:
		return handle(ctx, s.core, body, m.DescribeGroup)
	case groupCall + deleteGroup:
		return handle(ctx, s.core, body, m.DeleteGroup)
	case groupCall + commitOffsets:
		return handle(ctx, s.core, body, m.CommitOffsets)
	case groupCall + fetchOffsets:
		return handle(ctx, s.core, body, m.FetchOffsets)
	}
	return nil, fmt.Errorf("%w: call %q", replication.ErrInvalidRequest, name)
}

// handedKey marks calls that come from another node.
type handedKey struct{}

func handedOn(ctx context.Context) bool { return ctx.Value(handedKey{}) != nil }

// handOn has another node make a call for the same caller, under the caller's rights. The body holds the caller and the request,
// the answer a google.rpc.Status, whose only detail is the response if all went well.
func handOn[Q, R proto.Message](ctx context.Context, s *core, to replication.NodeID, name string, request Q, response R, size int) error {
	caller, err := json.Marshal(callerOf(ctx))
	if err != nil {
		return invalid("%v", err)
	}
	message, err := proto.Marshal(request)
	if err != nil {
		return invalid("%v", err)
	}
	body := protowire.AppendBytes(protowire.AppendBytes(nil, caller), message)
	raw, err := s.callNode(ctx, to, name, body, max(size, len(body)))
	if err != nil {
		return err
	}
	told := new(spb.Status)
	if err := proto.Unmarshal(raw, told); err != nil {
		return fmt.Errorf("%w: %w", replication.ErrUnknownOutcome, err)
	}
	if err := status.ErrorProto(told); err != nil {
		return err
	}
	if len(told.GetDetails()) != 1 || told.GetDetails()[0].UnmarshalTo(response) != nil {
		return fmt.Errorf("%w: node %d answered something else", replication.ErrUnknownOutcome, to)
	}
	return nil
}

// handle is the other side of handOn.
func handle[Q any, P interface {
	*Q
	proto.Message
}, R proto.Message](ctx context.Context, s *core, body []byte, method func(context.Context, P) (R, error)) ([]byte, error) {
	caller, n := protowire.ConsumeBytes(body)
	if n < 0 {
		return nil, invalid("%v", protowire.ParseError(n))
	}
	message, more := protowire.ConsumeBytes(body[n:])
	if more < 0 {
		return nil, invalid("%v", protowire.ParseError(more))
	}
	var who broker.Caller
	if err := json.Unmarshal(caller, &who); err != nil || who.Principal == "" {
		return nil, invalid("nobody is said to call")
	}
	request := P(new(Q))
	if err := proto.Unmarshal(message, request); err != nil {
		return nil, invalid("%v", err)
	}
	response, err := method(context.WithValue(withCaller(ctx, who), handedKey{}, true), request)
	if err != nil {
		st, _ := status.FromError(s.failure(err))
		return proto.Marshal(st.Proto())
	}
	detail, err := anypb.New(response)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&spb.Status{Details: []*anypb.Any{detail}})
}
