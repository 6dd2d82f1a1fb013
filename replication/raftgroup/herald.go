package raftgroup

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// heraldPause is how long a Herald waits for an entry that would carry the news anyway.
const heraldPause = 10 * time.Millisecond

// Herald tells followers soon how far the groups that lead on this node have committed. Raft does so with the next entries, or
// else after Timing.Commit, and who reads from a follower would wait that long. One goroutine serves all groups; while nothing
// is committed it sleeps.
//
// What it sends is an AppendEntries without entries, whose previous entry is the committed one, through the pipeline that Raft
// has open to that follower. It is one that Raft itself might have sent: the entry is committed, and of the leader's own term.
// It is sent only to a follower that has confirmed that entry and everything else that was sent to it, so it is neither refused,
// which would end the pipeline, nor has to wait for the pipeline's window.
type Herald struct {
	wake chan struct{} // has room for one
	stop chan struct{}
	done chan struct{}
	mu   struct {
		sync.Mutex
		due []*instance
	}
}

// NewHerald starts a herald.
func NewHerald() *Herald {
	h := &Herald{wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go h.run()
	return h
}

// Close ends the herald.
func (h *Herald) Close() {
	close(h.stop)
	<-h.done
}

func (h *Herald) run() {
	defer close(h.done)
	timer := time.NewTimer(heraldPause)
	defer timer.Stop()
	for {
		select {
		case <-h.stop:
			return
		case <-h.wake:
		}
		timer.Reset(heraldPause)
		select {
		case <-h.stop:
			return
		case <-timer.C:
		}
		h.mu.Lock()
		due := h.mu.due
		h.mu.due = nil
		h.mu.Unlock()
		for _, in := range due {
			in.news.marked.Store(false)
			if !in.news.spread() {
				h.mark(in)
			}
		}
	}
}

// mark has a leader's followers told. A nil herald tells nobody.
func (h *Herald) mark(in *instance) {
	if h == nil || in.news.marked.Swap(true) {
		return
	}
	h.mu.Lock()
	h.mu.due = append(h.mu.due, in)
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// news is how far a leader has committed, and who knows.
type news struct {
	marked atomic.Bool // its herald will come
	mu     sync.Mutex
	term   uint64 // that this replica leads, or led
	commit uint64 // of an entry of that term
	pipes  map[*pipe]struct{}
}

// committed notes the newest entry that a leader has applied. It reports whether anybody is to be told.
func (n *news) committed(index, term uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.term, n.commit = term, index
	return len(n.pipes) > 0
}

func (n *news) opened(p *pipe) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pipes == nil {
		n.pipes = make(map[*pipe]struct{})
	}
	n.pipes[p] = struct{}{}
}

func (n *news) closed(p *pipe) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.pipes, p)
}

// spread tells the followers that can be told. It reports whether all know now.
func (n *news) spread() bool {
	n.mu.Lock()
	term, commit := n.term, n.commit
	pipes := make([]*pipe, 0, len(n.pipes))
	for p := range n.pipes {
		pipes = append(pipes, p)
	}
	n.mu.Unlock()
	all := true
	for _, p := range pipes {
		if !p.tell(commit, term) {
			all = false
		}
	}
	return all
}

// tell sends a follower the commit index, unless it knows it. It reports false if that is to be tried again.
func (p *pipe) tell(commit, term uint64) bool {
	if !p.sending.TryLock() {
		return false // Raft is sending, maybe just that
	}
	defer p.sending.Unlock()
	g := p.wire.link.group
	switch {
	case p.told >= commit, p.wire.in.leading.Load() != term, g.dead(p.wire.in) != nil:
		return true
	case g.isr.confirmed(p.to) < max(p.sent, commit):
		return false
	}
	self := p.wire.LocalAddr()
	req := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self), Addr: []byte(self)},
		Term:      term, PrevLogEntry: commit, PrevLogTerm: term, LeaderCommitIndex: commit,
	}
	if _, err := p.AppendPipeline.AppendEntries(req, new(raft.AppendEntriesResponse)); err != nil {
		return true // the pipeline is over, and Raft is about to see it
	}
	p.told = commit
	return true
}
