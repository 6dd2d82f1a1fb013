package raftgroup

import (
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A follower that hears from its leader is calm. Raft's timers would wake the process several times in a second for each
// group, and so would each heartbeat that Raft has to see; with a thousand groups that is half a core for nothing. So, while
// the leader's heartbeats come, the link answers them itself, Raft's own timeouts are raised to calmFactor times their value,
// and Raft is shown a heartbeat only now and then. Who watches instead is the Patrol: one goroutine for all groups, which
// looks at when each was last heard of. A group whose leader is silent for as long as Raft would have waited gets its timeouts
// back; then Raft sees that nobody was there for longer than that, and campaigns as ever, with its vote before the vote.
//
// Nothing of this can make a group unsafe: Raft's timeouts may have any value, and a heartbeat is answered with yes only if
// Raft follows that leader in that term.
const (
	calmFactor = 20
	// feedFactor is after how many times the heartbeat timeout Raft is shown a heartbeat. It must be well below calmFactor.
	feedFactor = 5
	// tenseTime is how long a group stays as it is, with short timeouts, after something that may lead to an election.
	tenseTime = time.Second
	// patrolPause is how often the patrol looks.
	patrolPause = 20 * time.Millisecond
	// alarmStep keeps the followers of a dead leader from becoming candidates at the same moment, and splitting the vote. It is
	// some times patrolPause, and what a vote takes.
	alarmStep = 60 * time.Millisecond
)

// ticks is a time in ns, always above 0: only differences mean something. They are compared with Raft's own timers, which no
// change of the clock touches. (In simulations the process began in the future, hence the constant.)
func ticks() int64 { return 1<<62 + int64(time.Since(began)) }

var began = time.Now()

// Patrol watches the leaders of many groups, with one goroutine. A group without one keeps Raft's own timers.
type Patrol struct {
	stop chan struct{}
	done chan struct{}
	mu   struct {
		sync.Mutex
		groups map[*Group]struct{}
	}
}

// NewPatrol starts a patrol.
func NewPatrol() *Patrol {
	p := &Patrol{stop: make(chan struct{}), done: make(chan struct{})}
	p.mu.groups = make(map[*Group]struct{})
	go p.run()
	return p
}

// Close ends the patrol. Its groups must have been closed, or nobody would look after them.
func (p *Patrol) Close() {
	close(p.stop)
	<-p.done
}

func (p *Patrol) run() {
	defer close(p.done)
	tick := time.NewTicker(patrolPause)
	defer tick.Stop()
	var groups []*Group
	watch := watchman{last: ticks()}
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
		}
		now := ticks()
		if !watch.awake(now) {
			continue
		}
		p.mu.Lock()
		for g := range p.mu.groups {
			groups = append(groups, g)
		}
		p.mu.Unlock()
		for _, g := range groups {
			if in := g.current(); in != nil {
				in.calm.look(now)
			}
		}
		clear(groups)
		groups = groups[:0]
	}
}

// watchman knows whether the patrol is fit to judge. Who overslept does not blame others: what they said meanwhile may wait to be
// read. But a node that is so busy that it always oversleeps must look now and then, or no leader of its groups would ever be missed.
type watchman struct {
	last, trust int64 // when it woke, and until when it does not judge
	waited      bool  // for trust; it did not judge since
}

// awake reports whether the patrol is to look now. It is asked every patrolPause, or later.
func (w *watchman) awake(now int64) bool {
	late := now - w.last - int64(patrolPause)
	w.last = now
	if late > int64(tenseTime) || late > int64(patrolPause) && !w.waited {
		w.trust, w.waited = now+min(late, int64(tenseTime)), true
	}
	if now < w.trust {
		return false
	}
	w.waited = false
	return true
}

func (p *Patrol) add(g *Group) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.groups[g] = struct{}{}
}

func (p *Patrol) remove(g *Group) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mu.groups, g)
}

// mood is how a follower waits for its leader.
type mood byte

const (
	moodPlain   mood = iota // Raft's own timeouts
	moodCalm                // long ones, and the patrol watches
	moodAlarmed             // the shortest: the leader is dead
)

// calm is a follower's mood. Its lock is held while Raft's timeouts are set, so that they agree.
type calm struct {
	in     *instance
	timing Timing
	logger *slog.Logger

	mu       sync.Mutex
	mood     mood
	patience int64 // how long the leader may be silent, ns
	tense    int64 // not calm again before that, ns
	alarm    int64 // when to see that the leader is dead, ns; 0 for never
}

// orphaned reports whether the leader's process is gone and the time is near at which this replica would campaign itself.
func (c *calm) orphaned(now int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.alarm != 0 && c.silent(now)
}

