package group

import (
	"maps"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
)

// MemberHeartbeat is a ConsumerGroupHeartbeat or ShareGroupHeartbeat request, found well-formed.
type MemberHeartbeat struct {
	View
	Call    CallID
	Request MemberRequest
	Share   bool
	Times   Times // that hold for the group
	// Resolved are the topics that regular expressions of the group match, of those that are new or were resolved for an older
	// version.
	Resolved map[string][]string
}

// ReplyMember answers a MemberHeartbeat.
type ReplyMember struct {
	Call     CallID
	Response MemberResponse
}

// Reload says that what the machine holds may be another than what the log holds.
type Reload struct{}

func (MemberHeartbeat) isEvent() {}
func (ReplyMember) isEffect()    {}
func (Reload) isEffect()         {}

// memberHeartbeat answers a heartbeat. What it changes counts at once, and is answered when it is in the log, as is all that
// was seen meanwhile; if it does not get there, the group is read again.
func (m *Machine) memberHeartbeat(now time.Time, e MemberHeartbeat) {
	r := &e.Request
	if m.state == Dead {
		m.failMember(e.Call, broker.ErrCoordinatorNotAvailable)
		return
	}
	if r.Epoch < 0 {
		m.memberLeaves(now, e)
		return
	}
	g, err := m.enter(now, &e)
	var s *modernMember
	if err == nil {
		s, err = g.find(&e, m.limits)
	}
	if err != nil {
		m.failMember(e.Call, err)
		return
	}
	var records []Record
	if m.modern == nil {
		m.fromClassic(now, g, &records)
	}
	before := s.assigned
	m.bring(now, s, &e, &records)
	response := s.response(r, g.share, !before.equal(s.assigned))
	response.Interval = e.Times.Heartbeat
	m.answer(ReplyMember{Call: e.Call, Response: response}, records)
}

// bring takes over what a member says, and brings it a step nearer to its target.
func (m *Machine) bring(now time.Time, s *modernMember, e *MemberHeartbeat, records *[]Record) {
	g := m.modern
	changed := m.update(s, e, records)
	if m.refresh(now, e, changed, records) {
		g.retarget(e.Topics, m.limits.preferredAssignor(), records, m.id)
	}
	if g.reconcile(now, s, ownedSet(&e.Request)) {
		*records = append(*records, g.currentRecord(m.id, s))
	}
	s.alive(now, e.Times)
	m.watch(s)
}

func ownedSet(r *MemberRequest) partitionSet {
	if r.Owned == nil {
		return nil
	}
	return setOf(r.Owned)
}

func (s *modernMember) response(r *MemberRequest, share, changed bool) MemberResponse {
	out := MemberResponse{Member: s.id, Epoch: s.epoch}
	// A request that tells everything may come from a member that lost an answer.
	full := (r.Topics != nil || r.Regex != nil) && (share || r.Owned != nil && r.Rebalance >= 0)
	if changed || full || r.Epoch == EpochJoin {
		out.Assigned = s.assigned.sorted()
		out.HasAssignment = true
	}
	return out
}

// enter returns the group as one of the protocol, if it may be.
func (m *Machine) enter(now time.Time, e *MemberHeartbeat) (*modern, error) {
	if g := m.modern; g != nil {
		if g.share != e.Share {
			return nil, broker.ErrGroupNotFound
		}
		return g, nil
	}
	if e.Request.Epoch != EpochJoin || e.Share && !m.Blank() {
		return nil, broker.ErrGroupNotFound
	}
	if m.state != Empty {
		return m.upgraded(now, e.Topics)
	}
	g := newModern(e.Share)
	g.groupEpoch = MemberEpoch(m.generation)
	return g, nil
}

// find returns the member that a heartbeat comes from, a new one if it joins.
func (g *modern) find(e *MemberHeartbeat, limits *Limits) (*modernMember, error) {
	r := &e.Request
	s := g.members[r.Member]
	old := g.members[g.static[r.Instance]]
	if r.Instance == "" {
		old = nil
	}
	switch {
	case s == nil && old == nil && len(g.members) >= limits.size(g.share):
		return nil, broker.ErrGroupMaxSizeReached
	case g.heldBytes+r.bytes() > limits.MaxGroupBytes, !g.mayMatch(r.Regex, limits):
		return nil, broker.ErrGroupMaxSizeReached
	case r.Epoch == EpochJoin && old != nil && old.epoch != EpochStaticLeave && old.classic == nil:
		return nil, broker.ErrUnreleasedInstanceID
	case r.Epoch == EpochJoin && s == nil:
		return newModernMember(r.Member), nil // adopted by update
	case r.Epoch == EpochJoin && (old != nil && old != s || s.instance != r.Instance):
		return nil, broker.ErrFencedInstanceID // the member is known under another
	case r.Epoch == EpochJoin:
		// It is back, and has nothing: what it had may be another's before long.
		s.epoch = EpochJoin
		return s, nil
	case r.Instance != "" && old == nil, s == nil && old == nil:
		return nil, broker.ErrUnknownMember
	case old != nil && old.id != r.Member:
		return nil, broker.ErrFencedInstanceID
	}
	return s, s.checkEpoch(r, g.share)
}

