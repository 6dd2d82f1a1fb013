package leaders

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/replication"
)

const (
	// pace is the least time between two pushes to a peer: changes that come in a crowd, as after a node's death, go together.
	pace = 5 * time.Millisecond
	// pushPatience bounds one push. A peer that does not answer for so long gets everything again.
	pushPatience = 3 * time.Second
	// pushPause is how long a pusher waits after a push that failed.
	pushPause = 100 * time.Millisecond
	// statusEvery is how often a peer is told this node's status again, though it has not changed: the peer forgets it with its
	// last connection, and this node need not have noticed that there was none for a moment.
	statusEvery = 5 * time.Second
	// frameEntries is how many entries one push carries, so that none is larger than a few hundred kilobytes.
	frameEntries = 4096
)

// pusher tells one connected peer what it must know. What is to be told is guarded by Table.mu.
type pusher struct {
	t      *Table
	to     replication.NodeID
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{} // has room for one
	// seq counts this table's frames to the peer, also those of earlier connections: the peer remembers the last one.
	seq *atomic.Uint64

	full   bool // everything is to be told
	status bool // the status is
	dirty  map[replication.PartitionID]struct{}
}

// PeerUp begins the pushes to a peer: it is connected now. It does not block.
func (t *Table) PeerUp(id replication.NodeID) {
	t.mu.Lock()
	if t.mu.closed || id == t.node || t.call == nil {
		t.mu.Unlock()
		return
	}
	n := t.nodeLocked(id)
	if n.pusher != nil {
		n.pusher.full = true
		n.pusher.signal()
		t.mu.Unlock()
		return
	}
	p := &pusher{t: t, to: id, seq: &n.seq, wake: make(chan struct{}, 1), full: true, dirty: make(map[replication.PartitionID]struct{})}
	p.ctx, p.cancel = context.WithCancel(t.ctx)
	n.pusher = p // what the peer may have told since it is connected, before this node noticed, stays
	p.signal()
	t.pushers.Add(1)
	go p.run()
	t.spreadStatusLocked()
	changed := t.reviewLocked()
	t.mu.Unlock()
	t.notify(changed)
}

// PeerDown ends the pushes to a peer: no connection to it is left. It does not block.
func (t *Table) PeerDown(id replication.NodeID) {
	t.mu.Lock()
	n := t.mu.nodes[id]
	if n == nil || n.pusher == nil {
		t.mu.Unlock()
		return
	}
	n.pusher.cancel()
	n.pusher, n.told, n.hears = nil, false, nil
	t.spreadStatusLocked()
	changed := t.reviewLocked()
	t.mu.Unlock()
	t.notify(changed)
}

func (p *pusher) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// spreadLocked has a change of this node's own told to all peers.
func (t *Table) spreadLocked(id replication.PartitionID) {
	for _, n := range t.mu.nodes {
		n.pusher.add(id)
	}
}

func (p *pusher) add(id replication.PartitionID) {
	if p == nil {
		return
	}
	p.dirty[id] = struct{}{}
	p.signal()
}

func (t *Table) spreadStatusLocked() {
	for _, n := range t.mu.nodes {
		if n.pusher != nil {
			n.pusher.status = true
			n.pusher.signal()
		}
	}
}

// relayLocked has changes that this node heard from one peer told to those that say they do not hear that one.
func (t *Table) relayLocked(from replication.NodeID, ids []replication.PartitionID) {
	for to, n := range t.mu.nodes {
		if to == from || n.pusher == nil || !n.told || slices.Contains(n.hears, from) {
			continue
		}
		for _, id := range ids {
			n.pusher.add(id)
		}
	}
}

// relayAllLocked has all told that the nodes lead which a peer does not hear, according to its new status, and this node
// does. What it did not hear before either was told then, unless this is the first that it says.
func (t *Table) relayAllLocked(n *node, first bool, before []replication.NodeID) {
	if n.pusher == nil {
		return
	}
	for id, e := range t.mu.entries {
		if (first || slices.Contains(before, e.by)) && t.relaysLocked(n.pusher.to, e.by) {
			n.pusher.add(id)
		}
	}
}

// run pushes what is to be told, until the peer is down.
func (p *pusher) run() {
	defer p.t.pushers.Done()
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-tick.C:
			p.again(false)
		case <-p.wake:
		}
		pause := pace
		if news, any := p.take(); any {
			if err := p.push(news); err != nil {
				p.t.logger.Debug("pushing leaders", "to", p.to, "error", err)
				pause = pushPause
				p.again(true)
			}
		}
		if !p.rest(pause) {
			return
		}
	}
}

