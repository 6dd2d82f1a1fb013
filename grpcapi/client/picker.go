package client

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// policy names the balancer. It connects to all nodes and sends each call where its wish says.
const policy = "quorlog"

func init() {
	balancer.Register(base.NewBalancerBuilder(policy, pickerBuilder{}, base.Config{}))
}

// wish says where a call would best go. A node that is not connected is passed over: any node takes any call, and hands it on.
type wish struct {
	addrs []string // the best first
	// Of a call that is balanced, ranks are those of addrs, the lower the better; equals are chosen by their load, which counts the
	// reads under way at a node. Other calls have none.
	ranks []int
	load  func(addr string) *atomic.Int64
	full  atomic.Bool            // there was no room for it anywhere
	went  atomic.Pointer[string] // where it went
}

type wishKey struct{}

func (w *wish) on(ctx context.Context) context.Context {
	return context.WithValue(ctx, wishKey{}, w)
}

// at is where the call went; empty before it went anywhere.
func (w *wish) at() string {
	if addr := w.went.Load(); addr != nil {
		return *addr
	}
	return ""
}

type partitionKey struct {
	topic     string
	partition int32
}

// For has the calls that are made under the context go to a node for this partition: those that produce to its leader, those that
// consume to a replica. Of the generated client's calls, the streams need it; Produce and Consume are looked at.
func For(ctx context.Context, topic string, partition int32) context.Context {
	return context.WithValue(ctx, partitionKey{}, partitionKey{topic, partition})
}

const (
	produceMethod       = "/quorlog.v1.Records/Produce"
	produceStreamMethod = "/quorlog.v1.Records/ProduceStream"
	consumeMethod       = "/quorlog.v1.Records/Consume"
	consumeStreamMethod = "/quorlog.v1.Records/ConsumeStream"
)

// wishing gives a call its wish, if it has none and there is one.
func (d *directory) wishing(ctx context.Context, method string, req any) context.Context {
	if ctx.Value(wishKey{}) != nil {
		return ctx
	}
	key, ok := ctx.Value(partitionKey{}).(partitionKey)
	switch req := req.(type) {
	case *quorlogv1.ProduceRequest:
		if !ok && req.Partition != nil {
			key, ok = partitionKey{req.GetTopic(), req.GetPartition()}, true
		}
	case *quorlogv1.ConsumeRequest:
		if !ok {
			key, ok = partitionKey{req.GetTopic(), req.GetPartition()}, true
		}
	}
	if !ok {
		return ctx
	}
	d.watch(key.topic, false)
	switch method {
	case produceMethod, produceStreamMethod:
		return d.toLeader(key).on(ctx)
	case consumeMethod, consumeStreamMethod:
		return d.toReplica(key, "").on(ctx)
	}
	return ctx
}

func (d *directory) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(d.wishing(ctx, method, req), method, req, reply, cc, opts...)
}

func (d *directory) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if key, ok := ctx.Value(partitionKey{}).(partitionKey); ok {
		if _, err := d.topic(ctx, key.topic, false); err != nil {
			return nil, err
		}
	}
	return open(d.wishing(ctx, method, nil), desc, cc, method, opts...)
}

type pickerBuilder struct{}

// Build implements base.PickerBuilder.
func (pickerBuilder) Build(info base.PickerBuildInfo) balancer.Picker {
	if len(info.ReadySCs) == 0 {
		return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	p := &picker{conns: map[string]balancer.SubConn{}}
	for conn, i := range info.ReadySCs {
		p.conns[i.Address.Addr] = conn
		p.addrs = append(p.addrs, i.Address.Addr)
	}
	slices.Sort(p.addrs)
	return p
}

// picker sends calls to the nodes that are connected.
type picker struct {
	conns map[string]balancer.SubConn
	addrs []string
}

// Pick implements balancer.Picker.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	w, _ := info.Ctx.Value(wishKey{}).(*wish)
	if w == nil {
		return balancer.PickResult{SubConn: p.conns[p.any()]}, nil
	}
	if w.load != nil {
		return p.balance(w)
	}
	addr := p.any()
	if i := slices.IndexFunc(w.addrs, func(addr string) bool { return p.conns[addr] != nil }); i >= 0 {
		addr = w.addrs[i]
	}
	w.went.Store(&addr)
	return balancer.PickResult{SubConn: p.conns[addr]}, nil
}

// balance chooses among replicas, and counts the call until it is done. A node with too many has no room: gRPC would have the call wait, and
// with it all others over the same connection.
func (p *picker) balance(w *wish) (balancer.PickResult, error) {
	addrs, ranks := w.addrs, w.ranks
	if !slices.ContainsFunc(addrs, func(addr string) bool { return p.conns[addr] != nil }) {
		addrs, ranks = []string{p.any()}, []int{0}
	}
	for {
		best, bestLoad := -1, int64(maxReads)
		for i, addr := range addrs {
			load := w.load(addr).Load()
			if p.conns[addr] != nil && load < maxReads && (best < 0 || ranks[i] < ranks[best] || ranks[i] == ranks[best] && load < bestLoad) {
				best, bestLoad = i, load
			}
		}
		if best < 0 {
			w.full.Store(true)
			return balancer.PickResult{}, status.Error(codes.ResourceExhausted, ErrTooManyReads.Error())
		}
		addr := addrs[best]
		load := w.load(addr)
		if load.Add(1) > maxReads {
			load.Add(-1)
			continue
		}
		w.went.Store(&addr)
		return balancer.PickResult{SubConn: p.conns[addr], Done: func(balancer.DoneInfo) { load.Add(-1) }}, nil
	}
}

func (p *picker) any() string { return p.addrs[rand.IntN(len(p.addrs))] }
