package fetch

import (
	"context"
	"time"
)

// Fetch answers a request, once there is enough to send, or something else to tell, or the client has waited for as
// long as it wants. An error means that the context ended first, and that nothing is left to be released.
func (s *Service) Fetch(ctx context.Context, r *Request) (*Response, error) {
	v, params, err := s.sessions.begin(r, s.now())
	if err != nil {
		return &Response{Err: err}, nil
	}
	limit := max(0, min(r.MaxBytes, s.maxBytes))
	g := s.newReading(r, params, limit)
	if r.FromReplica {
		g.refuse(ErrNotReplica)
	} else if err := s.poll(ctx, r, g); err != nil {
		(&Response{Results: g.results}).Release()
		return nil, err
	}
	g.count()
	all := g.results
	id, results, err := s.sessions.settle(v, r, params, all, s.now())
	if err != nil {
		(&Response{Results: all}).Release()
		return &Response{Err: err}, nil
	}
	return &Response{SessionID: id, Results: results}, nil
}

// poll reads, and waits while there is too little. It is the only place where a Fetch waits.
func (s *Service) poll(ctx context.Context, r *Request, g *reading) error {
	g.readAll(s.partitions)
	want := min(r.MinBytes, g.limit)
	enough := func() bool { return g.urgent || g.total >= want }
	if g.found == 0 || r.MaxWait <= 0 || enough() {
		return ctx.Err()
	}
	// Most fetches of a busy topic end above. Only one that waits pays for the watches.
	wake := make(chan struct{}, 1)
	for _, src := range g.sources {
		if src != nil {
			defer src.Watch(wake)()
		}
	}
	timer := time.NewTimer(r.MaxWait)
	defer timer.Stop()
	for expired := false; ; {
		// Before the first wait too: something may have moved between the read and the watch.
		g.refresh()
		if expired || enough() {
			return nil
		}
		select {
		case <-wake:
		case <-timer.C:
			expired = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
