package share

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/replication"
)

// Acknowledge answers a ShareAcknowledge, once all that it changes is durable. An error means that ctx has ended.
func (s *Service) Acknowledge(ctx context.Context, r *AckRequest) (*AckResponse, error) {
	out := &AckResponse{Lock: s.o.Settings(r.Group).LockDuration}
	if r.Epoch == NewSession {
		out.Err = ErrInvalidSessionEpoch // sessions begin with a fetch
		return out, nil
	}
	for i := range r.Partitions {
		if out.Err = CheckAcks(r.Partitions[i].Acks, r.Renew); out.Err != nil {
			return out, nil
		}
	}
	v, err := s.begin(ctx, &r.Member, nil, nil, false)
	if err != nil {
		out.Err = err
		return out, ctx.Err()
	}
	acks := s.acknowledge(&r.Member, r.Partitions, nil)
	if v.ended {
		s.release(r.Group, r.ID, v.partitions)
	}
	for _, a := range acks {
		res := AckResult{TopicPartition: a.TopicPartition, Err: a.wait(ctx), Leader: replication.NoLeader}
		if errors.Is(res.Err, replication.ErrNotLeader) {
			res.Leader = s.o.Logs.LeaderOf(a.TopicPartition)
		}
		out.Results = append(out.Results, res)
	}
	if v.ended {
		s.left(r.Group)
	}
	return out, ctx.Err()
}

// acknowledged are acknowledgements of a partition that are applied, but perhaps not durable yet.
type acknowledged struct {
	TopicPartition
	err    error
	stored func(context.Context) error
}

func (a *acknowledged) wait(ctx context.Context) error {
	if a.err != nil {
		return a.err
	}
	return told(a.stored(ctx))
}

// acknowledge applies acknowledgements to all partitions that have some. Of one that is being loaded nobody has acquired anything:
// locks end when a share-partition is given up.
func (s *Service) acknowledge(m *Member, partitions []Wanted, denied func(replication.TopicID) bool) []acknowledged {
	var out []acknowledged
	settings := s.o.Settings(m.Group).Settings
	for i := range partitions {
		w := &partitions[i]
		if len(w.Acks) == 0 {
			continue
		}
		a := acknowledged{TopicPartition: w.TopicPartition}
		if denied != nil && denied(w.Topic) {
			a.err = broker.ErrTopicDenied
			out = append(out, a)
			continue
		}
		a.stored, a.err = s.use(Key{m.Group, w.Topic, w.Partition}, func(_ *tracked, p *Partition) error {
			p.Configure(settings)
			return p.Acknowledge(s.now(), m.ID, w.Acks)
		})
		if errors.Is(a.err, errLoading) {
			a.err = fmt.Errorf("%w: %w", ErrInvalidRecordState, a.err)
		}
		out = append(out, a)
	}
	return out
}
