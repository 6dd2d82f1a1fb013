package raftgroup

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/replication/raftlog"
)

// A replica's log and its votes lie in different files. If either is lost, the replica must not go on: it could help to elect a
// leader that lacks what it confirmed, or vote twice in one term. It must come back as a new incarnation.
var (
	// ErrLostLog: the replica voted before, but its log is empty.
	ErrLostLog = errors.New("raftgroup: the replica has voted, but its log is gone")
	// ErrLostVotes: the replica's log has entries of a term of which its votes know nothing.
	ErrLostVotes = errors.New("raftgroup: the replica's votes are gone, or older than its log")
)

// checkVotes holds the votes against the log. Raft saves a term before it stores the first entry of it. A replica that is the
// only voter of its group has nobody to vote for but itself, and goes on.
func checkVotes(o *Options) error {
	l := o.Log
	last := l.LastIndex()
	if boundary, _ := l.Boundary(); last <= boundary || mutation.On(mutation.VotesUnchecked) {
		return nil // what is at the boundary came with a snapshot, before its term
	}
	newest, err := l.Term(last)
	if err != nil {
		return err
	}
	term, err := number(o.Stable, raftlog.KeyCurrentTerm)
	if err != nil || term >= uint64(newest) {
		return err
	}
	data, _ := l.Configuration()
	members, err := MembersOf(data)
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.Voter && m.Replica != o.Self {
			boundary, of := l.Boundary()
			return fmt.Errorf("%w: %s has entries up to %d of term %d behind entry %d of term %d, and votes up to %d", ErrLostVotes, o.Name, last, newest, boundary, of, term)
		}
	}
	return o.Stable.Save(raftlog.KeyCurrentTerm, uint64(newest))
}

// bootstrap writes the first entry of a new group: its configuration, the same on all replicas. Raft's own function stores
// the term first and takes a crash in between for a group that exists.
func bootstrap(o *Options) (fresh bool, err error) {
	if o.Log.LastIndex() > 0 {
		return false, nil
	}
	term, err := number(o.Stable, raftlog.KeyCurrentTerm)
	if err != nil {
		return false, err
	}
	vote, err := number(o.Stable, raftlog.KeyVoteTerm)
	if err != nil {
		return false, err
	}
	// A replica that was added has heard of a term before it has an entry; but only a voter is asked for its vote, and that had all.
	if founder := len(o.Bootstrap) > 0; vote > 0 || founder && term > 1 {
		return false, fmt.Errorf("%w: %s in term %d", ErrLostLog, o.Name, max(term, vote))
	} else if !founder {
		return false, nil
	}
	if err := o.Stable.Save(raftlog.KeyCurrentTerm, 1); err != nil {
		return false, err
	}
	var c raft.Configuration
	for _, r := range o.Bootstrap {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(r.String()), Address: raft.ServerAddress(r.String())})
	}
	frame := log.InternalFrame(log.KindConfiguration, raft.EncodeConfiguration(c))
	return true, o.Log.Append([]log.Entry{{Index: 1, Term: 1, Kind: log.KindConfiguration, Frame: frame}})
}

// number reads a number that may not be there yet.
func number(s *raftlog.Stable, key []byte) (uint64, error) {
	if _, err := s.Get(key); err != nil {
		return 0, nil
	}
	return s.GetUint64(key)
}
