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
	// storing: the leader's assignments are being written.
	storing bool
}

// membership is the protocol by which members join, agree on shares, and leave. It obeys
//
//	members = ∅ ⇔ state ∈ {Empty, Dead}, or nobody but pending ids is left of a PreparingRebalance
type membership struct {
	roster
	id         string
	state      State
	stateSince time.Time
	generation Generation
	inherited  bool // the generation is one that was restored: the coordinator before may have begun another
	subscribed subscription
	turn       rebalance
}

// Machine is one group: its membership and its offsets.
type Machine struct {
	membership
	modern  *modern // a group whose partitions the coordinator assigns; then the membership is empty. nil: the classic protocol
	offsets offsetTable
	txns    transactions
	place   uint64 // counts what was written of offsets: see Committed.place
}

// NewMachine is an empty group.
func NewMachine(id string, limits *Limits) *Machine {
	m := &Machine{}
	m.id, m.roster = id, newRoster(limits)
	m.writes = map[uint64]pendingWrite{}
	m.txns, m.parked = transactions{}, map[uint64][]Effect{}
	return m
}

// Step applies an event. The effects are valid until the next Step.
func (m *Machine) Step(now time.Time, ev Event) []Effect {
	clear(m.out)
	m.out = m.out[:0]
	switch e := ev.(type) {
	case Join, Sync, Heartbeat, Leave:
		m.classicRequest(now, ev)
	case MemberHeartbeat:
		m.memberHeartbeat(now, e)
	case Commit:
		m.commit(now, e)
	case DeleteOffsets:
		m.deleteOffsets(e)
	case Delete:
		m.delete(e)
	case EnsureShare:
		ensureShare(m, now, e)
	case TxnEnded:
		m.txnEnded(e)
	case TopicDeleted:
		m.topicDeleted(e)
	case Sweep:
		m.sweep(now)
	case Tick:
		m.tick(now)
		m.tickMembers(now, e.Topics)
	case Written:
		m.settled(now, e)
	}
	m.storeGone()
	return m.out
}

// classicRequest serves a request of the classic protocol, whatever the group is of.
func (m *Machine) classicRequest(now time.Time, ev Event) {
	hosts := m.modern != nil && !m.modern.share && m.state != Dead
	h := host{m, m.modern}
	switch e := ev.(type) {
	case Join:
		m.join(now, e)
	case Sync:
		if hosts {
			h.sync(now, e)
		} else {
			m.syncGroup(now, e)
		}
	case Heartbeat:
		if hosts {
			h.heartbeat(now, e)
		} else {
			m.reply(e.Call, m.heartbeat(now, &e.Request))
		}
	case Leave:
		if hosts {
			h.leave(now, e)
		} else {
			m.leave(now, e)
		}
	}
}

// Blank reports that the group holds nothing that is worth keeping: it was never more than asked about.
func (m *Machine) Blank() bool {
	return m.modern == nil && m.state == Empty && m.generation == 0 && len(m.pending) == 0 && m.offsets.len() == 0 && len(m.txns) == 0 && len(m.writes) == 0 && m.stateSince.IsZero()
}

func (m *membership) setState(now time.Time, s State) {
	m.state = s
	m.stateSince = now
}

func (m *membership) heartbeat(now time.Time, r *HeartbeatRequest) error {
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

// tick fires what is due, then finds the next deadline exactly. Timers of a phase come before those of the members, which
// they may make meaningless.
func (m *membership) tick(now time.Time) {
	if due(now, m.turn.joinBy) {
		m.joinTimeout(now)
	}
	if due(now, m.turn.syncBy) {
		m.syncTimeout(now)
	}
	if m.lapse(now) {
		m.completeJoinIfAll(now)
	}
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

func (m *membership) expireMembers(now time.Time) {
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
