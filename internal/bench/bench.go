// Package bench measures any Kafka-compatible cluster with franz-go: how fast it takes records, gives them back, and how
// long a record needs from one client to another.
//
// Goroutines: one per producer or consumer, started by the Run functions and ended before they return; and one progress
// ticker per run, owned by [progress], which ends with it.
package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Config says what to run.
type Config struct {
	Topic      string
	Records    int64 // how many in all
	RecordSize int   // bytes of each value
	Throughput int64 // records per second in all; 0 = as fast as possible
	Producers  int   // clients that produce at once, each with its own connections
	Options    []kgo.Opt
	// Connect makes the clients that produce; nil: franz-go's, with Options.
	Connect  func() (Producer, error)
	Progress io.Writer // nil prints no progress
}

// Result is what was measured. Latencies are from Produce to the acknowledgement, or end to end.
type Result struct {
	Kind             string  `json:"kind"`
	Records          int64   `json:"records"`
	Bytes            int64   `json:"bytes"`
	Errors           int64   `json:"errors"`
	Seconds          float64 `json:"seconds"`
	RecordsPerSecond float64 `json:"records_per_second"`
	MBPerSecond      float64 `json:"mb_per_second"` // 10^6 bytes of values
	P50              float64 `json:"p50_ms"`
	P99              float64 `json:"p99_ms"`
	P999             float64 `json:"p999_ms"`
	Max              float64 `json:"max_ms"`
}

// String is the line that a person reads.
func (r Result) String() string {
	s := fmt.Sprintf("%s: %d records, %.1f MB in %.2f s: %.0f records/s, %.1f MB/s", r.Kind, r.Records, float64(r.Bytes)/1e6, r.Seconds, r.RecordsPerSecond, r.MBPerSecond)
	if r.Max > 0 {
		s += fmt.Sprintf("; latency p50 %.2f ms, p99 %.2f ms, p999 %.2f ms, max %.2f ms", r.P50, r.P99, r.P999, r.Max)
	}
	if r.Errors > 0 {
		s += fmt.Sprintf("; %d errors", r.Errors)
	}
	return s
}

// maxLatency bounds the histograms: what takes longer counts as this long.
const maxLatency = 10 * time.Minute

// latencies is a histogram that several clients fill.
type latencies struct {
	mu struct {
		sync.Mutex
		h *hdrhistogram.Histogram
	}
}

func newLatencies() *latencies {
	l := &latencies{}
	l.mu.h = hdrhistogram.New(1, maxLatency.Microseconds(), 3)
	return l
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// RecordValue refuses only what lies outside the histogram, which min rules out.
	_ = l.mu.h.RecordValue(max(1, min(d, maxLatency).Microseconds()))
}

func (l *latencies) into(r *Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ms := func(q float64) float64 { return float64(l.mu.h.ValueAtQuantile(q)) / 1000 }
	r.P50, r.P99, r.P999, r.Max = ms(50), ms(99), ms(99.9), float64(l.mu.h.Max())/1000
}

// counters is what a run adds up.
type counters struct {
	records, bytes, errors atomic.Int64
	firstError             atomic.Pointer[error]
}

func (c *counters) fail(err error) {
	c.errors.Add(1)
	c.firstError.CompareAndSwap(nil, &err)
}

func (c *counters) result(kind string, took time.Duration) Result {
	r := Result{Kind: kind, Records: c.records.Load(), Bytes: c.bytes.Load(), Errors: c.errors.Load(), Seconds: took.Seconds()}
	if took > 0 {
		r.RecordsPerSecond = float64(r.Records) / took.Seconds()
		r.MBPerSecond = float64(r.Bytes) / 1e6 / took.Seconds()
	}
	return r
}

// err is the first failure, if any record failed.
func (c *counters) err() error {
	if p := c.firstError.Load(); p != nil {
		return fmt.Errorf("%d records failed, the first with: %w", c.errors.Load(), *p)
	}
	return nil
}

// progress prints a line a second until the returned function is called.
func progress(w io.Writer, c *counters, total int64) (stop func()) {
	if w == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		var last int64
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				now := c.records.Load()
				fmt.Fprintf(w, "%d/%d records, %d records/s\n", now, total, now-last)
				last = now
			}
		}
	}()
	return func() { cancel(); <-done }
}

// poolSize is large enough that no two records of one batch, nor of a window of batches, share bytes: a codec then finds
// nothing to gain, and the figures are those of incompressible data.
const poolSize = 64 << 20

// payloads hands out values of random bytes.
type payloads struct {
	pool []byte
	size int
	next int
}

func newPayloads(size int) *payloads {
	pool := make([]byte, max(poolSize, size))
	rand.Read(pool) // never fails (crypto/rand)
	return &payloads{pool: pool, size: size}
}

// value is random per record; it stays valid and unchanged.
func (p *payloads) value() []byte {
	if p.next+p.size > len(p.pool) {
		p.next = 0
	}
	v := p.pool[p.next : p.next+p.size : p.next+p.size]
	p.next += p.size
	return v
}

// pacer spreads records evenly over time.
type pacer struct {
	every time.Duration // zero = do not wait
	start time.Time
	sent  int64
}

func newPacer(perSecond int64) *pacer {
	p := &pacer{start: time.Now()}
	if perSecond > 0 {
		p.every = time.Second / time.Duration(perSecond)
	}
	return p
}

// wait blocks until the next record is due; false when ctx ended first.
func (p *pacer) wait(ctx context.Context) bool {
	if p.every == 0 {
		return ctx.Err() == nil
	}
	due := p.start.Add(time.Duration(p.sent) * p.every)
	p.sent++
	left := time.Until(due)
	// Timers are no finer than this; a shorter wait would only slow a fast run down.
	if left < time.Millisecond {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
