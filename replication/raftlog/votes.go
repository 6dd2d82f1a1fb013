package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/quorlog/quorlog/log/vfs"
)

// Errors of Votes.
var (
	// ErrVotesFailed: saving a term or a vote failed before. The process must end.
	ErrVotesFailed = errors.New("raftlog: saving votes failed")
	// ErrVotesClosed: the store was closed.
	ErrVotesClosed = errors.New("raftlog: votes are closed")
	// errNotFound has the text by which Raft knows that a key has no value yet.
	errNotFound = errors.New("not found")
)

// keeper is where votes are kept. Calls do not overlap.
type keeper interface {
	load() (map[string][]byte, error)
	// commit makes all changes durable, at once or not at all. A nil value deletes.
	commit(changes map[string][]byte) error
	close() error
}

// VoteOptions configure Votes.
type VoteOptions struct {
	// Guard, if not nil, runs each commit: vfs.Watchdog.Guard, which notices that it hangs.
	Guard func(op vfs.Op, path string, do func() error) error
	// OnFatal gets the first failure. The process must end: whether the vote was saved is not known.
	OnFatal func(error)
}

// Votes keeps terms and votes of all groups of a node in one file. Raft saves up to three values per candidacy and waits for
// each; when a node starts, or loses a peer, a thousand groups do so at once. One goroutine commits all that waits in one
// transaction, so their number does not matter.
type Votes struct {
	keeper keeper
	path   string
	o      VoteOptions
	wake   chan struct{} // room for one
	ended  chan struct{}

	mu struct {
		sync.Mutex
		values  map[string][]byte // durable
		waiting []*saving
		failure error
		closed  bool
	}
}

// saving is a change that waits to be durable.
type saving struct {
	changes map[string][]byte
	done    chan error
}

func startVotes(k keeper, path string, o VoteOptions) (*Votes, error) {
	values, err := k.load()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load votes: %w", err), k.close())
	}
	v := &Votes{keeper: k, path: path, o: o, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	v.mu.values = values
	go v.run()
	return v, nil
}

// Close ends the store, after what waits was saved.
func (v *Votes) Close() error {
	v.mu.Lock()
	closed := v.mu.closed
	v.mu.closed = true
	v.mu.Unlock()
	if !closed {
		v.poke()
	}
	<-v.ended
	if closed {
		return nil
	}
	return v.keeper.close()
}

// Failed returns the failure that ended saving, nil while it works.
func (v *Votes) Failed() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.failure
}

func (v *Votes) poke() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// run commits what waits, until Close.
func (v *Votes) run() {
	defer close(v.ended)
	for range v.wake {
		for v.commit() {
		}
		v.mu.Lock()
		over := v.mu.closed && len(v.mu.waiting) == 0
		v.mu.Unlock()
		if over {
			return
		}
	}
}

// commit saves everything that waits; false if nothing does.
func (v *Votes) commit() bool {
	v.mu.Lock()
	batch, err := v.mu.waiting, v.mu.failure
	v.mu.waiting = nil
	v.mu.Unlock()
	if len(batch) == 0 {
		return false
	}
	if err == nil {
		all := make(map[string][]byte)
		for _, s := range batch {
			maps.Copy(all, s.changes)
		}
		err = v.save(all)
	}
	for _, s := range batch {
		s.done <- err
	}
	return true
}

// save commits one transaction. After a failure nothing is saved any more.
func (v *Votes) save(all map[string][]byte) error {
	do := func() error { return v.keeper.commit(all) }
	var err error
	if v.o.Guard != nil {
		err = v.o.Guard(vfs.OpSync, v.path, do)
	} else {
		err = do()
	}
	v.mu.Lock()
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrVotesFailed, err)
		v.mu.failure = err
		v.mu.Unlock()
		if v.o.OnFatal != nil {
			v.o.OnFatal(err)
		}
		return err
	}
	defer v.mu.Unlock()
	for key, value := range all {
		if value == nil {
			delete(v.mu.values, key)
		} else {
			v.mu.values[key] = value
		}
	}
	return nil
}

// change makes changes durable.
func (v *Votes) change(changes map[string][]byte) error {
	s := &saving{changes: changes, done: make(chan error, 1)}
	v.mu.Lock()
	if err := v.mu.failure; err != nil {
		v.mu.Unlock()
		return err
	}
	if v.mu.closed {
		v.mu.Unlock()
		return ErrVotesClosed
	}
	v.mu.waiting = append(v.mu.waiting, s)
	v.mu.Unlock()
	v.poke()
	return <-s.done
}

// Groups lists the groups that have values.
func (v *Votes) Groups() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	seen := make(map[string]bool)
	for key := range v.mu.values {
		if group, _, ok := strings.Cut(key, separator); ok {
			seen[group] = true
		}
	}
	groups := make([]string, 0, len(seen))
	for g := range seen {
		groups = append(groups, g)
	}
	return groups
}

// Drop forgets a group, durably.
func (v *Votes) Drop(group string) error {
	changes := make(map[string][]byte)
	v.mu.Lock()
	for key := range v.mu.values {
		if strings.HasPrefix(key, group+separator) {
			changes[key] = nil
		}
	}
	v.mu.Unlock()
	if len(changes) == 0 {
		return nil
	}
	return v.change(changes)
}

// separator stands between a group's name and Raft's key. Names of groups do not contain it.
const separator = "/"

// Group returns the StableStore of a group.
func (v *Votes) Group(name string) *Stable {
	return &Stable{votes: v, prefix: name + separator}
}

// Stable is the StableStore of one group.
type Stable struct {
	votes  *Votes
	prefix string
}

// Failed returns the failure that ended saving votes, nil while it works.
func (s *Stable) Failed() error { return s.votes.Failed() }

// Get returns a value, from memory.
func (s *Stable) Get(key []byte) ([]byte, error) {
	s.votes.mu.Lock()
	defer s.votes.mu.Unlock()
	if value, ok := s.votes.mu.values[s.prefix+string(key)]; ok {
		return value, nil
	}
	return nil, errNotFound
}

// Set makes a value durable. Setting what is set already costs nothing: Raft does so at every start.
func (s *Stable) Set(key, value []byte) error {
	if old, err := s.Get(key); err == nil && string(old) == string(value) {
		return nil
	}
	return s.votes.change(map[string][]byte{s.prefix + string(key): append([]byte{}, value...)})
}

// GetUint64 returns a number.
func (s *Stable) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("raftlog: %s has %d bytes", key, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}

// Save makes a number durable.
func (s *Stable) Save(key []byte, n uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, n))
}

// KeyCurrentTerm is Raft's key for the newest term that the replica has seen; KeyVoteTerm for the term of its last vote.
var (
	KeyCurrentTerm = []byte("CurrentTerm")
	KeyVoteTerm    = []byte("LastVoteTerm")
)

// SetUint64 makes a number durable. Raft panics when it cannot save a term. OnFatal was called by then; if the process lives
// on nevertheless (a simulated machine that has lost its power), the group is cut off, and it does not matter what it
// believes: so the term, and only the term, is taken without being saved. A vote that was not saved is never given.
func (s *Stable) SetUint64(key []byte, n uint64) error {
	err := s.Save(key, n)
	if err != nil && string(key) == string(KeyCurrentTerm) {
		return nil
	}
	return err
}
