package agent

import (
	"time"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/leaders"
	"github.com/quorlog/quorlog/replication/partition"
)

// isrInterval is how often the in-sync sets are looked at of what this node leads. They move by replica.lag.time.max.ms,
// which is seconds.
const isrInterval = 500 * time.Millisecond

// isrLoop tells the leadership table which replicas are in sync.
func (a *Agent) isrLoop() {
	tick := time.NewTicker(isrInterval)
	defer tick.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-tick.C:
		}
		for _, p := range a.partitions.All() {
			if p.Leading() {
				a.table.SetISR(p.ID(), p.ISR())
			}
		}
	}
}

// entryOf is what the leadership table is told of a change. A leader knows at once who is in sync: at first all voters are.
func (a *Agent) entryOf(c partition.LeaderChange) leaders.Entry {
	e := leaders.Entry{ID: c.ID, Leader: c.Leader}
	if p, ok := a.partitions.Get(c.ID); ok && c.Local && c.Leader.Node != replication.NoNode {
		e.ISR = p.ISR()
	}
	return e
}
