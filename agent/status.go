package agent

import (
	"context"
	"strconv"
	"time"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/leaders"
)

// statusInterval is how often a node looks at what the others should know of it; they are told only what has changed.
const statusInterval = 200 * time.Millisecond

// undrainPause lies between attempts to take a drain back while no controller can be reached.
const undrainPause = time.Second

// statusLoop keeps the other nodes informed.
func (a *Agent) statusLoop() {
	tick := time.NewTicker(statusInterval)
	defer tick.Stop()
	applied := make(chan struct{}, 1)
	defer a.controller.Watch(func(_, _ *controller.Image) {
		select {
		case applied <- struct{}{}:
		default:
		}
	})()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-applied: // others wait for it
		case <-tick.C:
		}
		a.tellStatus()
	}
}

// tellStatus tells the other nodes how this one is.
func (a *Agent) tellStatus() {
	a.table.UpdateStatus(func(s *leaders.NodeStatus) {
		s.MetaApplied, s.Draining, s.Version = a.machine.Applied(), a.draining(), a.config.Version
		s.LowSpace = a.partitions != nil && a.partitions.Full()
	})
	low := map[replication.NodeID]bool{}
	for id := range a.machine.Image().Nodes {
		if s, ok := a.table.Status(id); ok && s.LowSpace {
			low[id] = true
		}
	}
	a.low.Store(&low)
}

// lowSpace tells that a node's disk is nearly full, as far as it was connected and said so. It is asked for each batch.
func (a *Agent) lowSpace(id replication.NodeID) bool {
	low := a.low.Load()
	return low != nil && (*low)[id]
}

// draining reports whether this node gives its leaderships away: it is asked to, or it stops.
func (a *Agent) draining() bool {
	return a.stopping.Load() || a.machine.Image().Draining(a.node.NodeID)
}

// undrain takes back a drain that was to last until this node starts, which it does now.
func undrain(a *Agent) {
	r := controller.Resource{Type: controller.BrokerResource, Name: strconv.Itoa(int(a.node.NodeID))}
	for a.machine.Image().DrainingUntilRestart(a.node.NodeID) {
		ctx, cancel := context.WithTimeout(a.ctx, finishPatience)
		err := a.controller.AlterConfigs(ctx, r, []controller.ConfigOp{{Name: controller.DrainSetting, Op: controller.OpDelete}}, false)
		cancel()
		if err == nil {
			a.logger.Info("the drain until this start is over")
			return
		}
		select {
		case <-a.ctx.Done():
			return
		case <-time.After(undrainPause):
		}
	}
}
