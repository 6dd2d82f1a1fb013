package latency

import (
	"sync"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	var h Histogram
	h.Observe(-time.Second)
	for _, b := range Bounds() {
		h.Observe(b)     // belongs to its own bucket
		h.Observe(b + 1) // and this to the next
	}
	s := h.Snapshot()
	if want := int64(2*len(Bounds()) + 1); s.Count != want {
		t.Errorf("%d, want %d", s.Count, want)
	}
	for i, n := range s.Below {
		if want := int64(2*i + 2); n != want {
			t.Errorf("%d took at most %v, want %d", n, Bounds()[i], want)
		}
	}
	var sum time.Duration
	for _, b := range Bounds() {
		sum += 2*b + 1
	}
	if s.Sum != sum {
		t.Errorf("sum %v, want %v", s.Sum, sum)
	}
}

func TestConcurrent(t *testing.T) {
	var h Histogram
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				h.Observe(time.Millisecond)
				if s := h.Snapshot(); s.Below[0] != 0 || s.Below[len(s.Below)-1] != s.Count {
					t.Errorf("%+v", s)
				}
			}
		})
	}
	wg.Wait()
	if s := h.Snapshot(); s.Count != 4000 || s.Sum != 4*time.Second {
		t.Errorf("%+v", s)
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Histogram
	for b.Loop() {
		h.Observe(3 * time.Millisecond)
	}
}
