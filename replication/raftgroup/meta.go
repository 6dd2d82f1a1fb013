package raftgroup

import (
	"context"
	"log/slog"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// Machine is the deterministic state machine behind the metadata group. Apply is called once for each committed command, in
// order, from one goroutine; so are Snapshot and Restore.
type Machine interface {
	Apply(index uint64, command []byte) any
	Snapshot() ([]byte, error)
	Restore(data []byte) error
}

// MetaOptions configure a MetaGroup.
type MetaOptions struct {
	Dir       string // of its files; created if missing
	Node      replication.NodeID
	Machine   Machine
	Bootstrap bool // begin a new cluster of this node alone if there is no state yet
	Logger    *slog.Logger
	// OnLeader is called, in order, when this node wins or loses the group's leadership.
	OnLeader func(leads bool)
	// OnFatal gets the error after which the process must end.
	OnFatal func(error)
	// Timeouts; zero means the defaults.
	HeartbeatTimeout, ElectionTimeout, LeaseTimeout time.Duration
}

// MetaGroup is the metadata group's replica on this node.
type MetaGroup struct{}

// OpenMeta starts the replica. It does not wait for a leader.
func OpenMeta(o MetaOptions) (*MetaGroup, error) { return &MetaGroup{}, nil }

// WaitLeader waits until the group has a leader and, if it is this node, until everything committed is applied.
func (g *MetaGroup) WaitLeader(ctx context.Context) error { return nil }

// Propose replicates a command and returns what the machine made of it, once it is applied here.
func (g *MetaGroup) Propose(ctx context.Context, command []byte) (any, error) {
	return nil, replication.ErrNotLeader
}

// IsLeader reports whether this node leads the group.
func (g *MetaGroup) IsLeader() bool { return false }

// Leader is the leading node, NoNode while none is known.
func (g *MetaGroup) Leader() replication.NodeID { return replication.NoNode }

// Close stops the replica.
func (g *MetaGroup) Close() error { return nil }
