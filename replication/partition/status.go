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
				r.LogEnd, r.Contact, r.CaughtUp = endAt(p.log, match), contact, caughtUp
			}
			s.Replicas = append(s.Replicas, r)
		}
	}
	describe(p.group.Voters(), true)
	describe(p.group.Learners(), false)
	return s
}

// endAt is the log end offset of a log that ends with one of its entries; -1 if that entry is gone.
func endAt(l *log.Log, i log.Index) batch.Offset {
	if i >= l.LastIndex() {
		return l.Offsets().LogEnd
	}
	e, err := l.Entry(i)
	if err != nil || len(e.Frame) < batch.HeaderSize {
		return -1
	}
	h, err := batch.ParseHeader(e.Frame)
	if err != nil {
		return -1
	}
	return h.NextOffset()
}
