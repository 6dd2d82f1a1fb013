package group

import (
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
)

// member is one that belongs to the group.
type member struct {
	id, instance         string
	clientID, clientHost string
	session, rebalance   time.Duration
	protocols            []Protocol
	assignment           []byte
	order                uint64 // of arrival: makes every walk over the members repeatable
	// isNew: it has never been answered, so it does not know its id and can't send heartbeats.
	isNew    bool
	deadline time.Time // by when it must be heard of; does not count while it waits for an answer (see silent)
	join     CallID    // its waiting JoinGroup
	sync     CallID    // its waiting SyncGroup
	owesSync bool      // it has not sent the SyncGroup of this generation
}

// silent reports whether the member is to be given up at now. One that waits for our answer can't speak up; but a new one
// may have gone away without our knowing, so its wait is bounded.
func (s *member) silent(now time.Time) bool {
	return s.counts() && !now.Before(s.deadline)
}

func (s *member) counts() bool { return s.isNew || s.join == 0 && s.sync == 0 }

func (s *member) metadata(protocol string) []byte {
	for i := range s.protocols {
		if s.protocols[i].Name == protocol {
			return s.protocols[i].Metadata
		}
	}
	return nil
}

// offers reports whether the member's protocols are exactly these.
func (s *member) offers(protocols []Protocol) bool {
	return slices.EqualFunc(s.protocols, protocols, func(a, b Protocol) bool {
		return a.Name == b.Name && string(a.Metadata) == string(b.Metadata)
	})
}

func (s *member) bytes() int { return protocolBytes(s.protocols) + len(s.assignment) }

func protocolBytes(protocols []Protocol) int {
	n := 0
	for i := range protocols {
		n += len(protocols[i].Name) + len(protocols[i].Metadata)
	}
	return n
}

// alarm is when the machine wants to be woken.
type alarm struct {
	// next is a lower bound of all deadlines: heartbeats move theirs back without a look at the others.
	next time.Time
}

// Deadline is when the machine wants its next Tick; zero if never. It may be early, never late.
func (a *alarm) Deadline() time.Time { return a.next }

func (a *alarm) arm(t time.Time) {
	if a.next.IsZero() || t.Before(a.next) {
		a.next = t
	}
}

// roster is who belongs to the group, with what each offers, owns and waits for. It answers members, and knows nothing of
// the phases that a group goes through. Its fields obey:
//
//	joining = |{s ∈ members: s.join ≠ 0}|        static ⊆ {instance → id of a member}
//	owing   = |{s ∈ members: s.owesSync}|        pending ∩ members = ∅
//	leader = "" or the id of a member            heldBytes = Σ s.bytes()
type roster struct {
	outbox
	alarm
	limits       *Limits
	protocolType string
	protocol     string
	leader       string
	members      map[string]*member
	static       map[string]string    // instance -> member id
	pending      map[string]time.Time // handed-out member ids -> when they lapse (KIP-394)
	support      map[string]int       // protocol name -> members that offer it
	joining      int
	owing        int
	heldBytes    int
	lastOrder    uint64
	gone         struct {
		some    bool // members that are in the log have gone since it was last told who is there
		storing bool // it is being told
	}
}

func newRoster(limits *Limits) roster {
	return roster{
		limits: limits, members: map[string]*member{}, static: map[string]string{}, pending: map[string]time.Time{}, support: map[string]int{},
	}
}

// ordered returns the members in order of arrival.
func (m *roster) ordered() []*member {
	all := make([]*member, 0, len(m.members))
	for _, s := range m.members {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *member) int {
		if a.order < b.order {
			return -1
		}
		return 1
	})
	return all
}

// check finds a member. A static member must come with the id that its instance was last given: another id belongs to a
// process that was replaced.
func (m *roster) check(id, instance string) (*member, error) {
	if instance != "" {
		current, ok := m.static[instance]
		if !ok {
			return nil, broker.ErrUnknownMember
		}
		if current != id {
			return nil, broker.ErrFencedInstanceID
		}
	}
	s, ok := m.members[id]
	if !ok {
		return nil, broker.ErrUnknownMember
	}
	return s, nil
}

// alive restarts a member's session.
func (m *roster) alive(now time.Time, s *member) {
	s.deadline = now.Add(s.session)
	m.arm(s.deadline)
}

// lapse forgets the ids that nobody came back with in time. It reports whether there were any.
func (m *roster) lapse(now time.Time) bool {
	lapsed := false
	for id, t := range m.pending {
		if due(now, t) {
			delete(m.pending, id)
			lapsed = true
		}
	}
	return lapsed
}

