package agent

import (
	"context"
	"time"

	"github.com/quorlog/quorlog/replication"
)

const (
	// convergeInterval is how often the groups led here are held against the assignments.
	convergeInterval = 500 * time.Millisecond
	// finishPatience bounds how long the controller may take to note that a reassignment is over; it is tried again.
	finishPatience = 5 * time.Second
	// balanceStep is how many leaderships go back to their preferred replicas before a pause: slowly, since each move costs its
	// partition's clients some milliseconds, but a node that was restarted should not idle for hours.
	balanceStep  = 16
	balancePause = time.Second
)

// moveLoop brings replicas and leaderships to where they are to be: reassignments, nodes that are drained or whose disk is full,
// damaged replicas.
func (a *Agent) moveLoop() {
	tick := time.NewTicker(convergeInterval)
	defer tick.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-tick.C:
		}
		a.partitions.Converge(a.ctx, a.finishMove)
		if a.draining() || a.partitions.Full() {
			ctx, cancel := context.WithTimeout(a.ctx, handOverPatience)
			a.partitions.HandOver(ctx, a.mayLead)
			cancel()
		}
		a.renewDamaged()
	}
}

// finishMove tells the controller that a partition's replicas are what they are to be.
func (a *Agent) finishMove(id replication.PartitionID, voters []replication.ReplicaID) {
	ctx, cancel := context.WithTimeout(a.ctx, finishPatience)
	defer cancel()
	if err := a.controller.FinishReassignment(ctx, id, voters); err != nil {
		a.logger.Info("a reassignment is over, but not noted yet", "partition", id.String(), "error", err)
	}
}

// mayLead tells whether leaderships may be handed to a node.
func (a *Agent) mayLead(id replication.NodeID) bool {
	if s, ok := a.table.Status(id); ok && (s.Draining || s.LowSpace) {
		return false
	}
	return a.table.Alive(id) && !a.machine.Image().Draining(id)
}

// renewDamaged has replicas begin again whose files are damaged, where another node leads the partition and so has all that was
// acknowledged. Their files stay until the new incarnation begins.
func (a *Agent) renewDamaged() {
	for _, p := range a.partitions.All() {
		if p.Err() == nil {
			continue
		}
		leader, _, ok := a.table.Leader(p.ID())
		if !ok || leader.Node == a.node.NodeID || len(p.Assignment().Replicas) < 3 || p.Assignment().Adding != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(a.ctx, finishPatience)
		renewed, err := a.controller.RenewReplica(ctx, p.ID(), p.Replica())
		cancel()
		if err != nil {
			a.logger.Info("a damaged replica does not begin again yet", "topic", p.Topic(), "partition", p.ID().Partition, "error", err)
			continue
		}
		a.logger.Warn("a damaged replica begins again from the others", "topic", p.Topic(), "partition", p.ID().Partition,
			"damage", p.Err(), "new", renewed.String())
	}
}

// balanceLoop moves leaderships back to the preferred replicas.
func (a *Agent) balanceLoop() {
	tick := time.NewTicker(time.Duration(a.layers.Int("leader.imbalance.check.interval.seconds")) * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-tick.C:
		}
		a.balance()
	}
}

// balance hands leaderships over, some at a time, until all are where they are to be.
func (a *Agent) balance() {
	pause := time.NewTicker(balancePause)
	defer pause.Stop()
	for a.controller.Image().Layers().Bool("auto.leader.rebalance.enable") && !a.draining() && !a.partitions.Full() {
		if a.partitions.Balance(a.ctx, a.mayLead, balanceStep) < balanceStep {
			return
		}
		select {
		case <-a.ctx.Done():
			return
		case <-pause.C:
		}
	}
}
