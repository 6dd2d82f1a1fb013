package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/log/batch"
)

// Prober writes single values to one partition by raw requests, one at a time, and follows the hints in the answers
// (KIP-951). Client libraries hide what matters here: which request was repeated, and what the answer was.
//
// With a producer id it numbers its batches itself and repeats a batch until it is acknowledged: whatever happens, the
// broker must neither write it twice nor refuse it as out of order. It also measures how long the partition takes nothing.
// Without one it sends each value once and takes the answers at their word: NOT_LEADER_OR_FOLLOWER and its like mean that
// the value is not in the log and never will be.
type Prober struct {
	addrs     []string
	topic     string
	partition int32
	h         *History
	writer    int
	strict    bool

	// Of the prober's goroutine.
	conns    map[string]*wire
	leader   string // address to try next; "" asks for it
	asked    int    // node whose metadata was asked last
	producer batch.Producer

	mu struct {
		sync.Mutex
		last   time.Time     // of the last acknowledgement
		gap    time.Duration // longest time between two since ResetGap
		acks   int
		errors map[string]int // answers other than success
	}
}

const (
	// probePace is the time between two values: the resolution of a gap.
	probePace = 2 * time.Millisecond
	// probeLimit is how long a prober waits for an answer before it asks somebody else.
	probeLimit = time.Second
	// retryPace is the time between two tries.
	retryPace = 5 * time.Millisecond
)

func newProber(addrs []string, topic string, partition int32, h *History, strict bool) *Prober {
	p := &Prober{addrs: addrs, topic: topic, partition: partition, h: h, writer: h.NewWriter(strict), strict: strict, conns: map[string]*wire{}}
	p.mu.errors = map[string]int{}
	return p
}

