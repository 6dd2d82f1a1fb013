package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// Proposer replicates commands of the metadata group. *raftgroup.MetaGroup is one.
type Proposer interface {
	// Propose returns what the machine on this node made of the command, after it was applied here. The error is
	// replication.ErrNotLeader if the command was certainly not applied and never will be, and
	// replication.ErrUnknownOutcome if that can't be told.
	Propose(ctx context.Context, command []byte) (any, error)
	IsLeader() bool
	// Leader is the node that leads the group, replication.NoNode while none is known.
	Leader() replication.NodeID
}

// Options configure a Controller.
type Options struct {
	Machine *Machine // the one that the group applies to
	Group   Proposer
	// Directory identifies this node's data directory; zero if there is no such identity.
	Directory DirectoryID
	// MaxPartitions bounds the partitions of the whole cluster; 0 means DefaultMaxPartitions.
	MaxPartitions int64
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// NewTopicID makes ids; nil means replication.NewTopicID.
	NewTopicID func() replication.TopicID

	// What follows is for clusters of several nodes.

	// Forward reaches the controller on another node; nil means that there is no other node.
	Forward Caller
	// Live lists the nodes that are alive by now, as far as this one sees; nil means this one.
	Live func() []replication.NodeID
	// AppliedOn is the newest index of the metadata that a live node has said to have applied: its Machine.Applied.
	AppliedOn func(replication.NodeID) (uint64, bool)
	// OldAlive tells whether a process with this node id and this directory is connected. Nil means no.
	OldAlive func(replication.NodeID, DirectoryID) bool
	// Stopping tells that a node is about to stop, besides those that Image.Draining tells. Nil means no.
	Stopping func(replication.NodeID) bool
	// SpreadPatience bounds how long a change waits until all live nodes have applied it; 0 means DefaultSpreadPatience.
	SpreadPatience time.Duration
	// Members changes who is in the metadata group; nil leaves it alone. While this node leads the group, the controller keeps
	// it as the registered nodes want it. *raftgroup.MetaGroup is one.
	Members Members
	Logger  *slog.Logger
}

// Controller changes the cluster's metadata and tells about changes. Every method may be called from any goroutine.
//
// An error of a method that changes something is definite, and nothing was changed, unless it is
// replication.ErrUnknownOutcome.
type Controller struct {
	machine       *Machine
	directory     DirectoryID
	maxPartitions int64
	now           func() time.Time
	newTopicID    func() replication.TopicID
	watchers      *watchers
	router        *router
	reconciler    *reconciler // nil without Members
	// configuring is held from the look at the present settings until their change is applied, so that two changes of one
	// resource are checked one after the other. It is a channel because a waiting caller must be able to give up.
	configuring chan struct{}
}

