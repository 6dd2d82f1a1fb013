package group

import (
	"slices"
	"time"
)

// recordKinds are the kinds of records of a protocol, by what they hold; 0: there is none.
type recordKinds struct{ group, member, assignment, target, current, regex int16 }

var (
	consumerKinds = recordKinds{group: 3, member: 5, assignment: 6, target: 7, current: 8, regex: 16}
	shareKinds    = recordKinds{group: 11, member: 10, assignment: 12, target: 13, current: 14}
)

// Entry is a record of a group whose partitions the coordinator assigns. Name is the member's id or the regular expression,
// empty for the group itself. Value is nil for a tombstone, else one of the types below.
type Entry struct {
	Kind  int16
	Name  string
	Value any
}

type (
	groupValue struct {
		Epoch MemberEpoch
		Hash  int64
	}
	memberValue struct {
		Instance, Rack, ClientID, ClientHost, Regex, Assignor string
		Topics                                                []string
		Rebalance                                             time.Duration
		Classic                                               *classicValue // nil: it speaks the consumer protocol
	}
	classicValue struct {
		Session   time.Duration
		Protocols []Protocol
	}
	assignmentValue struct{ Epoch MemberEpoch }
	targetValue     struct{ Partitions []TopicPartition }
	currentValue    struct {
		Epoch, Previous    MemberEpoch
		State              memberState
		Assigned, Revoking []TopicPartition
	}
	regexValue struct {
		Topics []string
		At     time.Time
	}
)

func (e *Entry) size() int {
	const perPartition = 24
	n := len(e.Name)
	switch v := e.Value.(type) {
	case memberValue:
		n += len(v.Instance) + len(v.Rack) + len(v.ClientID) + len(v.ClientHost) + len(v.Regex)
		for _, t := range v.Topics {
			n += len(t) + 2
		}
		if v.Classic != nil {
			n += protocolBytes(v.Classic.Protocols)
		}
	case targetValue:
		n += perPartition * len(v.Partitions)
	case currentValue:
		n += perPartition * (len(v.Assigned) + len(v.Revoking))
	case regexValue:
		for _, t := range v.Topics {
			n += len(t) + 2
		}
	}
	return n
}

func entry(group string, kind int16, name string, value any) Record {
	return Record{Group: group, Entry: &Entry{Kind: kind, Name: name, Value: value}}
}

func (g *modern) groupRecord(group string) Record {
	return entry(group, g.kinds().group, "", groupValue{Epoch: g.groupEpoch, Hash: g.hash})
}

func (g *modern) assignmentRecord(group string) Record {
	return entry(group, g.kinds().assignment, "", assignmentValue{g.assignmentEpoch})
}

func (g *modern) memberRecord(group string, s *modernMember) Record {
	v := memberValue{
		Instance: s.instance, Rack: s.rack, ClientID: s.clientID, ClientHost: s.clientHost, Regex: s.regex, Assignor: s.assignor,
		Topics: slices.Clone(s.topics), Rebalance: s.rebalance,
	}
	if c := s.classic; c != nil {
		v.Classic = &classicValue{Session: c.session, Protocols: c.protocols}
	}
	return entry(group, g.kinds().member, s.id, v)
}

func (g *modern) targetRecord(group, id string) Record {
	return entry(group, g.kinds().target, id, targetValue{g.target[id].sorted()})
}

func (g *modern) currentRecord(group string, s *modernMember) Record {
	return entry(group, g.kinds().current, s.id, currentValue{
		Epoch: s.epoch, Previous: s.previous, State: s.state, Assigned: s.assigned.sorted(), Revoking: s.revoking.sorted(),
	})
}

// regexRecord is a tombstone if the group has the regular expression no more.
func (g *modern) regexRecord(group, regex string) Record {
	if r := g.regexes[regex]; r != nil {
		return entry(group, g.kinds().regex, regex, regexValue{Topics: r.topics, At: r.at})
	}
	return entry(group, g.kinds().regex, regex, nil)
}

