package faults

import (
	"testing"
)

// script is a planted history: three acknowledged values of one idempotent writer, read by one reader, then changed by
// the case, then read to the end.
type plant struct {
	h      *History
	w      int
	r      *Reader
	values []Value
	log    []Value // what the final read will find in partition 0
}

func newPlant(strict bool) *plant {
	h := NewHistory(1)
	p := &plant{h: h, w: h.NewWriter(strict), r: h.NewReader("reader")}
	for i := range 3 {
		v := h.Sending(p.w, 0)
		h.Acked(v, int64(i))
		p.r.Saw(0, int64(i), v.Encode(ValueSize))
		p.values, p.log = append(p.values, v), append(p.log, v)
	}
	return p
}

// add sends one more value without any answer.
func (p *plant) add() Value {
	v := p.h.Sending(p.w, 0)
	p.values = append(p.values, v)
	return v
}

// finish reads the log from start and returns the verdict.
func (p *plant) finish(start int64) Verdict {
	p.h.BeginFinal(0, start, int64(len(p.log)))
	for i, v := range p.log {
		if int64(i) >= start {
			p.h.FinalRecord(0, int64(i), v.Encode(ValueSize))
		}
	}
	for p.r.Position(0) < int64(len(p.log)) {
		at := p.r.Position(0)
		p.r.Saw(0, at, p.log[at].Encode(ValueSize))
	}
	return p.h.Verdict()
}

// TestFinalReadAgain: a final read that was given up, because the log start had moved, leaves nothing behind.
func TestFinalReadAgain(t *testing.T) {
	for _, strict := range []bool{true, false} {
		p := newPlant(strict)
		p.h.BeginFinal(0, 0, 3)
		p.h.FinalRecord(0, 0, p.log[0].Encode(ValueSize))
		p.h.FinalRecord(0, 1, p.log[1].Encode(ValueSize))
		if v := p.finish(1); !v.Good() || v.Counts.Found != 2 || v.Repeated != 0 {
			t.Errorf("strict %t: %v", strict, v)
		}
		p = newPlant(strict)
		p.h.BeginFinal(0, 0, 3)
		p.h.FinalRecord(0, 2, p.log[2].Encode(ValueSize))
		p.h.BeginFinal(0, 1, 2)
		p.h.FinalRecord(0, 1, p.log[1].Encode(ValueSize))
		if v := p.h.Verdict(); v.Found[Lost] != 1 {
			t.Errorf("strict %t: what only the read before has found: %v", strict, v)
		}
	}
}

