package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftlog"
	"github.com/quorlog/quorlog/replication/transport"
)

// errStopped: the group was closed.
var errStopped = fmt.Errorf("%w: group is closed", replication.ErrNotLeader)

// Timing are Raft's timeouts. Zero values mean the defaults.
type Timing struct {
	Heartbeat time.Duration // without a leader's word for so long, a follower becomes a candidate
	Election  time.Duration // a candidacy ends after that
	Lease     time.Duration // a leader that reached no majority for so long steps down
	// Commit is how long an idle follower may wait to hear of the newest commit index. Raft's own 50 ms cost a message per
	// follower and group twenty times a second.
	Commit time.Duration
}

// The defaults. With a Patrol, followers become candidates one after the other, so that a dead leader is followed within 0.7 s;
// a node may be held up for a quarter of a second without losing anything. (The transport sends a heartbeat each 120 ms.)
const (
	DefaultHeartbeat = 400 * time.Millisecond
	DefaultElection  = 400 * time.Millisecond
	DefaultLease     = 400 * time.Millisecond
	DefaultCommit    = time.Second
)

func (t Timing) withDefaults() Timing {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&t.Heartbeat, DefaultHeartbeat)
	set(&t.Election, max(DefaultElection, t.Heartbeat))
	set(&t.Lease, min(DefaultLease, t.Heartbeat))
	set(&t.Commit, DefaultCommit)
	return t
}

// maxAppendEntries is how many entries one StoreLogs and one AppendEntries may hold, and how many proposals may wait in
// Raft's queue.
const maxAppendEntries = 256

// interruptPause is how long a node that shuts down may wait for its peers, each time.
const interruptPause = 20 * time.Millisecond

// drainPatience bounds how long an ending instance may take to answer what it was given. It answers within an election
// timeout, unless the disk hangs; and then the watchdog ends the process.
const drainPatience = 5 * time.Second

// Owner is told what happens in a group. No method may wait for the group.
type Owner interface {
	// Applied is called after a run of committed entries moved the log's applied view, from one goroutine.
	Applied()
	// Led tells who leads, when that changed. Before the first call nobody is known to. Calls do not overlap, and the last one is right. Leader.Node is NoNode while nobody is known to
	// lead. Local tells that this replica leads, and everything from before its epoch is applied.
	Led(leader replication.Leader, local bool)
	// Failed tells once that the group can't go on: log.ErrFailed and raftlog.ErrVotesFailed end the process, anything else
	// takes the partition offline.
	Failed(err error)
}

// Options make a Group.
type Options struct {
	Name    string // the same on all replicas
	Self    replication.ReplicaID
	Log     *log.Log
	Stable  *raftlog.Stable
	Network transport.Network
	Owner   Owner
	// Bootstrap are the voters that a new group begins with; the same on all of them. Empty for a replica that joins a group.
	Bootstrap []replication.ReplicaID
	Timing    Timing
	// Patrol watches the leader in Raft's place while it is heard; nil: Raft does. Close it after the group.
	Patrol *Patrol
	// Herald tells followers soon what is committed; nil: they hear of it with the next entry, or after Timing.Commit. Close it
	// after the group.
	Herald *Herald
	// Pace holds back what learners are sent of the log that was there before them; nil: nothing does.
	Pace   Pace
	Now    func() time.Time
	Logger *slog.Logger
}

// Group is one replica of a partition's Raft group. It may be used by any number of goroutines.
type Group struct {
	o       Options
	logger  *slog.Logger
	link    *link
	install gate // one InstallSnapshot at a time; held while the instance is replaced
	failed  sync.Once

	mu struct {
		sync.RWMutex
		instance *instance // nil before the first and between two; its node is set
		closed   bool
	}
	lead lead
	isr  isr
}

// gate is a lock that may be held for seconds. It is a channel because waiting for a sync.Mutex stops the time of simulations.
type gate chan struct{}

func (g gate) lock()   { g <- struct{}{} }
func (g gate) unlock() { <-g }

