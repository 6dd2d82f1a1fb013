package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

// exitDisk is the exit code after a disk has failed: an operator's script can tell it from other ends.
const exitDisk = 4

// exitProcess ends the process without any more writes: what is on disk now is what recovery will find.
func exitProcess(error) { os.Exit(exitDisk) }

// ErrMetadataLost: there are partitions, but no metadata that would know them. Missing metadata never means "delete".
var ErrMetadataLost = errors.New("the data directory holds partitions but has lost its metadata")

// checkStored compares what lies on disk with what the cluster knows, once this node has applied all that was committed before
// (controller.Sync). Replicas of partitions that were moved away or deleted while this node was down are removed.
//
// That a topic is unknown, or that its replicas are elsewhere, is no proof that it was deleted or moved: the metadata may be older
// than the data, restored from a backup or recovered from a minority. Then it does not know either that the replica's incarnation
// was given out, and the files are left alone. What a replica is that says nothing of itself is not known, and it is left alone too.
func (a *Agent) checkStored(ctx context.Context, im *controller.Image) error {
	stored, err := a.partitions.Stored()
	if err != nil {
		return err
	}
	if im.ClusterID == "" && len(stored) > 0 {
		return fmt.Errorf("%w: %d partitions in %s; restore its metadata directory", ErrMetadataLost, len(stored), a.node.DataDir)
	}
	for _, id := range stored {
		t := im.ByID[id.Topic]
		switch {
		case t == nil:
			err = a.removeStray(ctx, im, id, "its topic was deleted")
		case int(id.Partition) >= len(t.Partitions): // topics never shrink
			a.logger.Error("the metadata is older than a stored partition, whose files are left alone", "directory", id.String())
		case !a.hosts(t.Partitions[id.Partition]):
			err = a.removeStray(ctx, im, id, "it was moved away")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeStray removes a replica that the metadata does not place on this node, unless they may be older than it.
func (a *Agent) removeStray(ctx context.Context, im *controller.Image, id replication.PartitionID, why string) error {
	replica, err := a.partitions.StoredReplica(id)
	switch {
	case err != nil:
		a.logger.Error("a stored partition is none that this node should have, and its files do not tell whose they are; they are left alone",
			"directory", id.String(), "error", err)
		return nil
	case replica.Incarnation >= im.Registrations[a.node.NodeID].NextIncarnation:
		a.logger.Error("the metadata is older than a stored partition, whose files are left alone", "directory", id.String(), "replica", replica.String())
		return nil
	}
	a.logger.Info("the files of a partition are removed", "directory", id.String(), "why", why)
	return a.partitions.Delete(ctx, id)
}

// poke makes reconcileLoop look.
func (a *Agent) poke() {
	select {
	case a.changed <- struct{}{}:
	default: // it will look at the newest image anyway
	}
}

// reopenInterval is how often it is tried again to open what could not be opened.
const reopenInterval = 5 * time.Second

// reconcileLoop follows the cluster's metadata.
func (a *Agent) reconcileLoop() {
	tick := time.NewTicker(reopenInterval)
	defer tick.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-tick.C:
			if !a.unopened.Load() {
				continue
			}
		case <-a.changed:
		}
		a.reconcile(a.ctx, a.controller.Image())
	}
}

// openParallel is how many partitions are opened at the same time: each waits for a dozen fsyncs.
const openParallel = 16

// reconcile opens, configures and deletes local partitions until they are those of the image. A partition that cannot be
// opened is offline, and tried again every few seconds: the disk may have been full. The others go on.
func (a *Agent) reconcile(ctx context.Context, im *controller.Image) {
	wanted := map[replication.PartitionID]bool{}
	a.unopened.Store(false)
	var opening errgroup.Group
	opening.SetLimit(openParallel)
	for _, t := range im.Topics {
		cfg := im.TopicConfig(t.Name)
		for i, assignment := range t.Partitions {
			if !a.hosts(assignment) {
				continue
			}
			id := replication.PartitionID{Topic: t.ID, Partition: int32(i)}
			wanted[id] = true
			opening.Go(func() error {
				_, err := a.partitions.Ensure(ctx, id, t.Name, assignment, cfg)
				switch {
				case err == nil:
					a.offline.Delete(id)
				case ctx.Err() == nil:
					a.unopened.Store(true)
					a.sayOffline(id, t.Name, err)
				}
				return nil
			})
		}
	}
	_ = opening.Wait() // no error is returned
	a.offline.Range(func(id, _ any) bool {
		if !wanted[id.(replication.PartitionID)] {
			a.offline.Delete(id)
		}
		return true
	})
	for _, p := range a.partitions.All() {
		if wanted[p.ID()] {
			continue
		}
		// A deletion that has begun is finished even when the node stops meanwhile.
		if err := a.partitions.Delete(context.WithoutCancel(ctx), p.ID()); err != nil {
			a.logger.Error("deleting a partition", "topic", p.Topic(), "partition", p.ID().Partition, "error", err)
		}
	}
	a.table.Keep(func(id replication.PartitionID) bool {
		t := im.ByID[id.Topic]
		return t != nil && int(id.Partition) < len(t.Partitions)
	})
}

// sayOffline says once for each reason that a partition is offline.
func (a *Agent) sayOffline(id replication.PartitionID, topic string, err error) {
	text := err.Error()
	if old, _ := a.offline.Swap(id, text); old != text {
		a.logger.Error("the partition is offline", "topic", topic, "partition", id.Partition, "error", err)
	}
}

func (a *Agent) hosts(assignment replication.Assignment) bool {
	return slices.ContainsFunc(assignment.Replicas, func(r replication.ReplicaID) bool { return r.Node == a.node.NodeID })
}

const (
	// watchInterval is how often the disk is looked after.
	watchInterval = 2 * time.Second
	// scrubStep is how much is checked each time: 4 MiB a second, 345 GB a day.
	scrubStep = 8 << 20
)

// diskLoop notices a disk that others fill, one that has room again, and bytes that have changed.
func (a *Agent) diskLoop() {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-tick.C:
			a.partitions.CheckSpace()
			a.partitions.Scrub(scrubStep)
		}
	}
}

// maintainLoop runs retention.
func (a *Agent) maintainLoop() {
	tick := time.NewTicker(a.layers.Duration("log.retention.check.interval.ms"))
	defer tick.Stop()
	for {
		select {
		case <-a.ctx.Done():
			return
		case <-tick.C:
			a.partitions.Maintain(a.ctx)
		}
	}
}
