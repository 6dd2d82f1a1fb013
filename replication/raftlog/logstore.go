package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/vfs"
)

// Errors of a Store.
var (
	// ErrPoisoned: an earlier call failed, and Raft may no longer change the log.
	ErrPoisoned = errors.New("raftlog: store is poisoned")
	// ErrForeign: an entry came from a peer without the leader's stamp, so it is none of the leader's log.
	ErrForeign = errors.New("raftlog: unstamped entry from a peer")
	// ErrPrefix: Raft was about to delete the beginning of the log, which only retention may do.
	ErrPrefix = errors.New("raftlog: only the tail of the log may be deleted")
	errType   = errors.New("raftlog: unknown type of entry")
)

// Local marks entries that were proposed on this node, in raft.Log.Extensions. It is how StoreLogs tells a leader's own new
// frames, which it stamps, from what a peer sent, which must be stamped. It is never stored or sent.
var Local = []byte{1}

// Counts is what a Store was asked so far.
type Counts struct {
	GetLog  int64 // calls
	Stores  int64 // calls of StoreLogs that stored something
	Entries int64 // entries that they stored
}

// Store is the LogStore of one Raft instance. Raft calls StoreLogs and DeleteRange from one goroutine. It does not
// implement raft.MonotonicLogStore: that would let Raft empty the log.
type Store struct {
	log   *log.Log
	votes *Stable // nil: none
	fail  func(error)

	busy    atomic.Bool
	failure atomic.Pointer[error]
	once    sync.Once
	start   struct {
		sync.Mutex
		over bool // Raft has read what it begins with
	}

	gets, stores, stored atomic.Int64

	entries []log.Entry // of StoreLogs, kept between calls
}

// NewStore makes a store over a log. fail is called once, on the goroutine that met the first error. Once votes could not be
// saved, nothing is stored any more: Raft is not told that its term was not saved (see Stable), and would store entries of it.
func NewStore(l *log.Log, votes *Stable, fail func(error)) *Store {
	return &Store{log: l, votes: votes, fail: fail}
}

// Counts returns the counts so far.
func (s *Store) Counts() Counts {
	return Counts{GetLog: s.gets.Load(), Stores: s.stores.Load(), Entries: s.stored.Load()}
}

// Failed returns the error that poisoned the store, nil while it is sound.
func (s *Store) Failed() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Busy reports whether Raft's main goroutine is within StoreLogs or DeleteRange: it waits for the disk, and does nothing
// else meanwhile.
func (s *Store) Busy() bool { return s.busy.Load() }

// Started ends the beginning, in which Raft reads the log for configurations. An error is why it can't go on from there.
func (s *Store) Started() error {
	s.start.Lock()
	defer s.start.Unlock()
	s.start.over = true
	return s.Failed()
}

// Poison refuses all further changes, because of err.
func (s *Store) Poison(err error) {
	s.failure.CompareAndSwap(nil, &err)
	s.once.Do(func() {
		if s.fail != nil {
			s.fail(s.Failed())
		}
	})
}

// FirstIndex answers 0, "none". Raft asks for it in order to compact, which it never does here, and to read the first entry
// every ten seconds for a metric: a read of the oldest, coldest frame of every partition.
func (s *Store) FirstIndex() (uint64, error) { return 0, nil }

// LastIndex returns the index of the last entry; of the boundary while the log is empty.
func (s *Store) LastIndex() (uint64, error) { return uint64(s.log.LastIndex()), nil }

// GetLog reads an entry. A batch that would have to be read from disk comes as a stub, without its data: Raft collects hundreds of
// entries before it sends or applies them, and looks only at their terms; Fill reads it when it is needed.
//
// Below the boundary and above the end the answer is exactly raft.ErrLogNotFound, which Raft compares with ==; the boundary answers
// with its term. A frame that cannot be read poisons the store and answers as a no-op: see the package's word on failure. Where it
// is descriptors or mappings that are missing, the answer is a stub too: whoever needs the entry asks Fill.
func (s *Store) GetLog(index uint64, out *raft.Log) error {
	s.gets.Add(1)
	e, size, err := s.log.Glance(log.Index(index))
	if err == log.ErrNotFound {
		if mutation.On(mutation.NotFoundWrapped) {
			return fmt.Errorf("index %d: %w", index, raft.ErrLogNotFound)
		}
		return raft.ErrLogNotFound
	}
	switch {
	case err == nil && e.Kind == log.KindBatch && e.Frame == nil:
		*out = raft.Log{Index: index, Term: uint64(e.Term), Type: raft.LogCommand, Extensions: stub(size)}
	case err == nil:
		err = decode(&e, out)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("read entry %d: %w", index, err)
	later := false
	if vfs.IsExhausted(err) {
		later = s.later(err)
	} else {
		s.Poison(err)
	}
	term, err := s.log.Term(log.Index(index))
	switch {
	case err != nil:
		return raft.ErrLogNotFound
	case later:
		*out = raft.Log{Index: index, Term: uint64(term), Type: raft.LogCommand, Extensions: stub(unknownSize)}
	default:
		*out = raft.Log{Index: index, Term: uint64(term), Type: raft.LogNoop}
	}
	return nil
}

// unknownSize, in bytes, is what a stub of an entry counts for whose size could not be looked up: the size of a large batch, so that
// not too many are read at once when they can be.
const unknownSize = 1 << 20

// later reports whether an entry that can't be read for lack of descriptors or mappings may be read when it is needed, of whatever
// type it is. It may not while Raft starts, which looks for configurations then: that start is to fail, and be tried again, so the
// owner hears of it from Started only.
func (s *Store) later(err error) bool {
	s.start.Lock()
	defer s.start.Unlock()
	if !s.start.over {
		s.failure.CompareAndSwap(nil, &err)
	}
	return s.start.over
}

// stubLength tells the mark of a stub, its size, from Local.
const stubLength = 8

func stub(size int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(size)) }