// instance is one life of a Raft node.
type instance struct {
	node     atomic.Pointer[raft.Raft] // nil until NewRaft has returned, while Raft's goroutines run already
	store    *raftlog.Store
	requests chan raft.RPC
	floor    log.Index       // what is at or below was applied before this life
	leading  atomic.Uint64   // the term that this replica won, 0 while it does not lead
	heard    atomic.Int64    // when the last AppendEntries came, in ticks
	fed      atomic.Int64    // when Raft was last shown a heartbeat, ns
	calm     calm            // with Options.Patrol
	news     news            // for Options.Herald
	closing  atomic.Bool     // set under Group.mu; no more proposals
	intake   intake          // shut while the leadership is being handed over
	open     sync.WaitGroup  // proposals without an answer, and announcements
	life     context.Context // ends when the instance is stopped
	end      context.CancelFunc
}

// Open starts a replica. It returns when Raft runs. A one-voter group elects itself at once.
func Open(o Options) (*Group, error) {
	o.Timing = o.Timing.withDefaults()
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Group{o: o, logger: o.Logger.With("group", o.Name), install: make(gate, 1)}
	// Nobody may ask for less than the epoch that led when what is applied was stored.
	g.lead.leader = replication.Leader{Node: replication.NoNode, Epoch: o.Log.EpochOf(o.Log.Offsets().HighWatermark)}
	g.isr.peers = make(map[raft.ServerID]*peer)
	g.link = &link{group: g}
	if err := checkVotes(&o); err != nil {
		return nil, err
	}
	fresh, err := bootstrap(&o)
	if err != nil {
		return nil, err
	}
	end, err := o.Network.Attach(o.Name, raft.ServerAddress(o.Self.String()), g.link)
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", o.Name, err)
	}
	g.link.end = end
	if err := g.start(fresh); err != nil {
		end.Detach()
		return nil, err
	}
	if o.Patrol != nil {
		o.Patrol.add(g)
	}
	return g, nil
}

// config is Raft's configuration of this group.
func (g *Group) config() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(g.o.Self.String())
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = g.o.Timing.Heartbeat, g.o.Timing.Election, g.o.Timing.Lease
	c.CommitTimeout = g.o.Timing.Commit
	c.BatchApplyCh = true // without it there is no group commit
	c.MaxAppendEntries = maxAppendEntries
	c.NoSnapshotRestoreOnStart = true
	c.ShutdownOnRemove = false
	// Raft must neither take snapshots nor delete from the log: that is the log's retention.
	c.TrailingLogs, c.SnapshotThreshold = math.MaxUint64/2, math.MaxUint64
	c.SnapshotInterval = 24 * time.Hour // how often it looks whether to take one
	c.NoLegacyTelemetry = true
	c.Logger = newRaftLogger(g.logger)
	return c
}

// start runs a new instance over the log as it is.
func (g *Group) start(preferred bool) error {
	in := &instance{requests: make(chan raft.RPC, queueLength), floor: g.o.Log.AppliedIndex()}
	in.life, in.end = context.WithCancel(context.Background())
	in.calm.in, in.calm.timing, in.calm.logger = in, g.o.Timing, g.logger
	in.store = raftlog.NewStore(g.o.Log, g.o.Stable, g.fail)
	snapshots := raftlog.NewSnapshots(g.o.Log)
	snapshots.Arm()
	r, err := raft.NewRaft(g.config(), &machine{group: g, in: in}, in.store, g.o.Stable, snapshots, &wire{link: g.link, in: in})
	if err != nil {
		return fmt.Errorf("start raft of %s: %w", g.o.Name, err)
	}
	in.node.Store(r)
	r.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool { return g.observe(in, o) }))
	if err := g.publish(in); err != nil {
		return errors.Join(err, r.Shutdown().Error())
	}
	if r.State() == raft.Leader {
		g.observe(in, &raft.Observation{Data: raft.Leader}) // won before we could watch
	}
	switch {
	case alone(r, g.o.Self):
		campaign(in.requests)
	case preferred && g.o.Bootstrap[0] == g.o.Self:
		g.mu.RLock()
		defer g.mu.RUnlock()
		if !in.closing.Load() {
			in.open.Add(1)
			go g.assemble(in)
		}
	}
	return nil
}

