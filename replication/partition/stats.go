package partition

import "github.com/quorlog/quorlog/log"

// Stats are what a replica has done since it was opened: its log's counts and Raft's calls of its store.
type Stats struct {
	Log     log.Stats
	GetLog  int64 // entries that Raft read
	Stores  int64 // group commits: calls that stored something, each one write and one fsync
	Entries int64 // entries that they stored
}

// Position is where a replica stands.
type Position struct {
	Offsets
	Unapplied int // entries of the log that are not yet known to be committed
}

// PositionOf tells where a replica stands, whether it leads or not; false where it is offline.
func PositionOf(p *Partition) (Position, bool) {
	if p.log == nil || p.offlineErr() != nil {
		return Position{}, false
	}
	applied := p.log.AppliedIndex() // first: the other one may grow meanwhile, but not shrink below it
	return Position{p.log.Offsets(), int(max(applied, p.log.LastIndex()) - applied)}, true
}

// TailOf tells how many bytes of the newest entries the logs of a manager's node keep in memory, and how many they may.
func TailOf(m *Manager) (used, limit int64) { return m.tail.Used(), m.tail.Limit() }

// Stats returns the counts so far; zero for a partition that is offline.
func (p *Partition) Stats() Stats {
	if p.log == nil || p.group == nil {
		return Stats{}
	}
	c := p.group.Counts()
	return Stats{Log: p.log.Stats(), GetLog: c.GetLog, Stores: c.Stores, Entries: c.Entries}
}
