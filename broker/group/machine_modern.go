package group

import (
	"cmp"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/replication"
)

// MemberEpoch counts the assignments that a member has taken over (KIP-848). It only grows.
type MemberEpoch int32

// Member epochs that say something else.
const (
	EpochJoin        MemberEpoch = 0
	EpochLeave       MemberEpoch = -1
	EpochStaticLeave MemberEpoch = -2 // leaves, but will be back under its instance id
)

// TopicPartition names a partition by the topic's id.
type TopicPartition struct {
	Topic     replication.TopicID
	Partition int32
}

func compareTP(a, b TopicPartition) int {
	return cmp.Or(slices.Compare(a.Topic[:], b.Topic[:]), cmp.Compare(a.Partition, b.Partition))
}

// partitionSet is a set of partitions.
type partitionSet map[TopicPartition]struct{}

func setOf(list []TopicPartition) partitionSet {
	s := make(partitionSet, len(list))
	for _, p := range list {
		s[p] = struct{}{}
	}
	return s
}

func (s partitionSet) has(p TopicPartition) bool {
	_, ok := s[p]
	return ok
}

func (s partitionSet) sorted() []TopicPartition {
	out := make([]TopicPartition, 0, len(s))
	for p := range s {
		out = append(out, p)
	}
	slices.SortFunc(out, compareTP)
	return out
}

func (s partitionSet) equal(o partitionSet) bool {
	if len(s) != len(o) {
		return false
	}
	for p := range s {
		if !o.has(p) {
			return false
		}
	}
	return true
}

// memberState is how far a member is with its assignment. The numbers are those of Kafka's records.
type memberState int8

const (
	stateStable     memberState = 0 // has what the target says
	stateUnrevoked  memberState = 1 // has yet to give up partitions
	stateUnreleased memberState = 2 // waits for partitions that others have yet to give up
)

// modernMember is a member of a group whose partitions the coordinator assigns.
type modernMember struct {
	id, instance, rack   string
	clientID, clientHost string
	topics               []string // sorted
	regex                string
	assignor             string
	rebalance            time.Duration
	epoch, previous      MemberEpoch
	state                memberState
	assigned, revoking   partitionSet
	session              time.Time    // by when it must be heard of
	revokeBy             time.Time    // by when it must have given up revoking; zero: it need not
	classic              *classicSide // nil: it speaks the consumer protocol
}

func newModernMember(id string) *modernMember {
	return &modernMember{id: id, assigned: partitionSet{}, revoking: partitionSet{}}
}

func (s *modernMember) bytes() int {
	n := len(s.id) + len(s.instance) + len(s.rack) + len(s.clientID) + len(s.clientHost) + len(s.regex)
	for _, t := range s.topics {
		n += len(t)
	}
	return n + s.classic.bytes()
}

// isOver tells that a time has come by which the member had to do something.
func (s *modernMember) isOver(now time.Time) bool {
	return due(now, s.session) || due(now, s.revokeBy) || s.classic != nil && (due(now, s.classic.joinBy) || due(now, s.classic.syncBy))
}

// watch has the machine woken when any of the member's times has come.
func (a *alarm) watch(s *modernMember) {
	times := []time.Time{s.session, s.revokeBy}
	if s.classic != nil {
		times = append(times, s.classic.joinBy, s.classic.syncBy)
	}
	for _, t := range times {
		if !t.IsZero() {
			a.arm(t)
		}
	}
}

// alive restarts the member's session. One of the classic protocol has brought its own time-out.
func (s *modernMember) alive(now time.Time, t Times) {
	d := t.Session
	if s.classic != nil {
		d = s.classic.session
	}
	s.session = now.Add(d)
}

// modern is a group of the consumer protocol (KIP-848), or a share group (KIP-932): members subscribe to topics, the
// coordinator computes a target assignment, and heartbeat by heartbeat each member is brought there.
//
//	groupEpoch       grows with each change of members, subscriptions or topics
//	assignmentEpoch  the group epoch for which target was computed: assignmentEpoch <= groupEpoch
//	member.epoch     the assignment epoch up to which the member was brought: epoch <= assignmentEpoch
//
// In a consumer group owners is the union of assigned and revoking of all members, which are disjoint: a partition is given to
// a member only when no other holds it. In a share group partitions are shared, and owners is empty.
type modern struct {
	share           bool
	groupEpoch      MemberEpoch
	assignmentEpoch MemberEpoch
	hash            int64  // of the subscribed topics' metadata as of groupEpoch
	version         uint64 // of the metadata that all expressions are resolved for; 0: none
	members         map[string]*modernMember
	static          map[string]string
	target          map[string]partitionSet
	owners          map[TopicPartition]string
	regexes         map[string]*resolvedRegex
	heldBytes       int
}

// resolvedRegex is a regular expression with the topics that it matched.
type resolvedRegex struct {
	topics []string // sorted
	at     time.Time
}

func newModern(share bool) *modern {
	return &modern{
		share: share, members: map[string]*modernMember{}, static: map[string]string{}, target: map[string]partitionSet{},
		owners: map[TopicPartition]string{}, regexes: map[string]*resolvedRegex{},
	}
}

