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
func catchingUpAtStart(a *Agent) string {
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
		behind = a.missed.behind(a, local)
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
	}
}

// behind counts the replicas that do not have what they missed, or whose leaders have yet to say what that is.
func (m *missed) behind(a *Agent, local map[replication.PartitionID]*partition.Partition) (count int) {
	m.mu.Lock()
	defer m.mu.Unlock() // asks other nodes; whoever comes meanwhile waits for their answers too
	if m.mu.marks == nil {
		m.mu.marks = map[replication.PartitionID]batch.Offset{}
	}
	var unknown []replication.PartitionID
	for id, p := range local {
		if _, known := m.mu.marks[id]; !known && !p.Leading() {
			unknown = append(unknown, id)
		}
	}
	if len(unknown) > 0 {
		answers := watermarks(context.Background(), a, unknown)
		maps.Copy(m.mu.marks, answers)
		count = len(unknown) - len(answers)
	}
	for id, p := range local {
		at, ok := partition.PositionOf(p)
		if mark, known := m.mu.marks[id]; known && (!ok || at.HighWatermark < mark) {
			count++
		}
	}
	return count
}
