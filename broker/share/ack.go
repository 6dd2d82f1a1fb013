package share

import (
	"context"
	"errors"

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
	acks := s.acknowledge(ctx, &r.Member, r.Partitions)
	if v.ended {
		s.release(r.Group, r.ID, v.partitions)
	}
	for _, a := range acks {
		res := AckResult{TopicPartition: a.TopicPartition, Err: a.wait(ctx), Leader: noLeader}
		if errors.Is(res.Err, replication.ErrNotLeader) {
			res.Leader = s.o.Logs.LeaderOf(a.TopicPartition)
		}
		out.Results = append(out.Results, res)
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

// acknowledge applies acknowledgements to all partitions that have some.
func (s *Service) acknowledge(ctx context.Context, m *Member, partitions []Wanted) []acknowledged {
	var out []acknowledged
	settings := s.o.Settings(m.Group).Settings
	for i := range partitions {
		w := &partitions[i]
		if len(w.Acks) == 0 {
			continue
		}
		a := acknowledged{TopicPartition: w.TopicPartition}
		a.stored, a.err = s.use(ctx, Key{m.Group, w.Topic, w.Partition}, func(_ *tracked, p *Partition) error {
			p.Configure(settings)
			return p.Acknowledge(s.now(), m.ID, w.Acks)
		})
		out = append(out, a)
	}
	return out
}
