package transport

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// DefaultBeat is how often a group that has nothing to say beats. Three of them fit into the leader's lease and a follower's
// patience, both of 400 ms.
const DefaultBeat = 120 * time.Millisecond

const (
	// beatTimeout is how long a heartbeat waits for its answer.
	beatTimeout = time.Second
	// beatSlack lets a heartbeat go before its time with others that are due, so that all come to beat together.
	beatSlack = DefaultBeat / 2
)

// beats collects the heartbeats of all groups that lead here and have a replica on one other node. Raft sends one for each
// group and follower every 30 to 60 ms, and waits for the answer. Here it is held until the group's last one is DefaultBeat
// ago, and then goes with all others that are due, in one frame.
//
// While the group has a pipeline to that replica, Raft does not even get the answer: the heartbeat stands, is sent again
// and again, and what Raft must know, that the follower was heard of, goes to it as an answer through the pipeline. That
// spares Raft's own timers, tens of thousands in a second for a thousand groups, each of which wakes the process. Raft's call
// returns when the pipeline ends, or when the answer is anything but yes.
type beats struct {
	peer *peer
	mu   struct {
		sync.Mutex
		waiting []*beat
		timer   *time.Timer // nil before the first heartbeat
		at      time.Time   // when the timer fires, zero if it is not set
	}
}

// beat is one heartbeat of one group.
type beat struct {
	route *route
	term  uint64
	since time.Time // when it came to be sent, or was last answered
	due   time.Time
	flow  *flow           // of a heartbeat that stands
	done  chan beatResult // has room for one
}

type beatResult struct {
	answer answer
	err    error
}

// beatFrame is heartbeats that were sent together and have not all been answered. It is guarded by outConn.wait, but for
// the first fields.
type beatFrame struct {
	sent  time.Time
	beats []*beat // nil where answered
	left  int
}

func (f *beatFrame) fail(err error) {
	for _, b := range f.beats {
		if b != nil {
			b.done <- beatResult{err: err}
		}
	}
}

// add takes a heartbeat that is due at a time.
func (b *beats) add(h *beat) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.waiting = append(b.mu.waiting, h)
	b.armLocked(h.due)
}

// armLocked sees to it that flush runs at a time or before.
func (b *beats) armLocked(at time.Time) {
	if !b.mu.at.IsZero() && !at.Before(b.mu.at) {
		return
	}
	wait := max(time.Until(at), 0)
	b.mu.at = at
	if b.mu.timer == nil {
		b.mu.timer = time.AfterFunc(wait, b.flush)
	} else {
		b.mu.timer.Reset(wait)
	}
}

// flush sends what is due. It runs on a goroutine of the timer's.
func (b *beats) flush() {
	conn := b.peer.lanes[laneControl].current()
	now := time.Now()
	var late []*beat
	b.mu.Lock()
	b.mu.at = time.Time{}
	due, wait := b.mu.waiting[:0:0], b.mu.waiting[:0]
	for _, h := range b.mu.waiting {
		switch {
		case conn == nil && now.Sub(h.since) >= beatTimeout:
			late = append(late, h)
		case conn == nil || h.due.Sub(now) > beatSlack:
			wait = append(wait, h)
		default:
			due = append(due, h)
		}
	}
	clear(b.mu.waiting[len(wait):])
	b.mu.waiting = wait
	for _, h := range wait {
		if conn == nil {
			b.armLocked(h.since.Add(beatTimeout))
		} else {
			b.armLocked(h.due)
		}
	}
	b.mu.Unlock()
	for _, h := range late {
		h.done <- beatResult{err: ErrUnreachable}
	}
	if conn == nil {
		return
	}
	if len(due) > 0 {
		conn.sendBeats(due, now)
	}
	if conn.expireBeats(now) { // look again, even if no more heartbeats come
		b.mu.Lock()
		b.armLocked(now.Add(beatTimeout))
		b.mu.Unlock()
	}
}

// stop fails what waits.
func (b *beats) stop(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range b.mu.waiting {
		h.done <- beatResult{err: err}
	}
	b.mu.waiting = nil
	if b.mu.timer != nil {
		b.mu.timer.Stop()
	}
	b.mu.at = time.Time{}
}

// connected sends at once what has waited for a connection.
func (b *beats) connected() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.mu.waiting) > 0 {
		b.armLocked(time.Now())
	}
}