// New returns a controller and starts its goroutines.
func New(o Options) *Controller {
	c := &Controller{
		machine: o.Machine, directory: o.Directory, maxPartitions: o.MaxPartitions,
		now: o.Now, newTopicID: o.NewTopicID, configuring: make(chan struct{}, 1),
	}
	c.router = &router{
		group: o.Group, machine: o.Machine, forward: o.Forward, appliedOn: o.AppliedOn, members: o.Members, patience: o.SpreadPatience,
		around: around{node: o.Machine.local.node, live: o.Live, aliveAs: o.OldAlive, stopping: o.Stopping},
	}
	if c.router.patience <= 0 {
		c.router.patience = DefaultSpreadPatience
	}
	if c.maxPartitions <= 0 {
		c.maxPartitions = DefaultMaxPartitions
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.newTopicID == nil {
		c.newTopicID = replication.NewTopicID
	}
	c.watchers = startWatchers(o.Machine)
	if o.Members != nil {
		c.reconciler = startReconciler(c, o.Members, o.Logger)
	}
	return c
}

// Close ends the goroutines, and waits for a change of members and a watcher's call that are under way. It must not be called by
// a watcher.
func (c *Controller) Close() {
	if c.reconciler != nil {
		c.reconciler.close()
	}
	c.watchers.close()
}

// Reconcile makes the controller look at the members of the metadata group now: somebody came or went.
func (c *Controller) Reconcile() {
	if c.reconciler != nil {
		c.reconciler.poke()
	}
}

// HandOver gives the leadership of the metadata group to another node, if this one has it and there is one: before the node
// stops. It returns once that is done.
func (c *Controller) HandOver(ctx context.Context) error {
	if c.reconciler == nil || !c.router.group.IsLeader() {
		return nil
	}
	return c.reconciler.handOver(ctx)
}

// Image is the newest image on this node.
func (c *Controller) Image() *Image { return c.machine.Image() }

// ControllerNode is the node that leads the metadata group, replication.NoNode while none is known.
func (c *Controller) ControllerNode() replication.NodeID { return c.router.group.Leader() }

// Watch calls fn with each new image, in their order, and with the one that fn saw before. The first call comes soon and
// compares an empty image with the present one. All watchers are called from one goroutine; images that arrive while it is
// busy are told as one step. After cancel at most a call that is under way still happens.
func (c *Controller) Watch(fn func(old, new *Image)) (cancel func()) { return c.watchers.watch(fn) }

// propose replicates a command; see router.propose.
func (c *Controller) propose(ctx context.Context, cmd *metapb.Command) (*Result, error) {
	cmd.TimeMs = c.now().UnixMilli()
	return c.router.propose(ctx, cmd)
}

// check tells what would become of a command, without writing anything.
func (c *Controller) check(im *Image, cmd *metapb.Command) *Result {
	cmd.Level, cmd.Rules, cmd.TimeMs = metadataLevel, rulesVersion, c.now().UnixMilli()
	_, r := step(im, im.Index+1, cmd)
	return r
}

// submit checks a command and proposes it if that would change anything.
func (c *Controller) submit(ctx context.Context, cmd *metapb.Command) (*Result, error) {
	if r := c.check(c.Image(), cmd); r.Err != nil {
		return nil, r.Err
	}
	return c.propose(ctx, cmd)
}

// submitRepeatable is submit for commands that may be applied more than once.
func (c *Controller) submitRepeatable(ctx context.Context, cmd *metapb.Command) (*Result, error) {
	return c.repeat(ctx, func() (*Result, error) { return c.submit(ctx, cmd) })
}

// repeat proposes again what may be applied more than once, where the outcome is unknown: the controller died with it.
func (c *Controller) repeat(ctx context.Context, propose func() (*Result, error)) (*Result, error) {
	for try := 1; ; try++ {
		r, err := propose()
		if !errors.Is(err, replication.ErrUnknownOutcome) || c.router.forward == nil || try == mostRepeats {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, err
		case <-time.After(leaderPause):
		}
	}
}

// maxCommand bounds a command, in bytes: one entry of the metadata log.
const maxCommand = 8 << 20

// proposalError sorts the errors of a proposal: whatever is not known to be definite is of unknown outcome.
func proposalError(err error) error {
	switch {
	case errors.Is(err, replication.ErrNotLeader):
		return ErrNotController
	case errors.Is(err, replication.ErrUnknownOutcome), errors.Is(err, replication.ErrOverloaded), errors.Is(err, ErrTooNew), errors.Is(err, ErrDamaged):
		return err
	}
	return fmt.Errorf("%w: %w", replication.ErrUnknownOutcome, err)
}

// mostTries bounds how often a change is tried again because somebody else changed the same thing. Each lost try means
// that another one won, so this is only met by a crowd.
const mostTries = 16

// settle runs a change until it does not conflict.
func settle(ctx context.Context, change func() error) error {
	for range mostTries {
		err := change()
		if !errors.Is(err, errConflict) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return failf(replication.ErrOverloaded, "%d changes of the same thing at once", mostTries)
}
