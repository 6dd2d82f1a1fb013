package group

import (
	"time"

	"github.com/quorlog/quorlog/broker"
)

// Here is what the classic protocol's groups and those of package coordinator's own assignment have in common, or do to each
// other. A group is of one of these; an empty one becomes what its next member wants.

// The types of groups, as Kafka names them.
const (
	ClassicType  = "Classic"
	ConsumerType = "Consumer"
	ShareType    = "Share"
)

// isIdle tells that the group has no members.
func (m *Machine) isIdle() bool {
	if m.modern != nil {
		return len(m.modern.members) == 0 && m.state != Dead
	}
	return m.state == Empty
}

// toClassic makes an empty group of the consumer protocol one of the classic protocol, whose first member is about to join.
func (m *Machine) toClassic(now time.Time) error {
	g := m.modern
	switch {
	case g == nil:
		return nil
	case g.share || len(g.members) > 0:
		return broker.ErrInconsistentGroupProtocol
	}
	m.modern = nil
	m.generation = Generation(g.groupEpoch)
	m.setState(now, Empty)
	m.answerMember(0, MemberResponse{}, g.tombstones(m.id))
	return nil
}

// fromClassic ends what is left of an empty classic group: its generation, on which the group epoch goes on.
func (m *Machine) fromClassic(now time.Time, records *[]Record) {
	if m.generation > 0 || !m.stateSince.IsZero() {
		*records = append(*records, Record{Group: m.id})
	}
	m.generation, m.protocolType, m.protocol = 0, "", ""
	m.subscribed = subscription{known: true}
	m.setState(now, Empty)
}

// checkMemberCommit is checkCommit for groups of the consumer protocol. A producer's transaction is told what it understands.
func (m *Machine) checkMemberCommit(e *Commit) error {
	nobody := e.Member == "" && e.Instance == ""
	switch {
	case m.modern.share:
		return broker.ErrGroupNotFound // consumers of a share group keep no offsets
	case e.Generation < 0 && (len(m.modern.members) == 0 || e.Producer != nil && nobody):
		return nil
	}
	s := m.modern.members[e.Member]
	switch {
	case s == nil:
		return broker.ErrUnknownMember
	case e.Old && e.Producer == nil:
		return broker.ErrCommitTooOld
	case MemberEpoch(e.Generation) == s.epoch:
		return nil
	case e.Producer != nil:
		return broker.ErrIllegalGeneration
	}
	return broker.ErrStaleMemberEpoch
}

// checkFetch is for members that ask for offsets and say which epoch they are in.
func (m *Machine) checkFetch(member string, epoch MemberEpoch) error {
	if m == nil || m.modern == nil || member == "" && epoch < 0 {
		return nil
	}
	s := m.modern.members[member]
	switch {
	case s == nil:
		return broker.ErrUnknownMember
	case s.epoch != epoch:
		return broker.ErrStaleMemberEpoch
	}
	return nil
}

// checkShare tells whether a member of a share group may fetch.
func (m *Machine) checkShare(member string) error {
	switch {
	case m == nil || m.modern == nil || !m.modern.share:
		return broker.ErrGroupNotFound
	case m.modern.members[member] == nil:
		return broker.ErrUnknownMember
	}
	return nil
}

// isSubscribed tells whether a member reads the topic, or may.
func (m *Machine) isSubscribed(topic string) bool {
	if m.modern != nil {
		return m.modern.reads(topic)
	}
	return m.state != Empty && m.subscribed.has(topic)
}

// Listing shows the group in a line.
func (m *Machine) Listing() Listing {
	l := Listing{Group: m.id, ProtocolType: m.protocolType, State: m.state.String(), Type: ClassicType}
	if g := m.modern; g != nil && m.state != Dead {
		l.ProtocolType, l.State, l.Type = ConsumerProtocol, g.stateName(), ConsumerType
		if g.share {
			l.ProtocolType, l.Type = "share", ShareType
		}
	}
	return l
}

// DescribeMembers shows a group whose partitions the coordinator assigns.
func (m *Machine) DescribeMembers(preferred string) MemberGroup {
	g := m.modern
	out := MemberGroup{
		Group: m.id, State: g.stateName(), Epoch: g.groupEpoch, AssignmentEpoch: g.assignmentEpoch, Assignor: g.assignor(preferred),
	}
	for _, id := range g.ids() {
		s := g.members[id]
		out.Members = append(out.Members, MemberShown{
			Member: s.id, Instance: s.instance, Rack: s.rack, Epoch: s.epoch, ClientID: s.clientID, ClientHost: s.clientHost,
			Topics: s.topics, Regex: s.regex, Assigned: s.assigned.sorted(), Target: g.target[id].sorted(),
		})
	}
	return out
}
