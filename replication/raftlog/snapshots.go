package raftlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/log"
)

// ErrNoSnapshot: there is nothing to open, or nothing may be created.
var ErrNoSnapshot = errors.New("raftlog: no snapshots here")

// The ids of the two things that Snapshots offers.
const (
	startID    = "start"    // where Raft begins to read at start-up
	boundaryID = "boundary" // what a replica gets that is behind the first stored entry
)

// Snapshots is the SnapshotStore of one Raft instance. It tells two truths.
//
// Raft begins reading the log, and applying it, behind the newest snapshot. So the first List after Arm offers one at the
// checkpoint: what lies below is applied, and reading it again would cost a start-up in proportion to the data.
//
// A follower that is behind the first stored entry is sent the newest snapshot, and believes that it holds everything up to
// there. So every later List offers one at the boundary, which stands for no record that is still there: all that is
// retained follows as entries. At the checkpoint, the follower would lack the records below it, and they would be gone once
// it led.
type Snapshots struct {
	log   *log.Log
	armed atomic.Bool
}

// NewSnapshots makes a store over a log.
func NewSnapshots(l *log.Log) *Snapshots { return &Snapshots{log: l} }

// Arm makes the next List the one of a start-up.
func (s *Snapshots) Arm() { s.armed.Store(true) }

// List offers at most one snapshot.
func (s *Snapshots) List() ([]*raft.SnapshotMeta, error) {
	boundary, _ := s.log.Boundary()
	id, at := boundaryID, boundary
	if s.armed.CompareAndSwap(true, false) {
		id, at = startID, max(boundary, min(s.log.CheckpointedCommit(), s.log.LastIndex()))
	}
	if at == 0 {
		return nil, nil
	}
	meta, err := s.at(id, at)
	if err != nil || meta == nil {
		return nil, err
	}
	return []*raft.SnapshotMeta{meta}, nil
}

// at describes a snapshot at an index; nil where the log knows of no configuration there.
func (s *Snapshots) at(id string, i log.Index) (*raft.SnapshotMeta, error) {
	term, err := s.log.Term(i)
	if err != nil {
		return nil, fmt.Errorf("term of %d: %w", i, err)
	}
	data, index, err := s.log.ConfigurationAt(i)
	if err != nil {
		return nil, fmt.Errorf("configuration at %d: %w", i, err)
	}
	if index == 0 {
		return nil, nil
	}
	return meta(id, i, term, data, index)
}

func meta(id string, i log.Index, term log.Epoch, config []byte, configIndex log.Index) (*raft.SnapshotMeta, error) {
	c, err := DecodeConfiguration(config)
	if err != nil {
		return nil, err
	}
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: id, Index: uint64(i), Term: uint64(term),
		Configuration: c, ConfigurationIndex: uint64(configIndex),
	}, nil
}

// Open returns the boundary as it is now, whatever the id: what Raft listed may have been dropped since.
func (s *Snapshots) Open(string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	state, err := s.log.StartState()
	if err != nil {
		return nil, nil, err
	}
	if mutation.On(mutation.SnapshotAtApplied) {
		state.Index, state.Offset = s.log.AppliedIndex(), s.log.Offsets().HighWatermark
		state.Term, _ = s.log.Term(state.Index)
	}
	if state.Index == 0 {
		return nil, nil, fmt.Errorf("%w: the log begins at its first entry", ErrNoSnapshot)
	}
	m, err := meta(boundaryID, state.Index, state.Term, state.Config, state.ConfigIndex)
	if err != nil {
		return nil, nil, err
	}
	data := state.Encode()
	m.Size = int64(len(data))
	return m, io.NopCloser(bytes.NewReader(data)), nil
}

// Create refuses. A snapshot that Raft takes itself would go through here, and so would one that it installs; the log must
// not be emptied for either.
func (s *Snapshots) Create(raft.SnapshotVersion, uint64, uint64, raft.Configuration, uint64, raft.Transport) (raft.SnapshotSink, error) {
	return nil, ErrNoSnapshot
}

// DecodeConfiguration is raft.DecodeConfiguration for bytes that may come from a peer: it does not panic.
func DecodeConfiguration(data []byte) (c raft.Configuration, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("raftlog: malformed configuration: %v", r)
		}
	}()
	return raft.DecodeConfiguration(data), nil
}
