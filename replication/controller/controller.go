package controller

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
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
}

// Controller changes the cluster's metadata and tells about changes. Every method may be called from any goroutine.
//
// An error of a method that changes something is definite, and nothing was changed, unless it is
// replication.ErrUnknownOutcome.
type Controller struct {
	machine       *Machine
	group         Proposer
	directory     DirectoryID
	maxPartitions int64
	now           func() time.Time
	newTopicID    func() replication.TopicID
	watchers      *watchers
	// configuring is held from the look at the present settings until their change is applied, so that two changes of one
	// resource are checked one after the other. It is a channel because a waiting caller must be able to give up.
	configuring chan struct{}
}

// New returns a controller and starts its goroutine.
func New(o Options) *Controller {
	c := &Controller{
		machine: o.Machine, group: o.Group, directory: o.Directory, maxPartitions: o.MaxPartitions,
		now: o.Now, newTopicID: o.NewTopicID, configuring: make(chan struct{}, 1),
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
	return c
}

// Close stops the calls of watchers and waits for one that is under way. It must not be called by a watcher.
func (c *Controller) Close() { c.watchers.close() }

// Image is the newest image on this node.
func (c *Controller) Image() *Image { return c.machine.Image() }

// ControllerNode is the node that leads the metadata group, replication.NoNode while none is known.
func (c *Controller) ControllerNode() replication.NodeID { return c.group.Leader() }

// Watch calls fn with each new image, in their order, and with the one that fn saw before. The first call comes soon and
// compares an empty image with the present one. All watchers are called from one goroutine; images that arrive while it is
// busy are told as one step. After cancel at most a call that is under way still happens.
func (c *Controller) Watch(fn func(old, new *Image)) (cancel func()) { return c.watchers.watch(fn) }

// AllocateProducerIDs takes the next block of producer ids for this node: first, first+1, ... count of them.
func (c *Controller) AllocateProducerIDs(ctx context.Context) (first int64, count int32, err error) {
	// Kafka's block size: 1,000 producers connect before the metadata group is asked again.
	const block = 1000
	r, err := c.propose(ctx, &metapb.Command{Kind: &metapb.Command_AllocateProducerIds{
		AllocateProducerIds: &metapb.AllocateProducerIDs{Node: int32(c.machine.local.node), Count: block},
	}})
	if err != nil {
		return -1, 0, err
	}
	return r.FirstProducerID, block, nil
}

// RegisterNode makes a node known to the cluster, or tells its new address. Without a change nothing is written.
func (c *Controller) RegisterNode(ctx context.Context, n replication.Node) error {
	im := c.Image()
	if known, ok := im.Nodes[n.ID]; ok && known == n && im.Registrations[n.ID].Directory == c.directoryOf(n.ID) {
		return nil
	}
	node := &metapb.Node{Id: int32(n.ID), Host: n.Host, Port: n.Port, Rack: n.Rack}
	if dir := c.directoryOf(n.ID); dir != (DirectoryID{}) {
		node.Directory = dir[:]
	}
	_, err := c.submit(ctx, &metapb.Command{Kind: &metapb.Command_RegisterNode{RegisterNode: &metapb.RegisterNode{Node: node}}})
	return err
}

// directoryOf is the directory id that a registration carries: only this node knows its own.
func (c *Controller) directoryOf(id replication.NodeID) DirectoryID {
	if id == c.machine.local.node {
		return c.directory
	}
	return DirectoryID{}
}

// EnsureClusterID gives the cluster an id, once and for ever.
func (c *Controller) EnsureClusterID(ctx context.Context) error {
	if c.Image().ClusterID != "" {
		return nil
	}
	var id [16]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	_, err := c.submit(ctx, &metapb.Command{Kind: &metapb.Command_SetClusterId{
		SetClusterId: &metapb.SetClusterID{ClusterId: base64.RawURLEncoding.EncodeToString(id[:])},
	}})
	return err
}

// SetFeature finalizes a feature's level; 0 removes it (KIP-584).
func (c *Controller) SetFeature(ctx context.Context, name string, level int32) error {
	_, err := c.submit(ctx, &metapb.Command{Kind: &metapb.Command_SetFeature{SetFeature: &metapb.SetFeature{Name: name, Level: level}}})
	return err
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

// maxCommand bounds a command, in bytes: one entry of the metadata log.
const maxCommand = 8 << 20

// propose replicates a command and returns its result once it is applied on this node.
func (c *Controller) propose(ctx context.Context, cmd *metapb.Command) (*Result, error) {
	cmd.TimeMs = c.now().UnixMilli()
	data, err := encodeCommand(cmd)
	if err != nil {
		return nil, failf(replication.ErrInvalidRequest, "%v", err)
	}
	if len(data) > maxCommand {
		return nil, failf(replication.ErrInvalidRequest, "a change of %d bytes is larger than %d", len(data), maxCommand)
	}
	answer, err := c.group.Propose(ctx, data)
	if err != nil {
		return nil, proposalError(err)
	}
	switch r := answer.(type) {
	case *Result:
		return r, r.Err
	case error:
		return nil, proposalError(r)
	}
	return nil, failf(replication.ErrUnknownOutcome, "the metadata group answered with a %T", answer)
}

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
