package partition

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorlog/quorlog/replication"
)

const (
	// handOverParallel is how many leaderships are handed over at the same time.
	handOverParallel = 16
	// handOverPause lies between attempts to hand over what nobody would take.
	handOverPause = 50 * time.Millisecond
	// preferredEntries is how many entries the preferred replica may lack of the leader's log when it is to take over.
	preferredEntries = 1024
)

// ErrNoHeir: no other replica can take the leadership over.
var ErrNoHeir = errors.New("partition: no other replica is in sync")

// TransferLeadership hands the leadership to another node. It returns nil when another one leads, which after a failed election may
// be a third, or why none does.
func (p *Partition) TransferLeadership(ctx context.Context, to replication.NodeID) error {
	if err := p.offlineErr(); err != nil {
		return err
	}
	if !p.Leading() {
		return replication.ErrNotLeader
	}
	for _, r := range p.group.Voters() {
		if r.Node == to {
			return mover{p}.transfer(ctx, r)
		}
	}
	return fmt.Errorf("%w: node %d has no vote", ErrNoHeir, to)
}

func (p mover) transfer(ctx context.Context, to replication.ReplicaID) error {
	done := make(chan error, 1)
	go func() { done <- p.group.TransferLeadership(to) }() // ends within a few election timeouts
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// heirs are the voters that could lead, the most advanced first.
func (p mover) heirs(may func(replication.NodeID) bool) []replication.ReplicaID {
	inSync := p.group.InSync(p.m.o.ReplicaLag)
	target := p.Assignment().Target()
	heirs := slices.DeleteFunc(p.group.Voters(), func(r replication.ReplicaID) bool {
		return r == p.self || !slices.Contains(inSync, r) || !slices.Contains(target, r) || may != nil && !may(r.Node)
	})
	slices.SortStableFunc(heirs, func(a, b replication.ReplicaID) int {
		return int(p.group.Match(b)) - int(p.group.Match(a))
	})
	return heirs
}

// handOver gives the leadership to the most advanced replica that may have it.
func (p mover) handOver(ctx context.Context, may func(replication.NodeID) bool) error {
	err := ErrNoHeir
	for _, r := range p.heirs(may) {
		if err = p.transfer(ctx, r); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// HandOver gives away every leadership of this node that another one may have, and returns when none is left, or when ctx
// ends, how many went and how many stayed. A partition without another replica in sync keeps its leader.
func (m *Manager) HandOver(ctx context.Context, may func(replication.NodeID) bool) (handed, kept int) {
	var g errgroup.Group
	var went, stayed atomic.Int64
	g.SetLimit(handOverParallel)
	for _, part := range m.All() {
		p := mover{part}
		if !p.Leading() || p.offlineErr() != nil || len(p.group.Voters()) < 2 {
			continue
		}
		g.Go(func() error {
			defer func() {
				if p.Leading() {
					stayed.Add(1)
				} else {
					went.Add(1)
				}
			}()
			for p.Leading() && ctx.Err() == nil {
				err := p.handOver(ctx, may)
				if err == nil {
					continue // Leading tells
				}
				if errors.Is(err, ErrNoHeir) {
					p.logger.Debug("the leadership stays: nobody can take it over")
					return nil
				}
				select {
				case <-ctx.Done():
				case <-time.After(handOverPause):
				}
			}
			return nil
		})
	}
	_ = g.Wait() // no error is returned
	return int(went.Load()), int(stayed.Load())
}

// Balance hands leaderships to the preferred replicas of their partitions, where these are in sync and may lead, at most limit
// of them. It returns how many it handed over.
//
// A node that did not take one over is not asked again in this pass: one that hangs is in sync for a while yet, and each attempt
// keeps a partition from taking batches for an election timeout.
func (m *Manager) Balance(ctx context.Context, may func(replication.NodeID) bool, limit int) (moved int) {
	var refused []replication.NodeID
	for _, part := range m.All() {
		p := mover{part}
		if moved >= limit || ctx.Err() != nil {
			return moved
		}
		if !p.Leading() || p.offlineErr() != nil {
			continue
		}
		target := p.Assignment().Target()
		if len(target) == 0 || target[0] == p.self || !may(target[0].Node) || slices.Contains(refused, target[0].Node) || p.moving() {
			continue
		}
		best := target[0]
		if !slices.Contains(p.heirs(may), best) || p.group.Match(best)+preferredEntries < p.log.LastIndex() {
			continue
		}
		if err := p.transfer(ctx, best); err != nil {
			refused = append(refused, best.Node)
			p.logger.Info("the preferred replica did not take over", "replica", best.String(), "error", err)
			continue
		}
		moved++
	}
	return moved
}
