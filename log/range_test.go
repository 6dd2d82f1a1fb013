package log

import (
	"bytes"
	"testing"

	"github.com/quorlog/quorlog/log/batch"
)

// TestRangeHeaders: what Headers tells is where the batches are, also of large batches and of more small ones than fit a window; and
// what Cut leaves are their bytes.
func TestRangeHeaders(t *testing.T) {
	f := openFixture(t)
	for i := range 200 {
		f.append(1, plain(t, 1+i%3, 1))
	}
	r, err := f.log.Read(0, f.log.Offsets().LogEnd, 64<<20, true)
	mustBe(t, err, nil)
	defer r.Release()
	all, err := r.AppendTo(nil)
	mustBe(t, err, nil)
	var starts []int
	next := batch.Offset(0)
	mustBe(t, r.Headers(func(h batch.Header, at int) bool {
		if want, err := batch.ParseHeader(all[at:]); err != nil || want != h || h.BaseOffset != next {
			t.Fatalf("at %d: %+v, expected %+v at %d, %v", at, h, want, next, err)
		}
		starts, next = append(starts, at), h.NextOffset()
		return true
	}), nil)
	if len(starts) != 200 || next != f.log.Offsets().LogEnd {
		t.Fatalf("%d batches up to %d", len(starts), next)
	}
	seen := 0
	mustBe(t, r.Headers(func(batch.Header, int) bool { seen++; return seen < 3 }), nil)
	if seen != 3 {
		t.Errorf("went on for %d batches", seen)
	}
	r.Cut(starts[50], starts[120])
	if got, err := r.AppendTo(nil); err != nil || r.Len() != len(got) || !bytes.Equal(got, all[starts[50]:starts[120]]) {
		t.Errorf("%d of %d bytes, %v", len(got), r.Len(), err)
	}
	r.Cut(0, starts[51]-starts[50])
	if got, err := r.AppendTo(nil); err != nil || !bytes.Equal(got, all[starts[50]:starts[51]]) {
		t.Errorf("cut again: %d bytes, %v", len(got), err)
	}
	r.Cut(0, 0)
	if r.Len() != 0 || len(r.chunks) != 0 {
		t.Errorf("%d bytes of nothing", r.Len())
	}
}

// TestRangeHeadersOfGarbage: a range whose bytes are no batches is an error, not a panic.
func TestRangeHeadersOfGarbage(t *testing.T) {
	f := openFixture(t)
	f.append(1, plain(t, 3, 1))
	r, err := f.log.Read(0, f.log.Offsets().LogEnd, 1<<20, true)
	mustBe(t, err, nil)
	defer r.Release()
	for n := 1; n < r.Len(); n++ {
		part := &Range{chunks: []Chunk{{File: r.chunks[0].File, Pos: r.chunks[0].Pos, Len: n}}, size: n}
		mustBe(t, part.Headers(func(batch.Header, int) bool { return true }), ErrCorrupt)
	}
	for skip := int64(1); skip < 40; skip++ {
		c := r.chunks[0]
		part := &Range{chunks: []Chunk{{File: c.File, Pos: c.Pos + skip, Len: c.Len - int(skip)}}}
		if err := part.Headers(func(batch.Header, int) bool { return true }); err == nil {
			t.Errorf("from byte %d on there are batches", skip)
		}
	}
}