// goneRecords are the tombstones of a member, in Kafka's order: what depends on another goes first.
func (g *modern) goneRecords(group, id string) []Record {
	k := g.kinds()
	return []Record{entry(group, k.current, id, nil), entry(group, k.target, id, nil), entry(group, k.member, id, nil)}
}

// tombstones end the group, which has no members.
func (g *modern) tombstones(group string) []Record {
	k := g.kinds()
	out := []Record{}
	for regex := range g.regexes {
		out = append(out, entry(group, k.regex, regex, nil))
	}
	return append(out, entry(group, k.assignment, "", nil), entry(group, k.group, "", nil))
}

// modernLog is what the log says of a group, record by record: what belongs together is put together at the end, as compaction
// may have taken any of it.
type modernLog struct {
	share           bool
	group           *groupValue
	assignmentEpoch MemberEpoch
	members         map[string]memberValue
	targets         map[string][]TopicPartition
	currents        map[string]currentValue
	regexes         map[string]regexValue
}

func newModernLog(share bool) *modernLog {
	return &modernLog{
		share: share, members: map[string]memberValue{}, targets: map[string][]TopicPartition{}, currents: map[string]currentValue{},
		regexes: map[string]regexValue{},
	}
}

func (l *modernLog) apply(e *Entry) {
	switch v := e.Value.(type) {
	case groupValue:
		l.group = &v
	case assignmentValue:
		l.assignmentEpoch = v.Epoch
	case memberValue:
		l.members[e.Name] = v
	case targetValue:
		l.targets[e.Name] = v.Partitions
	case currentValue:
		l.currents[e.Name] = v
	case regexValue:
		l.regexes[e.Name] = v
	case nil:
		l.bury(e)
	}
}

func (l *modernLog) bury(e *Entry) {
	k := consumerKinds
	if l.share {
		k = shareKinds
	}
	switch e.Kind {
	case k.group:
		l.group = nil
	case k.assignment:
		l.assignmentEpoch = 0
	case k.member:
		delete(l.members, e.Name)
	case k.target:
		delete(l.targets, e.Name)
	case k.current:
		delete(l.currents, e.Name)
	case k.regex:
		delete(l.regexes, e.Name)
	}
}

// restore makes the group. Sessions start anew: the time without a coordinator is not the members' fault.
func (l *modernLog) restore(now time.Time, t Times) *modern {
	g := newModern(l.share)
	g.groupEpoch, g.hash, g.assignmentEpoch = l.group.Epoch, l.group.Hash, l.assignmentEpoch
	for id, v := range l.members {
		s := newModernMember(id)
		s.instance, s.rack, s.clientID, s.clientHost, s.regex, s.assignor = v.Instance, v.Rack, v.ClientID, v.ClientHost, v.Regex, v.Assignor
		s.topics, s.rebalance = v.Topics, v.Rebalance
		if c, ok := l.currents[id]; ok {
			s.epoch, s.previous, s.state, s.assigned, s.revoking = c.Epoch, c.Previous, c.State, setOf(c.Assigned), setOf(c.Revoking)
		}
		if v.Classic != nil {
			s.classic = &classicSide{session: v.Classic.Session, protocols: v.Classic.Protocols}
		}
		s.alive(now, t)
		if len(s.revoking) > 0 {
			s.revokeBy = now.Add(s.rebalance)
		}
		g.adopt(s)
		if target, ok := l.targets[id]; ok {
			g.target[id] = setOf(target)
		}
	}
	for regex, v := range l.regexes {
		g.regexes[regex] = &resolvedRegex{topics: v.Topics, at: v.At}
	}
	return g
}

// blank tells that there is no record.
func (l *modernLog) blank() bool {
	return l == nil || l.group == nil && l.assignmentEpoch == 0 && len(l.members)+len(l.targets)+len(l.currents)+len(l.regexes) == 0
}

// restoreMembers takes over a stored group, whose members have the times t.
func (m *Machine) restoreMembers(now time.Time, l *modernLog, t Times) {
	m.modern = l.restore(now, t)
	m.stateSince = now
	for _, s := range m.modern.members {
		m.watch(s)
	}
}
