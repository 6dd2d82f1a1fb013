// Package agent is one Quorlog node: it builds the parts, starts them in order and stops them in reverse. It is what
// `quorlog serve` runs, and what a Go program embeds: agent.New(Config), Start, Addr, Close.
//
// Goroutines, beside those of the parts: one that brings the local partitions in line with the cluster's metadata
// (reconcileLoop), one for retention (maintainLoop), one for the disk's free
// space and the scrub (diskLoop), one each for the port and the Kafka listener. All are started by Start and ended by Close.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/api"
	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/broker/group/replicated"
	"github.com/quorlog/quorlog/broker/produce"
	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/internal/portmux"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"
	"github.com/quorlog/quorlog/replication/raftgroup"
)

// Config says how a node runs. Only Node is needed.
type Config struct {
	Node   *config.Node
	FS     vfs.FS // nil: the operating system's
	Logger *slog.Logger
	Now    func() time.Time
	// OnFatal is called, once, when the node must end at once because a disk has failed or hangs. It must not return
	// before the process ends, or before nobody relies on this node's answers any more. nil ends the process.
	OnFatal func(error)
}

// Agent is a node.
type Agent struct {
	config Config
	node   *config.Node
	fs     vfs.FS
	watch  *vfs.Watchdog
	logger *slog.Logger
	layers config.Layers

	lock       io.Closer
	meta       *raftgroup.MetaGroup
	machine    *controller.Machine
	controller *controller.Controller
	partitions *partition.Manager
	groups     *group.Service
	offsets    *replicated.Node
	server     *conn.Server
	mux        *portmux.Mux

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	changed chan struct{} // wakes reconcile
	loops   sync.WaitGroup
	fatal   sync.Once
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
	a := &Agent{config: c, node: c.Node, logger: c.Logger, changed: make(chan struct{}, 1)}
	a.layers = config.Layers{Static: c.Node.Kafka}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.watch = vfs.Watch(c.FS, vfs.DefaultHangLimit, func(op, path string, since time.Time) {
		a.fail(fmt.Errorf("the disk hangs: %s of %s is under way since %s", op, path, since.Format(time.RFC3339Nano)))
	})
	a.fs = a.watch
	return a, nil
}

// fail ends the node for a disk that cannot be relied on.
func (a *Agent) fail(err error) {
	a.fatal.Do(func() { a.config.OnFatal(err) })
}

// startPatience bounds how long Start waits for the metadata group to have a leader: a group of one needs milliseconds.
const startPatience = 30 * time.Second

// Start brings the node up and returns once it serves. After an error, Close frees what was started.
func (a *Agent) Start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{a.openData, a.openMetadata, a.openPartitions, a.listen, a.register, a.serve} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) openData(context.Context) (err error) {
	a.lock, err = claim(a.fs, a.node.DataDir, a.node.NodeID)
	return err
}

func (a *Agent) openMetadata(ctx context.Context) (err error) {
	a.machine = controller.NewMachine(controller.MachineOptions{Node: a.node.NodeID, Static: a.node.Kafka, OnFatal: a.fail})
	a.meta, err = raftgroup.OpenMeta(raftgroup.MetaOptions{
		Dir: filepath.Join(a.node.DataDir, "metadata"), Self: replication.ReplicaID{Node: a.node.NodeID}, Machine: a.machine, Found: true,
		Logger: a.logger.With("group", "metadata"), OnFatal: a.fail, Guard: a.watch.Guard,
	})
	if err != nil {
		return err
	}
	a.controller = controller.New(controller.Options{Machine: a.machine, Group: a.meta})
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	return a.meta.WaitLeader(ctx)
}

func (a *Agent) openPartitions(ctx context.Context) (err error) {
	a.partitions, err = partition.NewManager(partition.Options{
		DataDir: a.node.DataDir, FS: a.fs, Node: a.node.NodeID, Logger: a.logger, Now: a.config.Now,
		OnLeader: func(c partition.LeaderChange) { a.offsets.Forward(a.groups, c) }, OnFatal: a.fail, Guard: a.watch.Guard,
		CheckpointBytes: a.layers.Int("log.checkpoint.bytes"), ProducerExpiry: a.layers.Duration("producer.id.expiration.ms"),
	})
	if err != nil {
		return err
	}
	a.offsets = replicated.New(replicated.Options{
		Partitions: a.partitions, Controller: a.controller, OffsetsPartitions: int32(a.layers.Int("offsets.topic.num.partitions")),
	})
	limits, err := group.LimitsOf(a.node.Kafka)
	if err != nil {
		return err
	}
	a.groups, err = group.New(group.Options{Logs: a.offsets, Cluster: a.offsets, Limits: limits, Logger: a.logger})
	if err != nil {
		return err
	}
	if err := a.checkStored(a.controller.Image()); err != nil {
		return err
	}
	a.reconcile(ctx, a.controller.Image())
	a.controller.Watch(func(before, after *controller.Image) {
		replicated.ForwardDeletions(a.groups, before, after)
		select {
		case a.changed <- struct{}{}:
		default: // it will look at the newest image anyway
		}
	})
	return nil
}

