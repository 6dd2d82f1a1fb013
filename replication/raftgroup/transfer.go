package raftgroup

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/replication"
)

// transferTick is how often a transfer looks whether it can go on.
const transferTick = 2 * time.Millisecond

var (
	errTransferring = fmt.Errorf("%w: a transfer of the leadership is under way", replication.ErrNotLeader)
	errNotTaken     = fmt.Errorf("%w: the leadership was not taken over", replication.ErrUnknownOutcome)
	errNoHeir       = fmt.Errorf("%w: no other replica has a vote", replication.ErrUnknownOutcome)
)

// transfer hands a leadership over: it waits until the heir has everything, orders it to campaign at once, and waits until it
// was elected.
//
// Raft's own LeadershipTransfer is not used (v1.8.0). It asks the heir's replication goroutine to bring it up to date, through a
// channel with room for one. While that goroutine waits for an answer, as it does for seconds when the heir is gone, the
// question of a first transfer lies there, and a second one waits for room; until it gets it, the leader takes no entries, and
// if the leadership is lost meanwhile, it never gets it: from then on this replica wins elections and takes nothing.
type transfer struct {
	leads func() bool  // still, and in the same term
	whole func() bool  // the heir has all that this leader has
	order func() error // tells the heir to campaign
	limit time.Duration
}

// run returns nil once the leadership is lost, to whomever.
func (t transfer) run() error {
	limit, tick := time.NewTimer(t.limit), time.NewTicker(transferTick)
	defer limit.Stop()
	defer tick.Stop()
	for !t.whole() {
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

// timeoutNow is the order to campaign at once.
func timeoutNow(self replication.ReplicaID) *raft.TimeoutNowRequest {
	id := []byte(self.String())
	return &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: id, Addr: id}}
}

// TransferLeadership hands the leadership over: to one replica, or to the most advanced one. It returns once this replica does
// not lead any more, and within an election timeout. Meanwhile nothing is taken: proposals are refused.
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
	if !in.handing.CompareAndSwap(false, true) {
		return errTransferring
	}
	defer in.handing.Store(false)
	return transfer{
		leads: func() bool { return in.leading.Load() == term && !in.closing.Load() },
		whole: func() bool { return g.Match(heir) >= g.o.Log.LastIndex() },
		order: func() error {
			w := wire{link: g.link, in: in}
			return w.TimeoutNow(raft.ServerID(heir.String()), raft.ServerAddress(heir.String()), timeoutNow(g.o.Self), &raft.TimeoutNowResponse{})
		},
		limit: g.o.Timing.Election,
	}.run()
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
	return transfer{
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
		limit: g.raft.ReloadableConfig().ElectionTimeout,
	}.run()
}
