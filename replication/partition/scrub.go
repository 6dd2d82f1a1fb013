package partition

import (
	"time"

	"github.com/quorlog/quorlog/replication"
)

// scrubEvery is how long a pass over all partitions rests before the next begins: bits rot slowly, and reading everything
// costs the disk that consumers read from.
const scrubEvery = 24 * time.Hour

// scrub is where the check of stored bytes stands.
type scrub struct {
	left  []replication.PartitionID // of this pass
	began time.Time                 // when this pass began
}

// Scrub checks about maxBytes of what is stored and goes on there the next time, partition by partition; a pass over all
// begins a day after the last began, and at the start of the node. Damage takes its partition offline, before a consumer or
// a follower meets it. It is called from one goroutine.
func (m *Manager) Scrub(maxBytes int64) {
	s := &m.scrub
	if len(s.left) == 0 {
		now := m.o.Now()
		if !s.began.IsZero() && now.Sub(s.began) < scrubEvery {
			return
		}
		s.began = now
		for _, p := range m.All() {
			s.left = append(s.left, p.id)
		}
		if len(s.left) == 0 {
			return
		}
	}
	p, ok := m.Get(s.left[0])
	if !ok || p.log == nil || p.offlineErr() != nil {
		s.left = s.left[1:]
		return
	}
	r, err := p.log.Scrub(maxBytes)
	if err != nil && !p.maintenanceFailed(err) {
		p.logger.Warn("scrub", "error", err)
	}
	if err != nil || r.Wrapped {
		s.left = s.left[1:]
	}
}
