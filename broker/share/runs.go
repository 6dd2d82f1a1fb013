package share

import "github.com/quorlog/quorlog/log/batch"

// builder gathers runs in the order of their offsets, and joins neighbours of the same fate.
type builder struct{ runs []Run }

func (b *builder) add(r Run) {
	if n := len(b.runs); n > 0 && b.runs[n-1].Last+1 == r.First && b.runs[n-1].sameFate(&r) {
		b.runs[n-1].Last = r.Last
		return
	}
	b.runs = append(b.runs, r)
}

// part is a range of offsets with something to be done to them.
type part[T any] struct {
	first, last batch.Offset
	what        T
}

// change adds runs to b; those pieces that lie in a part are given to fn, which adds what becomes of them. Parts are in the
// order of their offsets and do not overlap; what of them lies outside of all runs is passed over. The first error ends it.
func change[T any](b *builder, runs []Run, parts []part[T], fn func(piece Run, what T) error) error {
	for _, r := range runs {
		for len(parts) > 0 && parts[0].last < r.First {
			parts = parts[1:]
		}
		for len(parts) > 0 && parts[0].first <= r.Last {
			if first := parts[0].first; first > r.First {
				b.add(r.slice(r.First, first-1))
			}
			piece := r.slice(max(r.First, parts[0].first), min(r.Last, parts[0].last))
			if err := fn(piece, parts[0].what); err != nil {
				return err
			}
			if r.First = piece.Last + 1; r.First > r.Last {
				break // the rest of the part is about the next run
			}
			parts = parts[1:]
		}
		if r.First <= r.Last {
			b.add(r)
		}
	}
	return nil
}

func (r Run) slice(first, last batch.Offset) Run {
	r.First, r.Last = first, last
	return r
}
