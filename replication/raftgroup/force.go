package raftgroup

import (
	"slices"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftlog"
)

// forcedTerms is by how many terms ForceVoters goes ahead: no group had so many elections of which a replica did not hear.
const forcedTerms = 1000

// ForceVoters gives a stopped replica's group other voters, whoever they were: the last resort after a majority is lost. It
// writes what a leader of a later term would have: the term, the vote, and a configuration behind the log's end. Each voter
// that does so takes a term of its own, so that there are never two entries of one index and term.
func ForceVoters(l *log.Log, stable *raftlog.Stable, self replication.ReplicaID, voters []replication.ReplicaID) error {
	term, err := number(stable, raftlog.KeyCurrentTerm)
	if err != nil {
		return err
	}
	last, err := l.Term(l.LastIndex())
	if err != nil {
		return err
	}
	term = max(term, uint64(last)) + forcedTerms + uint64(slices.Index(voters, self))
	for _, key := range [][]byte{raftlog.KeyCurrentTerm, raftlog.KeyVoteTerm} {
		if err := stable.Save(key, term); err != nil {
			return err
		}
	}
	if err := stable.Set(keyVoteCandidate, []byte(self.String())); err != nil {
		return err
	}
	var c raft.Configuration
	for _, r := range voters {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(r.String()), Address: raft.ServerAddress(r.String())})
	}
	frame := log.InternalFrame(log.KindConfiguration, raft.EncodeConfiguration(c))
	return l.Append([]log.Entry{{Index: l.LastIndex() + 1, Term: log.Epoch(term), Kind: log.KindConfiguration, Frame: frame}})
}

// keyVoteCandidate is Raft's key for whom the replica voted for last.
var keyVoteCandidate = []byte("LastVoteCand")

// Member is a replica of a group.
type Member struct {
	Replica replication.ReplicaID
	Voter   bool
}

// MembersOf reads a configuration as a log keeps it.
func MembersOf(configuration []byte) ([]Member, error) {
	c, err := raftlog.DecodeConfiguration(configuration)
	if err != nil {
		return nil, err
	}
	var all []Member
	for _, s := range c.Servers {
		if r, ok := parseReplica(s.ID); ok {
			all = append(all, Member{Replica: r, Voter: s.Suffrage == raft.Voter})
		}
	}
	return all, nil
}
