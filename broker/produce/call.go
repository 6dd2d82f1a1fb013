package produce

import (
	"context"
	"errors"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/internal/trace"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// Call is a Produce request under way. Begin makes it ready for use.
type Call struct {
	service  *Service
	request  Request
	began    time.Time
	deadline time.Time
	hintBy   time.Time
	turnBy   time.Time // of all batches that wait for a turn
	refused  error     // why no batch of the request is accepted; nil if batches are looked at one by one
	slots    []slot
	few      [1]slot // the slots of a request to one partition, as most are
	// verified are the results of Verify, for the batches in their order; nil unless the request is transactional.
	verified []verified
}

// slot is one batch of a call: either refused already (err) or enqueued (pending).
type slot struct {
	part    *partition.Partition
	pending *partition.Pending
	err     error
	// Where the batch belongs, for the hint to its leader.
	topic string
	id    replication.TopicID
	index int32
}

// Begin begins a request in c. Batches follow with Add, in the request's order, from the same goroutine.
func (s *Service) Begin(c *Call, r Request) {
	began, limit := s.now(), clampWait(r.Timeout)
	*c = Call{service: s, request: r, began: began, deadline: began.Add(limit), hintBy: began.Add(min(limit, hintPatience)), turnBy: began.Add(min(limit, turnWait))}
	if c.slots = c.few[:0]; r.Batches > len(c.few) {
		c.slots = make([]slot, 0, r.Batches)
	}
	if r.Acks != AcksAll && r.Acks != AcksNone && r.Acks != AcksLeader {
		c.refused = broker.ErrInvalidRequiredAcks
	}
}

func clampWait(d time.Duration) time.Duration {
	if d <= 0 {
		return leastWait
	}
	return min(d, mostWait)
}

// Add validates a batch and enqueues it. What is wrong with it is told by its Outcome.
func (c *Call) Add(ctx context.Context, b Batch) {
	var v verified
	if n := len(c.slots); n < len(c.verified) {
		v = c.verified[n]
		defer v.token.End()
	}
	s := c.enqueue(ctx, b, v)
	if s.pending == nil {
		v.token.Refused(v.of)
	}
	s.topic, s.index = b.Topic, b.Partition
	if b.ByID {
		s.id = b.TopicID
	}
	c.slots = append(c.slots, s)
}

func (c *Call) enqueue(ctx context.Context, b Batch, v verified) slot {
	if c.refused != nil {
		return slot{err: c.refused}
	}
	if b.Refused != nil {
		return slot{err: b.Refused}
	}
	p, err := c.lookup(b)
	if err != nil {
		return slot{part: p, err: err}
	}
	validated, err := c.service.prepare(ctx, c.turnBy, &c.request, p.Config(), b.Records)
	if err == nil {
		err = v.err
	}
	if err != nil {
		p.Refused(b.Records, err)
		return slot{part: p, err: err}
	}
	validated.Client, validated.Verified, validated.Epoch = true, v.token, v.epoch
	validated.Continues = c.request.Protocol != ProtocolV2
	return slot{part: p, pending: p.Append(validated)}
}

// internalWriter is the client id that may write to internal topics, as in Kafka: tools use it to send tombstones.
const internalWriter = "__admin_client"

func (c *Call) lookup(b Batch) (*partition.Partition, error) {
	var p *partition.Partition
	var err error
	if b.ByID {
		p, err = c.service.partitions.LookupID(b.TopicID, b.Partition)
	} else {
		p, err = c.service.partitions.Lookup(b.Topic, b.Partition)
	}
	if err != nil {
		return p, err
	}
	if broker.IsInternalTopic(p.Topic()) && c.request.Caller.ClientID != internalWriter {
		return p, errInternalTopic
	}
	return p, nil
}

// Ready tells whether Wait would return at once.
func (c *Call) Ready() bool {
	for i := range c.slots {
		if p := c.slots[i].pending; p != nil && !done(p) {
			return false
		}
	}
	return true
}

// done reports whether an append is answered.
func done(p *partition.Pending) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

// AnswerWanted is false for acks=0.
func (c *Call) AnswerWanted() bool { return c.request.Acks != AcksNone }

// Wait returns the outcomes in the order in which the batches were added, appended to dst. It waits for all of them, until
// the request's timeout, or until the context ends: then what is not known yet is replication.ErrUnknownOutcome, because
// the batch may well be committed later.
func (c *Call) Wait(ctx context.Context, dst []Outcome) []Outcome {
	_, end := trace.Start(ctx, trace.Span{Name: "raft.apply", Began: c.began})
	defer func() { end(nil) }()
	timer := c.service.timers.Get().(*time.Timer)
	timer.Reset(c.deadline.Sub(c.service.now()))
	defer func() {
		timer.Stop()
		c.service.timers.Put(timer)
	}()
	expired := false
	for i := range c.slots {
		s := &c.slots[i]
		if s.pending != nil && !expired {
			expired = !wait(ctx, s.pending, timer.C)
		}
		dst = append(dst, c.outcome(ctx, s))
	}
	return dst
}

const (
	// hintPatience is how long after a request began its answer waits to hear who leads instead. A leadership that is handed over
	// has arrived within some milliseconds; a client that is not told where must ask around, which takes it much longer.
	hintPatience = 250 * time.Millisecond
	// hintPoll is how often it looks.
	hintPoll = 2 * time.Millisecond
)

// outcome is that of a slot that was waited for. If the leadership is on its way to another node, it waits for it to arrive.
func (c *Call) outcome(ctx context.Context, s *slot) Outcome {
	o := s.outcome(c.service.leaders)
	if !s.homeless(&o) || !c.AnswerWanted() {
		return o
	}
	ctx, cancel := context.WithDeadline(ctx, c.hintBy)
	defer cancel()
	tick := time.NewTicker(hintPoll)
	defer tick.Stop()
	for s.homeless(&o) {
		select {
		case <-tick.C:
			o = s.outcome(c.service.leaders)
		case <-ctx.Done():
			o.Leader = replication.NoLeader
			return o
		}
	}
	return o
}

// homeless reports whether a batch was refused by a replica that does not lead, or not for long, and nobody else is known to.
func (s *slot) homeless(o *Outcome) bool {
	return errors.Is(o.Err, replication.ErrNotLeader) && s.part != nil && (o.Leader.Node == replication.NoNode || s.part.Leading())
}

// wait reports whether the append was answered in time.
func wait(ctx context.Context, p *partition.Pending, timeout <-chan time.Time) bool {
	if done(p) {
		return true
	}
	select {
	case <-p.Done():
		return true
	case <-timeout:
		return false
	case <-ctx.Done():
		return false
	}
}

func (s *slot) outcome(leaders Leaders) Outcome {
	if s.err != nil {
		return s.failure(leaders, s.err)
	}
	if !done(s.pending) {
		return s.failure(leaders, replication.ErrUnknownOutcome)
	}
	got, err := s.pending.Wait(context.Background()) // no waiting: it is answered
	if err != nil {
		return s.failure(leaders, err)
	}
	return Outcome{Base: got.Base, LogStart: got.LogStart, AppendTime: got.Timestamp, Leader: replication.NoLeader}
}

// failure adds the hint of KIP-951: a client that asked the wrong node learns the right one with the error.
func (s *slot) failure(leaders Leaders, err error) Outcome {
	o := failed(err)
	if !errors.Is(err, replication.ErrNotLeader) {
		return o
	}
	l := replication.NoLeader
	if leaders != nil {
		l = leaders.LeaderOf(s.topic, s.id, s.index)
	} else if s.part != nil {
		l = s.part.Leader()
	}
	if l.Node != replication.NoNode {
		o.Leader = l
	}
	return o
}