// sendBeats sends heartbeats in one frame.
func (c *outConn) sendBeats(due []*beat, now time.Time) {
	f := &beatFrame{sent: now, beats: make([]*beat, 0, len(due))}
	id := c.ids.Add(1)
	body := make([]byte, 0, 8*len(due))
	for _, h := range due {
		channel, err := h.route.channel(c)
		if err != nil {
			h.done <- beatResult{err: err}
			continue
		}
		if h.flow == nil {
			h.route.sentBeat(h.term, now)
		}
		body = appendNums(body, channel, h.term)
		f.beats = append(f.beats, h)
	}
	if f.left = len(f.beats); f.left == 0 {
		return
	}
	c.wait.Lock()
	err := c.wait.err
	if err == nil {
		c.wait.beats[id] = f
	}
	c.wait.Unlock()
	if err != nil {
		f.fail(ErrUnreachable)
		return
	}
	out := frame{head: append(appendNums(newHead(kindBeats), id, uint64(f.left)), body...)}
	out.seal()
	c.p.stats.beatFrames.Add(1)
	c.p.stats.beats.Add(int64(f.left))
	_ = c.push(out) // if it fails the connection ends, and run fails the frame
}

// expireBeats fails heartbeats that were not answered in time. It reports whether others are under way.
func (c *outConn) expireBeats(now time.Time) bool {
	var late []*beatFrame
	c.wait.Lock()
	for id, f := range c.wait.beats {
		if now.Sub(f.sent) >= beatTimeout {
			late = append(late, f)
			delete(c.wait.beats, id)
		}
	}
	left := len(c.wait.beats)
	c.wait.Unlock()
	for _, f := range late {
		f.fail(ErrUnreachable)
	}
	return left > 0
}

// beatsSeen hears answers to heartbeats: some of one frame's.
func (c *outConn) beatsSeen(p *parser) error {
	id, n := p.num(), p.count(4)
	type seen struct {
		beat *beat
		a    answer
	}
	out := make([]seen, 0, n)
	c.wait.Lock()
	f := c.wait.beats[id]
	for range n {
		at, a := p.num(), answer{flags: byte(p.num()), term: p.num(), last: p.num()}
		if f == nil || at >= uint64(len(f.beats)) || f.beats[at] == nil {
			continue
		}
		out = append(out, seen{f.beats[at], a})
		f.beats[at] = nil
		if f.left--; f.left == 0 {
			delete(c.wait.beats, id)
		}
	}
	c.wait.Unlock()
	now := time.Now()
	var again []*beat
	for _, s := range out {
		switch {
		case s.a.flags&flagFailed != 0:
			s.beat.done <- beatResult{err: errPeer}
		case s.a.yes() && s.a.term == s.beat.term && s.beat.flow.contact(now):
			again = append(again, s.beat)
		default:
			s.beat.done <- beatResult{answer: s.a}
		}
	}
	if len(again) > 0 {
		again[0].route.peer.beats.again(again, c.p.nextTick(f.sent), now)
	}
	return p.end(kindBeatsSeen)
}

// nextTick is the next common moment of heartbeats after a time. All that stand leave at these, to all nodes: so the process
// wakes once, and the followers of a leader last heard it at the same moment when it dies, which keeps them from becoming
// candidates at the same moment (raftgroup, calm.go).
func (p *Peers) nextTick(after time.Time) time.Time {
	return after.Add(p.o.Beat - after.Sub(p.started)%p.o.Beat)
}

// again has heartbeats that stand sent once more.
func (b *beats) again(standing []*beat, due, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, h := range standing {
		h.since, h.due = now, due
		b.mu.waiting = append(b.mu.waiting, h)
	}
	b.armLocked(due)
}

// sentBeat notes a heartbeat that leaves now.
func (r *route) sentBeat(term uint64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.beatTerm, r.mu.beatSent = term, now
}

// nextBeat is when the next heartbeat in a term should leave: the first one at once.
func (r *route) nextBeat(term uint64, every time.Duration, now time.Time) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := r.mu.beatSent.Add(every); r.mu.beatTerm == term && at.After(now) {
		return at
	}
	return now
}

// heartbeat is AppendEntries of an empty request with which Raft only shows that it is there.
func (e *netEnd) heartbeat(r *route, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	now := time.Now()
	h := &beat{route: r, term: args.Term, since: now, due: r.nextBeat(args.Term, e.p.o.Beat, now), done: make(chan beatResult, 1)}
	// What is overdue still waits for a tick: others are about to come.
	if soon := now.Add(e.p.o.Tick); h.due.Before(soon) {
		h.due = soon
	}
	if f := r.standing(args.Term); f != nil {
		h.flow = f
	}
	interrupted := e.interrupted()
	r.peer.beats.add(h)
	select {
	case got := <-h.done:
		if got.err != nil {
			return got.err
		}
		*resp = raft.AppendEntriesResponse{RPCHeader: header(r.to), Term: got.answer.term, LastLog: got.answer.last, Success: got.answer.yes()}
		return nil
	case <-interrupted:
		return ErrDetached // the answer goes nowhere
	}
}

// isHeartbeat tells Raft's heartbeats from its other empty AppendEntries, which must keep their place among those with entries.
func isHeartbeat(req *raft.AppendEntriesRequest) bool {
	return req.PrevLogEntry == 0 && req.PrevLogTerm == 0 && len(req.Entries) == 0 && req.LeaderCommitIndex == 0
}
