package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/broker/produce"
	"github.com/quorlog/quorlog/grpcapi/keys"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
)

const (
	// defaultProduceTime is how long a produce waits for the majority if it does not say; the producer's default in Kafka too.
	defaultProduceTime = 30 * time.Second
	// maxProduceTime bounds what it may say.
	maxProduceTime = 10 * time.Minute
	// maxForwards bounds the parts of one request that are on their way to other nodes at a time.
	maxForwards = 8
	// forwardPatience is how long after a request began the leader is looked for anew that is to store its records; an election takes a
	// second. It is no longer, as the batches of a stream are answered in their order: those of other partitions wait behind it.
	forwardPatience = 2 * time.Second
	// forwardPause lies between two tries; it doubles, up to mostForwardPause: each try sends or encodes the records anew.
	forwardPause     = 50 * time.Millisecond
	mostForwardPause = 250 * time.Millisecond
)

// forwardCall is the call by which a node hands records to the leader of their partition: the body is a ProduceRequest with a
// partition, the answer a ProducedBatch. That the client may write there the other node has seen to.
const forwardCall = "grpc.produce"

// produceCost is what a byte of records takes of memory until it is stored: the request and the batch that is made of it.
const produceCost = 2

// Produce stores records.
func (s *records) Produce(ctx context.Context, req *quorlogv1.ProduceRequest) (*quorlogv1.ProduceResponse, error) {
	give, err := s.holdRecords(ctx, weight(req))
	if err != nil {
		return nil, s.failure(err)
	}
	defer give()
	p, err := s.begin(ctx, req, nil)
	if err != nil {
		return nil, s.failure(err)
	}
	return p.finish(ctx)
}

// partCost is what a record or a header takes of memory beside its content, in bytes.
const partCost = 96

// weight is what a request takes of memory, in bytes.
func weight(req *quorlogv1.ProduceRequest) int {
	n := proto.Size(req)
	for _, r := range req.GetRecords() {
		n += partCost * (1 + len(r.GetHeaders()))
	}
	return n
}

// holdRecords waits for the memory of records that are to be stored.
func (s *records) holdRecords(ctx context.Context, size int) (give func(), err error) {
	return s.memory.produced.take(ctx, produceCost*int64(size), func() { callIn(ctx).end(errMuchUnderWay) })
}

// producing is a request under way: begin enqueues what this node leads, finish waits for it and has other nodes store the rest.
type producing struct {
	server *records
	until  time.Time
	again  time.Time // until then the leader of what was certainly not stored is looked for anew
	parts  []*part
	away   *away // nil but for a stream's
}

// part is what a request has for one partition.
type part struct {
	request   *quorlogv1.ProduceRequest // of this partition alone
	positions []int32                   // of its records in the whole request; nil if it is all of it
	call      *produce.Call             // nil if another node leads, or did
	result    *quorlogv1.ProducedBatch
}

func (p *part) key() fetch.Key {
	return fetch.Key{Topic: p.request.GetTopic(), Partition: p.request.GetPartition()}
}

// away counts the parts of a stream that are not stored and that this node did not lead, by their partitions. Should this node
// come to lead one, what follows must not overtake them. nil for calls of a single request.
type away struct {
	mu    sync.Mutex
	parts map[fetch.Key]int
}

// sent counts a part, if it has to go elsewhere or to wait for one that does.
func (a *away) sent(p *part, elsewhere bool) bool {
	if a == nil {
		return elsewhere
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	key := p.key()
	if !elsewhere && a.parts[key] == 0 {
		return false
	}
	a.parts[key]++
	return true
}

// back counts it out.
func (a *away) back(p *part) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.parts[p.key()]--; a.parts[p.key()] <= 0 {
		delete(a.parts, p.key())
	}
}