// shutDown ends a Raft node and returns when its goroutines have ended. They may wait for peers that do not answer.
func shutDown(node *raft.Raft, end interface{ Interrupt() }) error {
	ended := make(chan error, 1)
	go func() { ended <- node.Shutdown().Error() }()
	tick := time.NewTicker(interruptPause)
	defer tick.Stop()
	for {
		end.Interrupt()
		select {
		case err := <-ended:
			return err
		case <-tick.C:
		}
	}
}

// publish makes the instance the one that requests and proposals go to.
func (g *Group) publish(in *instance) error {
	if err := in.store.Started(); err != nil {
		return err // something that Raft read at its start is damaged, or can't be read now
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mu.closed {
		return errStopped
	}
	g.mu.instance = in
	return nil
}

// alone reports whether a replica is the group's only voter.
func alone(r *raft.Raft, replica replication.ReplicaID) bool {
	voters, self := 0, false
	for _, s := range r.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			self = self || s.ID == raft.ServerID(replica.String())
		}
	}
	return voters == 1 && self
}

// campaign makes Raft a candidate at once instead of after the timeout, unless too much else waits for it.
func campaign(requests chan<- raft.RPC) {
	rpc := raft.RPC{
		Command:  &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}},
		RespChan: make(chan raft.RPCResponse, 1),
	}
	select {
	case requests <- rpc:
	default:
	}
}

// stop ends an instance: no more proposals, drain, shut down. It returns when all its goroutines have ended.
func (g *Group) stop(in *instance) error {
	g.mu.Lock()
	in.closing.Store(true)
	in.end()
	g.mu.Unlock()
	drained := make(chan struct{})
	go func() {
		in.open.Wait()
		close(drained)
	}()
	timer := time.NewTimer(drainPatience)
	defer timer.Stop()
	select {
	case <-drained:
	case <-timer.C:
		g.logger.Error("raft does not answer; shutting it down", "patience", drainPatience)
	}
	err := shutDown(in.node.Load(), g.link.end)
	in.refuse()
	g.mu.Lock()
	if g.mu.instance == in {
		g.mu.instance = nil
	}
	g.mu.Unlock()
	return err
}

// Close stops the replica. The log is the caller's to close.
func (g *Group) Close() error {
	g.mu.Lock()
	g.mu.closed = true
	g.mu.Unlock()
	g.install.lock() // an installation under way sees that the group is closed
	defer g.install.unlock()
	defer g.link.end.Detach() // not before: what is under way may still be committed
	if g.o.Patrol != nil {
		defer g.o.Patrol.remove(g)
	}
	if in := g.current(); in != nil {
		return g.stop(in)
	}
	return nil
}

// refuse answers requests that came too late for Raft to see.
func (in *instance) refuse() {
	for {
		select {
		case rpc := <-in.requests:
			rpc.Respond(nil, errNoInstance)
		default:
			return
		}
	}
}

// current is the running instance, nil if there is none.
func (g *Group) current() *instance {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.mu.instance
}

// running is the running Raft node, nil if there is none.
func (g *Group) running() *raft.Raft {
	if in := g.current(); in != nil {
		return in.node.Load()
	}
	return nil
}

// fail reports the error that ends the group, once.
func (g *Group) fail(err error) {
	g.failed.Do(func() { g.o.Owner.Failed(err) })
}

// dead reports why no message may leave or enter any more, nil while all is well.
func (g *Group) dead(in *instance) error {
	if err := in.store.Failed(); err != nil {
		return err
	}
	return g.o.Stable.Failed()
}

// Counts returns what Raft asked of the log so far, in this instance's life.
func (g *Group) Counts() raftlog.Counts {
	if in := g.current(); in != nil {
		return in.store.Counts()
	}
	return raftlog.Counts{}
}
