package transport

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// quietTime is how long the log keeps silent about a matter after a line about it.
	quietTime = 10 * time.Second
	// maxMatters bounds what is remembered.
	maxMatters = 256
)

// quiet is a log for what strangers and broken networks can cause again and again: one line for each matter in ten seconds.
type quiet struct {
	logger *slog.Logger
	now    func() time.Time
	mu     struct {
		sync.Mutex
		matters map[string]*matter
	}
}

type matter struct {
	said    time.Time
	dropped int
}

// log writes a warning unless there was one about the same matter a moment ago.
func (q *quiet) log(about, message string, args ...any) {
	now := q.now()
	q.mu.Lock()
	m := q.mu.matters[about]
	switch {
	case m == nil:
		if q.mu.matters == nil || len(q.mu.matters) >= maxMatters {
			q.mu.matters = make(map[string]*matter)
		}
		q.mu.matters[about] = &matter{said: now}
	case now.Sub(m.said) < quietTime:
		m.dropped++
		q.mu.Unlock()
		return
	default:
		if m.dropped > 0 {
			args = append(args, "suppressed", m.dropped)
		}
		*m = matter{said: now}
	}
	q.mu.Unlock()
	q.logger.Warn(message, args...)
}
