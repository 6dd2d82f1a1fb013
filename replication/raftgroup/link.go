package raftgroup

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftlog"
	"github.com/quorlog/quorlog/replication/transport"
)

// queueLength is how many requests from peers may wait for Raft. A pipeline's window is much shorter.
const queueLength = 64

// errNoInstance answers requests that come while the instance is replaced.
var errNoInstance = errors.New("raftgroup: no instance is running")

// link is a group's place in the network. It outlives the instances, and it is where requests are judged before Raft sees
// them: Raft v1.8.0 must be kept from some that its own protocol allows.
type link struct {
	group *Group
	end   transport.Endpoint
}

// Receive implements transport.Handler.
func (l *link) Receive(rpc raft.RPC) {
	in := l.group.current()
	if in == nil {
		rpc.Respond(nil, errNoInstance)
		return
	}
	if err := l.group.dead(in); err != nil {
		rpc.Respond(nil, err)
		return
	}
	now := ticks()
	switch req := rpc.Command.(type) {
	case *raft.AppendEntriesRequest:
		in.heard.Store(now)
		if l.answerBusy(in, rpc, req) {
			return
		}
		if fromTheFuture(req) {
			rpc.Respond(nil, errFuture)
			return
		}
		rpc.Command = l.group.filter(req)
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest:
		if leaderIsStale(in.node.Load(), now-in.heard.Load(), l.group.o.Timing) {
			campaign(in.requests)
		}
		rpc = enfranchise(in.node.Load(), rpc)
		if in.calm.orphaned(now) {
			rpc = l.disown(in, rpc, now)
		}
	case *raft.TimeoutNowRequest:
		if in.calm.is(moodCalm) {
			go in.calm.campaign(rpc, req)
			return
		}
	case *raft.InstallSnapshotRequest:
		// Not here: this goroutine feeds the instance that is about to be stopped.
		go l.group.installSnapshot(rpc, req)
		return
	}
	in.queue(rpc)
}

// queue gives a request to Raft, unless too many wait.
func (in *instance) queue(rpc raft.RPC) {
	select {
	case in.requests <- rpc:
	default:
		rpc.Respond(nil, transport.ErrBusy)
	}
}

// Heartbeat implements transport.Beater: it answers in Raft's place, and at once, even while Raft's main goroutine is busy with
// what the leader has sent before. The answer is as true as Raft's would have been a moment ago: this replica follows that
// leader, in that term. Raft is shown the heartbeat too, because of its timers; seldom while this replica is calm (calm.go).
func (l *link) Heartbeat(leader raft.ServerID, term uint64) (last uint64, ok bool) {
	g := l.group
	in := g.current()
	if g.o.Patrol == nil || in == nil || g.dead(in) != nil {
		return 0, false
	}
	node := in.node.Load()
	if !follows(node, leader, term) {
		return 0, false
	}
	now := ticks()
	in.heard.Store(now)
	if !in.calm.soothe(func() int { return max(g.rank(leader), 0) }, now) || now-in.fed.Load() >= int64(feedFactor*g.o.Timing.Heartbeat) {
		in.fed.Store(now)
		in.queue(answered(leader, term))
	}
	return node.LastIndex(), true
}

// follows tells whether Raft follows a leader in a term, however busy its main goroutine is. It shows a term once that is saved, and
// votes in a later one only then: a heartbeat that is answered with yes came before such a vote.
func follows(node *raft.Raft, leader raft.ServerID, term uint64) bool {
	_, known := node.LeaderWithID()
	return node.State() == raft.Follower && node.CurrentTerm() == term && known == leader
}

// answered is a heartbeat that was answered in Raft's place, for Raft's timers.
func answered(leader raft.ServerID, term uint64) raft.RPC {
	name := []byte(leader)
	return raft.RPC{
		Command: &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: name, Addr: name}, Term: term,
		},
		RespChan: make(chan raft.RPCResponse, 1), // nobody waits for the answer
	}
}

