package log

import (
	"testing"
)

func TestTailServesRecentEntries(t *testing.T) {
	f := openFixture(t, func(o *Options) { o.TailBytes = 2000 })
	for range 30 {
		f.append(1, plain(t, 3, 1))
	}
	want, err := f.log.Entry(30)
	mustBe(t, err, nil)
	equal(t, f.log.Stats().TailHits, 1, "hits")
	_, err = f.log.Entry(2)
	mustBe(t, err, nil)
	equal(t, f.log.Stats().TailMisses, 1, "misses")
	f.log.tail.drop()
	got, err := f.log.Entry(30)
	mustBe(t, err, nil)
	equal(t, got, want, "from disk")
}

func TestTailBudgetIsShared(t *testing.T) {
	b := NewTailBudget(10 * (100 + entryOverhead))
	mk := func() *tail { return &tail{budget: b, limit: 1 << 20} }
	fill := func(tl *tail, from Index, n int) {
		for i := range n {
			tl.push([]Entry{{Index: from + Index(i), Frame: make([]byte, 100)}})
		}
	}
	idle, busy := mk(), mk()
	fill(idle, 1, 10)
	fill(busy, 1, 8)
	if b.Used() > b.limit {
		t.Fatalf("%d bytes used of %d", b.Used(), b.limit)
	}
	if _, ok := busy.get(8); !ok {
		t.Fatal("the newest entry of the busy log is gone")
	}
	if _, ok := idle.get(1); ok {
		t.Fatal("the oldest entry of the idle log is still held")
	}
	fill(busy, 9, 50)
	for i := Index(1); i <= 58; i++ {
		if e, ok := busy.get(i); ok && e.Index != i {
			t.Fatalf("%d answered for %d", e.Index, i)
		}
	}
	busy.truncate(55)
	if _, ok := busy.get(55); ok {
		t.Fatal("truncated entry is still held")
	}
	idle.drop()
	busy.drop()
	equal(t, b.Used(), 0, "used")
}
