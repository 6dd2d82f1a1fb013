package group

import (
	"fmt"
	"time"

	"github.com/quorlog/quorlog/broker"
)

// Here a group with members changes its protocol (KIP-848, "online migration"). The first member that joins by the consumer
// protocol makes a classic group a consumer group: its members stay, each in the epoch of the generation, with what it may still
// use, and are called back by their next heartbeats (machine_hosted.go). When the last member of the consumer protocol has gone
// it is a classic group again, whose generation is the group epoch, and whose members are called to a rebalance.
//
// Either way is one write: the tombstones of the one kind, and the records of the other. Nobody's offsets change.

// upgraded is the classic group as one of the consumer protocol, or why it can't be: broker.ErrGroupNotFound, with the reason. The
// machine itself is changed by fromClassic.
func (m *membership) upgraded(now time.Time, topics Topics) (*modern, error) {
	refuse := func(why string) (*modern, error) {
		return nil, fmt.Errorf("%w: group %s can't become a consumer group: %s", broker.ErrGroupNotFound, m.id, why)
	}
	switch {
	case !m.limits.Migration.upgrades():
		return refuse("group.consumer.migration.policy does not allow it")
	case m.protocolType != ConsumerProtocol:
		return refuse("its members are not consumers")
	case len(m.members) >= m.limits.size(false):
		return refuse("it has too many members")
	}
	g := newModern(false)
	g.groupEpoch, g.assignmentEpoch = MemberEpoch(m.generation), MemberEpoch(m.generation)
	claims := map[*modernMember][]TopicPartition{}
	for _, c := range m.ordered() {
		named, ok := readAssignment(c.assignment)
		if !ok {
			return refuse("an assignment says what only its own clients understand")
		}
		sub, ok := readSubscription(c.subscription(m.protocol))
		if !ok {
			return refuse("a subscription is not one of a consumer")
		}
		s := c.modern(g.groupEpoch, &sub)
		s.alive(now, m.limits.Consumer.Times)
		claims[s] = byID(topics, sub.owned)
		for _, p := range byID(topics, named) {
			if _, held := g.owners[p]; held {
				return refuse("a partition is assigned to two members")
			}
			s.assigned[p] = struct{}{}
		}
		g.adopt(s)
	}
	g.claim(claims)
	return g, nil
}

// claim leaves members what they said that they have when they last joined, where nobody else was given it: a rebalance that was
// broken off has taken their assignments, but not what they use. They give it up as soon as they join.
func (g *modern) claim(claims map[*modernMember][]TopicPartition) {
	for _, id := range g.ids() {
		s := g.members[id]
		for _, p := range claims[s] {
			if _, held := g.owners[p]; !held {
				s.assigned[p] = struct{}{}
				g.owners[p] = id
			}
		}
		g.target[id] = setOf(s.assigned.sorted())
	}
}

// subscription is what the member says under the protocol that the group has, or would say under its first.
func (s *member) subscription(protocol string) []byte {
	if b := s.metadata(protocol); b != nil || len(s.protocols) == 0 {
		return b
	}
	return s.protocols[0].Metadata
}

// modern is the member as one of a consumer group.
func (s *member) modern(epoch MemberEpoch, sub *embeddedSubscription) *modernMember {
	out := newModernMember(s.id)
	r := MemberRequest{
		Epoch: EpochJoin, Instance: s.instance, Rack: &sub.rack, ClientID: s.clientID, ClientHost: s.clientHost, Rebalance: s.rebalance,
		Topics: append([]string{}, sub.topics...), classic: &classicSide{protocols: s.protocols, session: s.session},
	}
	r.fill(out)
	out.epoch, out.previous = epoch, epoch
	return out
}

// fromClassic ends the classic group, on whose generation the group epoch goes on, and takes over g, which was made of it.
func (m *Machine) fromClassic(now time.Time, g *modern, records *[]Record) {
	if m.generation > 0 || !m.stateSince.IsZero() {
		*records = append(*records, Record{Group: m.id})
	}
	for _, s := range m.ordered() {
		// Its JoinGroup or SyncGroup is to come again, to the other group.
		m.failJoin(s.join, s.id, broker.ErrRebalanceInProgress)
		m.replySync(s.sync, SyncResponse{Err: broker.ErrRebalanceInProgress})
		s.join, s.sync = 0, 0
	}
	fresh := newRoster(m.limits)
	fresh.outbox, fresh.alarm = m.outbox, m.alarm
	m.roster, m.turn = fresh, rebalance{}
	m.generation, m.subscribed = 0, subscription{known: true}
	m.setState(now, Empty)
	m.modern = g
	if len(g.members) == 0 {
		return
	}
	*records = append(*records, g.groupRecord(m.id))
	for _, id := range g.ids() {
		*records = append(*records, g.memberRecord(m.id, g.members[id]), g.targetRecord(m.id, id), g.currentRecord(m.id, g.members[id]))
		m.watch(g.members[id])
	}
	*records = append(*records, g.assignmentRecord(m.id))
}

// mayBeClassic tells whether the group may be a classic one, if it were not for one member of the consumer protocol; nil: as it is.
func (g *modern) mayBeClassic(limits *Limits, but *modernMember) bool {
	if g.share || len(g.members) > limits.MaxSize || !limits.Migration.downgrades() || but != nil && but.classic != nil {
		return false
	}
	for _, s := range g.members {
		if s.classic == nil && s != but {
			return false
		}
	}
	return true
}

// downgrade makes a classic group of a consumer group that has only classic members. What is written has no leader, so that the
// next coordinator begins the rebalance too, if it is not over by then.
func (m *Machine) downgrade(now time.Time, topics Topics) []Record {
	g := m.modern
	var records []Record
	for _, id := range g.ids() {
		records = append(records, g.goneRecords(m.id, id)...)
	}
	records = append(records, g.tombstones(m.id)...)
	m.modern = nil
	m.generation, m.protocolType = Generation(g.groupEpoch), ConsumerProtocol
	for _, id := range g.ids() {
		m.readmit(now, topics, g.members[id])
	}
	m.protocol = m.selectProtocol()
	m.subscribed = m.subscriptions()
	m.setState(now, Stable)
	records = append(records, m.metadataRecord(nil))
	m.prepareRebalance(now)
	return records
}

// readmit makes a member one of the classic group. Its assignment is what it may still use, not what it was about to get: the
// group may become a consumer group again before it has joined.
func (m *membership) readmit(now time.Time, topics Topics, s *modernMember) {
	uses := setOf(append(s.assigned.sorted(), s.revoking.sorted()...))
	sub, _ := readSubscription(s.classic.protocol().Metadata)
	m.lastOrder++
	c := &member{
		id: s.id, instance: s.instance, clientID: s.clientID, clientHost: s.clientHost,
		session: s.classic.session, rebalance: s.rebalance, order: m.lastOrder,
	}
	m.members[c.id] = c
	if c.instance != "" {
		m.static[c.instance] = c.id
	}
	m.setProtocols(c, s.classic.protocols)
	m.setAssignment(c, appendAssignment(sub.version, topics, uses))
	m.alive(now, c)
}