// Gone implements transport.Witness.
func (l *link) Gone(node replication.NodeID) {
	g := l.group
	g.isr.gone(node)
	in := g.current()
	if in == nil || g.o.Patrol == nil {
		return
	}
	r := in.node.Load()
	_, id := r.LeaderWithID()
	if leader, ok := parseReplica(id); !ok || leader.Node != node || r.State() != raft.Follower {
		return
	}
	if rank := g.rank(id); rank >= 0 {
		in.calm.gone(rank, ticks())
	}
}

// rank is this replica's place among the voters that may follow a leader; -1 if it has no vote.
func (g *Group) rank(leader raft.ServerID) int {
	others := slices.DeleteFunc(g.Voters(), func(v replication.ReplicaID) bool { return v.String() == string(leader) })
	return slices.Index(others, g.o.Self)
}

// Matched implements transport.Handler.
func (l *link) Matched(peer raft.ServerID, index uint64) {
	g := l.group
	g.isr.matched(peer, raftIndex(index), g.o.Log.LastIndex(), g.o.Now())
}

// Size implements transport.Filler.
func (l *link) Size(e *raft.Log) int { return raftlog.Size(e) }

// Fill implements transport.Filler.
func (l *link) Fill(e *raft.Log) (*raft.Log, error) {
	in := l.group.current()
	if in == nil {
		return nil, errNoInstance
	}
	return in.store.Fill(e)
}

// answerBusy answers a heartbeat in Raft's place while Raft's main goroutine waits for the disk: a follower whose fsync takes
// longer than the lease is no reason for the leader to step down. The answer is true as long as that goroutine does nothing
// else: it has voted for nobody, and knows the sender as the leader of the current term.
//
// Raft's own way is a handler that runs beside its main goroutine. It is not used: a heartbeat of a new term, taken between
// two steps of a leader that is about to store entries, makes it store them under the new leader's term.
func (l *link) answerBusy(in *instance, rpc raft.RPC, req *raft.AppendEntriesRequest) bool {
	if !isHeartbeat(req) || !in.store.Busy() {
		return false
	}
	node := in.node.Load()
	if !follows(node, raft.ServerID(req.ID), req.Term) {
		return false
	}
	rpc.Respond(&raft.AppendEntriesResponse{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(l.group.o.Self.String()), Addr: []byte(l.group.o.Self.String())},
		Term:      req.Term, LastLog: node.LastIndex(), Success: true,
	}, nil)
	return true
}

// leaderIsStale tells that Raft knows a leader that it should have forgotten. It is asked before a request for a vote; then
// Raft is told to campaign once more, which makes it forget.
//
// As a sequence of events: a replica that is told to campaign at once (TimeoutNow) gets no majority. Another one wins the same
// term, and its heartbeat comes before the campaign is over. Raft notes the leader, but, because the campaign was ordered,
// stays a candidate. That leader dies. A candidate forgets its leader only by becoming something else, so from now on it
// refuses every vote "since we have a leader"; if it is needed for the majority, and its log is too short to win itself,
// nobody is ever elected again.
func leaderIsStale(node *raft.Raft, silence int64, t Timing) bool {
	leader, _ := node.LeaderWithID()
	return leader != "" && node.State() == raft.Candidate && silence > int64(t.Heartbeat)
}

// enfranchise has Raft judge a candidate by its term and log alone (Raft section 4.1: a server grants its vote to one that is not
// in its latest configuration). Raft v1.8.0 refuses one that has no vote as far as this replica knows: but this replica may have
// been away while the candidate got its vote, and without the two of them there may be no majority. The safety of votes does
// not rest on that check; what keeps a removed replica from disturbing the others are pre-votes and a leader that is heard.
//
// The id of a candidate serves for that check only, its address for the vote: so the id is that of somebody who has a vote.
func enfranchise(node *raft.Raft, rpc raft.RPC) raft.RPC {
	var voter []byte
	for _, s := range node.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voter = []byte(s.ID)
		}
	}
	if voter == nil {
		return rpc
	}
	switch req := rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		out := *req
		out.ID = voter
		rpc.Command = &out
	case *raft.RequestPreVoteRequest:
		out := *req
		out.ID = voter
		rpc.Command = &out
	}
	return rpc
}

