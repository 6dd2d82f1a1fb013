// Package latency counts how long things take, cheaply enough for every request: an addition to one of a few counters. What
// reads the counts are the metrics; package metrics turns a [Snapshot] into a histogram of Prometheus.
package latency

import (
	"slices"
	"sync/atomic"
	"time"
)

// bounds are the upper ends of the buckets: from a fast fsync to what a client no longer waits for.
var bounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Bounds returns the upper ends of the buckets, each of which holds what took no longer. What took longer than the last one is
// counted by Snapshot.Count alone.
func Bounds() []time.Duration { return bounds[:] }

// Histogram counts durations. The zero value is ready, and all methods may be called from any goroutine.
type Histogram struct {
	buckets [len(bounds) + 1]atomic.Int64
	nanos   atomic.Int64
}

// Observe counts a duration; a negative one, which a clock that was set back may make, counts as none.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 0)
	i, _ := slices.BinarySearch(bounds[:], d)
	h.buckets[i].Add(1)
	h.nanos.Add(int64(d))
}

// Snapshot is what a Histogram has counted.
type Snapshot struct {
	Count int64
	Sum   time.Duration
	// Below are the counts of what took no longer than each of Bounds; each includes those before it.
	Below [len(bounds)]int64
}

// Snapshot returns the counts. What is observed meanwhile may be in it in part: Sum and Count may differ by such.
func (h *Histogram) Snapshot() Snapshot {
	var s Snapshot
	s.Sum = time.Duration(h.nanos.Load())
	for i := range h.buckets {
		s.Count += h.buckets[i].Load()
		if i < len(s.Below) {
			s.Below[i] = s.Count
		}
	}
	return s
}
