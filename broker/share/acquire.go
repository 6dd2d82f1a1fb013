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
		want: w, left: int64(w.Records), limit: p.settings.DeliveryLimit, suspect: suspect(p.settings.DeliveryLimit),
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

// suspect is after how many deliveries a record is a suspect: half of the limit, and at least two.
func suspect(limit int16) int16 { return max(2, limit/2+limit%2) }

// source is what an offset comes from.
type source struct {
	skip bool
	size int64 // offsets of the batch
}

// parts covers the offsets from the first on up to the last batch, and tells which are to be skipped.
func parts(next batch.Offset, offered []Offered) (out []part[source]) {
	for _, o := range offered {
		if o.Last < next {
			continue
		}
		if o.First > next {
			out = append(out, part[source]{next, o.First - 1, source{skip: true}})
		}
		out = append(out, part[source]{max(o.First, next), o.Last, source{o.Skip, int64(o.Last-o.First) + 1}})
		next = o.Last + 1
	}
	return out
}

// acquisition is one Acquire.
type acquisition struct {
	want    Want
	locked  Run // what an acquired run looks like
	limit   int16
	suspect int16
	left    int64 // offsets that the member still wants
	skipped bool
	got     []Run
	out     builder
}

// piece decides on offsets that were looked at before.
func (a *acquisition) piece(r Run, from source) error {
	switch {
	case r.State != Available:
		a.out.add(r)
	case from.skip:
		a.archive(r)
	case r.Count >= a.limit: // the limit was lowered
		a.archive(r)
	case r.Count >= a.suspect:
		a.isolate(r, from.size)
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
func (a *acquisition) lock(r Run) { a.lockUpTo(r, r.Len()) }

// isolate acquires a few suspects, and nothing beside them: one that makes its members fail takes those along that were acquired
// with it, and all would be given up together. So a member gets half of a batch, with each further delivery half as many, and the
// last time one alone (as Kafka 4.2).
func (a *acquisition) isolate(r Run, size int64) {
	if len(a.got) > 0 {
		a.left = 0
	}
	few := max(1, size>>(r.Count-a.suspect+1))
	if r.Count == a.limit-1 {
		few = 1
	}
	a.lockUpTo(r, few)
	a.left = 0
}

func (a *acquisition) lockUpTo(r Run, most int64) {
	if a.left <= 0 {
		a.out.add(r)
		return
	}
	if a.want.Exact {
		most = min(most, a.left)
	}
	rest := r
	r.Last = min(r.Last, r.First+batch.Offset(most)-1)
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
func (a *acquisition) extend(parts []part[source], end batch.Offset, room int64) {
	for _, q := range parts {
		r := Run{First: max(q.first, end), Last: q.last}
		switch {
		case r.First > r.Last:
			continue
		case q.what.skip:
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