// disown has Raft judge a candidate as if it knew no leader, because that leader's process is gone. Raft forgets a leader only when
// it campaigns itself: without this, the first candidate is always refused by those whose turn comes later, and if none of them
// can win either, all wait for another timeout. A leader that lives is not hurt: it is deposed only if a majority saw its process
// gone and has not heard of it since.
//
// The turns (calm.gone) do not know whose log is longer. A candidate that lacks entries of this replica can't win, so it is this
// one's turn at once; one that lacks none gets the time that its election takes.
func (l *link) disown(in *instance, rpc raft.RPC, now int64) raft.RPC {
	switch req := rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		out := *req
		out.LeadershipTransfer = true // "though there is a leader"
		rpc.Command = &out
	case *raft.RequestPreVoteRequest:
		if l.isAheadOf(req.LastLogTerm, req.LastLogIndex) {
			in.calm.raise(now)
		} else {
			in.calm.wait(now)
		}
		// A vote before the vote binds nobody, and the candidate's address serves only to tell it from the leader.
		if leader, _ := in.node.Load().LeaderWithID(); leader != "" {
			out := *req
			out.Addr = []byte(leader)
			rpc.Command = &out
		}
	}
	return rpc
}

// isAheadOf reports whether this replica's log is more up to date than one that ends so (Raft section 5.4.1).
func (l *link) isAheadOf(lastTerm, lastIndex uint64) bool {
	ours := l.group.o.Log
	index := ours.LastIndex()
	term, err := ours.Term(index)
	return err == nil && cmp.Or(cmp.Compare(uint64(term), lastTerm), cmp.Compare(uint64(index), lastIndex)) > 0
}

// isHeartbeat tells Raft's heartbeats from its other empty AppendEntries.
func isHeartbeat(req *raft.AppendEntriesRequest) bool {
	return req.PrevLogEntry == 0 && req.PrevLogTerm == 0 && len(req.Entries) == 0 && req.LeaderCommitIndex == 0
}

var errFuture = errors.New("raftgroup: entries of a later term than that of the request")

// fromTheFuture tells that a request holds entries of a later term than its own. A leader that was deposed sends them: while its
// replication winds up, it reads its log, which may hold what its successor has sent by then. Raft v1.8.0 stores them and stays
// in the older term; after a restart the log would know of a term of which the votes know nothing, as if they were lost.
func fromTheFuture(req *raft.AppendEntriesRequest) bool {
	return len(req.Entries) > 0 && req.Entries[len(req.Entries)-1].Term > req.Term
}

// filter returns the request as Raft may see it.
//
// The commit index goes no further than what the request proves. Raft commits up to the leader's index or its own log's end,
// whichever is less; but its own end may be entries of a deposed leader that nobody else has. (A slow first write of a new
// leader, while the old one comes back: the old one applied its own uncommitted entries in 8 of 40 runs.)
//
// Entries at or below our boundary are left out, and the previous position is the boundary: they are committed and gone
// here. Without it, a replica that dropped more than its leader would be stuck until the leader drops as much.
//
// Marks of local proposals are taken off: what a peer sends is never ours to stamp.
func (g *Group) filter(req *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	if isHeartbeat(req) {
		return req
	}
	out := *req
	boundary, term := g.o.Log.Boundary()
	if k := uint64(boundary); out.PrevLogEntry < k {
		entries := out.Entries
		for len(entries) > 0 && entries[0].Index <= k {
			entries = entries[1:]
		}
		out.Entries, out.PrevLogEntry, out.PrevLogTerm = entries, k, uint64(term)
	}
	for _, e := range out.Entries {
		e.Extensions = nil
	}
	if !mutation.On(mutation.CommitUnfiltered) {
		out.LeaderCommitIndex = min(out.LeaderCommitIndex, transport.Confirmed(&out))
	}
	return &out
}

