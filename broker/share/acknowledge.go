package share

import (
	"fmt"
	"math"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// CheckAcks holds acknowledgements against the protocol: in the order of their offsets, without overlaps, one type for all
// offsets or one for each, and Renew only where it may be. The error is replication.ErrInvalidRequest.
func CheckAcks(acks []Ack, mayRenew bool) error {
	next := batch.Offset(0)
	for i := range acks {
		a := &acks[i]
		if a.First < next || a.Last < a.First || a.Last == math.MaxInt64 {
			return fmt.Errorf("%w: acknowledgements must be in the order of their offsets", replication.ErrInvalidRequest)
		}
		if n := len(a.Types); n != 1 && int64(n) != int64(a.Last-a.First)+1 {
			return fmt.Errorf("%w: %d types for the offsets %d to %d", replication.ErrInvalidRequest, n, a.First, a.Last)
		}
		for _, t := range a.Types {
			if t < Gap || t > Renew || t == Renew && !mayRenew {
				return fmt.Errorf("%w: acknowledgement of type %d", replication.ErrInvalidRequest, t)
			}
		}
		next = a.Last + 1
	}
	return nil
}

// Acknowledge applies the acknowledgements of a member, which CheckAcks has passed: all or, after an error, none. What lies
// below the log start is passed over. The error is ErrInvalidRecordState if an offset is not acquired by the member, and
// replication.ErrInvalidRequest if MaxRuns is not enough for so many different fates.
func (p *Partition) Acknowledge(now time.Time, member string, acks []Ack) error {
	p.Expire(now)
	var b builder
	var hit int64 // offsets that were acquired by the member
	until := now.Add(p.settings.LockDuration)
	parts := ackParts(acks, p.trimmed)
	err := change(&b, p.runs, parts, func(r Run, t AckType) error {
		if r.State != Acquired || r.Member != member {
			return fmt.Errorf("%w: %d to %d", ErrInvalidRecordState, r.First, r.Last)
		}
		hit += r.Len()
		b.add(p.acknowledged(r, t, until))
		return nil
	})
	if err != nil {
		return err
	}
	for _, q := range parts {
		hit -= int64(q.last-q.first) + 1
	}
	if hit != 0 { // something was below the start, or never delivered
		return fmt.Errorf("%w: outside of %d to %d", ErrInvalidRecordState, p.start, p.End())
	}
	if len(b.runs) > MaxRuns {
		return fmt.Errorf("%w: more than %d ranges of offsets with a fate of their own", replication.ErrInvalidRequest, MaxRuns)
	}
	p.set(b.runs)
	return nil
}

func (p *Partition) acknowledged(r Run, t AckType, until time.Time) Run {
	switch t {
	case Release:
		return p.released(r)
	case Renew:
		r.Until = until
		return r
	case Accept:
		r.State = Acknowledged
	case Gap, Reject:
		r.State = Archived
	}
	r.Member, r.Until = "", time.Time{}
	return r
}

// ackParts joins offsets of the same type, and drops what lies below from.
func ackParts(acks []Ack, from batch.Offset) (out []part[AckType]) {
	add := func(first, last batch.Offset, t AckType) {
		if n := len(out); n > 0 && out[n-1].last+1 == first && out[n-1].what == t {
			out[n-1].last = last
		} else if last >= from {
			out = append(out, part[AckType]{max(first, from), last, t})
		}
	}
	for i := range acks {
		a := &acks[i]
		if len(a.Types) == 1 {
			add(a.First, a.Last, a.Types[0])
			continue
		}
		for j, t := range a.Types {
			add(a.First+batch.Offset(j), a.First+batch.Offset(j), t)
		}
	}
	return out
}
