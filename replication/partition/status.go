package partition

import (
	"time"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Status is how a partition's group stands, as one replica sees it.
type Status struct {
	Self      replication.ReplicaID
	Leader    replication.Leader
	Offsets   Offsets
	Applied   log.Index
	LastIndex log.Index
	Replicas  []ReplicaStatus
}

// ReplicaStatus is how a replica stands, as its leader sees it. Times are zero where nothing is known.
type ReplicaStatus struct {
	ID       replication.ReplicaID
	Voter    bool
	LogEnd   batch.Offset // up to where it has the leader's log; -1 if not known
	Contact  time.Time    // when it last confirmed anything
	CaughtUp time.Time    // when it last had all of the leader's log
}

// Status describes the partition's group. The replicas' positions are known to the leader alone.
func (p *Partition) Status() Status {
	if p.log == nil || p.group == nil {
		return Status{Self: p.self, Leader: p.Leader()}
	}
	s := Status{Self: p.self, Leader: p.Leader(), Offsets: p.log.Offsets(), Applied: p.log.AppliedIndex(), LastIndex: p.log.LastIndex()}
	describe := func(ids []replication.ReplicaID, voter bool) {
		for _, id := range ids {
			r := ReplicaStatus{ID: id, Voter: voter, LogEnd: -1}
			if match, contact, caughtUp := p.group.Progress(id); match > 0 {
				r.Contact, r.CaughtUp = contact, caughtUp
				if end, err := p.log.EndOffsetAt(match); err == nil {
					r.LogEnd = end
				}
			}
			s.Replicas = append(s.Replicas, r)
		}
	}
	describe(p.group.Voters(), true)
	describe(p.group.Learners(), false)
	return s
}

// holdsWithin is for how long a follower counts as able to serve without a word from it. Where there is nothing to replicate Raft asks
// it every second or two.
const holdsWithin = 3 * time.Second

// Holds reports whether a replica is known to be there and to have what is to be read from an offset on: the record there, or, while
// none is committed there, all that come before it. Only the leader knows that of others.
func (p *Partition) Holds(r replication.ReplicaID, offset batch.Offset) bool {
	if p.log == nil || p.group == nil {
		return false
	}
	match := p.group.Held(r, holdsWithin)
	if match == 0 {
		return false
	}
	high := p.log.Offsets().HighWatermark
	if offset <= high && match >= p.log.AppliedIndex() {
		return true
	}
	if offset < high {
		offset++
	}
	end, err := p.log.EndOffsetAt(match)
	return err == nil && end >= offset
}
