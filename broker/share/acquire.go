package share

import (
	"time"

	"github.com/quorlog/quorlog/log/batch"
)

// Acquire locks records for a member: those that are available, of the batches that were read from the offset from on. What
// lies between the batches has no records; it is archived, as are the batches that are to be skipped. The member is told of the
// runs that are returned.
func (p *Partition) Acquire(now time.Time, from batch.Offset, offered []Offered, w Want) []Run {
	p.Expire(now)
	if from > p.End() {
		return nil // read before a reload that went back: nobody has looked at what lies in between
	}
	a := acquisition{
		want: w, left: int64(w.Records), limit: p.settings.DeliveryLimit,
		locked: Run{State: Acquired, Member: w.Member, Until: now.Add(p.settings.LockDuration)},
	}
	parts, end := parts(max(from, p.start), offered), p.End()
	// The error is always nil: a.piece has none.
	_ = change(&a.out, p.runs, parts, a.piece)
	a.extend(parts, end, p.room())
	p.runs = a.out.runs
	if a.skipped {
		p.set(p.runs)
	}
	return a.got
}

// parts covers the offsets from the first on up to the last batch, and tells which are to be skipped.
func parts(next batch.Offset, offered []Offered) (out []part[bool]) {
	for _, o := range offered {
		if o.Last < next {
			continue
		}
		if o.First > next {
			out = append(out, part[bool]{next, o.First - 1, true})
		}
		out = append(out, part[bool]{max(o.First, next), o.Last, o.Skip})
		next = o.Last + 1
	}
	return out
}

// acquisition is one Acquire.
type acquisition struct {
	want    Want
	locked  Run // what an acquired run looks like
	limit   int16
	left    int64 // offsets that the member still wants
	skipped bool
	got     []Run
	out     builder
}

// piece decides on offsets that were looked at before.
func (a *acquisition) piece(r Run, skip bool) error {
	switch {
	case r.State != Available:
		a.out.add(r)
	case skip:
		a.archive(r)
	case r.Count >= a.limit: // the limit was lowered
		a.archive(r)
	default:
		a.lock(r)
	}
	return nil
}

func (a *acquisition) archive(r Run) {
	r.State = Archived
	a.out.add(r)
	a.skipped = true
}

// lock acquires a run, or as much as is wanted of it.
func (a *acquisition) lock(r Run) {
	if a.left <= 0 {
		a.out.add(r)
		return
	}
	rest := r
	if a.want.Exact && r.Len() > a.left {
		r.Last = r.First + batch.Offset(a.left) - 1
	}
	a.left -= r.Len()
	got := a.locked
	got.First, got.Last, got.Count = r.First, r.Last, r.Count+1
	a.got = append(a.got, got)
	a.out.add(got)
	if rest.First = r.Last + 1; rest.First <= rest.Last {
		a.out.add(rest)
	}
}

// extend goes on with offsets that nobody looked at before, as long as the member wants more and there is room.
func (a *acquisition) extend(parts []part[bool], end batch.Offset, room int64) {
	for _, q := range parts {
		r := Run{First: max(q.first, end), Last: q.last}
		switch {
		case r.First > r.Last:
			continue
		case q.what:
			a.archive(r)
			continue
		case a.left <= 0 || room <= 0:
			return
		}
		if wanted := min(a.left, room); a.want.Exact && r.Len() > wanted {
			r.Last = r.First + batch.Offset(wanted) - 1
		}
		room -= r.Len()
		a.lock(r)
		if r.Last < q.last {
			return
		}
	}
}
