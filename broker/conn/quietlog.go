package conn

import (
	"log/slog"
	"sync"
	"time"
)

// A flood of bad connections must not become a flood of lines: quietLines in each quietPeriod, then a count.
const (
	quietLines  = 10
	quietPeriod = 10 * time.Second
)

// quietLog writes a bounded number of lines.
type quietLog struct {
	logger *slog.Logger
	mu     struct {
		sync.Mutex
		since   time.Time
		lines   int
		dropped int
	}
}

func newQuietLog(l *slog.Logger) *quietLog { return &quietLog{logger: l} }

func (q *quietLog) warn(msg string, args ...any) {
	if dropped, ok := q.allow(time.Now()); ok {
		if dropped > 0 {
			args = append(args, "suppressed", dropped)
		}
		q.logger.Warn(msg, args...)
	}
}

// allow tells whether a line may be written now, and how many were not since the last one.
func (q *quietLog) allow(now time.Time) (dropped int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now.Sub(q.mu.since) >= quietPeriod {
		q.mu.since, q.mu.lines = now, 0
	}
	if q.mu.lines >= quietLines {
		q.mu.dropped++
		return 0, false
	}
	q.mu.lines++
	dropped, q.mu.dropped = q.mu.dropped, 0
	return dropped, true
}
