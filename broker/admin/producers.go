package admin

import (
	"context"
	"fmt"
	"sync"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// ProducerIdentity is what makes a producer idempotent (KIP-98).
type ProducerIdentity struct {
	ID    int64
	Epoch int16
}

// InitProducer is a request for an identity without a transactional id. ID and Epoch are -1 for a producer that has none yet.
type InitProducer struct{ ProducerIdentity }

// InitProducerID returns a fresh identity: an id that nobody in the cluster ever had, and epoch 0. A producer without a
// transactional id that already has an identity gets a fresh one too, as from Kafka: its old id can't be fenced, since
// nobody coordinates it.
func (s *Service) InitProducerID(ctx context.Context, r InitProducer) (ProducerIdentity, error) {
	none := ProducerIdentity{ID: -1, Epoch: -1}
	if (r.ID == -1) != (r.Epoch == -1) {
		return none, fmt.Errorf("%w: producer id and epoch must be given together", replication.ErrInvalidRequest)
	}
	id, err := s.producers.next(ctx)
	if err != nil {
		return none, err
	}
	return ProducerIdentity{ID: id}, nil
}

// producerIDs hands out ids from the blocks that the controller gives to this node. What is left of a block is lost when
// the node stops: ids are plenty, and none may ever be given twice.
type producerIDs struct {
	source Controller
	// fetching is held while a block is asked for, so that a crowd of producers takes one block, not one each. It is a
	// channel, not a mutex, because a waiting request must be able to give up.
	fetching chan struct{}

	mu struct {
		sync.Mutex
		next, end int64 // next <= end; the ids that are left are [next, end)
	}
}

func (p *producerIDs) init(source Controller) {
	p.source = source
	p.fetching = make(chan struct{}, 1)
}

func (p *producerIDs) take() (int64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.next == p.mu.end {
		return -1, false
	}
	p.mu.next++
	return p.mu.next - 1, true
}

func (p *producerIDs) next(ctx context.Context) (int64, error) {
	for {
		if id, ok := p.take(); ok {
			return id, nil
		}
		select {
		case p.fetching <- struct{}{}:
		case <-ctx.Done():
			return -1, ctx.Err()
		}
		err := p.refill(ctx)
		<-p.fetching
		if err != nil {
			return -1, err
		}
	}
}

// refill gets a block, unless another request got one meanwhile. The caller holds fetching.
func (p *producerIDs) refill(ctx context.Context) error {
	p.mu.Lock()
	left := p.mu.end - p.mu.next
	p.mu.Unlock()
	if left > 0 {
		return nil
	}
	first, count, err := p.source.AllocateProducerIDs(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.next, p.mu.end = first, first+int64(count)
	return nil
}

// ActiveProducers returns the producers that this node's replica of a partition remembers, whether it leads or follows. What a follower
// remembers may be old: it is for those who look for transactions that nobody ends, on one node after the other.
func (s *Service) ActiveProducers(topic string, index int32) ([]partition.ProducerState, error) {
	p, err := s.lookup().Lookup(topic, index)
	if err != nil {
		return nil, err
	}
	known := p.Producers()
	if err := p.Err(); err != nil {
		return nil, err
	}
	return known, nil
}
