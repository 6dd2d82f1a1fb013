package api

import (
	"context"
	"time"
)

// Bounds of the timeouts that administrative requests bring along.
const (
	// leastPatience replaces timeouts of zero or less. Kafka takes them for "do not wait for the result", but a change here
	// is only answered when it is done, and a client that sends 0 wants it done.
	leastPatience = time.Second
	// mostPatience is more than any client waits for an answer.
	mostPatience = time.Hour
)

// within bounds a request by its own timeout.
func within(ctx context.Context, millis int32) (context.Context, context.CancelFunc) {
	d := min(time.Duration(millis)*time.Millisecond, mostPatience)
	if d <= 0 {
		d = leastPatience
	}
	return context.WithTimeout(ctx, d)
}