// begin checks a request and enqueues what this node leads. Requests that begin one after the other, with the same away, are stored
// in this order.
func (s *records) begin(ctx context.Context, req *quorlogv1.ProduceRequest, a *away) (*producing, error) {
	topic := req.GetTopic()
	if err := s.need(ctx, broker.Write, broker.Topic(topic)); err != nil {
		return nil, err
	}
	count, err := s.partitionsOf(ctx, topic)
	if err != nil {
		return nil, err
	}
	if err := checkProduce(req); err != nil {
		return nil, err
	}
	now := s.o.Now()
	p := &producing{server: s, until: now.Add(produceTime(req)), again: now.Add(forwardPatience), parts: split(req, count), away: a}
	for _, part := range p.parts {
		if a.sent(part, s.isElsewhere(s.leaderOf(part.key()))) {
			continue
		}
		if part.call, err = s.enqueue(ctx, callerOf(ctx), part.request); err != nil {
			part.result = failed(part.request.GetPartition(), s.part(err, nil))
		}
	}
	return p, nil
}

func (s *records) leaderOf(k fetch.Key) replication.Leader {
	return s.o.Routes.LeaderOf(k.Topic, replication.TopicID{}, k.Partition)
}

// isElsewhere tells whether a leader is another node.
func (s *records) isElsewhere(l replication.Leader) bool {
	return l.Node != s.o.Node && l.Node != replication.NoNode
}

func produceTime(req *quorlogv1.ProduceRequest) time.Duration {
	if req.GetTimeoutMs() <= 0 {
		return defaultProduceTime
	}
	return min(time.Duration(req.GetTimeoutMs())*time.Millisecond, maxProduceTime)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{replication.ErrInvalidRequest}, args...)...)
}

func checkProduce(req *quorlogv1.ProduceRequest) error {
	if len(req.GetRecords()) == 0 {
		return invalid("no records")
	}
	p := req.GetProducer()
	switch {
	case p == nil:
	case req.Partition == nil:
		return invalid("a producer's sequence is that of a partition: name one")
	case p.GetProducerId() < 0 || p.GetProducerEpoch() < 0 || p.GetProducerEpoch() > math.MaxInt16 || p.GetBaseSequence() < 0:
		return invalid("producer id %d, epoch %d, sequence %d", p.GetProducerId(), p.GetProducerEpoch(), p.GetBaseSequence())
	}
	return nil
}

// partitionsOf is how many partitions a topic has. One that does not exist is made, if the cluster makes topics for whoever
// uses them and the caller may.
func (s *records) partitionsOf(ctx context.Context, topic string) (int32, error) {
	if n, ok := s.o.Partitions(topic); ok {
		return n, nil
	}
	info := s.o.Admin.Topics(ctx, []admin.TopicRef{{Name: topic}}, s.mayCreate(ctx, topic))[0]
	if info.Err == nil && len(info.Partitions) == 0 {
		return 0, replication.ErrUnknownPartition
	}
	return int32(len(info.Partitions)), info.Err
}

// mayCreate tells whether the caller may make a topic. As with Kafka, the right may be to the cluster or to the topic's name.
func (s *core) mayCreate(ctx context.Context, topic string) bool {
	return s.may(ctx, broker.Create, broker.Cluster) || s.may(ctx, broker.Create, broker.Topic(topic))
}

// split sorts the records by their partitions.
func split(req *quorlogv1.ProduceRequest, count int32) []*part {
	if req.Partition != nil {
		return []*part{{request: req}}
	}
	rest := int32(-1) // where records without a key go
	byPartition := map[int32]*part{}
	var parts []*part
	for i, r := range req.GetRecords() {
		var to int32
		switch {
		case r.Key != nil:
			to = keys.Partition(r.Key, count)
		case rest < 0:
			rest = rand.Int32N(count)
			to = rest
		default:
			to = rest
		}
		p := byPartition[to]
		if p == nil {
			p = &part{request: &quorlogv1.ProduceRequest{Topic: req.GetTopic(), Partition: &to, TimeoutMs: req.GetTimeoutMs()}}
			byPartition[to], parts = p, append(parts, p)
		}
		p.request.Records, p.positions = append(p.request.Records, r), append(p.positions, int32(i))
	}
	if len(parts) == 1 {
		parts[0].positions = nil
	}
	return parts
}

