package agent

import (
	"context"
	"sync"
	"time"
)

// pace spreads bytes over time.
type pace struct {
	rate func() float64 // bytes a second; asked each time

	mu   sync.Mutex
	next time.Time // when the bytes so far are paid for
}

// maxPace bounds what one step, of 1 MiB or a batch, can owe.
const maxPace = time.Hour

// take returns how long to wait before n more bytes are moved. What was not used while nothing moved is lost.
func (p *pace) take(now time.Time, n int) time.Duration {
	rate := p.rate()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Before(now) {
		p.next = now
	}
	wait := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(min(float64(n)/rate*float64(time.Second), float64(maxPace))))
	return wait
}

// wait waits until n more bytes may be moved.
func (p *pace) wait(ctx context.Context, n int) error {
	wait := p.take(time.Now(), n)
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