func (a *Agent) listen(context.Context) error {
	l, err := net.Listen("tcp", a.node.Listen)
	if err != nil {
		return fmt.Errorf("%w (is another broker running? --listen chooses another address)", err)
	}
	a.mux = portmux.New(l, portmux.Options{Logger: a.logger, MaxSniffing: int(a.layers.Int("max.connections"))})
	return nil
}

func (a *Agent) register(ctx context.Context) error {
	host, port, err := a.node.AdvertisedAddress(a.Addr())
	if err != nil {
		return err
	}
	if err := a.controller.EnsureClusterID(ctx); err != nil {
		return err
	}
	return a.controller.RegisterNode(ctx, replication.Node{ID: a.node.NodeID, Host: host, Port: port, Rack: a.node.Rack})
}

func (a *Agent) serve(context.Context) error {
	lookup := admin.NewPartitions(a.controller, a.partitions, nil)
	services := api.Services{
		Produce: produce.New(produce.Options{Partitions: lookup, Now: a.config.Now}),
		Fetch: fetch.New(fetch.Options{
			Partitions: fetch.Local(lookup), Now: a.config.Now, MaxBytes: int(a.layers.Int("fetch.max.bytes")),
			Sessions: int(a.layers.Int("max.incremental.fetch.session.cache.slots")),
		}),
		Admin:  admin.New(admin.Options{Node: a.node.NodeID, Images: a.controller, Controller: a.controller, Local: a.partitions, FS: a.fs, DataDir: a.node.DataDir}),
		Group:  a.groups,
		Logger: a.logger,
	}
	a.server = conn.NewServer(conn.Options{Dispatcher: api.New(services), Logger: a.logger, Limits: a.limits()})
	a.loops.Go(func() {
		if err := a.mux.Serve(); err != nil {
			a.logger.Error("the port failed", "error", err)
		}
	})
	a.loops.Go(func() {
		if err := a.server.Serve(a.mux.Kafka()); err != nil {
			a.logger.Error("the Kafka listener failed", "error", err)
		}
	})
	a.loops.Go(a.reconcileLoop)
	a.loops.Go(a.maintainLoop)
	a.loops.Go(a.diskLoop)
	return nil
}

func (a *Agent) limits() conn.Limits {
	idle := a.layers.Duration("connections.max.idle.ms")
	if idle < 0 {
		idle = 1<<63 - 1
	}
	return conn.Limits{
		MaxFrame: int(a.layers.Int("socket.request.max.bytes")), MaxRequestMemory: a.layers.Int("queued.max.request.bytes"),
		MaxConnections: int(a.layers.Int("max.connections")), MaxConnectionsPerIP: int(a.layers.Int("max.connections.per.ip")),
		AcceptRate: int(a.layers.Int("max.connection.creation.rate")), Idle: idle,
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
	StoredEntries   int64
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
		s.StoredEntries += of.Entries
	}
	return s
}

// drainPatience bounds how long Close waits for requests that were read to be answered.
const drainPatience = 10 * time.Second

// Close stops the node: no new requests, those that were read are answered, checkpoints are written. It never makes the
// cluster forget the node.
func (a *Agent) Close(ctx context.Context) error {
	var errs []error
	a.cancel()
	if a.mux != nil {
		errs = append(errs, a.mux.Close())
	}
	if a.server != nil {
		draining, cancel := context.WithTimeout(ctx, drainPatience)
		// A long poll that is cut short is no failure of the stop.
		_ = a.server.Shutdown(draining)
		cancel()
	}
	a.loops.Wait()
	if a.groups != nil {
		a.groups.Close()
	}
	if a.partitions != nil {
		errs = append(errs, a.partitions.Close(ctx))
	}
	if a.meta != nil {
		errs = append(errs, a.meta.Close())
	}
	if a.controller != nil {
		a.controller.Close()
	}
	if a.lock != nil {
		errs = append(errs, a.lock.Close())
	}
	return errors.Join(errs...)
}
