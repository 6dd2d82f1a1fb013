package raftgroup

//quorlog:bubble simulate and its kind run every test of this file in one

import (
	"flag"
	"math"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

var (
	chaosSeeds = flag.Int("chaos.seeds", 20, "number of chaos runs")
	chaosFirst = flag.Uint64("chaos.first", 1, "first seed of the chaos runs")
	chaosSteps = flag.Int("chaos.steps", 40, "steps of a chaos run")
)

// chaos is a run of random events. What must hold: nothing that was acknowledged is lost or moved, an epoch has one leader, a
// watermark never goes back (sim checks these as it goes), and in the end all replicas converge without a restart.
type chaos struct {
	*sim
	acked [][]byte
}

func TestChaos(t *testing.T) {
	for i := range *chaosSeeds {
		seed := *chaosFirst + uint64(i)
		if t.Failed() {
			return
		}
		inBubble(t, func(t *testing.T) {
			c := &chaos{sim: newSim(t, 3, seed)}
			defer c.close()
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			c.leader()
			for range *chaosSteps {
				c.step()
				if t.Failed() {
					return
				}
			}
			c.settle()
		})
	}
}

func (c *chaos) step() {
	n := c.nodes[c.rng.IntN(len(c.nodes))]
	switch c.rng.IntN(12) {
	case 0, 1, 2, 3:
		c.write()
	case 4:
		n.isolate()
	case 5:
		a, b := c.nodes[c.rng.IntN(3)], c.nodes[c.rng.IntN(3)]
		c.net.Cut(addr(a.id), addr(b.id))
	case 6:
		c.connectAll()
	case 7:
		c.restart(n)
	case 8:
		c.crashInTheMiddle(n)
	case 9, 10:
		c.retain(n)
	case 11:
		time.Sleep(time.Duration(c.rng.IntN(1500)) * time.Millisecond)
	}
	time.Sleep(time.Duration(c.rng.IntN(300)) * time.Millisecond)
}

// running are the machines that are on, for Cut and Join the others do not matter.
func (c *chaos) running(n *simNode) bool { return n.group != nil }

func (c *chaos) connectAll() {
	for _, n := range c.nodes {
		if c.running(n) {
			n.connect()
		}
	}
}

// write produces at whoever believes to lead; a deposed leader too, whose batches must not be acknowledged.
func (c *chaos) write() {
	for _, n := range c.nodes {
		if n.leads() {
			c.acked = append(c.acked, n.produce(1+c.rng.IntN(30))...)
		}
	}
}

// restart cuts the power, at rest, and turns the machine on again.
func (c *chaos) restart(n *simNode) {
	if !c.running(n) {
		return
	}
	n.crash(vfs.CrashOptions{Survive: -1, Garbage: c.rng.IntN(2) == 0, Kill: c.rng.IntN(3) == 0})
	time.Sleep(time.Duration(c.rng.IntN(1000)) * time.Millisecond)
	n.start()
	n.connect()
}

// crashInTheMiddle cuts the power at some call of the file system that is to come.
func (c *chaos) crashInTheMiddle(n *simNode) {
	if !c.running(n) {
		return
	}
	image := n.crashAt("", 1+c.rng.IntN(20))
	c.write()
	time.Sleep(time.Duration(c.rng.IntN(1000)) * time.Millisecond)
	n.in.Disarm()
	disk := image()
	if disk == nil {
		return
	}
	n.abandon()
	n.disk, n.in = disk, vfs.Inject(disk)
	n.start()
	n.connect()
}

// retain advances the log start at the leader, and drops segments at one replica only.
func (c *chaos) retain(n *simNode) {
	for _, l := range c.nodes {
		if !l.leads() {
			continue
		}
		o := l.log.Offsets()
		start := o.LogStart + batch.Offset(c.rng.Int64N(int64(o.HighWatermark-o.LogStart)+1))
		_, _ = l.group.Propose(log.InternalFrame(log.KindLogStart, log.EncodeLogStart(start))).Wait()
	}
	if c.running(n) {
		_, _ = n.log.DropSegments()
		_ = n.log.Checkpoint(math.MaxUint64)
	}
}

// settle heals everything; all replicas must come to the same, and hold what was acknowledged.
func (c *chaos) settle() {
	for _, n := range c.nodes {
		n.in.Disarm()
	}
	c.net.Heal()
	c.converge(2 * time.Minute)
	for _, n := range c.nodes {
		c.find(n, c.acked)
		if f := n.failed(); len(f) > 0 {
			c.t.Errorf("node %d failed: %v", n.id.Node, f)
		}
	}
}
