package share

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/quorlog/quorlog/replication"
)

// sessions holds the share sessions of this node. A session is a member's list of partitions, so that requests name only what
// changes, and a count of its requests, so that one that was lost or came twice shows. It ends with its final request or with its
// connection, never by age: a member that is silent for long may be busy with what it holds.
type sessions struct {
	slots int
	// lost is called, in a goroutine of its own, when the connection of a session has ended.
	lost func(member, *session)

	mu struct {
		sync.Mutex
		byMember   map[member]*session
		partitions int
	}
}

type member struct{ group, id string }

// session is a member's. It is guarded by sessions.mu.
type session struct {
	epoch      int32 // of the request that comes next
	partitions []TopicPartition
	fresh      map[TopicPartition]bool // not answered for yet
	turn       int                     // where the next fetch begins
	over       chan struct{}           // closed when the session has ended
	unbind     func() bool             // from its connection
}

func newSessions(slots int, lost func(member, *session)) *sessions {
	s := &sessions{slots: slots, lost: lost}
	s.mu.byMember = map[member]*session{}
	return s
}

// visit is what a request finds in its session.
type visit struct {
	partitions []TopicPartition // in the order to fetch in
	over       <-chan struct{}  // closed when the session has ended
	fresh      []TopicPartition // to answer for in any case
	ended      bool             // the session; the member's records are released
	first      bool             // of its group on this node
	replaced   []TopicPartition // of the session that the member had, which a new one ends
}

func checkMember(m *Member) error {
	if m.Group == "" || m.ID == "" || len(m.ID) > maxMemberID {
		return fmt.Errorf("%w: a share session needs a group and a member id of at most %d bytes", replication.ErrInvalidRequest, maxMemberID)
	}
	return nil
}

// open begins, goes on with, or ends the session of a request. Only a fetch answers for partitions that are new. A session that
// begins is bound to ctx, which is its connection's.
func (s *sessions) open(ctx context.Context, m *Member, add []Wanted, forget []TopicPartition, fetch bool) (v visit, err error) {
	if err := checkMember(m); err != nil {
		return v, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	who := member{m.Group, m.ID}
	x := s.mu.byMember[who]
	switch {
	case m.Epoch == NewSession:
		if x, v, err = s.createLocked(ctx, who); err != nil {
			return v, err
		}
	case x == nil:
		return v, ErrSessionNotFound
	case m.Epoch == FinalSession:
		s.removeLocked(who, x)
		return visit{partitions: x.partitions, ended: true}, nil
	case m.Epoch != x.epoch:
		return v, ErrInvalidSessionEpoch
	}
	if s.mu.partitions+len(add) > maxSessionPartitions {
		if m.Epoch == NewSession {
			s.removeLocked(who, x) // or it would keep its slot, while its member begins again
		}
		return v, ErrSessionLimit
	}
	s.mu.partitions -= len(x.partitions)
	x.update(add, forget)
	s.mu.partitions += len(x.partitions)
	if x.epoch++; x.epoch == math.MaxInt32 {
		x.epoch = 1
	}
	v.partitions, v.over = x.rotated(), x.over
	if fetch {
		v.fresh = x.unanswered()
	}
	return v, nil
}

// createLocked makes a session in place of the one that the member had.
func (s *sessions) createLocked(ctx context.Context, who member) (*session, visit, error) {
	var v visit
	if old := s.mu.byMember[who]; old != nil {
		s.removeLocked(who, old)
		v.replaced = old.partitions
	}
	v.first = true
	for m := range s.mu.byMember {
		v.first = v.first && m.group != who.group
	}
	if len(s.mu.byMember) >= s.slots {
		return nil, v, ErrSessionLimit
	}
	x := &session{fresh: map[TopicPartition]bool{}, over: make(chan struct{})}
	x.unbind = context.AfterFunc(ctx, func() { s.lost(who, x) })
	s.mu.byMember[who] = x
	return x, v, nil
}

// has tells whether a member of the group has a session.
func (s *sessions) has(group string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := range s.mu.byMember {
		if m.group == group {
			return true
		}
	}
	return false
}

func (s *sessions) removeLocked(who member, x *session) {
	delete(s.mu.byMember, who)
	s.mu.partitions -= len(x.partitions)
	x.unbind()
	close(x.over)
}

// drop ends a session, if it is still its member's, and returns what it fetched.
func (s *sessions) drop(who member, x *session) []TopicPartition {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.byMember[who] != x {
		return nil
	}
	s.removeLocked(who, x)
	return x.partitions
}

func (x *session) update(add []Wanted, forget []TopicPartition) {
	known := make(map[TopicPartition]bool, len(x.partitions))
	for _, tp := range x.partitions {
		known[tp] = true
	}
	for i := range add {
		if tp := add[i].TopicPartition; !known[tp] {
			known[tp] = true
			x.partitions = append(x.partitions, tp)
			x.fresh[tp] = true
		}
	}
	if len(forget) == 0 {
		return
	}
	for _, tp := range forget {
		delete(known, tp)
		delete(x.fresh, tp)
	}
	x.partitions = slices.DeleteFunc(x.partitions, func(tp TopicPartition) bool { return !known[tp] })
}

// rotated lists the partitions from the next one on, so that a busy one can't starve the others.
func (x *session) rotated() []TopicPartition {
	n := len(x.partitions)
	if n == 0 {
		return nil
	}
	x.turn = (x.turn + 1) % n
	return append(slices.Clone(x.partitions[x.turn:]), x.partitions[:x.turn]...)
}

// unanswered lists the partitions that the client was told nothing of.
func (x *session) unanswered() []TopicPartition {
	out := make([]TopicPartition, 0, len(x.fresh))
	for _, tp := range x.partitions {
		if x.fresh[tp] {
			out = append(out, tp)
		}
	}
	clear(x.fresh)
	return out
}
