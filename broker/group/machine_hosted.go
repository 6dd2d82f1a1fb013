package group

import (
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
)

// Here are the members of a consumer group that speak the classic protocol (KIP-848, "online migration"). To the group they are
// members as all others: each of their JoinGroups counts as a heartbeat that tells everything, by which the coordinator brings
// them a step nearer to their target, and SyncGroup fetches what they are assigned. None of them leads. Their generation is their
// member epoch. By Heartbeat they learn that it is time to join again:
//
//	the group epoch has grown      a target is to be computed, or was
//	the member must give up        it learned by SyncGroup what it has no more, and says so when it joins
//	what it waited for is free     it gets that when it joins

// classicSide is what a member that speaks the classic protocol has beside all others.
type classicSide struct {
	protocols []Protocol // in its order of preference
	session   time.Duration
	joinBy    time.Time // it was told to join again, and must have by then; zero: it was not
	syncBy    time.Time // it has joined, and must have sent SyncGroup by then; zero: it has
}

func (c *classicSide) bytes() int {
	if c == nil {
		return 0
	}
	return protocolBytes(c.protocols)
}

// says tells whether both are the same as far as the log is concerned.
func (c *classicSide) says(o *classicSide) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.session == o.session && slices.EqualFunc(c.protocols, o.protocols, func(a, b Protocol) bool {
		return a.Name == b.Name && string(a.Metadata) == string(b.Metadata)
	})
}

// protocol is the one that the member is answered with: all of them say the same of it, and the coordinator needs none.
func (c *classicSide) protocol() Protocol {
	if len(c.protocols) == 0 {
		return Protocol{} // only in a log that nobody wrote
	}
	return c.protocols[0]
}

// errStale tells a member that it is not in the epoch that it believes.
func (s *modernMember) errStale() error {
	if s.classic != nil {
		return broker.ErrIllegalGeneration
	}
	return broker.ErrStaleMemberEpoch
}

// host serves the classic protocol's requests for a consumer group that has members.
type host struct {
	m *Machine
	g *modern
}

// join serves a JoinGroup.
func (h host) join(now time.Time, e Join) {
	m := h.m
	r := &e.Request
	r.Protocols = withoutRepeats(r.Protocols)
	sub, err := h.check(r)
	if err == nil && r.Member == "" && r.Instance == "" && r.RequireMemberID {
		// Unlike in a classic group the id need not be kept: with it anybody may join.
		m.failJoin(e.Call, e.NewMember, broker.ErrMemberIDRequired)
		return
	}
	var s *modernMember
	if err == nil {
		s, err = h.find(r, &sub)
	}
	if err != nil {
		m.failJoin(e.Call, r.Member, err)
		return
	}
	if s != nil && r.Member == "" && h.g.mayBeClassic(m.limits, s) {
		// The process of a static member was the last one to speak the consumer protocol; its successor does not.
		m.answer(nil, m.dismiss(now, e.Topics, s))
		m.join(now, e)
		return
	}
	h.admit(now, s, &e, &sub)
}

// check refuses what can't become a member, whoever it is.
func (h host) check(r *JoinRequest) (sub embeddedSubscription, err error) {
	g, l := h.g, h.m.limits
	known := g.members[r.Member] != nil || g.static[r.Instance] != "" && r.Instance != ""
	switch {
	case r.SessionTimeout < l.MinSessionTimeout || r.SessionTimeout > l.MaxSessionTimeout:
		return sub, broker.ErrInvalidSessionTimeout
	case !known && len(g.members) >= l.size(false), g.heldBytes+protocolBytes(r.Protocols) > l.MaxGroupBytes:
		return sub, broker.ErrGroupMaxSizeReached
	case r.ProtocolType != ConsumerProtocol || !slices.ContainsFunc(r.Protocols, h.offeredByAll):
		return sub, broker.ErrInconsistentGroupProtocol
	}
	// The protocols differ in what members tell each other, not in what they read and own.
	sub, ok := readSubscription(r.Protocols[0].Metadata)
	if !ok {
		return sub, broker.ErrInconsistentGroupProtocol
	}
	return sub, nil
}

// offeredByAll tells whether all classic members have the protocol: the group may be theirs alone one day.
func (h host) offeredByAll(p Protocol) bool {
	for _, s := range h.g.members {
		if s.classic != nil && !slices.ContainsFunc(s.classic.protocols, func(q Protocol) bool { return q.Name == p.Name }) {
			return false
		}
	}
	return true
}

// find returns the member that a JoinGroup comes from, or whose place it wants; nil: a new one.
func (h host) find(r *JoinRequest, sub *embeddedSubscription) (*modernMember, error) {
	g := h.g
	if r.Instance == "" {
		s := g.members[r.Member]
		if s == nil && r.Member != "" && len(sub.owned) > 0 {
			// It was dismissed, and what it uses may be another's by now: it must hear of it. (Kafka takes it in.)
			return nil, broker.ErrUnknownMember
		}
		return s, nil
	}
	old := g.members[g.static[r.Instance]]
	switch {
	case r.Member == "":
		return old, nil
	case old == nil:
		return nil, broker.ErrUnknownMember
	case old.id != r.Member:
		return nil, broker.ErrFencedInstanceID
	}
	return old, nil
}

