package group

import (
	"time"

	"github.com/quorlog/quorlog/broker"
)

// rebalanceOrComplete follows a change of the members: it starts a rebalance, or looks whether the one under way can go on.
func (m *membership) rebalanceOrComplete(now time.Time) {
	switch m.state {
	case PreparingRebalance:
		m.completeJoinIfAll(now)
	case Empty, CompletingRebalance, Stable:
		m.prepareRebalance(now)
	}
}

// prepareRebalance calls all members to join again.
func (m *membership) prepareRebalance(now time.Time) {
	if m.state == CompletingRebalance {
		m.failSyncs(now, broker.ErrRebalanceInProgress)
	}
	initial := m.state == Empty
	m.turn = rebalance{initial: initial}
	for _, s := range m.members {
		m.synced(s)
	}
	m.setState(now, PreparingRebalance)
	if !initial {
		if !m.allJoined() {
			m.joinWithin(now, m.rebalanceTimeout())
			return
		}
		m.completeJoin(now)
		return
	}
	m.turn.delay = m.limits.InitialRebalanceDelay
	m.turn.left = max(m.rebalanceTimeout()-m.turn.delay, 0)
	if m.turn.delay == 0 {
		m.completeJoin(now)
		return
	}
	m.joinWithin(now, m.turn.delay)
}

func (m *membership) joinWithin(now time.Time, d time.Duration) {
	m.turn.joinBy = now.Add(d)
	m.arm(m.turn.joinBy)
}

func (m *membership) completeJoinIfAll(now time.Time) {
	if m.state == PreparingRebalance && !m.turn.initial && m.allJoined() {
		m.completeJoin(now)
	}
}

// joinTimeout ends PreparingRebalance, or extends the initial delay if members still keep arriving.
func (m *membership) joinTimeout(now time.Time) {
	t := &m.turn
	if t.initial && t.arrived && t.left > 0 {
		t.arrived = false
		spent := t.delay
		t.delay = min(m.limits.InitialRebalanceDelay, t.left)
		t.left = max(t.left-spent, 0)
		m.joinWithin(now, t.delay)
		return
	}
	m.completeJoin(now)
}

// completeJoin begins the next generation with those who have joined. Static members stay in it without having joined,
// until their session ends: that they may restart unnoticed is what they are for (KIP-345).
func (m *membership) completeJoin(now time.Time) {
	for _, s := range m.ordered() {
		if s.join == 0 && s.instance == "" {
			m.removeMember(s, broker.ErrUnknownMember)
		}
	}
	if len(m.members) > 0 && !m.electLeader() {
		// Nobody is there to share out the work. Wait for one, or for the sessions to end.
		m.joinWithin(now, max(m.rebalanceTimeout(), m.limits.MinSessionTimeout))
		return
	}
	m.turn = rebalance{}
	m.generation++
	m.inherited = false
	if len(m.members) == 0 {
		m.becomeEmpty(now)
		return
	}
	m.protocol = m.selectProtocol()
	m.subscribed = m.subscriptions()
	m.setState(now, CompletingRebalance)
	all := m.ordered()
	m.turn.syncBy = now.Add(m.rebalanceTimeout())
	m.arm(m.turn.syncBy)
	for _, s := range all {
		m.expectSync(s)
		m.answerJoin(now, s, m.joinResponse(s, true))
		m.alive(now, s)
		s.isNew = false
	}
}

// becomeEmpty records that nobody is left, so that the retention of the offsets starts to run. If the write fails the
// generation before comes back with the next coordinator, and its members' sessions end there.
func (m *membership) becomeEmpty(now time.Time) {
	m.protocol = ""
	m.leader = ""
	m.subscribed = subscription{known: true}
	m.setState(now, Empty)
	m.gone.some = false
	m.write([]Record{m.metadataRecord(nil)}, func(time.Time, error) {})
}

// replaceStatic gives the place of a static member to a new process of the same instance. A stable group does not
// rebalance for it, unless the protocol would change: the newcomer takes over the assignment.
func (m *membership) replaceStatic(now time.Time, e Join, s *member) {
	leaderBefore := m.leader
	m.fence(s)
	delete(m.members, s.id)
	if m.leader == s.id {
		m.leader = e.NewMember
	}
	s.id, s.clientID, s.clientHost = e.NewMember, e.Request.ClientID, e.Request.ClientHost
	m.members[s.id] = s
	m.static[s.instance] = s.id
	m.updateMember(e, s)
	m.alive(now, s)

	switch {
	case m.state == PreparingRebalance:
		m.completeJoinIfAll(now)
	case m.state == Stable && m.selectProtocol() == m.protocol:
		m.storeReplacement(s, e, leaderBefore)
	default:
		// In CompletingRebalance the leader may be about to assign work to the id that is no more.
		m.prepareRebalance(now)
	}
}

// storeReplacement makes the new member id durable, then answers the newcomer. If a rebalance begins meanwhile, its
// JoinGroup counts for that, and is answered with the others'.
func (m *membership) storeReplacement(s *member, e Join, leaderBefore string) {
	generation := m.generation
	m.write([]Record{m.metadataRecord(nil)}, func(now time.Time, err error) {
		if s.join != e.Call || m.state != Stable || m.generation != generation {
			return
		}
		if err != nil {
			m.answerJoin(now, s, JoinResponse{Err: err, Generation: NoGeneration})
			return
		}
		r := m.joinResponse(s, false)
		switch {
		case !e.Request.SkipAssignment:
			// An old client that is told to lead would share out the work anew. The former id leads nobody.
			r.Leader = leaderBefore
		case s.id == m.leader:
			r.SkipAssignment = true
			r.Members = m.joinMembers()
		}
		m.answerJoin(now, s, r)
	})
}