// enqueue hands a part to the produce service of this node.
func (s *records) enqueue(ctx context.Context, caller broker.Caller, req *quorlogv1.ProduceRequest) (*produce.Call, error) {
	frame, err := encode(req, s.o.Now())
	if err != nil {
		return nil, err
	}
	call := new(produce.Call)
	s.o.Produce.Begin(call, produce.Request{
		Caller: caller, Acks: produce.AcksAll, Timeout: produceTime(req), ZstdAllowed: true, FrameSize: len(frame), Batches: 1,
	})
	call.Add(ctx, produce.Batch{Topic: req.GetTopic(), Partition: req.GetPartition(), Records: frame})
	return call, nil
}

// encode makes a batch of records.
func encode(req *quorlogv1.ProduceRequest, now time.Time) ([]byte, error) {
	var opt batch.BuildOptions
	if p := req.GetProducer(); p != nil {
		opt.Producer = &batch.Producer{ID: p.GetProducerId(), Epoch: int16(p.GetProducerEpoch()), Sequence: p.GetBaseSequence()}
	}
	b := batch.NewBuilder(opt)
	for _, r := range req.GetRecords() {
		out := batch.Record{Timestamp: now.UnixMilli(), Key: r.Key, Value: r.Value}
		if r.TimestampMs != nil {
			if out.Timestamp = r.GetTimestampMs(); out.Timestamp < 0 {
				return nil, fmt.Errorf("%w: %d", broker.ErrInvalidTimestamp, out.Timestamp)
			}
		}
		for _, h := range r.GetHeaders() {
			out.Headers = append(out.Headers, batch.RecordHeader{Key: h.GetKey(), Value: h.Value})
		}
		b.Add(out)
	}
	frame, err := b.Build()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", broker.ErrMessageTooLarge, err)
	}
	batch.Stamp(frame, 0, batch.NoEpoch) // a client's batch begins at 0
	return frame, nil
}

// finish waits for all parts. The error is that of the first part if none was stored.
func (p *producing) finish(ctx context.Context) (*quorlogv1.ProduceResponse, error) {
	ctx, cancel := context.WithDeadline(ctx, p.until)
	defer cancel()
	var forwards errgroup.Group
	forwards.SetLimit(maxForwards)
	for _, part := range p.parts {
		if part.result == nil && part.call == nil {
			forwards.Go(func() error {
				p.follow(ctx, part, p.server.leaderOf(part.key()))
				p.away.back(part)
				return nil
			})
		}
	}
	for _, part := range p.parts {
		if part.call != nil {
			p.await(ctx, part)
		}
	}
	_ = forwards.Wait() // nobody returns one
	out := &quorlogv1.ProduceResponse{}
	stored := false
	for _, part := range p.parts {
		stored = stored || part.result.GetError() == nil
		part.result.Positions = part.positions
		out.Batches = append(out.Batches, part.result)
	}
	if !stored {
		return nil, whole(p.parts[0].result.GetError())
	}
	return out, nil
}

// await waits for what this node stores. If it does not lead, or has ceased to, and so certainly not stored it, the new leader gets it.
func (p *producing) await(ctx context.Context, part *part) {
	var room [1]produce.Outcome
	o := part.call.Wait(ctx, room[:0])[0]
	part.result = p.server.outcome(ctx, part.request.GetPartition(), o)
	if errors.Is(o.Err, replication.ErrNotLeader) {
		p.away.sent(part, true)
		p.follow(ctx, part, o.Leader)
		p.away.back(part)
	}
}

// follow has a part stored by who leads its partition. If the leadership has moved on, and so the part is certainly not stored, whoever
// has it by then is asked. While nobody is known to lead, a refusal that there is stands.
func (p *producing) follow(ctx context.Context, part *part, l replication.Leader) {
	looking, cancel := context.WithDeadline(ctx, p.again)
	defer cancel()
	for pause := forwardPause; ; pause = min(2*pause, mostForwardPause) {
		if (part.result == nil || l.Node != replication.NoNode) && p.server.store(ctx, part, l) {
			return
		}
		select {
		case <-looking.Done():
			return
		case <-time.After(pause):
		}
		l = p.server.leaderOf(part.key())
	}
}