// checkEpoch compares a member's epoch with ours. It may be the one before, if our last answer was lost: then it has nothing
// that it may not have.
func (s *modernMember) checkEpoch(r *MemberRequest, share bool) error {
	switch {
	case r.Epoch == s.epoch:
		return nil
	case r.Epoch > s.epoch || r.Epoch != s.previous:
		return broker.ErrFencedMemberEpoch
	case share:
		return nil
	case r.Owned == nil:
		return broker.ErrFencedMemberEpoch
	}
	for _, p := range r.Owned {
		if !s.assigned.has(p) {
			return broker.ErrFencedMemberEpoch
		}
	}
	return nil
}

// update takes over what a heartbeat says of the member, and tells whether the group's assignment must follow.
func (m *Machine) update(s *modernMember, e *MemberHeartbeat, records *[]Record) (changed bool) {
	g, r := m.modern, &e.Request
	known := g.members[s.id] == s
	if old := g.members[g.static[r.Instance]]; r.Instance != "" && old != nil && r.Epoch == EpochJoin {
		g.takeOver(old, s, m.id, records)
	} else if !known {
		changed = true
	}
	if g.members[s.id] == s {
		g.heldBytes -= s.bytes()
	}
	next := *s
	r.fill(&next)
	regexChanged := next.regex != s.regex
	changed = changed || regexChanged || !slices.Equal(next.topics, s.topics) || next.assignor != s.assignor
	differs := !known || changed || next.bytes() != s.bytes() || next.rebalance != s.rebalance ||
		next.rack != s.rack || next.clientID != s.clientID || next.clientHost != s.clientHost || next.instance != s.instance ||
		!next.classic.says(s.classic)
	*s = next
	if g.members[s.id] != s {
		g.adopt(s)
	} else {
		g.heldBytes += s.bytes()
	}
	if differs {
		*records = append(*records, g.memberRecord(m.id, s))
	}
	if regexChanged {
		g.forgetRegexes(m.id, records)
	}
	return changed
}

// takeOver gives the place of a static member that left for a while to the process that came back for it.
func (g *modern) takeOver(old, s *modernMember, group string, records *[]Record) {
	target := g.target[old.id]
	if old != s {
		g.drop(old)
		*records = append(*records, g.goneRecords(group, old.id)...)
		id := s.id
		*s = *old
		s.id = id
		g.adopt(s)
		g.target[s.id] = target
		*records = append(*records, g.targetRecord(group, s.id))
	}
	s.epoch, s.previous = EpochJoin, EpochJoin
}

// refresh raises the group epoch if the group's members, subscriptions or topics changed, and tells whether a target must be
// computed.
func (m *Machine) refresh(now time.Time, e *MemberHeartbeat, changed bool, records *[]Record) bool {
	g := m.modern
	changed = g.resolved(now, e, m.id, records) || changed
	if changed || g.version != e.Version {
		g.version = e.resolves(g)
		if hash := g.hashOf(e.Topics); hash != g.hash {
			g.hash, changed = hash, true
		}
	}
	if changed {
		g.groupEpoch++
		*records = append(*records, g.groupRecord(m.id))
	}
	return g.groupEpoch > g.assignmentEpoch
}

// resolves is the version of the metadata that all expressions of the group are resolved for after a heartbeat; 0 if one is not. That one was
// brought by a member that joined while the heartbeat was on its way.
func (e *MemberHeartbeat) resolves(g *modern) uint64 {
	if g.version == e.Version {
		return e.Version
	}
	for _, s := range g.members {
		if _, ok := e.Resolved[s.regex]; s.regex != "" && !ok {
			return 0
		}
	}
	return e.Version
}

