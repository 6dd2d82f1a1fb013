package raftgroup

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/replication"
)

// lead is what the group knows of its leadership.
type lead struct {
	mu      sync.Mutex // held over Owner.Led, so that its calls have an order
	leader  replication.Leader
	local   bool
	applied log.Epoch // of the newest epoch entry applied in this life, and whose it is
	named   replication.ReplicaID
}

// announcePause is how long a new leader waits until it proposes its epoch again, where Raft would not take it.
const announcePause = 10 * time.Millisecond

// An epoch entry's payload: the leader's node 4 | its incarnation 4. Its epoch is the entry's term.
func encodeEpoch(r replication.ReplicaID) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(r.Node))
	return log.InternalFrame(log.KindEpoch, binary.BigEndian.AppendUint32(b, uint32(r.Incarnation)))
}

func decodeEpoch(frame []byte) (replication.ReplicaID, error) {
	_, b, err := log.ParseInternal(frame)
	if err != nil {
		return replication.ReplicaID{}, err
	}
	if len(b) != 8 {
		return replication.ReplicaID{}, fmt.Errorf("%w: epoch payload of %d bytes", log.ErrFrame, len(b))
	}
	return replication.ReplicaID{
		Node: replication.NodeID(binary.BigEndian.Uint32(b)), Incarnation: replication.Incarnation(binary.BigEndian.Uint32(b[4:])),
	}, nil
}

// parseReplica reads a Raft server id.
func parseReplica(id raft.ServerID) (replication.ReplicaID, bool) {
	node, incarnation, ok := strings.Cut(string(id), ".")
	n, err1 := strconv.ParseInt(node, 10, 32)
	i, err2 := strconv.ParseUint(incarnation, 10, 32)
	if !ok || err1 != nil || err2 != nil {
		return replication.ReplicaID{}, false
	}
	return replication.ReplicaID{Node: replication.NodeID(n), Incarnation: replication.Incarnation(i)}, true
}

// observe hears of Raft's changes of state, on the goroutine that makes them (its main one, or that of Shutdown). It must
// not wait: not even for the owner's append lock, which is held while an append waits for Raft's main goroutine.
func (g *Group) observe(in *instance, o *raft.Observation) bool {
	switch data := o.Data.(type) {
	case raft.RaftState:
		if data == raft.Leader {
			g.elected(in, in.node.Load().CurrentTerm())
		} else {
			g.deposed(in)
		}
	case raft.LeaderObservation:
		g.review(in)
	}
	return false // nothing is to be sent to a channel
}

// elected begins the term that was won: from the epoch entry on, this replica leads.
func (g *Group) elected(in *instance, term uint64) {
	if in.leading.Swap(term) == term {
		return
	}
	g.isr.begin(g.o.Now())
	g.mu.RLock()
	defer g.mu.RUnlock()
	if in.closing.Load() {
		return
	}
	in.open.Add(1)
	go g.announce(in, term)
}

// announce proposes the epoch entry until it is stored or the term is over.
func (g *Group) announce(in *instance, term uint64) {
	defer in.open.Done()
	for in.leading.Load() == term {
		_, err := g.Propose(encodeEpoch(g.o.Self)).Wait()
		if err == nil || in.closing.Load() {
			return
		}
		g.logger.Debug("epoch not stored", "term", term, "error", err)
		time.Sleep(announcePause)
	}
}

// deposed ends the term that this replica led.
func (g *Group) deposed(in *instance) {
	if mutation.On(mutation.StaleLeader) {
		return
	}
	in.leading.Store(0)
	g.review(in)
}

// epochApplied notes an epoch entry that was applied.
func (g *Group) epochApplied(in *instance, e log.Epoch, leader replication.ReplicaID) {
	g.lead.mu.Lock()
	g.lead.applied, g.lead.named = e, leader
	g.lead.mu.Unlock()
	g.review(in)
}

// review works out who leads and tells the owner if that changed.
func (g *Group) review(in *instance) {
	g.lead.mu.Lock()
	defer g.lead.mu.Unlock()
	leader, local := g.leaderLocked(in)
	if leader == g.lead.leader && local == g.lead.local {
		return
	}
	g.lead.leader, g.lead.local = leader, local
	g.o.Owner.Led(leader, local)
}

// leaderLocked works out who leads. This replica leads once the epoch entry of the term that it won is applied. Another one
// does if Raft heard from it in the current term and this replica has applied an entry of that term: after a restart, the
// epoch entry itself may lie below the checkpoint.
func (g *Group) leaderLocked(in *instance) (replication.Leader, bool) {
	none := replication.Leader{Node: replication.NoNode, Epoch: g.lead.leader.Epoch}
	node := in.node.Load()
	if node == nil || in.closing.Load() {
		return none, false
	}
	if term := in.leading.Load(); term != 0 {
		if uint64(g.lead.applied) == term && g.lead.named == g.o.Self || mutation.On(mutation.ServeBeforeEpoch) {
			return replication.Leader{Node: g.o.Self.Node, Epoch: log.Epoch(term)}, true
		}
		return none, false
	}
	_, id := node.LeaderWithID()
	r, ok := parseReplica(id)
	if !ok || r == g.o.Self {
		return none, false
	}
	term := node.CurrentTerm()
	if applied, err := g.o.Log.Term(g.o.Log.AppliedIndex()); err != nil || uint64(applied) != term {
		return none, false
	}
	return replication.Leader{Node: r.Node, Epoch: log.Epoch(term)}, false
}

// Leading reports whether this replica leads and serves, and since which epoch.
func (g *Group) Leading() (log.Epoch, bool) {
	g.lead.mu.Lock()
	defer g.lead.mu.Unlock()
	return g.lead.leader.Epoch, g.lead.local
}
