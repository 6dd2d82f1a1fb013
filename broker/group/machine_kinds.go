package group

import (
	"time"

	"github.com/quorlog/quorlog/broker"
)

// Here is what the classic protocol's groups and those of package coordinator's own assignment have in common, or do to each
// other. A group is of one of these; an empty one becomes what its next member wants. What becomes of groups with members is
// in machine_migrate.go.

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

// join serves a JoinGroup. An empty group of the consumer protocol becomes one of the classic protocol.
func (m *Machine) join(now time.Time, e Join) {
	switch g := m.modern; {
	case g == nil:
		m.joinGroup(now, e)
	case m.state == Dead:
		m.failJoin(e.Call, e.Request.Member, broker.ErrCoordinatorNotAvailable)
	case g.share:
		m.failJoin(e.Call, e.Request.Member, broker.ErrInconsistentGroupProtocol)
	case len(g.members) == 0:
		m.modern = nil
		m.generation = Generation(g.groupEpoch)
		m.setState(now, Empty)
		m.answer(nil, g.tombstones(m.id))
		m.joinGroup(now, e)
	default:
		host{m, g}.join(now, e)
	}
}

// checkCommit is Machine.checkCommit for groups of the consumer protocol. A producer's transaction is told what it understands.
func (g *modern) checkCommit(e *Commit) error {
	nobody := e.Member == "" && e.Instance == ""
	switch {
	case g.share:
		return broker.ErrGroupNotFound // consumers of a share group keep no offsets
	case e.Generation < 0 && (len(g.members) == 0 || e.Producer != nil && nobody):
		return nil
	}
	s := g.members[e.Member]
	switch {
	case s == nil:
		return broker.ErrUnknownMember
	case e.Old && e.Producer == nil && s.classic == nil:
		return broker.ErrCommitTooOld
	case MemberEpoch(e.Generation) == s.epoch:
		return nil
	case e.Producer != nil:
		return broker.ErrIllegalGeneration
	}
	return s.errStale()
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
		return s.errStale()
	}
	return nil
}

// ensureShare makes a share group of one of which nothing is known, and refuses what is no share group without members. Without a record of its
// own a group that has positions would not be listed, nor could it be deleted.
func ensureShare(m *Machine, now time.Time, e EnsureShare) {
	switch g := m.modern; {
	case m.state == Dead:
		m.reply(e.Call, broker.ErrCoordinatorNotAvailable)
	case g == nil && !m.Blank(), g != nil && !g.share:
		m.reply(e.Call, broker.ErrGroupNotFound)
	case g != nil && len(g.members) > 0:
		m.reply(e.Call, broker.ErrNonEmptyGroup)
	case g != nil:
		m.answer(Reply{Call: e.Call}, nil)
	default:
		m.modern = newModern(true)
		m.setState(now, Empty)
		m.answer(Reply{Call: e.Call}, []Record{m.modern.groupRecord(m.id)})
	}
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
			Topics: s.topics, Regex: s.regex, Assigned: s.assigned.sorted(), Target: g.target[id].sorted(), Classic: s.classic != nil,
		})
	}
	return out
}