func (g *modern) kinds() *recordKinds {
	if g.share {
		return &shareKinds
	}
	return &consumerKinds
}

// ids returns the members' ids, sorted: every walk over the members is repeatable.
func (g *modern) ids() []string {
	out := make([]string, 0, len(g.members))
	for id := range g.members {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// stateName is Kafka's name of the group's state.
func (g *modern) stateName() string {
	if len(g.members) == 0 {
		return "Empty"
	}
	if g.share {
		return "Stable"
	}
	if g.groupEpoch > g.assignmentEpoch {
		return "Assigning"
	}
	for _, s := range g.members {
		if s.state != stateStable || s.epoch != g.assignmentEpoch {
			return "Reconciling"
		}
	}
	return "Stable"
}

// subscribed returns the names that a member reads, of topics that exist or not.
func (g *modern) subscribed(s *modernMember) []string {
	if s.regex == "" || g.regexes[s.regex] == nil {
		return s.topics
	}
	all := append(slices.Clone(s.topics), g.regexes[s.regex].topics...)
	slices.Sort(all)
	return slices.Compact(all)
}

func (g *modern) reads(topic string) bool {
	for _, s := range g.members {
		if _, ok := slices.BinarySearch(s.topics, topic); ok {
			return true
		}
		if r := g.regexes[s.regex]; r != nil {
			if _, ok := slices.BinarySearch(r.topics, topic); ok {
				return true
			}
		}
	}
	return false
}

// Topics is what exists, at one time. A machine's event carries it.
type Topics interface {
	Topic(name string) (coordinator.Topic, bool)
	TopicByID(id replication.TopicID) (coordinator.Topic, bool)
}

// unresolved adds the regular expressions that were resolved for an older version of the metadata than this.
func (g *modern) unresolved(list []string, version uint64) []string {
	if g.version == version {
		return list
	}
	for _, id := range g.ids() {
		if r := g.members[id].regex; r != "" && !slices.Contains(list, r) {
			list = append(list, r)
		}
	}
	return list
}

// plan is what an assignor is asked: the topics that exist, and who reads which.
func (g *modern) plan(topics Topics) *plan {
	p := &plan{topics: map[replication.TopicID]int32{}}
	for _, id := range g.ids() {
		s := g.members[id]
		pm := planMember{id: id, instance: s.instance, before: g.target[id]}
		for _, name := range g.subscribed(s) {
			if t, ok := topics.Topic(name); ok {
				p.topics[t.ID] = t.Partitions
				pm.topics = append(pm.topics, t.ID)
			}
		}
		p.members = append(p.members, pm)
	}
	return p
}

// hashOf is a hash (FNV-1a) of the metadata of all topics that the group reads: it changes when one comes, goes or grows.
func (g *modern) hashOf(topics Topics) int64 {
	names := map[string]struct{}{}
	for _, s := range g.members {
		for _, t := range g.subscribed(s) {
			names[t] = struct{}{}
		}
	}
	sorted := make([]string, 0, len(names))
	for n := range names {
		sorted = append(sorted, n)
	}
	slices.Sort(sorted)
	h := uint64(14695981039346656037)
	mix := func(b byte) { h = (h ^ uint64(b)) * 1099511628211 }
	for _, n := range sorted {
		t, ok := topics.Topic(n)
		if !ok {
			continue
		}
		for _, b := range t.ID {
			mix(b)
		}
		for shift := 0; shift < 32; shift += 8 {
			mix(byte(t.Partitions >> shift))
		}
	}
	return int64(h)
}

// assignor is the one that most members ask for; the first of the broker's if none does.
func (g *modern) assignor(preferred string) string {
	if g.share {
		return AssignorSimple
	}
	votes := map[string]int{}
	best := preferred
	for _, id := range g.ids() {
		if a := g.members[id].assignor; a != "" {
			if votes[a]++; votes[a] > votes[best] || votes[best] == 0 {
				best = a
			}
		}
	}
	return best
}

// adopt adds a member.
func (g *modern) adopt(s *modernMember) {
	g.members[s.id] = s
	if s.instance != "" {
		g.static[s.instance] = s.id
	}
	g.heldBytes += s.bytes()
	g.own(s)
}

// drop takes a member out, with what it owns.
func (g *modern) drop(s *modernMember) {
	g.disown(s)
	g.heldBytes -= s.bytes()
	delete(g.members, s.id)
	delete(g.target, s.id)
	if g.static[s.instance] == s.id {
		delete(g.static, s.instance)
	}
}

func (g *modern) own(s *modernMember) {
	if g.share {
		return
	}
	for _, set := range []partitionSet{s.assigned, s.revoking} {
		for p := range set {
			g.owners[p] = s.id
		}
	}
}

func (g *modern) disown(s *modernMember) {
	for _, set := range []partitionSet{s.assigned, s.revoking} {
		for p := range set {
			if g.owners[p] == s.id {
				delete(g.owners, p)
			}
		}
	}
}
