package grpcapi

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/fetch"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/replication"
)

// What clients want of another node never takes all calls that it answers, nor the whole connection.
func TestWayToANode(t *testing.T) {
	for name, c := range map[string]struct{ size, want int64 }{"small": {1, 32}, "large": {8 << 20, 1}} {
		synctest.Test(t, func(t *testing.T) {
			var under, answered atomic.Int64
			let := make(chan struct{})
			s := &core{o: Options{Forward: func(context.Context, replication.NodeID, string, []byte) ([]byte, error) {
				under.Add(1)
				<-let
				return nil, nil
			}}}
			ctx, cancel := context.WithCancel(t.Context())
			for range 100 {
				go func() {
					if _, err := s.callNode(ctx, 2, forwardCall, nil, int(c.size)); err == nil || errors.Is(err, replication.ErrOverloaded) {
						answered.Add(1)
					}
				}()
			}
			synctest.Wait()
			if under.Load() != c.want {
				t.Errorf("%s: %d calls are under way", name, under.Load())
			}
			go func() { _, _ = s.callNode(ctx, 3, forwardCall, nil, 1) }() // another node has a way of its own
			synctest.Wait()
			if under.Load() != c.want+1 {
				t.Errorf("%s: one node is in the way of another", name)
			}
			cancel()
			close(let)
			synctest.Wait()
			if answered.Load() != 100 {
				t.Errorf("%s: %d of 100 came back", name, answered.Load())
			}
		})
	}
}

// What follows a part that has gone elsewhere waits for it, also if this node leads by then.
func TestAway(t *testing.T) {
	part := func(partition int32) *part {
		return &part{request: &quorlogv1.ProduceRequest{Topic: "t", Partition: &partition}}
	}
	a := &away{parts: map[fetch.Key]int{}}
	if a.sent(part(0), false) || !a.sent(part(0), true) || !a.sent(part(0), false) || a.sent(part(1), false) {
		t.Error("wrong while one is away")
	}
	a.back(part(0))
	if !a.sent(part(0), false) {
		t.Error("a third overtakes the second")
	}
	a.back(part(0))
	a.back(part(0))
	if a.sent(part(0), false) || len(a.parts) != 0 {
		t.Error("wrong when all are back")
	}
	var none *away
	if none.sent(part(0), false) || !none.sent(part(0), true) {
		t.Error("wrong without a stream")
	}
	none.back(part(0))
}

// A call that is handed on is made for the same caller, under the caller's rights, and only once.
func TestHandOn(t *testing.T) {
	var there *Server
	forward := func(ctx context.Context, _ replication.NodeID, name string, body []byte) ([]byte, error) {
		return there.HandleCall(ctx, name, body)
	}
	here, _ := open(t, Options{Node: 1, Forward: forward}, nil)
	there, _ = open(t, Options{Node: 2, Forward: forward, Authorizer: asker(func(c broker.Caller) bool { return c.Principal == "User:alice" && c.Listener == "L" })}, nil)
	ask := func(who broker.Principal) error {
		ctx := withCaller(t.Context(), broker.Caller{Principal: who, Listener: "L"})
		return handOn(ctx, here.core, 2, groupCall+commitOffsets, &quorlogv1.CommitOffsetsRequest{Group: "g"}, &quorlogv1.CommitOffsetsResponse{}, 0)
	}
	if err := ask("User:bob"); status.Code(err) != codes.PermissionDenied {
		t.Error(err)
	}
	if err := ask("User:alice"); status.Code(err) == codes.PermissionDenied || err == nil { // there are no offsets
		t.Error(err)
	}
	if err := ask(""); err == nil {
		t.Error("nobody may call")
	}
	for _, name := range append(CallNames(), "grpc.nothing") {
		for _, body := range []string{"", "\xff", "\x05", "\x02{}\x02\xff\xff"} {
			if name == offsetCall && body == "" {
				continue // the empty request is one, and needs services
			}
			if answer, err := there.HandleCall(t.Context(), name, []byte(body)); err == nil && name != forwardCall {
				t.Errorf("%s of %q: %q", name, body, answer)
			}
		}
	}
}

// asker allows by who asks.
type asker func(broker.Caller) bool

func (a asker) Allowed(c broker.Caller, _ broker.Operation, _ broker.Resource) bool { return a(c) }

func (a asker) AllowedSome(c broker.Caller, _ broker.Operation, _ broker.ResourceType) bool {
	return a(c)
}