// run writes until ctx ends. A value whose fate is open then stays unknown.
func (p *Prober) run(ctx context.Context) {
	defer p.closeAll()
	if p.strict && !p.begin(ctx) {
		return
	}
	tick := time.NewTicker(probePace)
	defer tick.Stop()
	for ctx.Err() == nil {
		v := p.h.Sending(p.writer, p.partition)
		if p.strict {
			p.insist(ctx, v)
		} else {
			p.once(ctx, v)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// begin asks for a producer id.
func (p *Prober) begin(ctx context.Context) bool {
	for i := 0; ctx.Err() == nil; i++ {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.SetVersion(4)
		answer, err := p.ask(ctx, p.addrs[i%len(p.addrs)], req)
		if err == nil {
			if resp := answer.(*kmsg.InitProducerIDResponse); resp.ErrorCode == 0 {
				p.producer = batch.Producer{ID: resp.ProducerID, Epoch: resp.ProducerEpoch}
				return true
			}
		}
		pause(ctx, retryPace)
	}
	return false
}

// insist repeats a value until it is acknowledged.
func (p *Prober) insist(ctx context.Context, v Value) {
	for ctx.Err() == nil {
		offset, err := p.send(ctx, v)
		switch {
		case err == nil:
			p.acked(v, offset)
			return
		case errors.Is(err, kerr.OutOfOrderSequenceNumber), errors.Is(err, kerr.UnknownProducerID),
			errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, kerr.InvalidRecord), errors.Is(err, kerr.CorruptMessage):
			// All before it was acknowledged: the broker has forgotten something.
			p.h.Report(ClientError, "prober of partition %d: %v: %v", p.partition, v, err)
			return
		default:
			p.failed(ctx, err)
		}
	}
	p.h.Unknown(v)
}

// once sends a value and never again.
func (p *Prober) once(ctx context.Context, v Value) {
	offset, err := p.send(ctx, v)
	switch {
	case err == nil:
		p.acked(v, offset)
	case errors.Is(err, errNotSent), errors.Is(err, kerr.NotLeaderForPartition), errors.Is(err, kerr.FencedLeaderEpoch),
		errors.Is(err, kerr.NotEnoughReplicas), errors.Is(err, kerr.LeaderNotAvailable):
		p.h.Refused(v)
		p.failed(ctx, err)
	default:
		p.h.Unknown(v)
		p.failed(ctx, err)
	}
}

// errNotSent marks errors before anything was sent.
var errNotSent = errors.New("nothing was sent")

// send makes one attempt.
func (p *Prober) send(ctx context.Context, v Value) (int64, error) {
	addr, err := p.target(ctx)
	if err != nil {
		return 0, err
	}
	opts := batch.BuildOptions{}
	if p.strict {
		producer := p.producer
		producer.Sequence = int32(v.Seq)
		opts.Producer = &producer
	}
	frame, err := batch.Build(opts, batch.Record{Timestamp: time.Now().UnixMilli(), Value: v.Encode(ValueSize)})
	if err != nil {
		return 0, err
	}
	batch.Stamp(frame, 0, batch.NoEpoch)
	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = p.partition, frame
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.Partitions = p.topic, []kmsg.ProduceRequestTopicPartition{part}
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(11)
	req.Acks, req.TimeoutMillis, req.Topics = -1, int32(probeLimit.Milliseconds()), []kmsg.ProduceRequestTopic{topic}
	answer, err := p.ask(ctx, addr, req)
	if err != nil {
		p.leader = ""
		return 0, err
	}
	return p.understand(answer.(*kmsg.ProduceResponse))
}

// understand reads an answer and takes its hint.
func (p *Prober) understand(resp *kmsg.ProduceResponse) (int64, error) {
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return 0, fmt.Errorf("a produce answer for %d topics", len(resp.Topics))
	}
	part := resp.Topics[0].Partitions[0]
	err := kerr.ErrorForCode(part.ErrorCode)
	if err == nil {
		return part.BaseOffset, nil
	}
	tried := p.leader
	p.leader = ""
	for _, b := range resp.Brokers {
		// Whoever refuses and names itself does not know either.
		if addr := net.JoinHostPort(b.Host, fmt.Sprint(b.Port)); b.NodeID == part.CurrentLeader.LeaderID && addr != tried {
			p.leader = addr
		}
	}
	return 0, err
}

// target is where the leader is supposed to be; without a hint it asks one node after another.
func (p *Prober) target(ctx context.Context) (string, error) {
	if p.leader != "" {
		return p.leader, nil
	}
	p.asked++
	w, err := p.conn(ctx, p.addrs[p.asked%len(p.addrs)])
	if err != nil {
		return "", err
	}
	view, err := w.look(p.topic)
	if err != nil {
		p.drop(w)
		return "", errors.Join(errNotSent, err)
	}
	part, ok := view.parts[p.partition]
	addr, known := view.addrs[part.leader]
	if !ok || !known {
		return "", errors.Join(errNotSent, errors.New("nobody leads"))
	}
	p.leader = addr
	return addr, nil
}

// ask sends a request to an address, whose connection is kept.
func (p *Prober) ask(ctx context.Context, addr string, req kmsg.Request) (kmsg.Response, error) {
	w, err := p.conn(ctx, addr)
	if err != nil {
		return nil, err
	}
	resp, err := w.do(req, probeLimit+probeLimit/2)
	if err != nil {
		p.drop(w)
	}
	return resp, err
}

func (p *Prober) conn(ctx context.Context, addr string) (*wire, error) {
	if w := p.conns[addr]; w != nil {
		return w, nil
	}
	w, err := dialWire(ctx, addr)
	if err != nil {
		return nil, errors.Join(errNotSent, err)
	}
	p.conns[addr] = w
	return w, nil
}

func (p *Prober) drop(w *wire) {
	w.close()
	for addr, known := range p.conns {
		if known == w {
			delete(p.conns, addr)
		}
	}
}

func (p *Prober) closeAll() {
	for _, w := range p.conns {
		w.close()
	}
}

func (p *Prober) acked(v Value, offset int64) {
	p.h.Acked(v, offset)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.mu.last.IsZero() {
		p.mu.gap = max(p.mu.gap, now.Sub(p.mu.last))
	}
	p.mu.last = now
	p.mu.acks++
}

// failed counts an error and waits a moment, unless the answer said where to go.
func (p *Prober) failed(ctx context.Context, err error) {
	p.mu.Lock()
	var code *kerr.Error
	switch {
	case errors.As(err, &code):
		p.mu.errors[code.Message]++
	case errors.Is(err, errNotSent):
		p.mu.errors["not sent"]++
	default:
		p.mu.errors["no answer"]++
	}
	p.mu.Unlock()
	if p.leader == "" || code == nil {
		pause(ctx, retryPace)
	}
}

// ResetGap begins a new measurement at the last acknowledgement.
func (p *Prober) ResetGap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.gap = 0
}

// Gap is the longest time between two acknowledgements since ResetGap, and how many there were ever.
func (p *Prober) Gap() (time.Duration, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.gap, p.mu.acks
}

// Errors are the answers other than success so far, by name.
func (p *Prober) Errors() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]int{}
	for k, n := range p.mu.errors {
		out[k] = n
	}
	return out
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