// rest waits, and reports whether the peer is still up.
func (p *pusher) rest(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// news is what one push tells.
type news struct {
	full    bool
	entries []wireEntry
	status  *wireStatus
}

// take collects what is to be told.
func (p *pusher) take() (n news, any bool) {
	t := p.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if !p.full && !p.status && len(p.dirty) == 0 {
		return n, false
	}
	n.full = p.full
	if p.full {
		for _, e := range t.mu.entries {
			if e.by == t.node && e.Leader.Node == t.node || t.relaysLocked(p.to, e.by) {
				n.entries = append(n.entries, wireEntry{e.Entry, e.by})
			}
		}
	} else {
		for id := range p.dirty {
			if e := t.mu.entries[id]; e != nil {
				n.entries = append(n.entries, wireEntry{e.Entry, e.by})
			}
		}
	}
	if p.full || p.status {
		n.status = &wireStatus{NodeStatus: t.mu.self, hears: t.upLocked()}
	}
	p.full, p.status = false, false
	clear(p.dirty)
	return n, true
}

// relaysLocked tells whether this node passes on to a peer what another one leads.
func (t *Table) relaysLocked(to, of replication.NodeID) bool {
	if of == to || of == t.node {
		return false
	}
	n, other := t.mu.nodes[to], t.mu.nodes[of]
	return n != nil && n.told && !slices.Contains(n.hears, of) && other != nil && other.pusher != nil
}

// again has the status told once more, or everything.
func (p *pusher) again(full bool) {
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	p.status, p.full = true, p.full || full
	p.signal()
}

// errResync: the peer missed something.
var errResync = errors.New("the peer asks for everything again")

// push sends news in frames, one after the other.
func (p *pusher) push(n news) error {
	for first := true; first || len(n.entries) > 0; first = false {
		part := n.entries[:min(len(n.entries), frameEntries)]
		n.entries = n.entries[len(part):]
		f := frame{session: p.t.session, seq: p.seq.Add(1), first: n.full && first, last: n.full && len(n.entries) == 0, entries: part}
		if first {
			f.status = n.status
		}
		ctx, cancel := context.WithTimeout(p.ctx, pushPatience)
		answer, err := p.t.call(ctx, p.to, PushCall, f.encode())
		cancel()
		if err != nil {
			return err
		}
		if len(answer) != 1 || answer[0] != answerOK {
			return errResync
		}
	}
	return nil
}

// The answers to a push, one byte.
const (
	answerOK     = 0
	answerResync = 1
)

// receiver is what a table keeps of a peer's pushes. Frames are taken in order only, so that a call that the network held
// back can't undo what came after it.
type receiver struct {
	session uint64
	next    uint64 // sequence number of the next frame
	synced  bool   // a full push began in this session
	// seen are the partitions of the full push that is under way; nil if none is.
	seen map[replication.PartitionID]struct{}
}

// accept reports whether a frame is the next one.
func (r *receiver) accept(f *frame) bool {
	if r.synced && r.session == f.session && f.seq < r.next {
		return false
	}
	if f.first {
		*r = receiver{session: f.session, synced: true, seen: make(map[replication.PartitionID]struct{})}
	} else if !r.synced || r.session != f.session || f.seq != r.next {
		r.synced = false
		return false
	}
	r.next = f.seq + 1
	return true
}

// HandlePush takes a peer's push. It is to be registered with the node's transport under PushCall.
func (t *Table) HandlePush(_ context.Context, from replication.NodeID, body []byte) ([]byte, error) {
	f, err := decodeFrame(body)
	if err != nil {
		return nil, err
	}
	if from == t.node {
		return nil, errSelf
	}
	t.mu.Lock()
	n := t.nodeLocked(from)
	if !n.from.accept(f) {
		t.mu.Unlock()
		return []byte{answerResync}, nil
	}
	changed := t.mergeAllLocked(from, n, f)
	if f.status != nil && t.takeStatusLocked(n, from, f.status) {
		changed = append(changed, t.reviewLocked()...)
	}
	t.mu.Unlock()
	t.notify(changed)
	return []byte{answerOK}, nil
}

// takeStatusLocked takes what a peer tells of itself and reports whether that is news.
func (t *Table) takeStatusLocked(n *node, from replication.NodeID, s *wireStatus) bool {
	first, before := !n.told, n.hears
	s.Node, s.At = from, n.status.At
	news := first || s.NodeStatus != n.status || !slices.Equal(s.hears, before)
	s.At = t.now()
	n.status, n.told, n.hears = s.NodeStatus, true, s.hears
	if news {
		t.relayAllLocked(n, first, before)
	}
	return news
}

var errSelf = errors.New("a push from this node itself: two nodes have the same id")

// mergeAllLocked takes the entries of a frame and returns what changed.
func (t *Table) mergeAllLocked(from replication.NodeID, n *node, f *frame) []replication.PartitionID {
	var changed []replication.PartitionID
	for _, e := range f.entries {
		if n.from.seen != nil {
			n.from.seen[e.ID] = struct{}{}
		}
		if t.mergeLocked(from, e) {
			changed = append(changed, e.ID)
		}
	}
	if f.last && n.from.seen != nil {
		for id, e := range t.mu.entries {
			if _, told := n.from.seen[id]; !told && e.Leader.Node == from {
				e.Leader.Node, e.ISR = replication.NoNode, nil
				changed = append(changed, id)
			}
		}
		n.from.seen = nil
	}
	t.relayLocked(from, changed)
	return changed
}

// mergeLocked takes one entry from a peer and reports whether it changed anything.
func (t *Table) mergeLocked(from replication.NodeID, e wireEntry) bool {
	if e.by == t.node {
		return false // nobody knows this node better than itself
	}
	if by := t.mu.nodes[e.by]; e.by != from && by != nil && by.pusher != nil {
		return false // passed on, and perhaps older than what its own node says
	}
	cur := t.mu.entries[e.ID]
	switch {
	case cur == nil || e.Leader.Epoch > cur.Leader.Epoch:
	case e.Leader.Epoch < cur.Leader.Epoch:
		return false
	case e.by != cur.by:
		t.logger.Error("two nodes say that they lead a partition in the same epoch", "partition", e.ID.String(),
			"epoch", int32(e.Leader.Epoch), "one", cur.by, "other", e.by)
		return false
	}
	return t.putLocked(e.Entry, e.by)
}
