package raftgroup

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/replication"
)

// transferTick is how often a transfer looks whether it can go on.
const transferTick = 2 * time.Millisecond

// electionPatience is how many election timeouts a transfer waits for a leader where its heir was not elected.
const electionPatience = 3

var (
	errTransferring = fmt.Errorf("%w: a transfer of the leadership is under way", replication.ErrNotLeader)
	errNotTaken     = fmt.Errorf("%w: the leadership was not taken over", replication.ErrUnknownOutcome)
	errNoHeir       = fmt.Errorf("%w: no other replica has a vote", replication.ErrUnknownOutcome)
	errNobodyLeads  = fmt.Errorf("%w: the leadership was given up, but nobody has it yet", replication.ErrUnknownOutcome)
)

// transfer hands a leadership over: it waits until the heir has everything, orders it to campaign at once, and waits until
// somebody was elected.
//
// Everything includes what was taken before the transfer began and is not stored yet. An heir that lacks it is refused by those
// that get it, and nobody leads until the next election; and whoever waits for it learns no outcome.
//
// Raft's own LeadershipTransfer is not used (v1.8.0). It asks the heir's replication goroutine to bring it up to date, through a
// channel with room for one. While that goroutine waits for an answer, as it does for seconds when the heir is gone, the
// question of a first transfer lies there, and a second one waits for room; until it gets it, the leader takes no entries, and
// if the leadership is lost meanwhile, it never gets it: from then on this replica wins elections and takes nothing.
type transfer struct {
	intake *intake
	leads  func() bool          // still, and in the same term
	whole  func() bool          // the heir has all that this leader has
	order  func() error         // tells the heir to campaign
	leader func() raft.ServerID // as this replica knows; empty for none
	ended  func() bool          // this replica is closed
	self   replication.ReplicaID
	limit  time.Duration
}

// run returns nil once another replica leads, whichever.
func (t transfer) run() error {
	if !t.intake.shut() {
		return errTransferring
	}
	err := t.lose()
	t.intake.reopen()
	if err != nil {
		return err
	}
	// The heir may have failed. A node that left now would take its vote away from the election that must come.
	limit, tick := time.NewTimer(electionPatience*t.limit), time.NewTicker(transferTick)
	defer limit.Stop()
	defer tick.Stop()
	for !t.ended() {
		switch t.leader() {
		case "":
		case serverID(t.self):
			return errNotTaken
		default:
			return nil
		}
		select {
		case <-limit.C:
			return errNobodyLeads
		case <-tick.C:
		}
	}
	return nil
}

// lose returns nil once the leadership is lost.
func (t transfer) lose() error {
	limit, tick := time.NewTimer(t.limit), time.NewTicker(transferTick)
	defer limit.Stop()
	defer tick.Stop()
	for !t.intake.empty() || !t.whole() {
		select {
		case <-limit.C:
			return errNotTaken
		case <-tick.C:
		}
		if !t.leads() {
			return nil
		}
	}
	ordered := make(chan error, 1)
	go func() { ordered <- t.order() }()
	for t.leads() {
		select {
		case err := <-ordered:
			if err != nil {
				return fmt.Errorf("%w: %w", errNotTaken, err)
			}
			ordered = nil // never again
		case <-limit.C:
			return errNotTaken
		case <-tick.C:
		}
	}
	return nil
}

// intake is how many proposals are without an answer. It can be shut for a while: then no other begins.
type intake struct {
	mu     sync.Mutex
	open   int
	closed bool
}

// enter counts a proposal that begins. It is false, and nothing is counted, while the intake is shut.
func (i *intake) enter() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.closed {
		i.open++
	}
	return !i.closed
}

// leave ends what enter began.
func (i *intake) leave() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.open--
}

// empty reports whether every proposal has its answer.
func (i *intake) empty() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.open == 0
}

// shut is false if the intake is shut already.
func (i *intake) shut() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	was := i.closed
	i.closed = true
	return !was
}

func (i *intake) reopen() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = false
}

// timeoutNow is the order to campaign at once.
func timeoutNow(self replication.ReplicaID) *raft.TimeoutNowRequest {
	id := []byte(self.String())
	return &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: id, Addr: id}}
}

// TransferLeadership hands the leadership over: to one replica, or to the most advanced one. It returns nil once another replica
// leads, and in any case within four election timeouts. Until this one has lost it nothing is taken: proposals are refused.
func (g *Group) TransferLeadership(to ...replication.ReplicaID) error {
	in := g.current()
	if in == nil {
		return errStopped
	}
	term := in.leading.Load()
	if term == 0 {
		return replication.ErrNotLeader
	}
	heir, ok := heirOf(g, to)
	if !ok {
		return errNoHeir
	}
	return transfer{
		intake: &in.intake,
		leads:  func() bool { return in.leading.Load() == term && !in.closing.Load() },
		whole:  func() bool { return g.Match(heir) >= g.o.Log.LastIndex() },
		order: func() error {
			w := wire{link: g.link, in: in}
			return w.TimeoutNow(serverID(heir), raft.ServerAddress(heir.String()), timeoutNow(g.o.Self), &raft.TimeoutNowResponse{})
		},
		leader: func() raft.ServerID { return leaderOf(in.node.Load()) },
		ended:  in.closing.Load,
		self:   g.o.Self,
		limit:  g.o.Timing.Election,
	}.run()
}

func leaderOf(node *raft.Raft) raft.ServerID {
	_, id := node.LeaderWithID()
	return id
}

// heirOf is the voter among those wanted, or among all, that has most of the log.
func heirOf(g *Group, wanted []replication.ReplicaID) (heir replication.ReplicaID, found bool) {
	var most log.Index
	for _, v := range g.Voters() {
		if v == g.o.Self || len(wanted) > 0 && v != wanted[0] {
			continue
		}
		if match := g.Match(v); !found || match > most {
			heir, most, found = v, match, true
		}
	}
	return heir, found
}

// Transfer hands the leadership to a voter.
func (g *MetaGroup) Transfer(to replication.ReplicaID) error {
	g.mu.Lock()
	term := g.mu.term
	g.mu.Unlock()
	if term == 0 {
		return replication.ErrNotLeader
	}
	closed := func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.mu.closed
	}
	return transfer{
		intake: &g.intake,
		leads: func() bool {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.mu.term == term && !g.mu.closed
		},
		whole: func() bool {
			behind, known := g.Behind(to)
			return known && behind == 0
		},
		order: func() error {
			return g.wire.TimeoutNow(serverID(to), raft.ServerAddress(to.String()), timeoutNow(g.o.Self), &raft.TimeoutNowResponse{})
		},
		leader: func() raft.ServerID { return leaderOf(g.raft) },
		ended:  closed,
		self:   g.o.Self,
		limit:  g.raft.ReloadableConfig().ElectionTimeout,
	}.run()
}
