package group

import (
	"bytes"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
)

func (m *membership) syncGroup(now time.Time, e Sync) {
	s, err := m.checkSync(&e.Request)
	if err != nil {
		m.replySync(e.Call, SyncResponse{Err: err})
		return
	}
	if m.synced(s); m.owing == 0 {
		m.turn.syncBy = time.Time{}
	}
	if m.state == Stable {
		m.alive(now, s)
		m.replySync(e.Call, m.syncResponse(s))
		return
	}
	// The client gave up on its former request, if there is one.
	m.replySync(s.sync, SyncResponse{Err: broker.ErrRebalanceInProgress})
	s.sync = e.Call
	if s.id == m.leader && !m.turn.storing {
		m.storeAssignments(now, e.Request.Assignments)
	}
}

func (m *membership) checkSync(r *SyncRequest) (*member, error) {
	if m.state == Dead {
		return nil, broker.ErrCoordinatorNotAvailable
	}
	s, err := m.check(r.Member, r.Instance)
	switch {
	case err != nil:
		return nil, err
	case m.inherited && r.Generation > m.generation:
		// The coordinator before began that generation and was gone before its assignments were written. Kafka calls it illegal, which
		// franz-go tells its application as an error; but the member is known, and joins again like the others.
		return nil, broker.ErrRebalanceInProgress
	case r.Generation != m.generation:
		return nil, broker.ErrIllegalGeneration
	case r.ProtocolType != nil && *r.ProtocolType != m.protocolType, r.Protocol != nil && *r.Protocol != m.protocol:
		return nil, broker.ErrInconsistentGroupProtocol
	case m.state == PreparingRebalance:
		return nil, broker.ErrRebalanceInProgress
	case m.state == Empty:
		return nil, broker.ErrUnknownMember
	}
	return s, nil
}

func (m *membership) syncResponse(s *member) SyncResponse {
	return SyncResponse{ProtocolType: m.protocolType, Protocol: m.protocol, Assignment: s.assignment}
}

// storeAssignments writes the leader's decision. Only when it is committed may a member act on it: a new coordinator that
// did not know of it would fence all members.
func (m *membership) storeAssignments(now time.Time, given []Assignment) {
	shares := make(map[string][]byte, len(given))
	total := 0
	for _, a := range given {
		if _, ok := m.members[a.Member]; ok {
			total += len(a.Data) - len(shares[a.Member])
			shares[a.Member] = bytes.Clone(a.Data)
		}
	}
	if m.heldBytes+total > m.limits.MaxGroupBytes {
		m.assignmentsFailed(now, broker.ErrMessageTooLarge)
		return
	}
	generation := m.generation
	m.turn.storing = true
	m.gone.some = false // the record has those who are left
	m.write([]Record{m.metadataRecord(shares)}, func(now time.Time, err error) {
		if m.state != CompletingRebalance || m.generation != generation {
			return // the members were told to join again
		}
		if err != nil {
			m.assignmentsFailed(now, err)
			return
		}
		m.turn.storing = false
		m.setState(now, Stable)
		for _, s := range m.ordered() {
			m.setAssignment(s, shares[s.id])
			m.answerSync(now, s, m.syncResponse(s))
		}
	})
}

// storeGone writes who is left, without a leader: a new coordinator calls them to join again. Without that it would wait for the session of
// somebody who has left, or whose session has ended already, as Kafka's does; franz-go gives a JoinGroup up after as long as a session. One such
// write at a time: of a thousand members that go at once each would name all others.
func (m *membership) storeGone() {
	rebalancing := m.state == PreparingRebalance || m.state == CompletingRebalance
	if !m.gone.some || m.gone.storing || !rebalancing || m.generation == 0 {
		return
	}
	m.gone.some, m.gone.storing = false, true
	r := m.metadataRecord(nil)
	r.Metadata.Leader = ""
	r.Metadata.Members = slices.DeleteFunc(r.Metadata.Members, func(s StoredMember) bool { return m.members[s.Member].isNew })
	// If it is refused, the generation before comes back with the next coordinator.
	m.write([]Record{r}, func(time.Time, error) { m.gone.storing = false })
}

