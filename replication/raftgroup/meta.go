package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/transport"
)

// Machine is the deterministic state machine behind the metadata group. Apply is called once for each committed command, in
// order; Apply, Snapshot and Restore never overlap. A machine that has a method Reset is reset when a group opens: what it holds
// may be of an earlier life, and everything is applied to it once more.
type Machine interface {
	Apply(index uint64, command []byte) any
	Snapshot() ([]byte, error)
	Restore(data []byte) error
}

// MetaGroupName is the metadata group's name on the network.
const MetaGroupName = "metadata"

const (
	// metaSnapshots is how many snapshots are kept: the newest, and one in case it is damaged.
	metaSnapshots = 2
	// metaTrailing is how many commands are kept behind a snapshot, for followers that are a little behind.
	metaTrailing = 4096
	// metaSnapshotEvery is after how many commands a snapshot is taken.
	metaSnapshotEvery = 8192
	// maxMetaSnapshot bounds a snapshot that is read, in bytes.
	maxMetaSnapshot = 1 << 30
)

// MetaOptions configure a MetaGroup. Zero values mean the defaults.
type MetaOptions struct {
	Dir string // of its files; created if missing
	// Self is this node's replica. Files of an earlier incarnation are removed: it may have forgotten how it voted.
	Self    replication.ReplicaID
	Machine Machine
	Found   bool              // begin a new group with this replica as its only voter if there is no state yet
	Network transport.Network // nil: a node without peers
	Timing  Timing
	Logger  *slog.Logger
	Now     func() time.Time // for what is told of followers
	// OnFatal gets the error after which the process must end. It is called once.
	OnFatal func(error)
	// Guard watches that writes do not hang: vfs.Watchdog.Guard.
	Guard func(op vfs.Op, path string, do func() error) error
}

// MetaGroup is the metadata group's replica on this node: Raft as it comes, with its log and votes in bbolt and file
// snapshots. It may be used by any number of goroutines.
type MetaGroup struct {
	o      MetaOptions
	logger *slog.Logger
	raft   *raft.Raft
	node   atomic.Pointer[raft.Raft] // the same, for requests that come while it is made
	store  *metaStore
	wire   *metaWire
	intake intake // shut while the leadership is being handed over
	leads  atomic.Bool
	ended  chan struct{}
	close  sync.Once
	tasks  sync.WaitGroup // catchUp and tellFollowers; added to under mu

	mu struct {
		sync.Mutex
		term    uint64        // that this node won, 0 while it does not lead
		changed chan struct{} // closed and replaced whenever leadership moves
		closed  bool
		telling bool // tellFollowers runs
		untold  bool // and something was committed since it asked
	}
}

// OpenMeta starts the replica. It does not wait for a leader; a group of one has it within milliseconds.
func OpenMeta(o MetaOptions) (*MetaGroup, error) {
	g, err := newMeta(o)
	if err != nil {
		return nil, err
	}
	if err := g.openStore(); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if err := g.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("metadata: %w", err), g.store.Close())
	}
	return g, nil
}

// newMeta makes a replica that is not started, and its directory.
func newMeta(o MetaOptions) (*MetaGroup, error) {
	o.Timing = o.Timing.withDefaults()
	if o.Network == nil {
		o.Network = transport.None{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	g := &MetaGroup{o: o, logger: o.Logger.With("group", MetaGroupName), ended: make(chan struct{})}
	g.mu.changed = make(chan struct{})
	if err := os.MkdirAll(o.Dir, metaDirPerm); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if err := os.Chmod(o.Dir, metaDirPerm); err != nil { // it may be older than this rule
		g.logger.Warn("others on this machine may be able to read the metadata, which recognises users' passwords", "error", err)
	}
	return g, nil
}

// metaDirPerm is nobody's but the owner's: who reads what recognises a password can try passwords until one fits.
const metaDirPerm = 0o700

func (g *MetaGroup) newWire() *metaWire {
	return &metaWire{group: g, requests: make(chan raft.RPC, queueLength), peers: isr{peers: map[raft.ServerID]*peer{}}}
}

func (g *MetaGroup) config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(g.o.Self.String())
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = g.o.Timing.Heartbeat, g.o.Timing.Election, g.o.Timing.Lease
	c.ShutdownOnRemove = false
	c.SnapshotThreshold, c.TrailingLogs, c.CommitTimeout = metaSnapshotEvery, metaTrailing, g.o.Timing.Commit
	c.NoLegacyTelemetry = true
	c.Logger = newRaftLogger(g.logger)
	return c
}

func (g *MetaGroup) start() error {
	config := g.config()
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(g.o.Dir, metaSnapshots, config.Logger)
	if err != nil {
		return err
	}
	g.wire = g.newWire()
	wire := g.wire
	if m, ok := g.o.Machine.(interface{ Reset() }); ok {
		m.Reset()
	}
	if g.o.Found {
		self := raft.Server{ID: config.LocalID, Address: wire.LocalAddr()}
		err := raft.BootstrapCluster(config, g.store, g.store, snapshots, wire, raft.Configuration{Servers: []raft.Server{self}})
		if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
			return err
		}
	}
	if wire.Endpoint, err = g.o.Network.Attach(MetaGroupName, wire.LocalAddr(), wire); err != nil {
		return err
	}
	if g.raft, err = raft.NewRaft(config, &metaMachine{g.o.Machine}, g.store, g.store, snapshots, wire); err != nil {
		wire.Detach()
		return err
	}
	g.node.Store(g.raft)
	g.raft.RegisterObserver(raft.NewObserver(nil, false, g.observe))
	if g.raft.State() == raft.Leader {
		g.observe(&raft.Observation{Data: raft.Leader})
	}
	if servers := g.raft.GetConfiguration().Configuration().Servers; len(servers) == 1 && servers[0].ID == config.LocalID {
		campaign(wire.requests)
	}
	return nil
}

