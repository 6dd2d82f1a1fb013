// Package agent is one Quorlog node: it builds the parts, starts them in order and stops them in reverse. It is what
// `quorlog serve` runs, and what a Go program embeds: agent.New(Config), Start, Addr, Close.
//
// # Start
//
// The port is opened first, and serves peers from then on: a node of a cluster needs the others to start. Then the node finds
// its cluster (bootstrap.go), opens the metadata group, registers, waits until it knows the cluster's metadata, and opens its
// partitions. Clients are served last; until then their connections are closed (gate.go).
//
// # Goroutines
//
// Beside those of the parts, all started by Start and ended by Close: one that brings the local partitions in line with the
// cluster's metadata (reconcileLoop), two that tell the other nodes how this one is (statusLoop, isrLoop), two that move replicas
// and leaderships (moveLoop, balanceLoop), one for retention (maintainLoop), one for the disk's free space and the scrub
// (diskLoop), log.cleaner.threads that compact (compactLoop), one that takes a drain back (undrain, until that is done), one each for the port, the peers', the
// Kafka and the HTTP listener, and net/http's for each connection of the last.
package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/api"
	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/broker/coordinator/replicated"
	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/broker/produce"
	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/internal/logging"
	"github.com/quorlog/quorlog/internal/otlp"
	"github.com/quorlog/quorlog/internal/turns"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/leaders"
	"github.com/quorlog/quorlog/replication/partition"
)

// Config says how a node runs. Only Node is needed.
type Config struct {
	Node   *config.Node
	FS     vfs.FS // nil: the operating system's
	Logger *slog.Logger
	Now    func() time.Time
	// Version is what the node tells others of its program; it may be empty.
	Version string
	// OnFatal is called, once, when the node must end at once: a disk has failed or hangs, or the node is not one of the
	// cluster that it was to join (ErrOtherCluster). It must not return before the process ends, or before nobody relies on this
	// node's answers any more. nil ends the process.
	OnFatal func(error)
}

// base is what all parts of a node need.
type base struct {
	config Config
	node   *config.Node
	fs     vfs.FS
	watch  *vfs.Watchdog
	logger *slog.Logger
	layers config.Layers
	turns  *turns.Turns

	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	loops    sync.WaitGroup
	stopping atomic.Bool // the node gives its leaderships away and then ends
	closed   atomic.Bool
	serving  atomic.Bool // Start has come to its end
	fatal    sync.Once
	failed   atomic.Pointer[error] // what fatal was told
	levels   *logging.Levels
}

// Agent is a node. It is built in layers, each on the one that it embeds: base; contacts, with the other nodes; metadata, with
// the cluster; and here the partitions and services.
type Agent struct {
	metadata
	partitions   *partition.Manager
	groups       *group.Service
	offsets      *replicated.Node
	transactions *transactions
	shares       *shares
	server       *conn.Server
	web          *web
	logins       logins
	denied       *denials       // nil without access control
	traces       *otlp.Exporter // nil unless traces are sent
	elections    atomic.Int64   // that replicas of this node have won

	changed  chan struct{} // wakes reconcile
	offline  sync.Map      // of PartitionID: why, as it was said last
	unopened atomic.Bool   // some wanted partition is not open
	caughtUp atomic.Bool   // all replicas have caught up since the start
	missed   missed        // with what
	low      atomic.Pointer[map[replication.NodeID]bool]

	compacting pace
	catchingUp pace
}