// wire is the raft.Transport of one instance. It has no Close: Raft would call it when the instance ends, and the link goes
// on. It takes Raft's heartbeat handler and does not use it: see answerBusy.
type wire struct {
	link *link
	in   *instance
}

// Consumer implements raft.Transport.
func (w *wire) Consumer() <-chan raft.RPC { return w.in.requests }

// LocalAddr implements raft.Transport: address and id are the same text.
func (w *wire) LocalAddr() raft.ServerAddress {
	return raft.ServerAddress(w.link.group.o.Self.String())
}

// EncodePeer implements raft.Transport.
func (w *wire) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }

// DecodePeer implements raft.Transport.
func (w *wire) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }

// SetHeartbeatHandler implements raft.Transport.
func (w *wire) SetHeartbeatHandler(func(raft.RPC)) {}

// end is where messages leave, unless the replica is dead.
func (w *wire) end() (transport.Endpoint, error) {
	if err := w.link.group.dead(w.in); err != nil {
		return nil, err
	}
	return w.link.end, nil
}

// AppendEntriesPipeline implements raft.Transport.
func (w *wire) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	end, err := w.end()
	if err != nil {
		return nil, err
	}
	p, err := end.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	out := &pipe{AppendPipeline: p, wire: w, to: id}
	w.in.news.opened(out)
	w.link.group.o.Herald.mark(w.in)
	return out, nil
}

// pipe is a pipeline that a dead replica sends nothing through. The group's Herald sends through it too.
type pipe struct {
	raft.AppendPipeline
	wire *wire
	to   raft.ServerID

	sending sync.Mutex // held over a send, which waits while the window is full
	sent    uint64     // the position that an answer to the newest request will confirm
	told    uint64     // the commit index that the follower will have accepted then
}

// AppendEntries implements raft.AppendPipeline.
func (p *pipe) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if err := p.wire.link.group.dead(p.wire.in); err != nil {
		return nil, err
	}
	p.sending.Lock()
	defer p.sending.Unlock()
	p.sent = max(p.sent, transport.Confirmed(args))
	p.told = max(p.told, min(args.LeaderCommitIndex, transport.Confirmed(args)))
	return p.AppendPipeline.AppendEntries(args, resp)
}

// Close implements raft.AppendPipeline.
func (p *pipe) Close() error {
	p.wire.in.news.closed(p)
	return p.AppendPipeline.Close()
}

// AppendEntries implements raft.Transport.
func (w *wire) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	end, err := w.end()
	if err != nil {
		return err
	}
	if w.link.group.o.Pace != nil && len(args.Entries) > 0 && w.in.isLearner(id) {
		return w.catchUp(end, raft.Server{ID: id, Address: to}, args, resp)
	}
	return end.AppendEntries(id, to, args, resp)
}

// RequestVote implements raft.Transport.
func (w *wire) RequestVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	end, err := w.end()
	if err != nil {
		return err
	}
	return end.RequestVote(id, to, args, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (w *wire) RequestPreVote(id raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	end, err := w.end()
	if err != nil {
		return err
	}
	return end.RequestPreVote(id, to, args, resp)
}

// InstallSnapshot implements raft.Transport.
func (w *wire) InstallSnapshot(id raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	end, err := w.end()
	if err != nil {
		return err
	}
	state, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	return end.InstallSnapshot(id, to, args, resp, state)
}

// TimeoutNow implements raft.Transport.
func (w *wire) TimeoutNow(id raft.ServerID, to raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	end, err := w.end()
	if err != nil {
		return err
	}
	return end.TimeoutNow(id, to, args, resp)
}

var (
	_ raft.Transport   = (*wire)(nil)
	_ raft.WithPreVote = (*wire)(nil)
	_ raft.LogStore    = (*raftlog.Store)(nil)
	_ raft.StableStore = (*raftlog.Stable)(nil)
)
