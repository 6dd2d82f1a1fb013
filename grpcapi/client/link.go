package client

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// answerTime is what a server has for a batch, before it says that it does not know; graceTime is for the way.
	answerTime, graceTime = 15 * time.Second, 5 * time.Second
	// silence is after how long without an answer it is asked whether the partition has another leader by now.
	silence = 2 * time.Second
	// idleTime is how long a stream stays open without batches, and retireTime how long one at least that another node is better for.
	idleTime, retireTime = time.Minute, time.Second
)

// anyNode is the node of the link for partitions without a leader that is known.
const anyNode = -1

// link is a ProduceStream to a node. Its fields are the producer's, under its lock.
type link struct {
	p      *producer
	node   int32
	ctx    context.Context
	end    context.CancelFunc
	wake   chan struct{}
	queue  []*lane  // those that have a batch ready
	flying []*batch // in the order in which they were sent and will be answered
	last   uint64   // the id of the batch that was sent last
	// retired: its batches go elsewhere. It ends when all that it has sent is answered.
	retired bool
	opened  time.Time
	heard   time.Time // of the last answer, or of the first batch after all were answered
}

// linkLocked is the link to a lane's leader.
func (p *producer) linkLocked(l *lane) *link {
	node, known := p.dir.leader(partitionKey{l.topic, l.partition})
	if !known {
		node = anyNode
	}
	for _, k := range p.mu.links {
		if k.node == node && !k.retired {
			return k
		}
	}
	k := &link{p: p, node: node, wake: make(chan struct{}, 1), opened: time.Now(), heard: time.Now()}
	k.ctx, k.end = context.WithCancel(p.ctx)
	p.mu.links = append(p.mu.links, k)
	p.streams.Go(k.run)
	return k
}

// poke has the link look at its queue.
func (k *link) poke() {
	select {
	case k.wake <- struct{}{}:
	default: // it will
	}
}

// run opens the stream, and sends until it ends.
func (k *link) run() {
	defer k.end()
	stream, err := k.p.records.ProduceStream(k.p.dir.toNode(k.node).on(k.ctx))
	if err == nil {
		received := make(chan error, 1)
		go func() {
			defer k.end()
			received <- k.receive(stream)
		}()
		k.send(stream)
		k.end()
		err = <-received
	}
	k.p.mu.Lock()
	defer k.p.mu.Unlock()
	k.brokenLocked(err)
}

// send sends what is ready until the stream ends. Why it ended, receive learns.
func (k *link) send(stream grpc.BidiStreamingClient[quorlogv1.ProduceStreamRequest, quorlogv1.ProduceStreamResponse]) {
	for {
		k.p.mu.Lock()
		b := k.nextLocked()
		var req *quorlogv1.ProduceStreamRequest
		if b != nil {
			req = &quorlogv1.ProduceStreamRequest{Id: k.last, Batch: b.request}
		}
		k.p.mu.Unlock()
		if b != nil {
			if stream.Send(req) != nil {
				return
			}
			continue
		}
		select {
		case <-k.wake:
		case <-k.ctx.Done():
			return
		}
	}
}

// nextLocked takes a batch from the queue. A lane that has another one ready goes to its end.
func (k *link) nextLocked() *batch {
	for len(k.queue) > 0 && k.ctx.Err() == nil {
		l := k.queue[0]
		k.queue = k.queue[1:]
		l.queued = false
		b := l.ready(k.p.o.BatchBytes / enoughShare)
		if b == nil {
			continue
		}
		l.take(b)
		if len(k.flying) == 0 {
			k.heard = time.Now()
		}
		k.flying = append(k.flying, b)
		k.last++
		k.p.dispatchLocked(l)
		return b
	}
	return nil
}

var errAnswer = errors.New("the server answered something else than was asked")

// receive takes answers until the stream ends.
func (k *link) receive(stream grpc.BidiStreamingClient[quorlogv1.ProduceStreamRequest, quorlogv1.ProduceStreamResponse]) error {
	for {
		got, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return status.Error(codes.Unavailable, "the server ended the stream")
		}
		if err != nil {
			return err
		}
		if !k.answered(got) {
			return errAnswer
		}
	}
}

// answered takes in an answer. It reports whether that can be one.
func (k *link) answered(got *quorlogv1.ProduceStreamResponse) bool {
	o, leader := outcomeOf(got)
	k.p.mu.Lock()
	defer k.p.mu.Unlock()
	if n := uint64(len(k.flying)); n == 0 || got.GetId() != k.last-n+1 {
		return false
	}
	b := k.flying[0]
	k.flying = k.flying[1:]
	k.heard = time.Now()
	if leader != nil {
		k.movedLocked(b.lane, leader)
	}
	k.p.landLocked(b, o)
	return true
}

// movedLocked: the answer says that another node leads a partition. If the link should be that node's, it reached another one when it was
// opened; then it makes room for a new one.
func (k *link) movedLocked(l *lane, leader *quorlogv1.NotLeader) {
	if leader.GetLeader() < 0 {
		return
	}
	k.p.dir.learn(partitionKey{l.topic, l.partition}, leader.GetLeader())
	k.retired = k.retired || leader.GetLeader() == k.node && time.Since(k.opened) > retireTime
}

// outcomeOf is what an answer means, and the leader of the partition if that is another node.
func outcomeOf(got *quorlogv1.ProduceStreamResponse) (outcome, *quorlogv1.NotLeader) {
	failed := got.GetError()
	if batches := got.GetProduced().GetBatches(); len(batches) == 1 {
		b := batches[0]
		if failed = b.GetError(); failed == nil {
			return outcome{kind: stored, base: b.GetBaseOffset(), stamp: b.GetAppendTimeMs()}, b.GetLeader()
		}
	}
	if failed == nil {
		return outcome{kind: unsure, err: errAnswer}, nil
	}
	err := errorOf(failed)
	return outcome{kind: kindOf(err), base: -1, stamp: -1, err: err}, failed.GetNotLeader()
}

// brokenLocked: the stream has ended, and nobody will answer for what is in flight.
func (k *link) brokenLocked(err error) {
	k.p.mu.links = slices.DeleteFunc(k.p.mu.links, func(other *link) bool { return other == k })
	o := outcome{kind: kindOf(err), base: -1, stamp: -1, err: err}
	if o.kind != hopeless {
		o.kind = unsure
	}
	queue, flying := k.queue, k.flying
	k.queue, k.flying = nil, nil
	for _, l := range queue {
		l.queued, l.link = false, nil
		if o.kind == hopeless {
			k.p.finishLocked(l.abandon(err))
			continue
		}
		l.failures++
		k.p.holdLocked(l)
	}
	for _, b := range flying {
		b.lane.link, b.uncertain = nil, true
		k.p.landLocked(b, o)
	}
	k.p.dir.refresh()
}

// tendLocked ends the link if it is of no use (any more).
func (k *link) tendLocked(now time.Time) {
	quiet := now.Sub(k.heard)
	if len(k.flying) == 0 {
		if len(k.queue) == 0 && (k.retired || quiet > idleTime) {
			k.end()
		}
		return
	}
	if quiet < silence {
		return
	}
	l := k.flying[0].lane
	node, known := k.p.dir.leader(partitionKey{l.topic, l.partition})
	if quiet > answerTime+graceTime || known && node != k.node && k.node != anyNode {
		k.end()
		return
	}
	k.p.dir.refresh()
}
