package share

import (
	"time"

	"github.com/quorlog/quorlog/log/batch"
)

// Durable is what survives of a share-partition. A record in no run is available and was never delivered.
type Durable struct {
	// Version counts the changes of what is stored: each write has the number after the one that was read or written before it.
	Version int32
	// StateEpoch grows when somebody sets the start anew; a leader that does not know of it is fenced.
	StateEpoch int32
	Start      batch.Offset
	Runs       []Run // without members and locks
}

// Durable is the state to store. A delivery under way does not count: it ends when the leader does, and perhaps the member
// never saw the record.
func (p *Partition) Durable() *Durable {
	var b builder
	for _, r := range p.runs {
		if r.State == Acquired {
			r.State, r.Member, r.Until = Available, "", time.Time{}
			r.Count--
		}
		if r.State != Available || r.Count > 0 {
			b.add(r)
		}
	}
	return &Durable{Start: p.start, Runs: b.runs}
}
