package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/quorlog/quorlog/grpcapi/keys"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"

	"golang.org/x/sync/semaphore"
)

const (
	// maxBatch bounds a batch, and so a record, in bytes: the server takes messages of 4 MiB.
	maxBatch = 4<<20 - 64<<10
	// bookkeeping is what a record under way takes in memory beside its message, in bytes.
	bookkeeping = 256
	// maxLanes bounds the partitions whose sequences are remembered.
	maxLanes = 100_000
	// The pause after a failure doubles with each in a row.
	leastPause, mostPause = 10 * time.Millisecond, time.Second
	// tendEvery is how often streams and batches are looked at that nobody answers for.
	tendEvery = 250 * time.Millisecond
)

// producer has records sent. Send puts them into the lane of their partition; a lane that has a batch ready waits in the queue of
// the link to its leader; the link sends, and what the server answers goes back to the lane.
type producer struct {
	o       Options
	dir     *directory
	records quorlogv1.RecordsClient
	room    *semaphore.Weighted // bytes
	ctx     context.Context     // ends with the client
	streams sync.WaitGroup      // what talks to servers
	running sync.WaitGroup      // the rest
	deliver chan struct{}       // there is something in mu.finished

	mu struct {
		sync.Mutex
		lanes       map[partitionKey]*lane
		links       []*link
		sticky      map[string]int32 // where records without a key go, by topic
		identity    identity
		identifying bool
		pending     int // records whose callback has not been called
		finished    []*batch
		flushed     []chan struct{} // closed when nothing is pending
		closed      bool            // nothing is taken any more
		ended       bool            // nothing will be finished any more
	}
}

func newProducer(ctx context.Context, o Options, dir *directory, records quorlogv1.RecordsClient) *producer {
	p := &producer{
		o: o, dir: dir, records: records, room: semaphore.NewWeighted(int64(o.Buffer)), ctx: ctx, deliver: make(chan struct{}, 1),
	}
	p.mu.lanes, p.mu.sticky = map[partitionKey]*lane{}, map[string]int32{}
	p.mu.identity = nobody
	p.running.Go(p.deliverAll)
	p.running.Go(p.tend)
	return p
}

// send takes a record.
func (p *producer) send(ctx context.Context, r *Record, done func(*Record, error)) error {
	size := r.size()
	if size > maxBatch || size+bookkeeping > p.o.Buffer || len(r.Headers) >= maxParts {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, size)
	}
	if i := slices.IndexFunc(r.Headers, func(h Header) bool { return !utf8.ValidString(h.Key) }); i >= 0 {
		// It would end the stream that others use, which can't know that nothing of the batch has left.
		return fmt.Errorf("%w: %.100q", ErrHeaderKey, r.Headers[i].Key)
	}
	topic, err := p.dir.topic(ctx, r.Topic, true)
	if err != nil {
		return err
	}
	cost := int64(size + bookkeeping)
	if err := p.room.Acquire(ctx, cost); err != nil {
		return p.dir.why(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err = p.sendLocked(r, done, size, topic.count)
	if err != nil {
		p.room.Release(cost)
	}
	return err
}

func (p *producer) sendLocked(r *Record, done func(*Record, error), size int, count int32) error {
	if p.mu.closed {
		return ErrClosed
	}
	partition, err := p.partitionLocked(r, count)
	if err != nil {
		return err
	}
	l, err := p.laneLocked(partitionKey{r.Topic, partition})
	if err != nil {
		return err
	}
	now := time.Now()
	if r.Partition = partition; r.Timestamp.IsZero() {
		r.Timestamp = now
	}
	l.add(sending{r, done}, size, p.o.BatchBytes, now.Add(p.o.DeliveryTimeout))
	p.mu.pending++
	p.dispatchLocked(l)
	return nil
}

// partitionLocked chooses a record's partition. Those without a key stay with one partition until the batch that they are in is
// sent, so that batches are large.
func (p *producer) partitionLocked(r *Record, count int32) (int32, error) {
	if p.o.Partitioner != nil {
		to := p.o.Partitioner(r, count)
		if to < 0 || to >= count {
			return 0, fmt.Errorf("%w: %d of %d", ErrPartition, to, count)
		}
		return to, nil
	}
	if r.Key != nil {
		return keys.Partition(r.Key, count), nil
	}
	to, known := p.mu.sticky[r.Topic]
	if l := p.mu.lanes[partitionKey{r.Topic, to}]; !known || to >= count || l == nil || l.open() == nil {
		to = rand.Int32N(count)
		p.mu.sticky[r.Topic] = to
	}
	return to, nil
}

// laneLocked is the lane of a partition. When there are too many, those that have nothing under way are forgotten; their sequences
// are lost with them, so that from then on lanes begin under another identity.
func (p *producer) laneLocked(key partitionKey) (*lane, error) {
	if l := p.mu.lanes[key]; l != nil {
		return l, nil
	}
	if len(p.mu.lanes) >= maxLanes {
		clear(p.mu.sticky)
		p.mu.identity = nobody
		for k, l := range p.mu.lanes {
			if len(l.batches) == 0 {
				delete(p.mu.lanes, k)
			}
		}
		if len(p.mu.lanes) >= maxLanes {
			return nil, ErrTooManyPartitions
		}
	}
	l := &lane{topic: key.topic, partition: key.partition, identity: nobody}
	p.mu.lanes[key] = l
	return l, nil
}

// dispatchLocked has the next batch of a lane sent, if one may be.
func (p *producer) dispatchLocked(l *lane) {
	if l.queued || p.mu.closed {
		return
	}
	if l.identity == nobody && len(l.batches) > 0 && l.inFlight == 0 {
		if p.mu.identity == nobody {
			p.identifyLocked()
			return
		}
		l.adopt(p.mu.identity)
	}
	if l.ready(p.o.BatchBytes/enoughShare) == nil {
		if l.identity == nobody && l.inFlight == 0 && len(l.batches) > 0 { // it has used up its epochs
			p.mu.identity = nobody
			p.identifyLocked()
		}
		return
	}
	best := p.linkLocked(l)
	if l.inFlight > 0 && l.link != best {
		return // what is in flight comes first; when it has landed, the lane goes over
	}
	l.link, l.queued = best, true
	best.queue = append(best.queue, l)
	best.poke()
}

// enoughShare is the share of a full batch that is sent while others are in flight.
const enoughShare = 4

// identifyLocked fetches a producer id for the lanes that have none.
func (p *producer) identifyLocked() {
	if p.mu.identifying || p.mu.closed {
		return
	}
	p.mu.identifying = true
	p.streams.Go(func() {
		id, err := p.identify()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.mu.identifying, p.mu.identity = false, id
		for _, l := range p.mu.lanes {
			if l.identity != nobody {
				continue
			}
			if err != nil {
				p.finishLocked(l.abandon(err))
			}
			p.dispatchLocked(l)
		}
	})
}

func (p *producer) identify() (identity, error) {
	for failures := 0; ; failures++ {
		ctx, cancel := context.WithTimeout(p.ctx, answerTime)
		got, err := p.records.InitProducer(ctx, &quorlogv1.InitProducerRequest{})
		cancel()
		switch {
		case err == nil:
			return identity{got.GetProducerId(), got.GetProducerEpoch()}, nil
		case p.ctx.Err() != nil:
			return nobody, ErrClosed
		case kindOf(err) == hopeless || kindOf(err) == missing:
			return nobody, err
		}
		select {
		case <-time.After(pause(failures)):
		case <-p.ctx.Done():
		}
	}
}

// pause is how long to wait after some failures in a row.
func pause(failures int) time.Duration {
	d := min(leastPause<<min(failures, 10), mostPause)
	return d/2 + rand.N(d)
}

// landLocked takes in what became of a batch in flight.
func (p *producer) landLocked(b *batch, o outcome) {
	l := b.lane
	failures := l.failures
	if o.kind == stale {
		p.mu.identity = nobody
	}
	p.finishLocked(l.land(b, o))
	if l.failures > failures {
		p.holdLocked(l)
		p.dir.refresh()
	}
	p.dispatchLocked(l)
}

// holdLocked has a lane wait for a moment.
func (p *producer) holdLocked(l *lane) {
	if l.held {
		return
	}
	l.held = true
	time.AfterFunc(pause(l.failures), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		l.held = false
		p.dispatchLocked(l)
	})
}