// TestPlantedViolations proves each check: a history with one thing wrong must be found out, by that name.
func TestPlantedViolations(t *testing.T) {
	cases := []struct {
		kind  Kind
		name  string
		plant func(p *plant) Verdict
	}{
		{Lost, "the last acknowledged value is gone", func(p *plant) Verdict {
			p.h.Acked(p.add(), 3)
			return p.finish(0)
		}},
		{Lost, "acknowledged without an offset and nowhere", func(p *plant) Verdict {
			p.h.Acked(p.add(), -1)
			return p.finish(0)
		}},
		{Vanished, "a reader saw an unacknowledged value that went away", func(p *plant) Verdict {
			v := p.add()
			p.r.Saw(0, 3, v.Encode(ValueSize))
			return p.finish(0)
		}},
		{Duplicate, "a retry was written again", func(p *plant) Verdict {
			p.log = append(p.log, p.values[2])
			return p.finish(0)
		}},
		{Reordered, "a later value of the same writer stands before", func(p *plant) Verdict {
			a, b := p.add(), p.add()
			p.log = append(p.log, b, a)
			return p.finish(0)
		}},
		{Inconsistent, "an acknowledged offset holds something else", func(p *plant) Verdict {
			a, b := p.add(), p.add()
			p.h.Acked(a, 3)
			p.log = append(p.log, b, a)
			return p.finish(0)
		}},
		{Inconsistent, "two readers see different values at one offset", func(p *plant) Verdict {
			a, b := p.add(), p.add()
			p.r.Saw(0, 3, a.Encode(ValueSize))
			other := p.h.NewReader("other")
			for i, v := range append(p.log[:3:3], b) {
				other.Saw(0, int64(i), v.Encode(ValueSize))
			}
			p.log = append(p.log, a)
			return p.finish(0)
		}},
		{TimeTravel, "a value that was sent later is acknowledged earlier", func(p *plant) Verdict {
			v := p.add()
			p.h.Acked(v, 1)
			return p.finish(0)
		}},
		{TimeTravel, "an unanswered value stands before one that was acknowledged before it was sent", func(p *plant) Verdict {
			h := NewHistory(1)
			a, b := h.NewWriter(true), h.NewWriter(true)
			first := h.Sending(a, 0)
			h.Acked(first, 5)
			second := h.Sending(b, 0)
			h.BeginFinal(0, 4, 6)
			h.FinalRecord(0, 4, second.Encode(ValueSize))
			h.FinalRecord(0, 5, first.Encode(ValueSize))
			return h.Verdict()
		}},
		{Damaged, "a byte is not what was sent", func(p *plant) Verdict {
			raw := p.add().Encode(ValueSize)
			raw[100] ^= 1
			p.r.Saw(0, 3, raw)
			return p.finish(0)
		}},
		{Stranger, "a value that was never sent", func(p *plant) Verdict {
			p.log = append(p.log, Value{p.w, 0, 77})
			return p.finish(0)
		}},
		{Stranger, "a value of another partition", func(p *plant) Verdict {
			p.r.Saw(0, 3, Value{p.w, 1, 0}.Encode(ValueSize))
			return p.finish(0)
		}},
		{RefusedRead, "not done, they said", func(p *plant) Verdict {
			v := p.add()
			p.h.Refused(v)
			p.log = append(p.log, v)
			return p.finish(0)
		}},
		{Skipped, "a reader misses an offset", func(p *plant) Verdict {
			a, b := p.add(), p.add()
			p.log = append(p.log, a, b)
			p.r.Saw(0, 4, b.Encode(ValueSize))
			return p.finish(0)
		}},
		{Reread, "a reader goes back", func(p *plant) Verdict {
			p.r.Saw(0, 1, p.values[1].Encode(ValueSize))
			return p.finish(0)
		}},
		{Unseen, "a reader never gets to the end", func(p *plant) Verdict {
			p.h.NewReader("stuck")
			return p.finish(0)
		}},
		{Hole, "an offset without a record", func(p *plant) Verdict {
			v := p.add()
			p.h.BeginFinal(0, 0, 5)
			for i, v := range p.values[:3] {
				p.h.FinalRecord(0, int64(i), v.Encode(ValueSize))
			}
			p.h.FinalRecord(0, 4, v.Encode(ValueSize))
			return p.h.Verdict()
		}},
		{Hole, "a log that ends before its watermark", func(p *plant) Verdict {
			p.h.BeginFinal(0, 0, 4)
			for i, v := range p.values {
				p.h.FinalRecord(0, int64(i), v.Encode(ValueSize))
			}
			return p.h.Verdict()
		}},
		{WatermarkBack, "within an epoch", func(p *plant) Verdict {
			p.h.Watermark(0, 1, 3, 0)
			p.h.Watermark(0, 1, 2, 0)
			return p.finish(0)
		}},
		{WatermarkBack, "a new leader begins below", func(p *plant) Verdict {
			p.h.Watermark(0, 1, 3, 0)
			p.h.Watermark(0, 2, 2, 0)
			return p.finish(0)
		}},
		{WatermarkBack, "the final end lies below", func(p *plant) Verdict {
			p.h.Watermark(0, 1, 9, 0)
			return p.finish(0)
		}},
		{LogStartBack, "the log start goes back", func(p *plant) Verdict {
			p.h.Watermark(0, 1, 3, 2)
			p.h.Watermark(0, 1, 3, 1)
			return p.finish(2)
		}},
		{TwoLeaders, "two nodes lead in one epoch", func(p *plant) Verdict {
			p.h.Leader(0, 4, 1)
			p.h.Leader(0, 4, 2)
			return p.finish(0)
		}},
	}
	for _, c := range cases {
		t.Run(string(c.kind)+": "+c.name, func(t *testing.T) {
			if v := c.plant(newPlant(true)); v.Good() || v.Found[c.kind] == 0 {
				t.Errorf("not found:\n%v", v)
			}
		})
	}
}

// TestPlantedInnocence: what may happen is not reported.
func TestPlantedInnocence(t *testing.T) {
	cases := []struct {
		name   string
		strict bool
		plant  func(p *plant) Verdict
	}{
		{"a plain history", true, func(p *plant) Verdict { return p.finish(0) }},
		{"an unanswered value that was written", true, func(p *plant) Verdict {
			p.log = append(p.log, p.add())
			return p.finish(0)
		}},
		{"an unanswered value that was not", true, func(p *plant) Verdict {
			p.h.Unknown(p.add())
			return p.finish(0)
		}},
		{"a refused value that is not there", true, func(p *plant) Verdict {
			p.h.Refused(p.add())
			return p.finish(0)
		}},
		{"a retry without idempotence", false, func(p *plant) Verdict {
			p.log = append(p.log, p.values[2])
			return p.finish(0)
		}},
		{"retention", true, func(p *plant) Verdict {
			p.h.Watermark(0, 1, 3, 2)
			return p.finish(2)
		}},
		{"a recognised retry without an offset", true, func(p *plant) Verdict {
			v := p.add()
			p.h.Acked(v, -1)
			p.log = append(p.log, v)
			return p.finish(0)
		}},
		{"an old leader that does not know yet", true, func(p *plant) Verdict {
			p.h.Watermark(0, 2, 3, 0)
			p.h.Watermark(0, 1, 1, 0)
			return p.finish(0)
		}},
		{"one leader after another", true, func(p *plant) Verdict {
			p.h.Leader(0, 1, 1)
			p.h.Leader(0, 2, 2)
			p.h.Leader(0, 1, 1)
			return p.finish(0)
		}},
		{"a reader that is told to jump", true, func(p *plant) Verdict {
			p.r.MayJump(0, 1)
			p.r.Saw(0, 1, p.values[1].Encode(ValueSize))
			return p.finish(0)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if v := c.plant(newPlant(c.strict)); !v.Good() {
				t.Errorf("found something:\n%v", v)
			}
		})
	}
	if (Verdict{}).Good() {
		t.Error("a history without any acknowledgement counts as good")
	}
}
