package agent

import (
	"fmt"
	"slices"

	"github.com/quorlog/quorlog/replication"
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
	for _, p := range a.partitions.All() {
		if p.Err() == nil { // a damaged one is told of elsewhere, until it is renewed
			mine = append(mine, p.ID())
		}
	}
	behind, certain := behindOf(a.node.NodeID, mine, func(id replication.PartitionID) ([]replication.NodeID, bool) {
		_, isr, known := a.table.Leader(id)
		return isr, known
	})
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