// finishLocked has the callbacks of batches called.
func (p *producer) finishLocked(batches []*batch) {
	if len(batches) == 0 {
		return
	}
	p.mu.finished = append(p.mu.finished, batches...)
	select {
	case p.deliver <- struct{}{}:
	default: // it will look
	}
}

// deliverAll calls the callbacks, one after the other.
func (p *producer) deliverAll() {
	for {
		p.mu.Lock()
		batches := p.mu.finished
		p.mu.finished = nil
		ended := p.mu.ended
		p.mu.Unlock()
		for _, b := range batches {
			p.deliverOne(b)
		}
		switch {
		case len(batches) > 0:
		case ended:
			return
		default:
			<-p.deliver
		}
	}
}

func (p *producer) deliverOne(b *batch) {
	for i, s := range b.records {
		if b.err == nil {
			if s.record.Offset = b.base + int64(i); b.base < 0 {
				s.record.Offset = -1
			}
			if b.stamp >= 0 {
				s.record.Timestamp = time.UnixMilli(b.stamp)
			}
		}
		s.done(s.record, b.err)
	}
	p.room.Release(int64(b.size + len(b.records)*bookkeeping))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.pending -= len(b.records); p.mu.pending == 0 {
		for _, f := range p.mu.flushed {
			close(f)
		}
		p.mu.flushed = nil
	}
}

// flush waits until nothing is pending.
func (p *producer) flush(ctx context.Context) error {
	p.mu.Lock()
	if p.mu.pending == 0 {
		p.mu.Unlock()
		return nil
	}
	done := make(chan struct{})
	p.mu.flushed = append(p.mu.flushed, done)
	p.mu.Unlock()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return p.dir.why(ctx.Err())
	}
}

// tend gives up on what takes too long, until the client is closed.
func (p *producer) tend() {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case now := <-tick.C:
			p.tendOnce(now)
		}
	}
}

func (p *producer) tendOnce(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range p.mu.links {
		k.tendLocked(now)
	}
	if p.mu.pending == 0 {
		return
	}
	for _, l := range p.mu.lanes {
		if len(l.batches) > 0 {
			p.finishLocked(l.expire(now))
			p.dispatchLocked(l)
		}
	}
}

// shut takes no more records.
func (p *producer) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.closed = true
}

// await waits until the streams have ended, as the client's context has, and fails what is not finished.
func (p *producer) await() {
	p.streams.Wait()
	p.mu.Lock()
	for _, l := range p.mu.lanes {
		p.finishLocked(l.abandon(ErrClosed))
	}
	p.mu.ended = true
	p.mu.Unlock()
	select {
	case p.deliver <- struct{}{}:
	default: // it will look
	}
	p.running.Wait()
}