// observe hears of Raft's changes of state, on the goroutine that makes them.
func (g *MetaGroup) observe(o *raft.Observation) bool {
	switch state := o.Data.(type) {
	case raft.RaftState:
		if state == raft.Leader {
			g.elected(g.raft.CurrentTerm())
		} else {
			g.deposed()
		}
	case raft.LeaderObservation:
		g.mu.Lock()
		g.moveLocked()
		g.mu.Unlock()
	}
	return false
}

// moveLocked wakes who waits for a change of leadership.
func (g *MetaGroup) moveLocked() {
	close(g.mu.changed)
	g.mu.changed = make(chan struct{})
}

func (g *MetaGroup) elected(term uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.term == term {
		return
	}
	g.mu.term = term
	g.wire.forget()
	if g.mu.closed {
		return
	}
	g.tasks.Add(1)
	go g.catchUp(term)
}

// catchUp waits until everything from before the term is applied; then this node leads.
func (g *MetaGroup) catchUp(term uint64) {
	defer g.tasks.Done()
	for {
		err := g.raft.Barrier(0).Error()
		g.mu.Lock()
		if g.mu.term != term {
			g.mu.Unlock()
			return
		}
		if err == nil {
			g.setLeadsLocked(true)
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		select {
		case <-time.After(announcePause):
		case <-g.ended:
			return
		}
	}
}

func (g *MetaGroup) deposed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.term = 0
	g.setLeadsLocked(false)
}

func (g *MetaGroup) setLeadsLocked(leads bool) {
	if g.leads.Swap(leads) != leads {
		g.moveLocked()
	}
}

// WaitLeader waits until the group has a leader; if it is this node, until everything committed is applied here.
func (g *MetaGroup) WaitLeader(ctx context.Context) error {
	for {
		g.mu.Lock()
		changed := g.mu.changed
		g.mu.Unlock()
		if leader := g.Leader(); leader != replication.NoNode {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-g.ended:
			return errStopped
		}
	}
}

// Propose replicates a command and returns what the machine made of it, once it is applied here. Errors are those of
// package replication, as for appends, or the context's: then the command may still be applied.
func (g *MetaGroup) Propose(ctx context.Context, command []byte) (any, error) {
	type result struct {
		answer any
		err    error
	}
	select {
	case <-g.ended:
		return nil, errStopped
	default:
	}
	if !g.intake.enter() {
		return nil, errTransferring
	}
	done := make(chan result, 1)
	go func() {
		defer g.intake.leave()
		f := g.raft.Apply(command, 0)
		if err := f.Error(); err != nil {
			done <- result{err: outcome(err)}
			return
		}
		g.applied()
		done <- result{answer: f.Response()}
	}()
	select {
	case r := <-done:
		return r.answer, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// IsLeader reports whether this node leads the group and has applied everything from before.
func (g *MetaGroup) IsLeader() bool { return g.leads.Load() }

// Leader is the leading node, NoNode while none is known. This node is named only once it has caught up.
func (g *MetaGroup) Leader() replication.NodeID {
	_, id := g.raft.LeaderWithID()
	r, ok := parseReplica(id)
	if !ok || (r.Node == g.o.Self.Node && !g.IsLeader()) {
		return replication.NoNode
	}
	return r.Node
}

// Applied is the index of the last command that Raft handed to the machine.
func (g *MetaGroup) Applied() uint64 { return g.raft.AppliedIndex() }

// Close stops the replica. Proposals under way get replication.ErrUnknownOutcome.
func (g *MetaGroup) Close() (err error) {
	g.close.Do(func() {
		close(g.ended)
		g.mu.Lock()
		g.mu.closed = true
		g.mu.Unlock()
		err = shutDown(g.raft, g.wire)
		g.tasks.Wait()
		err = errors.Join(err, g.store.Close())
	})
	return err
}