// fits applies the limits on memory.
func (m *roster) fits(r *JoinRequest) bool {
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
func (m *roster) compatible(r *JoinRequest) bool {
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

// updateMember takes over what the request says of the member and parks the request.
func (m *roster) updateMember(e Join, s *member) {
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

func (m *roster) setProtocols(s *member, protocols []Protocol) {
	m.dropSupport(s)
	m.heldBytes += protocolBytes(protocols) - protocolBytes(s.protocols)
	s.protocols = protocols
	for _, p := range protocols {
		m.support[p.Name]++
	}
}

func (m *roster) dropSupport(s *member) {
	for _, p := range s.protocols {
		if m.support[p.Name]--; m.support[p.Name] <= 0 {
			delete(m.support, p.Name)
		}
	}
}

func (m *roster) setAssignment(s *member, a []byte) {
	m.heldBytes += len(a) - len(s.assignment)
	s.assignment = a
}

// answerJoin answers a waiting JoinGroup and starts the member's session.
func (m *roster) answerJoin(now time.Time, s *member, r JoinResponse) {
	if s.join == 0 {
		return
	}
	m.replyJoin(s.join, r)
	s.join = 0
	m.joining--
	m.alive(now, s)
}

func (m *roster) joinMembers() []JoinMember {
	all := m.ordered()
	list := make([]JoinMember, len(all))
	for i, s := range all {
		list[i] = JoinMember{Member: s.id, Instance: s.instance, Metadata: s.metadata(m.protocol)}
	}
	return list
}

// removeMember takes a member out; what it waits for is answered with err.
func (m *roster) removeMember(s *member, err error) {
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
	m.gone.some = m.gone.some || !s.isNew
	m.synced(s)
	if s.instance != "" && m.static[s.instance] == s.id {
		delete(m.static, s.instance)
	}
	if m.leader == s.id {
		m.leader = "" // the next generation elects another
	}
}

// rebalanceTimeout is the longest that any member asks for.
func (m *roster) rebalanceTimeout() time.Duration {
	var longest time.Duration
	for _, s := range m.members {
		longest = max(longest, s.rebalance)
	}
	return longest
}

func (m *roster) allJoined() bool { return m.joining == len(m.members) && len(m.pending) == 0 }

// electLeader keeps the leader if it has joined, else takes the oldest member that has.
func (m *roster) electLeader() bool {
	if s := m.members[m.leader]; s != nil && s.join != 0 {
		return true
	}
	for _, s := range m.ordered() {
		if s.join != 0 {
			m.leader = s.id
			return true
		}
	}
	return false
}

// selectProtocol counts one vote per member: the first on its list of those that all offer. The oldest member's order
// decides a tie.
func (m *roster) selectProtocol() string {
	all := m.ordered()
	votes := make(map[string]int)
	for _, s := range all {
		for _, p := range s.protocols {
			if m.support[p.Name] == len(all) {
				votes[p.Name]++
				break
			}
		}
	}
	best := ""
	for _, p := range all[0].protocols {
		if votes[p.Name] > votes[best] {
			best = p.Name
		}
	}
	return best
}

// fence tells the process that held the place that another has it now.
func (m *roster) fence(s *member) {
	if s.join != 0 {
		m.failJoin(s.join, s.id, broker.ErrFencedInstanceID)
		s.join = 0
		m.joining--
	}
	m.replySync(s.sync, SyncResponse{Err: broker.ErrFencedInstanceID})
	s.sync = 0
}

func (m *roster) failSyncs(now time.Time, err error) {
	for _, s := range m.ordered() {
		m.setAssignment(s, nil)
		m.answerSync(now, s, SyncResponse{Err: err})
	}
}

// answerSync answers a waiting SyncGroup and restarts the session, which stood still while the member waited.
func (m *roster) answerSync(now time.Time, s *member, r SyncResponse) {
	if s.sync == 0 {
		return
	}
	m.replySync(s.sync, r)
	s.sync = 0
	m.alive(now, s)
}

// subscriptions collects the topics of all members under the chosen protocol.
func (m *roster) subscriptions() subscription {
	if m.protocolType != ConsumerProtocol {
		return subscription{}
	}
	all := subscription{known: true, topics: map[string]struct{}{}}
	for _, s := range m.members {
		if !all.add(s.metadata(m.protocol)) {
			return subscription{}
		}
	}
	return all
}

// expectSync notes that the member owes a SyncGroup.
func (m *roster) expectSync(s *member) {
	if !s.owesSync {
		s.owesSync = true
		m.owing++
	}
}

// synced notes that it does not.
func (m *roster) synced(s *member) {
	if s.owesSync {
		s.owesSync = false
		m.owing--
	}
}