// resolved takes over the topics that regular expressions match, and tells whether any differ. What is known for the version is
// not looked up again for another member, who may see others: the group would be rebalanced to and fro.
func (g *modern) resolved(now time.Time, e *MemberHeartbeat, group string, records *[]Record) (changed bool) {
	for _, regex := range slices.Sorted(maps.Keys(e.Resolved)) {
		topics, old := e.Resolved[regex], g.regexes[regex]
		if !g.uses(regex) || old != nil && (g.version == e.Version || slices.Equal(old.topics, topics)) {
			continue
		}
		g.regexes[regex] = &resolvedRegex{topics: topics, at: now}
		*records = append(*records, g.regexRecord(group, regex))
		changed = true
	}
	return changed
}

// mayMatch applies the limit on regular expressions.
func (g *modern) mayMatch(regex *string, limits *Limits) bool {
	return regex == nil || *regex == "" || g.regexes[*regex] != nil || len(g.regexes) < limits.MaxRegexes
}

func (g *modern) uses(regex string) bool {
	for _, s := range g.members {
		if s.regex == regex {
			return true
		}
	}
	return false
}

// forgetRegexes drops those that no member has any more.
func (g *modern) forgetRegexes(group string, records *[]Record) {
	for regex := range g.regexes {
		if !g.uses(regex) {
			delete(g.regexes, regex)
			*records = append(*records, g.regexRecord(group, regex))
		}
	}
}

// retarget computes the target of the group epoch.
func (g *modern) retarget(topics Topics, preferred string, records *[]Record, group string) {
	next := g.plan(topics).assign(g.assignor(preferred))
	for _, id := range g.ids() {
		old, had := g.target[id]
		g.target[id] = next[id]
		if !had || !old.equal(next[id]) {
			*records = append(*records, g.targetRecord(group, id))
		}
	}
	g.assignmentEpoch = g.groupEpoch
	*records = append(*records, g.assignmentRecord(group))
}

// memberLeaves handles a heartbeat by which a member leaves, for good or to be back.
func (m *Machine) memberLeaves(now time.Time, e MemberHeartbeat) {
	r, g := &e.Request, m.modern
	if g == nil || g.share != e.Share {
		m.failMember(e.Call, broker.ErrGroupNotFound)
		return
	}
	s := g.members[r.Member]
	if r.Instance != "" {
		id, ok := g.static[r.Instance]
		if ok && id != r.Member {
			m.failMember(e.Call, broker.ErrFencedInstanceID)
			return
		}
		s = g.members[id]
	}
	if s == nil {
		m.failMember(e.Call, broker.ErrUnknownMember)
		return
	}
	var records []Record
	if r.Epoch == EpochStaticLeave && s.instance != "" {
		s.epoch = EpochStaticLeave
		// It reads nothing any more. What it was giving up is not kept for its return.
		g.disown(s)
		s.revoking, s.revokeBy = partitionSet{}, time.Time{}
		g.own(s)
		records = append(records, g.currentRecord(m.id, s))
	} else {
		records = m.dismiss(now, e.Topics, s)
	}
	m.answer(ReplyMember{Call: e.Call, Response: MemberResponse{Member: r.Member, Epoch: r.Epoch}}, records)
}

// dismiss takes members out and raises the group epoch. If only members of the classic protocol are left, the group is theirs.
func (m *Machine) dismiss(now time.Time, topics Topics, gone ...*modernMember) (records []Record) {
	g := m.modern
	for _, s := range gone {
		g.drop(s)
		records = append(records, g.goneRecords(m.id, s.id)...)
	}
	g.forgetRegexes(m.id, &records)
	if len(g.members) > 0 && g.mayBeClassic(m.limits, nil) {
		return append(records, m.downgrade(now, topics)...)
	}
	g.groupEpoch++
	if len(g.members) == 0 {
		m.setState(now, Empty)
	}
	return append(records, g.groupRecord(m.id))
}

// tickMembers dismisses members that were not heard of, or did not give up partitions in time.
func (m *Machine) tickMembers(now time.Time, topics Topics) {
	if m.modern == nil {
		return
	}
	var gone []*modernMember
	for _, id := range m.modern.ids() {
		if s := m.modern.members[id]; s.isOver(now) {
			gone = append(gone, s)
		}
	}
	if len(gone) > 0 {
		m.answer(nil, m.dismiss(now, topics, gone...))
	}
	if m.modern == nil {
		return // it is a classic group now
	}
	for _, s := range m.modern.members {
		m.watch(s)
	}
}

func (o *outbox) failMember(call CallID, err error) {
	o.out = append(o.out, ReplyMember{Call: call, Response: MemberResponse{Err: err}})
}
