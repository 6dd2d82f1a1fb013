package txn

import (
	"context"
	"sync"

	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
)

// sessions are the transactions whose markers are being written. Each ends with its last marker, with the leadership in which
// it was begun, or when the same transactional id begins another: then this node has read the partition anew, and a marker of
// before might hit the next transaction.
type sessions struct {
	sender *sender
	tell   func(at coordinator.Place, ev Event) bool

	mu struct {
		sync.Mutex
		of map[int32]map[string]*session // by partition of __transaction_state and id
	}
}

type session struct {
	at     coordinator.Place
	ctx    context.Context
	cancel context.CancelFunc
	left   int // markers; guarded by sessions.mu
}

func newSessions(s *sender) *sessions {
	out := &sessions{sender: s}
	out.mu.of = map[int32]map[string]*session{}
	return out
}

// begin sends a transaction's markers. It does not block.
func (s *sessions) begin(at coordinator.Place, f *Mark) {
	one := &session{at: at, left: len(f.Partitions)}
	one.ctx, one.cancel = context.WithCancel(context.Background())
	s.mu.Lock()
	if s.mu.of[at.Partition] == nil {
		s.mu.of[at.Partition] = map[string]*session{}
	}
	if old := s.mu.of[at.Partition][at.Key]; old != nil {
		old.cancel()
	}
	s.mu.of[at.Partition][at.Key] = one
	s.mu.Unlock()
	markers := make([]Marker, len(f.Partitions))
	for i, p := range f.Partitions {
		markers[i] = Marker{
			Identity: Identity{f.ProducerID, f.Epoch}, CoordinatorEpoch: at.Epoch, Commit: f.Commit, Version: f.Version, Partition: p,
		}
	}
	s.sender.send(one.ctx, markers, func(m Marker) { s.marked(one, m) })
}

// marked passes on that a marker is written.
func (s *sessions) marked(one *session, m Marker) {
	s.mu.Lock()
	one.left--
	current := s.mu.of[one.at.Partition][one.at.Key] == one
	if current && one.left == 0 {
		delete(s.mu.of[one.at.Partition], one.at.Key)
		one.cancel()
	}
	s.mu.Unlock()
	if current {
		s.tell(one.at, Marked{Identity: m.Identity, Partition: m.Partition})
	}
}

// end ends the sessions of a partition, but for those of the epoch.
func (s *sessions) end(partition int32, but batch.Epoch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, one := range s.mu.of[partition] {
		if one.at.Epoch != but {
			one.cancel()
			delete(s.mu.of[partition], id)
		}
	}
}

// close ends all sessions and the sender.
func (s *sessions) close() {
	s.mu.Lock()
	for _, of := range s.mu.of {
		for _, one := range of {
			one.cancel()
		}
	}
	clear(s.mu.of)
	s.mu.Unlock()
	s.sender.close()
}