// New returns a node that is yet to Start.
func New(c Config) (*Agent, error) {
	if c.Node == nil {
		return nil, errors.New("agent: Config.Node is needed")
	}
	if c.FS == nil {
		c.FS = vfs.OS{}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.OnFatal == nil {
		c.OnFatal = exitProcess
	}
	a := &Agent{changed: make(chan struct{}, 1)}
	a.config, a.node, a.levels, a.turns = c, c.Node, logging.New(c.Logger.Handler()), turns.New()
	for _, name := range logging.Names() {
		a.levels.Logger(name)
	}
	for name, level := range c.Node.LogLevels {
		if err := a.levels.Set(name, level); err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
	}
	a.logger = a.levels.Logger("agent")
	a.web = newWeb(a)
	a.layers = config.Layers{Static: c.Node.Kafka}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.watch = vfs.Watch(c.FS, vfs.DefaultHangLimit, func(op, path string, since time.Time) {
		a.fail(fmt.Errorf("the disk hangs: %s of %s is under way since %s", op, path, since.Format(time.RFC3339Nano)))
	})
	a.fs = a.watch
	return a, nil
}

// fail ends the node for something after which its answers can't be relied on.
func (b *base) fail(err error) {
	b.fatal.Do(func() {
		b.failed.Store(&err)
		b.config.OnFatal(err)
	})
}

// Start brings the node up and returns once it serves. A node of a cluster waits for the others that it needs, until ctx
// ends. After an error, Close frees what was started.
func (a *Agent) Start(ctx context.Context) error {
	steps := []func(context.Context) error{a.openData, a.listen, a.web.open, a.meet, a.openMetadata, a.openPartitions, a.serve}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) openData(context.Context) (err error) {
	a.machine = controller.NewMachine(controller.MachineOptions{Node: a.node.NodeID, Static: a.node.Kafka, OnFatal: a.fail})
	a.table = leaders.New(leaders.Options{Node: a.node.NodeID, Call: a.callPeer, Now: a.config.Now, Logger: a.levels.Logger("leaders")})
	if a.identity, err = openIdentity(a.fs, a.node.DataDir, a.node.NodeID); err != nil {
		return err
	}
	return a.identity.begun()
}

func (a *Agent) openPartitions(ctx context.Context) (err error) {
	a.compacting.rate = func() float64 { return a.controller.Image().Layers().Float("log.cleaner.io.max.bytes.per.second") }
	a.catchingUp.rate = func() float64 { return float64(a.controller.Image().Layers().CatchUpRate()) }
	a.partitions, err = partition.NewManager(partition.Options{
		DataDir: a.node.DataDir, FS: a.fs, Node: a.node.NodeID, Network: a.network(), Logger: a.levels.Logger("partition"), Now: a.config.Now,
		OnLeader: a.ledChange, OnFatal: a.fail, Guard: a.watch.Guard, LowSpace: a.lowSpace, Pace: a.catchingUp.wait,
		Timing:          raftTiming(a.layers),
		ReplicaLag:      a.layers.Duration("replica.lag.time.max.ms"),
		CheckpointBytes: a.layers.Int("log.checkpoint.bytes"), ProducerExpiry: a.layers.Duration("producer.id.expiration.ms"),
	})
	if err != nil {
		return err
	}
	a.compactor.Store(partition.NewCompactor(a.partitions))
	a.local.Store(a.partitions)
	a.offsets = replicated.New(replicated.Options{
		Partitions: a.partitions, Controller: a.controller, Leaders: a.table,
		Count:    int32(a.layers.Int("offsets.topic.num.partitions")),
		Replicas: int16(a.layers.Int("offsets.topic.replication.factor")),
		Config:   map[string]string{"segment.bytes": fmt.Sprint(a.layers.Int("offsets.topic.segment.bytes"))},
	})
	limits, err := group.LimitsOf(a.node.Kafka)
	if err != nil {
		return err
	}
	a.groups, err = group.New(group.Options{Logs: a.offsets, Cluster: a.offsets, Limits: limits, Times: memberTimes(a.controller), Logger: a.levels.Logger("group")})
	if err != nil {
		return err
	}
	if err := a.openTransactions(); err != nil {
		return err
	}
	if err := a.openShares(); err != nil {
		return err
	}
	if err := a.checkStored(ctx, a.controller.Image()); err != nil {
		return err
	}
	a.reconcile(ctx, a.controller.Image())
	a.controller.Watch(func(before, after *controller.Image) {
		replicated.ForwardChanges(a.groups, before, after)
		a.poke()
	})
	return nil
}

// ledChange is told of every change of leadership that a replica of this node hears of.
func (a *Agent) ledChange(c partition.LeaderChange) {
	if c.Local {
		a.elections.Add(1)
	}
	a.table.Set(a.entryOf(c))
	a.offsets.Forward(a.groups, c)
	a.transactions.topic.Forward(a.transactions.service, c)
	a.shares.topic.Forward(a.shares.keeper, c)
}

func (a *Agent) serve(ctx context.Context) error {
	if err := foundUsers(ctx, a); err != nil {
		return err
	}
	sasl, err := openSASL(a)
	if err != nil {
		return err
	}
	lookup := admin.NewPartitions(a.controller, a.partitions, a.table)
	service := admin.New(admin.Options{
		Node: a.node.NodeID, Images: a.controller, Controller: a.controller, Local: a.partitions, Leaders: a.table,
		Groups: &groups{partitions: a.partitions, meta: a.meta, now: a.config.Now}, Call: a.callPeer, Placement: a.controller,
		FS: a.fs, DataDir: a.node.DataDir, Levels: a.levels,
		Internal: map[string]func(context.Context) error{
			broker.OffsetsTopic: a.offsets.EnsureTopic, broker.TransactionTopic: a.transactions.topic.EnsureTopic, broker.ShareStateTopic: a.shares.topic.EnsureTopic,
		},
	})
	a.admin.Store(service)
	shared, err := a.shares.service(lookup)
	if err != nil {
		return err
	}
	a.shares.served = shared
	services := api.Services{
		Produce: produce.New(produce.Options{Partitions: lookup, Leaders: lookup, Transactions: a.transactions, Now: a.config.Now, Turns: a.turns.Line()}),
		Fetch: fetch.New(fetch.Options{
			Partitions: fetch.Local(lookup), Routes: lookup, Now: a.config.Now, MaxBytes: int(a.layers.Int("fetch.max.bytes")),
			Sessions: int(a.layers.Int("max.incremental.fetch.session.cache.slots")),
		}),
		Admin:  service,
		Group:  a.groups,
		Txn:    a.transactions.service,
		Share:  shared,
		Logger: a.levels.Logger("api"),

		ShareOffsets: a.shares,
		Users:        auth.NewUsers(controller.NewUsers(a.controller)),
		SASL:         sasl,
	}
	if err := openRights(a, &services); err != nil {
		return err
	}
	tracer, err := openTraces(a)
	if err != nil {
		return err
	}
	if err := openNative(a, lookup, &services, tracer); err != nil {
		return err
	}
	handlers := api.New(services)
	a.server = conn.NewServer(conn.Options{Dispatcher: handlers, Logger: a.levels.Logger("conn"), Limits: connectionLimits(a.layers), Tracer: tracer})
	for _, p := range a.ports.all {
		p.gate.open()
		a.loops.Go(func() {
			if err := a.server.ServeListener(a.kafka(p, handlers)); err != nil {
				a.logger.Error("the Kafka listener failed", "listener", p.Name, "error", err)
			}
		})
	}
	startLoops(a)
	a.serving.Store(true)
	return nil
}

func startLoops(a *Agent) {
	for _, loop := range []func(){a.reconcileLoop, a.statusLoop, a.isrLoop, a.moveLoop, a.balanceLoop, a.maintainLoop, a.diskLoop} {
		a.loops.Go(loop)
	}
	if a.machine.Image().DrainingUntilRestart(a.node.NodeID) {
		a.loops.Go(func() { undrain(a) })
	}
	for range a.layers.Int("log.cleaner.threads") {
		a.loops.Go(a.compactLoop)
	}
}

func connectionLimits(set config.Layers) conn.Limits {
	idle := set.Duration("connections.max.idle.ms")
	if idle < 0 {
		idle = 1<<63 - 1
	}
	return conn.Limits{
		MaxFrame: int(set.Int("socket.request.max.bytes")), MaxRequestMemory: set.Int("queued.max.request.bytes"),
		MaxConnections: int(set.Int("max.connections")), MaxConnectionsPerIP: int(set.Int("max.connections.per.ip")),
		AcceptRate: int(set.Int("max.connection.creation.rate")), Idle: idle,
	}
}

// Addr is the address listened on, once Start has returned.
func (a *Agent) Addr() string { return a.mux.Addr().String() }

// Stats are figures of the node's start and work, for the "ready" line and for tests.
type Stats struct {
	Partitions      int
	ScannedBytes    int64 // of logs, read while they were opened
	RaftEntriesRead int64 // by Raft, from all logs
	Stores          int64 // writes of Raft entries: group commits
}

// Stats adds up the local partitions'.
func (a *Agent) Stats() Stats {
	var s Stats
	for _, p := range a.partitions.All() {
		s.Partitions++
		of := p.Stats()
		s.ScannedBytes += of.Log.OpenScannedBytes
		s.RaftEntriesRead += of.GetLog
		s.Stores += of.Stores
	}
	return s
}

const (
	// drainPatience bounds how long Close waits for requests that were read to be answered.
	drainPatience = 10 * time.Second
	// handOverPatience bounds how long it waits for other nodes to take over what this one leads.
	handOverPatience = 10 * time.Second
	// farewell is how long it then goes on answering. Clients that are about to write to it learn who leads now; what is still
	// on its way when a connection ends comes again only after a client's back-off, which is longer.
	farewell = 200 * time.Millisecond
)

// Close stops the node: it hands over what it leads, takes no new requests, answers those that were read, and writes
// checkpoints. It never makes the cluster forget the node. Only the first call does anything. ctx bounds what waits for others; what is
// written down is waited for in any case, or the directory would be given free too early.
func (a *Agent) Close(ctx context.Context) error {
	var errs []error
	if a.closed.Swap(true) {
		return nil
	}
	a.handOver(ctx)
	a.cancel()
	errs = append(errs, a.ports.close())
	errs = append(errs, a.web.stop(ctx))
	closeNative(ctx, &a.contacts)
	if a.server != nil {
		draining, cancel := context.WithTimeout(ctx, drainPatience)
		// A long poll that is cut short is no failure of the stop.
		_ = a.server.Shutdown(draining)
		cancel()
	}
	closeTraces(ctx, a)
	if a.groups != nil {
		a.groups.Close()
	}
	a.shares.close()
	if a.transactions != nil {
		a.transactions.service.Close()
	}
	if a.partitions != nil {
		errs = append(errs, a.partitions.Close())
	}
	errs = append(errs, a.closeMetadata())
	if a.gossip != nil {
		errs = append(errs, a.gossip.Close())
	}
	if a.peers != nil {
		errs = append(errs, a.peers.Close())
	}
	if a.table != nil {
		a.table.Close()
	}
	a.loops.Wait()
	if a.identity != nil {
		errs = append(errs, a.identity.Close())
	}
	return errors.Join(errs...)
}

// handOver gives away everything that this node leads, so that clients do not wait for elections.
func (a *Agent) handOver(ctx context.Context) {
	a.stopping.Store(true)
	if a.peers == nil || a.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverPatience)
	defer cancel()
	a.tellStatus()
	handed, kept := a.partitions.HandOver(ctx, a.mayLead)
	if handed+kept > 0 {
		a.logger.Info("leaderships handed over", "partitions", handed, "kept", kept)
	}
	if err := a.controller.HandOver(ctx); err != nil {
		a.logger.Warn("the metadata group's leadership was not handed over", "error", err)
	}
	if handed > 0 {
		select {
		case <-time.After(farewell):
		case <-ctx.Done():
		}
	}
}