// silent reports whether the leader was not heard for so long that its process may be believed to be gone. What it sent before
// may be read a moment after the news.
func (c *calm) silent(now int64) bool { return now-c.in.heard.Load() > int64(c.timing.Lease/2) }

// wait leaves the turn to another candidate for a moment.
func (c *calm) wait(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alarm != 0 {
		c.alarm = max(c.alarm, now+2*int64(alarmStep))
	}
}

// setTimeouts sets Raft's timeouts. If one is lowered, Raft looks at once.
func (c *calm) setTimeouts(heartbeat, election time.Duration) {
	node := c.in.node.Load()
	config := node.ReloadableConfig()
	config.HeartbeatTimeout, config.ElectionTimeout = heartbeat, election
	if err := node.ReloadConfig(config); err != nil {
		c.logger.Error("raft takes no new timeouts", "heartbeat", heartbeat, "error", err)
	}
}

// soothe makes a follower calm that has just heard from its leader. It reports whether it is. rank is its place among those
// that might follow the leader: their patience differs by it, where Raft would leave it to chance. Raft's way, a random time
// between one and two timeouts, often makes two candidates at once, or one that is refused because another has more patience.
func (c *calm) soothe(rank func() int, now int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mood == moodCalm {
		return true
	}
	if now < c.tense {
		return false
	}
	t := c.timing
	c.mood, c.patience = moodCalm, int64(t.Heartbeat+time.Duration(rank())*alarmStep)
	c.setTimeouts(calmFactor*t.Heartbeat, calmFactor*t.Election)
	return true
}

func (c *calm) is(m mood) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mood == m
}

// campaign gives a calm Raft the leader's order to campaign. As a candidate it must have its own timeouts. But when they
// come back it looks at once, and has not heard of the leader for longer; it would begin the usual campaign, with a vote before
// the vote, which everybody refuses, and miss the order. So it is shown a heartbeat first. The order came from the leader: that
// is one.
func (c *calm) campaign(rpc raft.RPC, req *raft.TimeoutNowRequest) {
	node := c.in.node.Load()
	term := node.CurrentTerm() // before the leader: if the term moves on, the heartbeat is an old one
	if _, leader := node.LeaderWithID(); leader != "" && leader == raft.ServerID(req.ID) {
		got := make(chan raft.RPCResponse, 1)
		c.in.queue(raft.RPC{Command: &raft.AppendEntriesRequest{RPCHeader: req.RPCHeader, Term: term}, RespChan: got})
		timer := time.NewTimer(c.timing.Heartbeat)
		defer timer.Stop()
		select {
		case <-got:
		case <-timer.C:
		}
	}
	c.alert(ticks())
	c.in.queue(rpc)
}

// alert gives Raft its own timeouts back, before something that may lead to an election.
func (c *calm) alert(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tense = now + int64(tenseTime)
	if c.mood != moodPlain {
		c.mood = moodPlain
		c.setTimeouts(c.timing.Heartbeat, c.timing.Election)
	}
}

// look is the patrol's.
func (c *calm) look(now int64) {
	c.mu.Lock()
	mood, patience, tense, alarm := c.mood, c.patience, c.tense, c.alarm
	c.mu.Unlock()
	switch {
	case alarm != 0:
		if now >= alarm { // not before, or two followers may be at it together again
			c.raise(now)
		}
	case mood == moodAlarmed && now >= tense:
		c.alert(now)
	case mood == moodCalm && (now-c.in.heard.Load() > patience || c.in.node.Load().State() != raft.Follower):
		c.alert(now)
	}
}

// raise has Raft look for its leader with the shortest patience that it allows, which is the leader's lease: a leader that
// reached nobody for so long has stepped down.
func (c *calm) raise(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch early := c.timing.Lease - time.Since(c.in.node.Load().LastContact()); {
	case c.alarm == 0: // already raised
	case !c.silent(now): // the news was wrong
		c.alarm = 0
	case early > 0: // Raft would see a leader, and begin to wait anew
		c.alarm = max(c.alarm, now+int64(early))
	default:
		t := c.timing
		c.alarm, c.mood, c.tense = 0, moodAlarmed, now+int64(tenseTime)
		c.setTimeouts(calmFactor*t.Heartbeat, calmFactor*t.Election) // so that what follows lowers it
		c.setTimeouts(t.Lease, t.Election)
	}
}

// gone notes that the leader's process is: the connections broke, and nobody listens at its address any more. There is no need
// to wait until its silence is long enough. A leader that lives is not hurt: the others, which hear it, refuse their votes
// before the vote. rank is this replica's place among those that might follow, so that they do not split the vote.
func (c *calm) gone(rank int, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// From now on, not from when the leader was last heard: the others hear this news at the same moment, but last heard the
	// leader at different ones.
	c.alarm = now + int64(c.timing.Lease) + int64(rank)*int64(alarmStep)
}
