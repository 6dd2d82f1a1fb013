package grpcapi

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// Bounds of all connections together.
const (
	// maxReceiving bounds the calls whose first message is still on its way, each of which may hold maxMessage bytes of half a
	// message. When there are more, the oldest ends: an honest one takes a moment.
	maxReceiving = 128
	// messageTime is what a client has for the first message of a call.
	messageTime = 10 * time.Second
	// maxCalls bounds the calls under way, most of which wait. When there are half as many, connections may have no more than
	// fewCalls, so that some of them can't take what is left, and addresses, which may have many connections, no more than there is left,
	// or fewCalls.
	maxCalls, fewCalls = 2_000, 8
	// watchesOfOne bounds the streams of a connection that watch the node's health, which takes no right and never ends. A client needs
	// one, a proxy one for each of its clients; those that get none take the node for healthy, as gRPC's health checking has it.
	watchesOfOne = 4
	// maxProducing bounds the ProduceStreams, which may hold half a message each at any time, and streamsOfOne those of a connection.
	// When there are half as many, connections may have no more than fewStreams.
	maxProducing, streamsOfOne, fewStreams = 256, 16, 2
	// readShare is what all calls that read may fetch at once, in bytes; leastShare is what each gets however many there are.
	readShare, leastShare = 32 << 20, 32 << 10
	// readCost is what a byte that is fetched may take of memory until it is sent: itself, its message, and what it decompresses
	// to, up to four times as much; what decompresses to more is bounded by expandMemory.
	readCost = 6
	// readMemory, expandMemory, sendMemory and produceMemory are bounds in bytes: on records that are being read, on batches that
	// decompress to much, on answers that their clients have yet to take, and on records that are to be stored.
	readMemory, expandMemory, sendMemory, produceMemory = 64 << 20, 2 * maxExpanded, 2 * readShare, 96 << 20
	// slow is for how long a call may hold its part of a memory that others wait for, and slowReader for how long an answer may if its
	// client does not take it: there are too many of those then, and they are not to hold up the others.
	slow, slowReader = 5 * time.Second, 250 * time.Millisecond
)

// memory is the room for what calls hold.
type memory struct{ reads, expanded, sent, produced *room }

func newMemory() memory {
	return memory{newRoom(readMemory, slow), newRoom(expandMemory, slow), newRoom(sendMemory, slowReader), newRoom(produceMemory, slow)}
}

// Why a call was ended.
var (
	errSlowMessage  = status.Error(codes.DeadlineExceeded, "the message did not come in time")
	errSlowReader   = status.Error(codes.ResourceExhausted, "the client reads too slowly, and others need the memory: go on at next_offset")
	errMuchUnderWay = status.Error(codes.ResourceExhausted, "too much is under way on this node: records may or may not be stored")
	errManyCalls    = status.Error(codes.ResourceExhausted, "too many calls are under way on this node")
	errManyWatches  = status.Error(codes.Unimplemented, "this connection has enough streams that watch the node's health")
	errManyStreams  = status.Error(codes.ResourceExhausted, "too many streams produce to this node")
)

// gauge counts calls, and refuses some before anything of them is read. It is a stats.Handler, because only those are told when a
// message has come.
type gauge struct {
	calls, producing, reading atomic.Int64
	receiving                 *room
	ended                     callCounts
}

// call is a call under way. All methods may be called on nil, which is a call that came from another node.
type call struct {
	gauge    *gauge
	method   string
	conn     *counted
	produces bool
	watches  bool
	reads    atomic.Bool
	arrived  func() // the first message has come; more calls do nothing
	cancel   context.CancelCauseFunc
	parts    atomic.Int32 // what must end before the call counts no more: its handler, and an answer that waits to be taken
}

type callKey struct{}

