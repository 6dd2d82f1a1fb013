package agent

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/raftgroup"
)

const (
	// alonePatience bounds how long a node without peers waits for its metadata group: it needs milliseconds. A node with peers
	// waits for them, for as long as it takes.
	alonePatience = 30 * time.Second
	// waitingSaid is how often a node says what it waits for.
	waitingSaid = 10 * time.Second
)

// openMetadata opens the metadata group, registers the node, and returns once this node knows what the cluster knows. If the
// cluster gives the node another replica of the group, because it was removed or its disk was lost, that one is opened.
func (a *Agent) openMetadata(ctx context.Context) error {
	if !a.node.Clustered() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, alonePatience)
		defer cancel()
	}
	for {
		if err := a.openGroup(); err != nil {
			return err
		}
		registered, err := a.joinMetadata(ctx)
		if err != nil {
			return err
		}
		if registered.Meta == a.joined.Meta {
			return a.awaitRegistration(ctx)
		}
		a.logger.Warn("the cluster gives this node another replica of the metadata", "old", a.joined.Meta.String(), "new", registered.Meta.String())
		a.joined = membershipResult{ClusterID: registered.ClusterID, Meta: registered.Meta}
		if err := a.closeMetadata(); err != nil {
			return err
		}
	}
}

func (a *Agent) openGroup() (err error) {
	a.meta, err = raftgroup.OpenMeta(raftgroup.MetaOptions{
		Dir: filepath.Join(a.node.DataDir, metadataDir), Self: a.joined.Meta, Machine: a.machine, Found: a.joined.Found,
		Network: a.network(), Logger: a.logger.With("group", "metadata"), OnFatal: a.fail, Guard: a.watch.Guard,
	})
	if err != nil {
		return err
	}
	if !a.joined.Found {
		// It may vote from now on: from now on its votes must not get lost.
		if err := a.joiner.opened(a.joined.ClusterID); err != nil {
			return err
		}
	}
	o := controller.Options{
		Machine: a.machine, Group: a.meta, Directory: controller.DirectoryID(a.identity.get().Directory), Now: a.config.Now,
		Members: a.meta, OldAlive: a.oldAlive, Stopping: a.leaves, Logger: a.logger,
	}
	if a.peers != nil {
		o.Forward, o.Live, o.AppliedOn = a.peers, a.table.Live, a.table.AppliedOn
	}
	a.controller = controller.New(o)
	a.proposals.Store(a.controller)
	return nil
}

func (a *Agent) closeMetadata() error {
	a.proposals.Store(nil)
	if a.controller != nil {
		a.controller.Close()
	}
	if a.meta == nil {
		return nil
	}
	return a.meta.Close()
}

// joinMetadata makes the node known to the cluster, under the name that the cluster was founded with.
func (a *Agent) joinMetadata(ctx context.Context) (controller.Registered, error) {
	if a.joined.Found {
		if err := a.awaiting(ctx, "the metadata group's leader", a.meta.WaitLeader); err != nil {
			return controller.Registered{}, err
		}
		if err := a.nameCluster(ctx); err != nil {
			return controller.Registered{}, err
		}
		// Before anybody joins: a founder must not begin a second time what others are in.
		if err := a.joiner.opened(a.machine.Image().ClusterID); err != nil {
			return controller.Registered{}, err
		}
	}
	a.joiner.serveRegistrations(a.controller.Register)
	var registered controller.Registered
	err := a.awaiting(ctx, "the cluster's answer to this node's registration", func(ctx context.Context) (err error) {
		registered, err = a.joiner.register(ctx, a.controller.Register)
		return err
	})
	return registered, err
}

// nameCluster gives a cluster that this node founds the id that the founding was for.
func (a *Agent) nameCluster(ctx context.Context) error {
	if a.joined.ClusterID == "" { // a directory of an earlier version
		return a.controller.EnsureClusterID(ctx)
	}
	return a.controller.NameCluster(ctx, a.joined.ClusterID, max(1, a.node.BootstrapExpect))
}

// awaitRegistration returns once this node has applied its own registration, and so everything before it.
func (a *Agent) awaitRegistration(ctx context.Context) error {
	moved := make(chan struct{}, 1)
	cancel := a.controller.Watch(func(_, _ *controller.Image) {
		select {
		case moved <- struct{}{}:
		default:
		}
	})
	defer cancel()
	err := a.awaiting(ctx, "the cluster's metadata", func(ctx context.Context) error {
		for !a.knowsItself() {
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
	return a.joiner.opened(a.machine.Image().ClusterID)
}

func (a *Agent) knowsItself() bool {
	im := a.machine.Image()
	r, known := im.Registrations[a.node.NodeID]
	return known && im.ClusterID != "" && im.Nodes[a.node.NodeID] == a.self && directoryID(r.Directory) == a.identity.get().Directory &&
		r.MetaReplica(a.node.NodeID) == a.joined.Meta
}

// awaiting runs what may take until other nodes are there, and says from time to time that it does.
func (a *Agent) awaiting(ctx context.Context, what string, fn func(context.Context) error) error {
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
			a.logger.Warn("the node waits for "+what, "nodes_connected", len(a.live())-1)
		}
	}
}

// leaves reports whether a node is about to stop.
func (a *Agent) leaves(id replication.NodeID) bool {
	if id == a.node.NodeID {
		return a.stopping.Load()
	}
	s, ok := a.table.Status(id)
	return ok && s.Draining
}
