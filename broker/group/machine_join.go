package group

import (
	"bytes"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
)

func (m *membership) joinGroup(now time.Time, e Join) {
	r := &e.Request
	r.Protocols = withoutRepeats(r.Protocols)
	if err := m.checkJoin(r); err != nil {
		m.failJoin(e.Call, r.Member, err)
		return
	}
	if r.Member == "" {
		m.joinNew(now, e)
		return
	}
	if _, ok := m.pending[r.Member]; ok && r.Instance == "" {
		m.addMember(now, e, r.Member)
		return
	}
	s, err := m.check(r.Member, r.Instance)
	if err != nil {
		m.failJoin(e.Call, r.Member, err)
		return
	}
	m.rejoin(now, e, s)
}

// checkJoin refuses what can't become a member, whoever it is.
func (m *membership) checkJoin(r *JoinRequest) error {
	switch {
	case r.SessionTimeout < m.limits.MinSessionTimeout || r.SessionTimeout > m.limits.MaxSessionTimeout:
		return broker.ErrInvalidSessionTimeout
	case m.state == Dead:
		return broker.ErrCoordinatorNotAvailable
	case !m.accepts(r.Member) || !m.fits(r):
		return broker.ErrGroupMaxSizeReached
	case !m.compatible(r):
		return broker.ErrInconsistentGroupProtocol
	}
	return nil
}

// accepts applies the limit on members. While the group prepares a rebalance those who joined it are counted: that way a
// lowered limit takes effect at the next rebalance.
func (m *membership) accepts(id string) bool {
	s := m.members[id]
	switch m.state {
	case PreparingRebalance:
		return s != nil && s.join != 0 || m.joining < m.limits.MaxSize
	case CompletingRebalance, Stable:
		return s != nil || len(m.members) < m.limits.MaxSize
	default:
		return true
	}
}

// joinNew handles a JoinGroup that comes without a member id.
func (m *membership) joinNew(now time.Time, e Join) {
	r := &e.Request
	if r.Instance != "" {
		if old, ok := m.static[r.Instance]; ok {
			m.replaceStatic(now, e, m.members[old])
			return
		}
		m.addMember(now, e, e.NewMember)
		return
	}
	if r.RequireMemberID {
		t := now.Add(r.SessionTimeout)
		m.pending[e.NewMember] = t
		m.arm(t)
		m.failJoin(e.Call, e.NewMember, broker.ErrMemberIDRequired)
		return
	}
	m.addMember(now, e, e.NewMember)
}

// rejoin handles a JoinGroup of a member.
func (m *membership) rejoin(now time.Time, e Join, s *member) {
	r := &e.Request
	switch m.state {
	case PreparingRebalance:
		m.updateMember(e, s)
		m.completeJoinIfAll(now)
	case CompletingRebalance, Stable:
		// A leader of a stable group asks for a rebalance by joining, and any member does by changed metadata. Otherwise
		// it lost our answer and gets it again.
		if s.offers(r.Protocols) && (m.state == CompletingRebalance || m.leader != s.id) {
			m.alive(now, s)
			m.replyJoin(e.Call, m.joinResponse(s, m.state == CompletingRebalance))
			return
		}
		m.updateMember(e, s)
		m.prepareRebalance(now)
	default:
		m.failJoin(e.Call, r.Member, broker.ErrUnknownMember)
	}
}

// withoutRepeats keeps the first of protocols with one name: a member has one vote.
func withoutRepeats(in []Protocol) []Protocol {
	out := make([]Protocol, 0, len(in))
	for _, p := range in {
		if !slices.ContainsFunc(out, func(q Protocol) bool { return q.Name == p.Name }) {
			out = append(out, p)
		}
	}
	return out
}

func cloneProtocols(in []Protocol) []Protocol {
	out := make([]Protocol, len(in))
	for i := range in {
		// The request's bytes alias its network buffer, which is larger than what is kept.
		out[i] = Protocol{Name: in[i].Name, Metadata: bytes.Clone(in[i].Metadata)}
	}
	return out
}

func (m *membership) addMember(now time.Time, e Join, id string) {
	r := &e.Request
	delete(m.pending, id)
	m.lastOrder++
	s := &member{
		id: id, instance: r.Instance, clientID: r.ClientID, clientHost: r.ClientHost,
		order: m.lastOrder, isNew: true, deadline: now.Add(m.limits.NewMemberJoinTimeout),
	}
	m.arm(s.deadline)
	if len(m.members) == 0 {
		m.protocolType = r.ProtocolType
	}
	m.members[id] = s
	if r.Instance != "" {
		m.static[r.Instance] = id
	}
	if m.leader == "" {
		m.leader = id
	}
	m.updateMember(e, s)
	if m.state == PreparingRebalance && m.turn.initial {
		m.turn.arrived = true
	}
	m.rebalanceOrComplete(now)
}

func (m *membership) joinResponse(s *member, membersForLeader bool) JoinResponse {
	r := JoinResponse{
		Member: s.id, Leader: m.leader, Generation: m.generation,
		ProtocolType: m.protocolType, Protocol: m.protocol,
	}
	if membersForLeader && s.id == m.leader {
		r.Members = m.joinMembers()
	}
	return r
}

func (m *membership) removeAndRebalance(now time.Time, s *member) {
	// A new member may still be there behind a long rebalance: told that it is unknown, it joins again.
	m.removeMember(s, broker.ErrUnknownMember)
	m.rebalanceOrComplete(now)
}

func (m *membership) leave(now time.Time, e Leave) {
	if m.state == Dead {
		m.reply(e.Call, broker.ErrCoordinatorNotAvailable)
		return
	}
	each := make([]error, len(e.Members))
	members, pending := len(m.members), len(m.pending)
	for i, l := range e.Members {
		each[i] = m.leaveOne(l)
	}
	m.replyEach(e.Call, each)
	switch {
	case len(m.members) < members:
		m.rebalanceOrComplete(now)
	case len(m.pending) < pending:
		m.completeJoinIfAll(now)
	}
}

func (m *membership) leaveOne(l LeaveMember) error {
	if _, ok := m.pending[l.Member]; ok && l.Instance == "" {
		delete(m.pending, l.Member)
		return nil
	}
	id := l.Member
	if id == "" && l.Instance != "" {
		id = m.static[l.Instance] // an administrator removes a static member by its instance
	}
	s, err := m.check(id, l.Instance)
	if err != nil {
		return err
	}
	m.removeMember(s, broker.ErrUnknownMember)
	return nil
}
