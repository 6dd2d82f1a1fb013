package partition

import (
	"errors"
	"sync/atomic"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Traffic is what clients, and coordinators, have written to and read from the partitions of a topic on this node, for as long
// as there was one here.
type Traffic struct {
	Topic         string
	Partitions    int // that are open here now
	BytesIn       int64
	MessagesIn    int64
	BytesOut      int64
	Appends       int64 // batches that were to be stored
	FailedAppends int64 // those that were not, but for those that another node leads
	Fetches       int64 // reads of one partition
	FailedFetches int64 // those that brought an error, but for those that another node leads
}

// traffic is a topic's counts while they are added to. They outlive each of its partitions, but not the last one: a figure that
// fell when a replica moves away would look like one that began anew.
type traffic struct {
	users int // partitions; guarded by Manager.mu

	bytesIn, messagesIn, bytesOut                 atomic.Int64
	appends, failedAppends, fetches, failedFetchs atomic.Int64
}

// appended counts the answer to a batch. A duplicate was counted when it was stored.
func (t *traffic) appended(h *batch.Header, stored bool, err error) {
	t.appends.Add(1)
	if stored {
		t.bytesIn.Add(int64(h.Size()))
		t.messagesIn.Add(int64(h.NumRecords))
	}
	if misfortune(err) {
		t.failedAppends.Add(1)
	}
}

// misfortune tells whether an error is worth an administrator's look: that a client asks the wrong node is everyday life.
func misfortune(err error) bool { return err != nil && !errors.Is(err, replication.ErrNotLeader) }

// counted is the part of a partition that counts. traffic is set when the partition is given out.
type counted struct{ traffic *traffic }

// Served counts what a client was sent of the partition, in bytes, or the error that it was told.
func (c counted) Served(bytes int, err error) {
	t := c.traffic
	t.fetches.Add(1)
	t.bytesOut.Add(int64(bytes))
	if misfortune(err) {
		t.failedFetchs.Add(1)
	}
}

// TrafficOf returns the counts of all topics that have a partition on a manager's node.
func TrafficOf(m *Manager) []Traffic {
	m.mu.RLock()
	defer m.mu.RUnlock()
	out := make([]Traffic, 0, len(m.mu.census.traffic))
	for topic, t := range m.mu.census.traffic {
		out = append(out, Traffic{
			Topic: topic, Partitions: t.users, BytesIn: t.bytesIn.Load(), MessagesIn: t.messagesIn.Load(), BytesOut: t.bytesOut.Load(),
			Appends: t.appends.Load(), FailedAppends: t.failedAppends.Load(), Fetches: t.fetches.Load(), FailedFetches: t.failedFetchs.Load(),
		})
	}
	return out
}

// census is what a manager counts of its partitions, under its lock.
type census struct {
	traffic map[string]*traffic // by topic
	gone    log.Stats           // of partitions that have left
}

// enter counts a partition that can be found from now on.
func (c *census) enter(p *Partition) {
	t := c.traffic[p.topic]
	if t == nil {
		t = &traffic{}
		c.traffic[p.topic] = t
	}
	t.users++
	p.traffic = t
}

// leave keeps what the log of a partition has done that can't be found any more.
func (c *census) leave(p *Partition, done log.Stats) {
	c.gone.Add(done)
	if p.traffic.users--; p.traffic.users == 0 {
		delete(c.traffic, p.topic)
	}
}

// LogsOf adds up what the logs of a manager's node have done since it started, also of partitions that have left it.
func LogsOf(m *Manager) log.Stats {
	m.mu.RLock()
	sum := m.mu.census.gone
	open := make([]*Partition, 0, len(m.mu.partitions))
	for _, p := range m.mu.partitions {
		open = append(open, p)
	}
	m.mu.RUnlock()
	for _, p := range open {
		sum.Add(p.Stats().Log)
	}
	return sum
}