func callIn(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// tap is asked when the headers of a call have come. It must not wait.
func (g *gauge) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	nc := identityOf(ctx).conn
	c := &call{gauge: g, method: info.FullMethodName, conn: nc}
	c.produces = c.method == quorlogv1.Records_ProduceStream_FullMethodName
	c.watches = c.method == healthv1.Health_Watch_FullMethodName
	switch {
	case nc == nil:
		return nil, status.Error(codes.Internal, errForeign.Error())
	case g.manyCalls(nc):
		return nil, errManyCalls
	case c.watches && nc.watching.Load() >= watchesOfOne:
		return nil, errManyWatches
	case c.produces && g.manyStreams(nc):
		return nil, errManyStreams
	}
	ctx, c.cancel = context.WithCancelCause(context.WithValue(ctx, callKey{}, c))
	give, err := g.receiving.take(ctx, 1, func() { c.cancel(errManyCalls) })
	if err != nil {
		return nil, err
	}
	timer := time.AfterFunc(messageTime, func() { c.cancel(errSlowMessage) })
	c.arrived = sync.OnceFunc(func() {
		timer.Stop()
		give()
	})
	g.calls.Add(1)
	if c.produces {
		g.producing.Add(1)
		nc.producing.Add(1)
	}
	if c.watches {
		nc.watching.Add(1)
	}
	nc.begins()
	c.parts.Store(1)
	context.AfterFunc(ctx, c.ends) // gRPC ends the context with the call, whatever becomes of it
	return ctx, nil
}

// manyCalls tells whether a connection may not have another call.
func (g *gauge) manyCalls(nc *counted) bool {
	left := maxCalls - g.calls.Load()
	if nc.trusted || left > maxCalls/2 {
		return left <= 0
	}
	return left <= 0 || nc.calls.Load() >= fewCalls || nc.from.calls.Load() >= max(left, fewCalls)
}

// manyStreams tells whether a connection may not have another ProduceStream.
func (g *gauge) manyStreams(nc *counted) bool {
	all, own := g.producing.Load(), nc.producing.Load()
	return all >= maxProducing || own >= streamsOfOne || all >= maxProducing/2 && own >= fewStreams
}

// ends is told that a part of the call has ended.
func (c *call) ends() {
	c.arrived()
	if c.parts.Add(-1) > 0 {
		return
	}
	c.gauge.calls.Add(-1)
	if c.produces {
		c.gauge.producing.Add(-1)
		c.conn.producing.Add(-1)
	}
	if c.watches {
		c.conn.watching.Add(-1)
	}
	if c.reads.Load() {
		c.gauge.reading.Add(-1)
	}
	c.conn.ended()
}

// reading says that the call reads records.
func (c *call) reading() {
	if c != nil && !c.reads.Swap(true) {
		c.gauge.reading.Add(1)
	}
}

// answers keeps the call counted until what is returned is called, or the connection ends: an answer is in memory until the
// client takes it, long after its handler may have returned. give gives that memory back.
func (c *call) answers(give func()) (taken func()) {
	if c == nil {
		return give
	}
	c.parts.Add(1)
	once := sync.OnceFunc(func() {
		give()
		c.ends()
	})
	forget := context.AfterFunc(c.conn.ctx, once)
	return func() {
		forget()
		once()
	}
}

// end ends the call for a reason that its client is told.
func (c *call) end(why error) {
	if c != nil {
		c.cancel(why)
	}
}

// tooSlow ends what a client reads too slowly. An answer that is on its way is in memory until its connection is closed; only the
// gateway's, which carries those of others, is not.
func (c *call) tooSlow() {
	switch {
	case c == nil:
	case c.conn.trusted:
		c.cancel(errSlowReader)
	default:
		_ = c.conn.Close() // there is nobody to tell
	}
}

// TagRPC implements stats.Handler.
func (*gauge) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (g *gauge) HandleRPC(ctx context.Context, event stats.RPCStats) {
	c := callIn(ctx)
	if c == nil {
		return // a method that is not served
	}
	switch e := event.(type) {
	case *stats.InPayload:
		c.arrived()
	case *stats.End:
		g.ended.add(c.method, e.EndTime.Sub(e.BeginTime), e.Error)
	}
}

// TagConn implements stats.Handler.
func (*gauge) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (*gauge) HandleConn(context.Context, stats.ConnStats) {}

// share is how many bytes one of the calls that read may fetch at once.
func (g *gauge) share() int {
	return int(max(leastShare, readShare/max(g.reading.Load(), 1)))
}
