package membership

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/serf/serf"

	"github.com/quorlog/quorlog/replication"
)

// errStranger makes memberlist drop what comes from another cluster.
var errStranger = errors.New("membership: of another cluster")

// report is something to tell of, once in a while.
type report struct {
	known, other Member
	stranger     bool
}

// seen tells one report's subject from another's.
type seen struct {
	node      replication.NodeID
	directory [16]byte
	stranger  bool
}

const (
	// repeatAfter is how often the same report is made: a stranger knocks many times a minute.
	repeatAfter = 30 * time.Second
	// remembered bounds what is known about past reports; beyond it all is forgotten, and reported again.
	remembered = 256
)

// wake makes notify look.
func (g *Gossip) wake() {
	select {
	case g.changed <- struct{}{}:
	default: // it will look anyway
	}
}

// drain empties Serf's events. Each only means "look again"; so one that is lost at the end costs nothing.
func (g *Gossip) drain() {
	ended := g.serf.Load().ShutdownCh()
	for {
		select {
		case <-g.events:
			g.wake()
		case <-ended:
			return
		}
	}
}

// notify calls everybody else's code.
func (g *Gossip) notify() {
	last := map[seen]time.Time{}
	for {
		select {
		case <-g.ctx.Done():
			return
		case r := <-g.reports:
			key := seen{r.other.Node, r.other.Directory, r.stranger}
			now := g.o.Now()
			if at, ok := last[key]; ok && now.Sub(at) < repeatAfter {
				continue
			}
			if len(last) >= remembered {
				clear(last)
			}
			last[key] = now
			g.tell(r)
		case <-g.changed:
			g.mu.Lock()
			watchers := slices.Collect(maps.Values(g.mu.watchers))
			g.mu.Unlock()
			for _, fn := range watchers {
				fn()
			}
		}
	}
}

func (g *Gossip) tell(r report) {
	if r.stranger {
		g.logger.Error("a node of another cluster was refused", "node", int(r.other.Node), "address", r.other.Addr, "gossip", r.other.Gossip,
			"its_cluster", r.other.Cluster, "our_cluster", r.known.Cluster)
		if g.o.OnStranger != nil {
			g.o.OnStranger(r.other)
		}
		return
	}
	g.logger.Error("two live nodes have the same id; the second one is ignored", "node", int(r.other.Node),
		"address", r.known.Addr, "gossip", r.known.Gossip, "other_address", r.other.Addr, "other_gossip", r.other.Gossip)
}

func (g *Gossip) report(r report) {
	select {
	case g.reports <- r:
	default: // it comes again
	}
}

// merger judges members before memberlist takes them: all of a node that joins, and each that is said to be alive.
type merger struct{ g *Gossip }

// NotifyMerge implements serf.MergeDelegate. It is called under memberlist's lock and must not wait.
func (m merger) NotifyMerge(members []*serf.Member) error {
	self := m.g.Self()
	for _, sm := range members {
		other, ok := memberOf(*sm)
		if !ok {
			return fmt.Errorf("membership: %q is no node of ours", sm.Name)
		}
		if self.Cluster != "" && other.Cluster != "" && other.Cluster != self.Cluster {
			m.g.report(report{known: self, other: other, stranger: true})
			return fmt.Errorf("%w: node %d at %s is of cluster %s, this node of %s", errStranger, other.Node, other.Addr, other.Cluster, self.Cluster)
		}
		if len(members) == 1 {
			m.g.compare(self, other)
		}
	}
	return nil
}

// compare notices a second node with the id of one that is alive, and a member that is back under another address. The list of
// a joining node does not say who of it is alive, so only single members, of alive messages, are compared; who joins alone is alive too.
func (g *Gossip) compare(self, other Member) {
	known, ok := g.knownAlive(self, other.Node)
	switch {
	case !ok || known.Gossip == other.Gossip:
		// Whoever has the same address has taken the place of the other. (This node's own former life is still told of, too.)
	case known.Directory != other.Directory:
		g.report(report{known: known, other: other})
	case other.Node != self.Node && other.boot > known.boot:
		g.mu.Lock()
		g.mu.moved[other.Node] = moved{other, g.o.Now().Add(movedFor)}
		g.mu.Unlock()
		g.wake()
	}
}

func (g *Gossip) knownAlive(self Member, node replication.NodeID) (Member, bool) {
	s := g.serf.Load()
	if s == nil {
		return Member{}, false // Serf tells itself about this node
	}
	for _, sm := range s.Members() {
		if m, ok := memberOf(sm); ok && m.Node == node && m.Status == Alive {
			return m, true
		}
	}
	return self, node == self.Node
}
