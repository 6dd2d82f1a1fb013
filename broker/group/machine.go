package group

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
)

// State is the phase in which a group is. The names are Kafka's.
type State uint8

// The states of a group:
//
//	Empty ──join──▶ PreparingRebalance ──all joined, or timeout──▶ CompletingRebalance ──assignments stored──▶ Stable
//	  ▲                │  ▲                                              │                                      │
//	  └──nobody left───┘  └────────── join, leave, timeout ──────────────┴──────────────────────────────────────┘
//
// Dead is a group whose deletion is being written.
const (
	Empty State = iota
	PreparingRebalance
	CompletingRebalance
	Stable
	Dead
)

var stateNames = [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead"}

// String is Kafka's name of the state.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

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

// rebalance is what a group knows of the rebalance under way.
type rebalance struct {
	// initial: the group was empty before; it waits for joinBy even if all have joined, in case more are about to come.
	initial bool
	// arrived: a member was added since the initial delay was last set, so it is extended once more.
	arrived bool
	delay   time.Duration // the initial delay that runs
	left    time.Duration // by how much it may still be extended
	joinBy  time.Time     // the end of PreparingRebalance
	syncBy  time.Time     // by when all of unsynced must have sent SyncGroup
	// unsynced ⊆ members: those of this generation that have not sent SyncGroup. Kicked out at syncBy.
	unsynced map[string]struct{}
	// storing: the leader's assignments are being written.
	storing bool
}

type pendingWrite struct {
	records []Record
	then    func(now time.Time, err error)
}

// Machine is one group. Its fields obey:
//
//	joining = |{s ∈ members: s.join ≠ 0}|        static ⊆ {instance → id of a member}
//	members = ∅ ⇔ state ∈ {Empty, Dead} or nobody but pending ids is left of a PreparingRebalance
//	leader = "" or the id of a member            pending ∩ members = ∅
type Machine struct {
	id     string
	limits *Limits

	state        State
	stateSince   time.Time
	generation   Generation
	protocolType string
	protocol     string
	leader       string
	members      map[string]*member
	static       map[string]string    // instance -> member id
	pending      map[string]time.Time // handed-out member ids -> when they lapse (KIP-394)
	support      map[string]int       // protocol name -> members that offer it
	joining      int
	heldBytes    int
	lastOrder    uint64
	subscribed   subscription
	turn         rebalance

	offsets offsetTable
	writes  map[uint64]pendingWrite
	lastSeq uint64

	// next is a lower bound of all deadlines: heartbeats move theirs back without a look at the others.
	next time.Time
	out  []Effect
}

// NewMachine is an empty group.
func NewMachine(id string, limits *Limits) *Machine {
	return &Machine{
		id: id, limits: limits,
		members: map[string]*member{}, static: map[string]string{}, pending: map[string]time.Time{},
		support: map[string]int{}, offsets: offsetTable{}, writes: map[uint64]pendingWrite{},
	}
}

// Step applies an event. The effects are valid until the next Step.
func (m *Machine) Step(now time.Time, ev Event) []Effect {
	clear(m.out)
	m.out = m.out[:0]
	switch e := ev.(type) {
	case Join:
		m.joinGroup(now, e)
	case Sync:
		m.syncGroup(now, e)
	case Heartbeat:
		m.reply(e.Call, m.heartbeat(now, &e.Request))
	case Leave:
		m.leave(now, e)
	case Commit:
		m.commit(now, e)
	case DeleteOffsets:
		m.deleteOffsets(e)
	case Delete:
		m.delete(e)
	case TopicDeleted:
		m.topicDeleted(e.Topic)
	case Sweep:
		m.sweep(now)
	case Tick:
		m.tick(now)
	case Written:
		if w, ok := m.writes[e.Seq]; ok {
			delete(m.writes, e.Seq)
			w.then(now, e.Err)
		}
	}
	return m.out
}

// Deadline is when the machine wants its next Tick; zero if never. It may be early, never late.
func (m *Machine) Deadline() time.Time { return m.next }

func (m *Machine) arm(t time.Time) {
	if m.next.IsZero() || t.Before(m.next) {
		m.next = t
	}
}

// Blank reports that the group holds nothing that is worth keeping: it was never more than asked about.
func (m *Machine) Blank() bool {
	return m.state == Empty && m.generation == 0 && len(m.pending) == 0 && m.offsets.len() == 0 && len(m.writes) == 0 && m.stateSince.IsZero()
}

func (m *Machine) setState(now time.Time, s State) {
	m.state = s
	m.stateSince = now
}

// ordered returns the members in order of arrival.
func (m *Machine) ordered() []*member {
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
func (m *Machine) check(id, instance string) (*member, error) {
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

func (m *Machine) heartbeat(now time.Time, r *HeartbeatRequest) error {
	if m.state == Dead {
		return broker.ErrCoordinatorNotAvailable
	}
	s, err := m.check(r.Member, r.Instance)
	if err != nil {
		return err
	}
	if r.Generation != m.generation {
		return broker.ErrIllegalGeneration
	}
	m.alive(now, s)
	if m.state == PreparingRebalance {
		return broker.ErrRebalanceInProgress
	}
	return nil
}

// alive restarts a member's session.
func (m *Machine) alive(now time.Time, s *member) {
	s.deadline = now.Add(s.session)
	m.arm(s.deadline)
}

// tick fires what is due, then finds the next deadline exactly. Timers of a phase come before those of the members, which
// they may make meaningless.
func (m *Machine) tick(now time.Time) {
	if due(now, m.turn.joinBy) {
		m.joinTimeout(now)
	}
	if due(now, m.turn.syncBy) {
		m.syncTimeout(now)
	}
	m.expirePending(now)
	m.expireMembers(now)

	m.next = time.Time{}
	for _, t := range []time.Time{m.turn.joinBy, m.turn.syncBy} {
		if !t.IsZero() {
			m.arm(t)
		}
	}
	for _, t := range m.pending {
		m.arm(t)
	}
	for _, s := range m.members {
		if s.counts() {
			m.arm(s.deadline)
		}
	}
}

func due(now, deadline time.Time) bool { return !deadline.IsZero() && !now.Before(deadline) }

func (m *Machine) expirePending(now time.Time) {
	lapsed := false
	for id, t := range m.pending {
		if due(now, t) {
			delete(m.pending, id)
			lapsed = true
		}
	}
	if lapsed {
		m.completeJoinIfAll(now)
	}
}

func (m *Machine) expireMembers(now time.Time) {
	var gone []*member
	for _, s := range m.members {
		if s.silent(now) {
			gone = append(gone, s)
		}
	}
	slices.SortFunc(gone, func(a, b *member) int { return int(a.order) - int(b.order) })
	for _, s := range gone {
		// What the first one set off may have answered, removed or replaced a later one.
		if m.members[s.id] == s && s.silent(now) {
			m.removeAndRebalance(now, s)
		}
	}
}