func isStub(l *raft.Log) bool { return len(l.Extensions) == stubLength && l.Data == nil }

// Size is how many bytes of data an entry has, also if GetLog left them out.
func Size(l *raft.Log) int {
	if isStub(l) {
		return int(binary.BigEndian.Uint64(l.Extensions))
	}
	return len(l.Data)
}

// ErrReplaced: the entry that a stub stood for is not in the log any more.
var ErrReplaced = errors.New("raftlog: the entry is gone or another")

// Fill returns an entry with the data that GetLog left out. A frame that cannot be read poisons the store, unless it may be readable
// later: see vfs.IsExhausted.
func (s *Store) Fill(l *raft.Log) (*raft.Log, error) {
	if !isStub(l) {
		return l, nil
	}
	e, err := s.log.Entry(log.Index(l.Index))
	if err == log.ErrNotFound || err == nil && uint64(e.Term) != l.Term {
		return nil, fmt.Errorf("%w: %d of term %d", ErrReplaced, l.Index, l.Term)
	}
	out := new(raft.Log)
	if err == nil {
		err = decode(&e, out)
	}
	if err != nil {
		err = fmt.Errorf("read entry %d: %w", l.Index, err)
		if !vfs.IsExhausted(err) {
			s.Poison(err)
		}
		return nil, err
	}
	return out, nil
}

// decode is the inverse of encode. The data aliases the entry's frame.
func decode(e *log.Entry, out *raft.Log) error {
	*out = raft.Log{Index: uint64(e.Index), Term: uint64(e.Term)}
	switch e.Kind {
	case log.KindNoop:
		out.Type = raft.LogNoop
	case log.KindBarrier:
		out.Type = raft.LogBarrier
	case log.KindConfiguration:
		_, payload, err := log.ParseInternal(e.Frame)
		if err != nil {
			return err
		}
		out.Type, out.Data = raft.LogConfiguration, payload
	default:
		out.Type, out.Data = raft.LogCommand, e.Frame
	}
	return nil
}

// encode makes a log entry of Raft's. Raft's own entries become internal frames; a command is a frame.
func encode(in *raft.Log) (log.Entry, error) {
	if in.Term > math.MaxInt32 {
		return log.Entry{}, fmt.Errorf("%w: term %d", errType, in.Term)
	}
	e := log.Entry{Index: log.Index(in.Index), Term: log.Epoch(in.Term)}
	switch in.Type {
	case raft.LogCommand:
		if len(in.Data) < 8 || (int64(binary.BigEndian.Uint64(in.Data)) < 0 && len(in.Extensions) == 0) {
			return e, fmt.Errorf("%w: index %d", ErrForeign, in.Index)
		}
		e.Kind, e.Frame = log.KindOf(in.Data), in.Data
	case raft.LogNoop:
		e.Kind, e.Frame = log.KindNoop, log.InternalFrame(log.KindNoop, nil)
	case raft.LogBarrier:
		e.Kind, e.Frame = log.KindBarrier, log.InternalFrame(log.KindBarrier, nil)
	case raft.LogConfiguration:
		e.Kind, e.Frame = log.KindConfiguration, log.InternalFrame(log.KindConfiguration, in.Data)
	default:
		return e, fmt.Errorf("%w: %v", errType, in.Type)
	}
	return e, nil
}

// StoreLog stores one entry.
func (s *Store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs stores entries that continue the log, durably. A batch that the log refuses when it is its turn is replaced by a
// refused frame, in the raft.Log too, so that the state machine sees it.
func (s *Store) StoreLogs(logs []*raft.Log) error {
	if err := s.Failed(); err != nil {
		return fmt.Errorf("%w: %w", ErrPoisoned, err)
	}
	s.busy.Store(true)
	defer s.busy.Store(false)
	if s.votes != nil {
		if err := s.votes.Failed(); err != nil {
			s.Poison(err)
			return err
		}
	}
	if err := s.store(logs); err != nil {
		s.Poison(err)
		return err
	}
	s.stores.Add(1)
	s.stored.Add(int64(len(logs)))
	return nil
}

func (s *Store) store(logs []*raft.Log) error {
	entries := s.entries[:0]
	defer func() {
		clear(entries) // the frames are the tail's from now on, not ours to keep alive
		s.entries = entries
	}()
	for _, l := range logs {
		e, err := encode(l)
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	if err := s.log.Append(entries); err != nil {
		return err
	}
	for i := range entries {
		if logs[i].Type == raft.LogCommand {
			logs[i].Data = entries[i].Frame
		}
	}
	return nil
}

// DeleteRange removes the tail of the log, durably. Raft asks for nothing else here; whatever else it asks for is refused.
func (s *Store) DeleteRange(from, to uint64) error {
	if err := s.Failed(); err != nil {
		return fmt.Errorf("%w: %w", ErrPoisoned, err)
	}
	s.busy.Store(true)
	defer s.busy.Store(false)
	if last := uint64(s.log.LastIndex()); to < last || from > to {
		err := fmt.Errorf("%w: %d..%d of a log that ends at %d", ErrPrefix, from, to, last)
		s.Poison(err)
		return err
	}
	if err := s.log.TruncateSuffix(log.Index(from)); err != nil {
		s.Poison(err)
		return err
	}
	return nil
}
