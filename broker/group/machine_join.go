package group

import (
	"bytes"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
)

func (m *Machine) joinGroup(now time.Time, e Join) {
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
func (m *Machine) checkJoin(r *JoinRequest) error {
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
func (m *Machine) accepts(id string) bool {
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

// fits applies the limits on memory.
func (m *Machine) fits(r *JoinRequest) bool {
	held := m.heldBytes
	if s := m.members[r.Member]; s != nil {
		held -= protocolBytes(s.protocols)
	}
	if held+protocolBytes(r.Protocols) > m.limits.MaxGroupBytes {
		return false
	}
	return r.Member != "" || len(m.pending) < m.limits.MaxPendingMembers
}

// compatible reports whether the group could still agree on a protocol with this member in it.
func (m *Machine) compatible(r *JoinRequest) bool {
	if r.ProtocolType == "" || len(r.Protocols) == 0 {
		return false
	}
	if len(m.members) == 0 {
		return true
	}
	return r.ProtocolType == m.protocolType && slices.ContainsFunc(r.Protocols, func(p Protocol) bool {
		return m.support[p.Name] == len(m.members)
	})
}

// joinNew handles a JoinGroup that comes without a member id.
func (m *Machine) joinNew(now time.Time, e Join) {
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
func (m *Machine) rejoin(now time.Time, e Join, s *member) {
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

func (m *Machine) addMember(now time.Time, e Join, id string) {
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

// updateMember takes over what the request says of the member and parks the request.
func (m *Machine) updateMember(e Join, s *member) {
	r := &e.Request
	m.setProtocols(s, cloneProtocols(r.Protocols))
	s.session, s.rebalance = r.SessionTimeout, r.RebalanceTimeout
	if s.join != 0 {
		// The client gave up on its former request; whoever still waits on it is told to come again.
		m.failJoin(s.join, s.id, broker.ErrRebalanceInProgress)
		m.joining--
	}
	s.join = e.Call
	m.joining++
}

func (m *Machine) setProtocols(s *member, protocols []Protocol) {
	m.dropSupport(s)
	m.heldBytes += protocolBytes(protocols) - protocolBytes(s.protocols)
	s.protocols = protocols
	for _, p := range protocols {
		m.support[p.Name]++
	}
}

func (m *Machine) dropSupport(s *member) {
	for _, p := range s.protocols {
		if m.support[p.Name]--; m.support[p.Name] <= 0 {
			delete(m.support, p.Name)
		}
	}
}

func (m *Machine) setAssignment(s *member, a []byte) {
	m.heldBytes += len(a) - len(s.assignment)
	s.assignment = a
}

// answerJoin answers a waiting JoinGroup and starts the member's session.
func (m *Machine) answerJoin(now time.Time, s *member, r JoinResponse) {
	if s.join == 0 {
		return
	}
	m.replyJoin(s.join, r)
	s.join = 0
	m.joining--
	m.alive(now, s)
}

func (m *Machine) joinResponse(s *member, membersForLeader bool) JoinResponse {
	r := JoinResponse{
		Member: s.id, Leader: m.leader, Generation: m.generation,
		ProtocolType: m.protocolType, Protocol: m.protocol,
	}
	if membersForLeader && s.id == m.leader {
		r.Members = m.joinMembers()
	}
	return r
}

func (m *Machine) joinMembers() []JoinMember {
	all := m.ordered()
	list := make([]JoinMember, len(all))
	for i, s := range all {
		list[i] = JoinMember{Member: s.id, Instance: s.instance, Metadata: s.metadata(m.protocol)}
	}
	return list
}

// removeMember takes a member out; what it waits for is answered with err.
func (m *Machine) removeMember(s *member, err error) {
	if s.join != 0 {
		m.failJoin(s.join, "", err)
		m.joining--
		s.join = 0
	}
	m.replySync(s.sync, SyncResponse{Err: err})
	s.sync = 0
	m.dropSupport(s)
	m.heldBytes -= s.bytes()
	delete(m.members, s.id)
	delete(m.turn.unsynced, s.id)
	if s.instance != "" && m.static[s.instance] == s.id {
		delete(m.static, s.instance)
	}
	if m.leader == s.id {
		m.leader = "" // the next generation elects another
	}
}

func (m *Machine) removeAndRebalance(now time.Time, s *member) {
	// A new member may still be there behind a long rebalance: told that it is unknown, it joins again.
	m.removeMember(s, broker.ErrUnknownMember)
	m.rebalanceOrComplete(now)
}

func (m *Machine) leave(now time.Time, e Leave) {
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

func (m *Machine) leaveOne(l LeaveMember) error {
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
