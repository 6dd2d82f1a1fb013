package agent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// catchingUpAtStart says, until it is not so any more, that replicas of this node have yet to catch up with what they missed while
// it was down, or with everything, if its disk was lost. A rolling restart waits for that, or the next node takes the only others
// that have all of it along. Afterwards it is silent for good: a replica that lags later, or comes new, is no reason to keep
// clients away from all others.
func catchingUpAtStart(ctx context.Context, a *Agent) string {
	if a.caughtUp.Load() {
		return ""
	}
	var mine []replication.PartitionID
	local := map[replication.PartitionID]*partition.Partition{}
	for _, p := range a.partitions.All() {
		if p.Err() == nil { // a damaged one is told of elsewhere, until it is renewed
			mine, local[p.ID()] = append(mine, p.ID()), p
		}
	}
	behind, certain := behindOf(a.node.NodeID, mine, func(id replication.PartitionID) ([]replication.NodeID, bool) {
		_, isr, known := a.table.Leader(id)
		return isr, known
	})
	if behind == 0 {
		behind = a.missed.behind(ctx, a, local)
	}
	if behind == 0 {
		a.caughtUp.CompareAndSwap(false, certain)
		return ""
	}
	return fmt.Sprintf("%d of %d have yet to catch up", behind, len(mine))
}

// behindOf counts the partitions that a node has a replica of that is not in sync. It is certain only if all leaders are known.
func behindOf(self replication.NodeID, mine []replication.PartitionID, inSync func(replication.PartitionID) ([]replication.NodeID, bool)) (behind int, certain bool) {
	certain = true
	for _, id := range mine {
		isr, known := inSync(id)
		switch {
		case !known:
			certain = false
		case !slices.Contains(isr, self):
			behind++
		}
	}
	return behind, certain
}

// missed is what the leaders had when this node first asked them after its start. That it is in sync does not say that it has that: a leader
// strikes nobody who is back within replica.lag.time.max.ms.
type missed struct {
	mu struct {
		sync.Mutex
		marks map[replication.PartitionID]batch.Offset
		asked chan struct{} // closed when who asks has the answers; nil while nobody asks
	}
}

// askMarks asks the leaders of partitions for their high watermarks. What is not known within lagPatience is left out.
type askMarks func(of []replication.PartitionID) map[replication.PartitionID]batch.Offset

// behind counts the replicas that do not have what they missed, or whose leaders have yet to say what that is.
func (m *missed) behind(ctx context.Context, a *Agent, local map[replication.PartitionID]*partition.Partition) (count int) {
	var followed []replication.PartitionID
	for id, p := range local {
		if !p.Leading() {
			followed = append(followed, id)
		}
	}
	marks := m.learn(ctx, followed, func(of []replication.PartitionID) map[replication.PartitionID]batch.Offset {
		return watermarks(a.ctx, a, of)
	})
	for id, p := range local {
		at, ok := partition.PositionOf(p)
		mark, known := marks[id]
		if !known && !p.Leading() || known && (!ok || at.HighWatermark < mark) {
			count++
		}
	}
	return count
}

// learn asks for what is not known of some partitions, and returns what is known then. All who come meanwhile wait for the same answers,
// each no longer than its ctx: a leader that is silent would else keep probes waiting one after the other, and a probe that gives up those
// that would not.
func (m *missed) learn(ctx context.Context, of []replication.PartitionID, ask askMarks) map[replication.PartitionID]batch.Offset {
	if asked := m.ask(of, ask); asked != nil {
		select {
		case <-asked:
		case <-ctx.Done():
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.mu.marks)
}

// ask has the leaders asked, unless they are being asked or all is known. What it returns is closed when the answers are there; nil: they are.
func (m *missed) ask(of []replication.PartitionID, ask askMarks) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	var unknown []replication.PartitionID
	for _, id := range of {
		if _, known := m.mu.marks[id]; !known {
			unknown = append(unknown, id)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	if m.mu.asked != nil {
		return m.mu.asked
	}
	asked := make(chan struct{})
	m.mu.asked = asked
	go func() {
		answers := ask(unknown)
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.mu.marks == nil {
			m.mu.marks = map[replication.PartitionID]batch.Offset{}
		}
		maps.Copy(m.mu.marks, answers)
		m.mu.asked = nil
		close(asked)
	}()
	return asked
}