func (m *membership) assignmentsFailed(now time.Time, err error) {
	m.failSyncs(now, err)
	m.prepareRebalance(now)
}

// syncTimeout removes the members that took part in the join and were not heard of since: the others would wait for their
// shares for ever.
func (m *membership) syncTimeout(now time.Time) {
	m.turn.syncBy = time.Time{}
	if m.state != CompletingRebalance && m.state != Stable {
		return
	}
	for _, s := range m.ordered() {
		if s.owesSync {
			m.removeMember(s, broker.ErrUnknownMember)
		}
	}
	m.prepareRebalance(now)
}

// metadataRecord is the membership as a record. Assignments are those given, or the members' own if shares is nil.
func (m *membership) metadataRecord(shares map[string][]byte) Record {
	md := &Metadata{
		ProtocolType: m.protocolType, Protocol: m.protocol, Leader: m.leader,
		Generation: m.generation, StateSince: m.stateSince,
	}
	for _, s := range m.ordered() {
		assignment := s.assignment
		if shares != nil {
			assignment = shares[s.id]
		}
		md.Members = append(md.Members, StoredMember{
			Member: s.id, Instance: s.instance, ClientID: s.clientID, ClientHost: s.clientHost,
			SessionTimeout: s.session, RebalanceTimeout: s.rebalance,
			Subscription: s.metadata(m.protocol), Assignment: assignment,
		})
	}
	return Record{Group: m.id, Metadata: md}
}

// Restore takes over stored membership, on a machine that has none. Sessions start anew: the time without a coordinator
// is not the members' fault.
func (m *membership) Restore(now time.Time, md *Metadata) {
	m.protocolType, m.protocol, m.generation = md.ProtocolType, md.Protocol, md.Generation
	m.inherited = true
	m.stateSince = md.StateSince
	m.subscribed = subscription{known: true}
	if len(md.Members) == 0 {
		m.protocol = ""
		return
	}
	m.leader = md.Leader
	m.state = Stable
	for i := range md.Members {
		m.restoreMember(now, &md.Members[i])
	}
	m.subscribed = m.subscriptions()
	if _, ok := m.members[m.leader]; !ok {
		// Nobody had shared out the work when this was written: see downgrade.
		m.leader = ""
		m.prepareRebalance(now)
	}
}

func (m *membership) restoreMember(now time.Time, sm *StoredMember) {
	_, repeated := m.members[sm.Member]
	_, taken := m.static[sm.Instance]
	if sm.Member == "" || repeated || taken {
		return // no coordinator writes that
	}
	m.lastOrder++
	s := &member{
		id: sm.Member, instance: sm.Instance, clientID: sm.ClientID, clientHost: sm.ClientHost,
		session: sm.SessionTimeout, rebalance: sm.RebalanceTimeout, order: m.lastOrder,
	}
	m.members[s.id] = s
	if s.instance != "" {
		m.static[s.instance] = s.id
	}
	// Only what it said under the chosen protocol was stored. When it joins with its whole list the lists differ, and a
	// rebalance puts this right.
	m.setProtocols(s, []Protocol{{Name: m.protocol, Metadata: sm.Subscription}})
	m.setAssignment(s, sm.Assignment)
	m.alive(now, s)
}

// Describe shows the group.
func (m *Machine) Describe() Description {
	d := Description{Group: m.id, State: m.state, ProtocolType: m.protocolType}
	stable := m.state == Stable
	if stable {
		d.Protocol = m.protocol
	}
	for _, s := range m.ordered() {
		dm := DescribedMember{Member: s.id, Instance: s.instance, ClientID: s.clientID, ClientHost: s.clientHost}
		if stable {
			dm.Metadata, dm.Assignment = s.metadata(m.protocol), s.assignment
		}
		d.Members = append(d.Members, dm)
	}
	return d
}
