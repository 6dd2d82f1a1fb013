package partition

import "github.com/quorlog/quorlog/log"

// Stats are what a replica has done since it was opened: its log's counts and Raft's calls of its store.
type Stats struct {
	Log     log.Stats
	GetLog  int64 // entries that Raft read
	Stores  int64 // group commits: calls that stored something, each one write and one fsync
	Entries int64 // entries that they stored
}

// Stats returns the counts so far; zero for a partition that is offline.
func (p *Partition) Stats() Stats {
	if p.log == nil || p.group == nil {
		return Stats{}
	}
	c := p.group.Counts()
	return Stats{Log: p.log.Stats(), GetLog: c.GetLog, Stores: c.Stores, Entries: c.Entries}
}
