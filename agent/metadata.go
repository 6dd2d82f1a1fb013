package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/raftgroup"
)

const (
	// alonePatience bounds how long a node without peers waits for its metadata group: it needs milliseconds. A node with peers
	// waits for them, for as long as it takes.
	alonePatience = 30 * time.Second
	// leaderPatience is how long a node waits to hear of the metadata group's leader before it asks others.
	leaderPatience = time.Second
	// waitingSaid is how often a node says what it waits for.
	waitingSaid = 10 * time.Second
)

// metadata is a node's part in the metadata group, and its controller.
type metadata struct {
	contacts
	meta       *raftgroup.MetaGroup
	controller *controller.Controller
}

// openMetadata opens the metadata group, registers the node, and returns once this node knows what the cluster knows. If the
// cluster gives the node another replica of the group, because it was removed or its disk was lost, that one is opened.
func (m *metadata) openMetadata(ctx context.Context) error {
	if !m.node.Clustered() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, alonePatience)
		defer cancel()
	}
	for {
		if err := m.openGroup(); err != nil {
			return err
		}
		registered, err := m.joinMetadata(ctx)
		if err != nil {
			return err
		}
		if registered.Meta == m.joined.Meta {
			if err := m.awaitRegistration(ctx); err != nil {
				return err
			}
			// Its registration may be from an earlier start, and what this node has applied as well.
			return m.awaiting(ctx, "the newest metadata", m.controller.Sync)
		}
		m.logger.Warn("the cluster gives this node another replica of the metadata", "old", m.joined.Meta.String(), "new", registered.Meta.String())
		m.joined = membershipResult{ClusterID: registered.ClusterID, Meta: registered.Meta}
		if err := m.closeMetadata(); err != nil {
			return err
		}
	}
}

// raftTiming is one time for all: a follower must not be less patient than the lease of its leader is long.
func raftTiming(l config.Layers) raftgroup.Timing {
	t := l.Duration("quorlog.election.timeout.ms")
	return raftgroup.Timing{Heartbeat: t, Election: t, Lease: t}
}

func (m *metadata) openGroup() (err error) {
	m.meta, err = raftgroup.OpenMeta(raftgroup.MetaOptions{
		Dir: filepath.Join(m.node.DataDir, metadataDir), Self: m.joined.Meta, Machine: m.machine, Found: m.joined.Found,
		Network: m.network(), Timing: raftTiming(m.layers), Now: m.config.Now, Logger: m.levels.Logger("raft").With("group", "metadata"), OnFatal: m.fail, Guard: m.watch.Guard,
	})
	if err != nil {
		return err
	}
	if !m.joined.Found {
		// It may vote from now on: from now on its votes must not get lost.
		if err := m.joiner.opened(m.joined.ClusterID); err != nil {
			return err
		}
	}
	o := controller.Options{
		Machine: m.machine, Group: m.meta, Directory: controller.DirectoryID(m.identity.get().Directory), Now: m.config.Now,
		Members: m.meta, OldAlive: m.oldAlive, Stopping: m.leaves, Logger: m.levels.Logger("controller"),
	}
	if m.peers != nil {
		o.Forward, o.Live, o.AppliedOn = m.peers, m.table.Live, m.table.AppliedOn
	}
	m.controller = controller.New(o)
	m.proposals.Store(m.controller)
	return nil
}

func (m *metadata) closeMetadata() error {
	m.proposals.Store(nil)
	if m.controller != nil {
		m.controller.Close()
	}
	if m.meta == nil {
		return nil
	}
	return m.meta.Close()
}

// joinMetadata makes the node known to the cluster, under the name that the cluster was founded with.
func (m *metadata) joinMetadata(ctx context.Context) (controller.Registered, error) {
	if m.joined.Found {
		if err := m.awaiting(ctx, "the metadata group's leader", m.meta.WaitLeader); err != nil {
			return controller.Registered{}, err
		}
		if err := m.nameCluster(ctx); err != nil {
			return controller.Registered{}, err
		}
		// Before anybody joins: a founder must not begin a second time what others are in.
		if err := m.joiner.opened(m.machine.Image().ClusterID); err != nil {
			return controller.Registered{}, err
		}
	}
	m.joiner.serveRegistrations(m.controller.Register)
	// A member hears of a leader soon; without one it registers through others.
	soon, cancel := context.WithTimeout(ctx, leaderPatience)
	_ = m.meta.WaitLeader(soon) // if there is none, registering says so
	cancel()
	var registered controller.Registered
	err := m.awaiting(ctx, "the cluster's answer to this node's registration", func(ctx context.Context) (err error) {
		registered, err = m.joiner.register(ctx, m.controller.Register)
		return err
	})
	return registered, err
}

// nameCluster gives a cluster that this node founds the id that the founding was for.
func (m *metadata) nameCluster(ctx context.Context) error {
	if m.joined.ClusterID == "" { // a directory of an earlier version
		return m.controller.EnsureClusterID(ctx)
	}
	return m.controller.NameCluster(ctx, m.joined.ClusterID, max(1, m.node.BootstrapExpect))
}

// awaitRegistration returns once this node has applied its own registration, and so everything before it.
func (m *metadata) awaitRegistration(ctx context.Context) error {
	moved := make(chan struct{}, 1)
	cancel := m.controller.Watch(func(_, _ *controller.Image) {
		select {
		case moved <- struct{}{}:
		default:
		}
	})
	defer cancel()
	err := m.awaiting(ctx, "the cluster's metadata", func(ctx context.Context) error {
		for !m.knowsItself() {
			select {
			case <-moved:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return m.joiner.opened(m.machine.Image().ClusterID)
}

func (m *metadata) knowsItself() bool {
	im := m.machine.Image()
	r, known := im.Registrations[m.node.NodeID]
	start, _, err := m.identity.get().Starts.ids()
	return err == nil && (start == 0 || r.Start == start) && known && im.ClusterID != "" && im.Nodes[m.node.NodeID].Equal(m.self) && directoryID(r.Directory) == m.identity.get().Directory &&
		r.MetaReplica(m.node.NodeID) == m.joined.Meta
}

// awaiting runs what may take until other nodes are there, and says from time to time that it does.
func (m *metadata) awaiting(ctx context.Context, what string, fn func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	tick := time.NewTicker(waitingSaid)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil && ctx.Err() != nil {
				return fmt.Errorf("waiting for %s: %w", what, err)
			}
			return err
		case <-tick.C:
			m.logger.Warn("the node waits for "+what, "nodes_connected", len(m.live())-1)
		}
	}
}

// leaves reports whether a node is about to stop.
func (m *metadata) leaves(id replication.NodeID) bool {
	if id == m.node.NodeID {
		return m.stopping.Load()
	}
	s, ok := m.table.Status(id)
	return ok && s.Draining
}