// admit takes over what a JoinGroup says. old is whom it comes from, or whose place it takes.
func (h host) admit(now time.Time, old *modernMember, e *Join, sub *embeddedSubscription) {
	m, g, r := h.m, h.g, &e.Request
	none := ""
	beat := MemberHeartbeat{View: e.View, Call: e.Call, Request: MemberRequest{
		Group: r.Group, Member: r.Member, Instance: r.Instance, ClientID: r.ClientID, ClientHost: r.ClientHost, Rack: &sub.rack,
		Rebalance: r.RebalanceTimeout, Topics: append([]string{}, sub.topics...), Regex: &none, Assignor: &none, Owned: []TopicPartition{},
		classic: &classicSide{protocols: cloneProtocols(r.Protocols), session: r.SessionTimeout},
	}}
	if len(g.regexes) > 0 {
		beat.Version = g.version // only a heartbeat resolves regular expressions; the next one sees the new version
	}
	s := old
	switch {
	case r.Member == "":
		// A process that has no id yet uses nothing.
		beat.Request.Member = e.NewMember
		s = newModernMember(e.NewMember)
	case old == nil:
		s = newModernMember(r.Member)
	default:
		beat.Request.Epoch = old.epoch
		beat.Request.Owned = byID(e.Topics, sub.owned)
	}
	var records []Record
	m.bring(now, s, &beat, &records)
	s.classic.syncBy = now.Add(s.rebalance)
	m.watch(s)
	m.answer(ReplyJoin{Call: e.Call, Response: JoinResponse{
		Member: s.id, Generation: Generation(s.epoch), ProtocolType: ConsumerProtocol, Protocol: s.classic.protocol().Name,
	}}, records)
}

// member finds a member that speaks the classic protocol. The checks are those of roster.check.
func (h host) member(id, instance string, generation Generation) (*modernMember, error) {
	g := h.g
	if instance != "" {
		current, ok := g.static[instance]
		if !ok {
			return nil, broker.ErrUnknownMember
		}
		if current != id {
			return nil, broker.ErrFencedInstanceID
		}
	}
	s := g.members[id]
	switch {
	case s == nil || s.classic == nil:
		return nil, broker.ErrUnknownMember
	case MemberEpoch(generation) != s.epoch:
		return nil, broker.ErrIllegalGeneration
	}
	return s, nil
}

// callBack has a member join again, within its rebalance timeout from when it was first told.
func (h host) callBack(now time.Time, s *modernMember) error {
	if s.classic.joinBy.IsZero() {
		s.classic.joinBy = now.Add(s.rebalance)
		h.m.watch(s)
	}
	return broker.ErrRebalanceInProgress
}

// sync answers a SyncGroup with what the member is assigned.
func (h host) sync(now time.Time, e Sync) {
	m, g, r := h.m, h.g, &e.Request
	s, err := h.member(r.Member, r.Instance, r.Generation)
	if err != nil {
		m.replySync(e.Call, SyncResponse{Err: err})
		return
	}
	protocol := s.classic.protocol()
	switch {
	case r.ProtocolType != nil && *r.ProtocolType != ConsumerProtocol, r.Protocol != nil && *r.Protocol != protocol.Name:
		m.replySync(e.Call, SyncResponse{Err: broker.ErrInconsistentGroupProtocol})
		return
	case g.groupEpoch > s.epoch && s.state != stateUnrevoked:
		// Who must first give something up learns by this answer what.
		m.replySync(e.Call, SyncResponse{Err: h.callBack(now, s)})
		return
	}
	s.classic.syncBy = time.Time{}
	s.alive(now, m.limits.Consumer.Times)
	m.watch(s)
	sub, _ := readSubscription(protocol.Metadata)
	m.answer(ReplySync{Call: e.Call, Response: SyncResponse{
		ProtocolType: ConsumerProtocol, Protocol: protocol.Name, Assignment: appendAssignment(sub.version, e.Topics, s.assigned),
	}}, nil)
}

// heartbeat answers a Heartbeat, and calls a member back for which there is something to be done.
func (h host) heartbeat(now time.Time, e Heartbeat) {
	m, g, r := h.m, h.g, &e.Request
	s, err := h.member(r.Member, r.Instance, r.Generation)
	if err != nil {
		m.reply(e.Call, err)
		return
	}
	s.alive(now, m.limits.Consumer.Times)
	m.watch(s)
	var records []Record
	if len(g.regexes) == 0 && g.version != e.Version {
		// There need not be anybody of the consumer protocol who would notice it: the group may not be allowed to change back.
		m.refresh(now, &MemberHeartbeat{View: e.View}, false, &records)
	}
	if g.groupEpoch > s.epoch || s.state == stateUnrevoked || s.state == stateUnreleased && !h.isWaiting(s) {
		err = h.callBack(now, s)
	}
	m.answer(Reply{Call: e.Call, Err: err}, records)
}

// isWaiting tells whether others still hold partitions of the member's target.
func (h host) isWaiting(s *modernMember) bool {
	g := h.g
	for p := range g.target[s.id] {
		if owner, held := g.owners[p]; held && owner != s.id {
			return true
		}
	}
	return false
}

// leave takes members out, of whatever protocol: an administrator names them by their instances.
func (h host) leave(now time.Time, e Leave) {
	m := h.m
	each := make([]error, len(e.Members))
	var gone []*modernMember
	for i, l := range e.Members {
		s, err := h.leaver(l)
		each[i] = err
		if err == nil && !slices.Contains(gone, s) {
			gone = append(gone, s)
		}
	}
	var records []Record
	if len(gone) > 0 {
		records = m.dismiss(now, e.Topics, gone...)
	}
	m.answer(Reply{Call: e.Call, Each: each}, records)
}

func (h host) leaver(l LeaveMember) (*modernMember, error) {
	g := h.g
	id := l.Member
	if l.Instance != "" {
		current, ok := g.static[l.Instance]
		switch {
		case !ok:
			return nil, broker.ErrUnknownMember
		case l.Member != "" && l.Member != current:
			return nil, broker.ErrFencedInstanceID
		}
		id = current
	}
	if s := g.members[id]; s != nil {
		return s, nil
	}
	return nil, broker.ErrUnknownMember
}
