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
	// LeaderEpoch is that of the leader that read or wrote it last, as the store tells it; who writes need not say it here.
	LeaderEpoch batch.Epoch `json:",omitempty"`
	Start       batch.Offset
	Runs        []Run // without members and locks
}

// Finished counts the offsets from the start on that nobody gets any more: Kafka's delivery complete count (KIP-1226).
func (d *Durable) Finished() (n int64) {
	for i := range d.Runs {
		if r := &d.Runs[i]; r.State.finished() {
			n += r.Len()
		}
	}
	return n
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