// outcome is what the produce service says, for the client.
func (s *records) outcome(ctx context.Context, partition int32, o produce.Outcome) *quorlogv1.ProducedBatch {
	switch {
	case o.Err == nil:
		return &quorlogv1.ProducedBatch{Partition: partition, BaseOffset: int64(o.Base), AppendTimeMs: o.AppendTime}
	case errors.Is(o.Err, replication.ErrNotLeader):
		return failed(partition, s.part(o.Err, s.notLeader(ctx, o.Leader)))
	}
	return failed(partition, s.part(o.Err, nil))
}

func failed(partition int32, err *quorlogv1.Error) *quorlogv1.ProducedBatch {
	return &quorlogv1.ProducedBatch{Partition: partition, BaseOffset: -1, AppendTimeMs: -1, Error: err}
}

// store has the leader of a part store it, which by now may be this node. It tells whether that node has led, or may have.
func (s *records) store(ctx context.Context, part *part, l replication.Leader) (led bool) {
	if s.isElsewhere(l) {
		return s.forward(ctx, part, l)
	}
	call, err := s.enqueue(ctx, callerOf(ctx), part.request)
	if err != nil {
		part.result = failed(part.request.GetPartition(), s.part(err, nil))
		return true
	}
	var room [1]produce.Outcome
	o := call.Wait(ctx, room[:0])[0]
	part.result = s.outcome(ctx, part.request.GetPartition(), o)
	return !errors.Is(o.Err, replication.ErrNotLeader)
}

// forward has another node store a part. It tells whether that node has led, or may have.
func (s *records) forward(ctx context.Context, part *part, l replication.Leader) (led bool) {
	fail := func(err error) {
		part.result = failed(part.request.GetPartition(), s.part(err, s.notLeader(ctx, l)))
	}
	body, err := proto.Marshal(part.request)
	if err != nil {
		fail(invalid("%v", err))
		return true
	}
	answer, err := s.callNode(ctx, l.Node, forwardCall, body, len(body))
	if err != nil {
		fail(err)
		return !errors.Is(err, replication.ErrNotLeader)
	}
	result := new(quorlogv1.ProducedBatch)
	if err := proto.Unmarshal(answer, result); err != nil {
		fail(fmt.Errorf("%w: %w", replication.ErrUnknownOutcome, err))
		return true
	}
	part.result, led = result, true
	if e := result.GetError(); e == nil {
		result.Leader = s.notLeader(ctx, l)
	} else if n := e.GetNotLeader(); n != nil {
		n.Address = s.address(ctx, replication.NodeID(n.GetLeader())) // for the caller's listener, which that node does not know
		led = false
	}
	return led
}

func (s *records) handleForward(ctx context.Context, body []byte) ([]byte, error) {
	req := new(quorlogv1.ProduceRequest)
	if err := proto.Unmarshal(body, req); err != nil {
		return nil, invalid("%v", err)
	}
	result := s.storeHere(ctx, req)
	return proto.Marshal(result)
}

func (s *records) storeHere(ctx context.Context, req *quorlogv1.ProduceRequest) *quorlogv1.ProducedBatch {
	index := req.GetPartition()
	err := checkProduce(req)
	if err == nil && req.Partition == nil {
		err = invalid("no partition")
	}
	var call *produce.Call
	if err == nil {
		call, err = s.enqueue(ctx, broker.Caller{}, req)
	}
	if err != nil {
		return failed(index, s.part(err, nil))
	}
	var room [1]produce.Outcome
	return s.outcome(ctx, index, call.Wait(ctx, room[:0])[0])
}

// InitProducer gives out a producer id.
func (s *records) InitProducer(ctx context.Context, _ *quorlogv1.InitProducerRequest) (*quorlogv1.InitProducerResponse, error) {
	if !s.may(ctx, broker.IdempotentWrite, broker.Cluster) && !s.auth.AllowedSome(callerOf(ctx), broker.Write, broker.TopicResource) {
		return nil, s.failure(broker.ErrClusterDenied)
	}
	id, err := s.o.Admin.InitProducerID(ctx, admin.InitProducer{ProducerIdentity: admin.ProducerIdentity{ID: -1, Epoch: -1}})
	if err != nil {
		return nil, s.failure(err)
	}
	return &quorlogv1.InitProducerResponse{ProducerId: id.ID, ProducerEpoch: int32(id.Epoch)}, nil
}
