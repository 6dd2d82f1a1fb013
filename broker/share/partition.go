package share

import (
	"slices"
	"time"

	"github.com/quorlog/quorlog/log/batch"
)

// Partition is how far a share group is with one partition of a topic. It is pure: whoever calls it brings the time. It may be
// used by one goroutine at a time.
//
// Offsets below the start are finished; those from the end on were never delivered. Between them lie the runs:
//
//	runs cover [start, end) without holes or overlaps; the first one is not finished
//	a run has a member and a lock if and only if it is acquired
//	0 <= Count <= the largest DeliveryLimit that the group ever had
//
// What a change makes of a record need not be durable before others see it, because all that follows from it may be undone by
// a reload: a record is then delivered once more. Only the answer to an acknowledgement waits.
type Partition struct {
	settings Settings
	start    batch.Offset
	runs     []Run
	// trimmed is the log start that the start was moved up to last. What is acknowledged below is of no interest.
	trimmed batch.Offset
	version uint64
}

// NewPartition restores a share-partition. Members that had acquired records when the state was stored have not any more.
func NewPartition(d *Durable, s Settings) *Partition {
	p := &Partition{settings: s, start: d.Start}
	var b builder
	next := d.Start
	for _, r := range d.Runs {
		if r.Last < next {
			continue
		}
		if r.First > next {
			b.add(Run{First: next, Last: r.First - 1, State: Available})
		}
		r.First, r.Member, r.Until = max(r.First, next), "", time.Time{}
		if r.State == Available && r.Count >= s.DeliveryLimit {
			r.State = Archived
		}
		b.add(r)
		next = r.Last + 1
	}
	p.set(b.runs)
	p.version = 0
	return p
}

// Configure changes the settings. Locks that are held keep their time.
func (p *Partition) Configure(s Settings) { p.settings = s }

// Start is the offset below which all records are finished.
func (p *Partition) Start() batch.Offset { return p.start }

// End is the offset from which on nothing was delivered yet.
func (p *Partition) End() batch.Offset {
	if n := len(p.runs); n > 0 {
		return p.runs[n-1].Last + 1
	}
	return p.start
}

// Runs are the runs between Start and End. They must not be changed.
func (p *Partition) Runs() []Run { return p.runs }

// Version counts the changes of what must be durable.
func (p *Partition) Version() uint64 { return p.version }

// Next is where to read for the next acquisition; false if as many records are in flight as may be.
func (p *Partition) Next() (batch.Offset, bool) {
	for i := range p.runs {
		if p.runs[i].State == Available {
			return p.runs[i].First, true
		}
	}
	return p.End(), p.room() > 0
}

// room is how many more offsets may be in flight.
func (p *Partition) room() int64 { return p.settings.MaxInFlight - int64(p.End()-p.start) }

// Deadline is when the next lock ends; zero if there is none.
func (p *Partition) Deadline() time.Time {
	var first time.Time
	for i := range p.runs {
		if u := p.runs[i].Until; !u.IsZero() && (first.IsZero() || u.Before(first)) {
			first = u
		}
	}
	return first
}

// Expire ends the locks whose time is over. It reports whether any record became available.
func (p *Partition) Expire(now time.Time) bool {
	return p.releaseIf(func(r *Run) bool { return !now.Before(r.Until) })
}

// ReleaseMember ends the locks of a member whose session is over. What it had not acknowledged by then counts as never delivered,
// as in Kafka: a member that comes and goes must not use up a record's deliveries. It reports whether any record became available.
func (p *Partition) ReleaseMember(member string) bool {
	all := []part[string]{{p.start, p.End() - 1, member}}
	return takeBack(p, all, func(r *Run, id string) bool { return r.Member == id })
}

// Return takes back what a member was given by one Acquire, if it will never be told. What it has renewed, or lost and acquired
// once more, stays its. It reports whether any record became available.
func (p *Partition) Return(runs []Run) bool {
	parts := make([]part[Run], 0, len(runs))
	for _, r := range runs {
		parts = append(parts, part[Run]{r.First, r.Last, r})
	}
	return takeBack(p, parts, func(r *Run, given Run) bool { return r.Member == given.Member && r.Until.Equal(given.Until) })
}

// HasAcquired reports whether any record is locked.
func (p *Partition) HasAcquired() bool {
	return slices.ContainsFunc(p.runs, func(r Run) bool { return r.State == Acquired })
}

func (p *Partition) releaseIf(of func(*Run) bool) (available bool) {
	if !slices.ContainsFunc(p.runs, func(r Run) bool { return r.State == Acquired && of(&r) }) {
		return false
	}
	var b builder
	for _, r := range p.runs {
		if r.State == Acquired && of(&r) {
			r = p.released(r)
			available = available || r.State == Available
		}
		b.add(r)
	}
	p.set(b.runs)
	return available
}

// takeBack makes acquired runs what they were before. It changes nothing that must be durable.
func takeBack[T any](p *Partition, parts []part[T], of func(*Run, T) bool) (available bool) {
	var b builder
	// The error is always nil: the function has none.
	_ = change(&b, p.runs, parts, func(r Run, what T) error {
		if r.State == Acquired && of(&r, what) {
			r.State, r.Member, r.Until = Available, "", time.Time{}
			r.Count--
			available = true
		}
		b.add(r)
		return nil
	})
	p.runs = b.runs
	return available
}

// released is a run that its member has not finished: for somebody else, unless it was tried often enough.
func (p *Partition) released(r Run) Run {
	r.State, r.Member, r.Until = Available, "", time.Time{}
	if r.Count >= p.settings.DeliveryLimit {
		r.State = Archived
	}
	return r
}

// Trim moves the start up to the log start: what is not in the log can't be delivered.
func (p *Partition) Trim(logStart batch.Offset) {
	if logStart <= p.start {
		return
	}
	var b builder
	for _, r := range p.runs {
		if r.Last >= logStart {
			r.First = max(r.First, logStart)
			b.add(r)
		}
	}
	p.start, p.trimmed = logStart, logStart
	p.set(b.runs)
}

// set makes runs the state, as a change of what must be durable: the start moves past all that is finished.
func (p *Partition) set(runs []Run) {
	for len(runs) > 0 && runs[0].State.finished() {
		p.start = runs[0].Last + 1
		runs = runs[1:]
	}
	p.runs = runs
	p.version++
}
