package controller

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// RegisterRequest is what a node says of itself.
type RegisterRequest struct {
	Node      replication.Node
	Directory DirectoryID // zero: it does not say
	// Start is this start of the node from its directory, and Earlier are those of which one may be the last that the cluster knows.
	// Zero: it does not say.
	Start   StartID
	Earlier []StartID
	// Forgone is the start of which the cluster has said that the directory knows nothing (ErrOlderCopy): the node begins again.
	Forgone StartID
	Version string
	// Running is the incarnation as which the node runs in the metadata group already: as the founder, whom nobody could number,
	// or since an earlier registration. Nil for a node that joins with an empty directory.
	Running *replication.Incarnation
}

// Registered is what the cluster says to a node.
type Registered struct {
	// Meta is the node's replica of the metadata group. If it is another one than the node has run, the node must give up what it
	// has of the metadata and begin with this one.
	Meta      replication.ReplicaID
	ClusterID string
	// Renewed tells that the node's replicas begin again, because it came with another directory or an older copy.
	Renewed bool
	// Forgotten is, with ErrOlderCopy, the start of which the directory knows nothing.
	Forgotten StartID
}

// Register makes a node known, or tells its new address. Without a change nothing is written. But that nothing has changed is
// believed only by a node that hears of a controller: what it knows else may be from long ago, before the node that asks (itself,
// after a start from a snapshot) was unregistered, and nobody would ever tell that one more.
//
// A node that comes with another directory than it had has lost its disk: all its replicas begin again, as new incarnations. But
// if its old directory is in use somewhere, this is another node with the same id: ErrDuplicateNode. And if it still runs what the
// old directory held, somebody has changed the directory's id: ErrDirectoryChanged, since nothing needs to begin again.
//
// A directory that knows nothing of the start by which the node registered last is an older copy: ErrOlderCopy. The node may ask again
// and name that start as forgone; then its replicas begin again as those of a lost disk. It has to ask itself: a request that was
// under way while the node stopped and started looks just as old, and nobody must begin anything again for that one.
func (c *Controller) Register(ctx context.Context, q RegisterRequest) (Registered, error) {
	var out Registered
	err := settle(ctx, func() error {
		im := c.Image()
		r, known := im.Registrations[q.Node.ID]
		lost := known && q.Directory != r.Directory && q.Directory != (DirectoryID{}) && r.Directory != (DirectoryID{})
		older := im.olderCopy(q.Node.ID, q.Directory, q.Start, numbersOf(q.Earlier))
		if c.ControllerNode() != replication.NoNode && known && !lost && !older && q.tellsNothing(im.Nodes[q.Node.ID], r) {
			out = Registered{Meta: r.MetaReplica(q.Node.ID), ClusterID: im.ClusterID}
			return nil
		}
		if older && c.router.decidesAlone(q.Node.ID) {
			return failf(ErrDirectoryChanged, "node %d holds the only vote on the metadata, which are newer than its directory's identity", q.Node.ID)
		}
		if older && q.Forgone != r.Start {
			out = Registered{Forgotten: r.Start}
			return failf(ErrOlderCopy, "node %d", q.Node.ID)
		}
		cmd := registerCommand(q)
		if lost {
			if q.Running != nil {
				return failf(ErrDirectoryChanged, "node %d has its metadata still, but not the id of its directory", q.Node.ID)
			}
			if c.router.around.oldAlive(q.Node.ID, r.Directory) {
				return failf(ErrDuplicateNode, "node %d", q.Node.ID)
			}
			cmd.GetRegisterNode().Renew, cmd.GetRegisterNode().KnownDirectory = true, r.Directory[:]
		}
		if older {
			cmd.GetRegisterNode().Renew, cmd.GetRegisterNode().KnownStart = true, uint64(r.Start)
		}
		result, err := c.submitRepeatable(ctx, cmd)
		if errors.Is(err, ErrDirectoryChanged) && !lost || errors.Is(err, ErrOlderCopy) && !older {
			// The controller knows of a directory, or a start, of which this node has not heard yet: it has just started. By now it has.
			return errConflict
		}
		if err == nil {
			out = Registered{Meta: result.Replica, ClusterID: result.ClusterID, Renewed: result.Renewed}
		}
		return err
	})
	return out, err
}

// decidesAlone tells whether a node, this one, is the only voter of the metadata group: nobody else has what it would begin again.
func (rt *router) decidesAlone(id replication.NodeID) bool {
	return id == rt.machine.local.node && rt.members != nil && rt.group.IsLeader() && len(rt.members.Members().Voters) == 1
}

// tellsNothing tells whether all that a request says is known.
func (q RegisterRequest) tellsNothing(n replication.Node, r Registration) bool {
	return n.Equal(q.Node) && r.Version == q.Version && (q.Directory == r.Directory || q.Directory == DirectoryID{}) && (q.Start == r.Start || q.Start == 0)
}

func numbersOf(starts []StartID) (out []uint64) {
	for _, s := range starts {
		out = append(out, uint64(s))
	}
	return out
}

func registerCommand(q RegisterRequest) *metapb.Command {
	node := &metapb.Node{Id: int32(q.Node.ID), Host: q.Node.Host, Port: q.Node.Port, Rack: q.Node.Rack, Version: q.Version,
		Endpoints: toEndpoints(q.Node.Endpoints), Start: uint64(q.Start)}
	if q.Directory != (DirectoryID{}) {
		node.Directory = q.Directory[:]
	}
	register := &metapb.RegisterNode{Node: node, Earlier: numbersOf(q.Earlier)}
	if q.Running != nil {
		running := uint32(*q.Running)
		register.Running = &running
	}
	return &metapb.Command{Kind: &metapb.Command_RegisterNode{RegisterNode: register}}
}

// RegisterNode registers a node that runs already, as the founder of a cluster of one does.
func (c *Controller) RegisterNode(ctx context.Context, n replication.Node) error {
	q := RegisterRequest{Node: n, Running: new(replication.Incarnation)}
	if n.ID == c.machine.local.node { // only this node knows its own directory
		q.Directory = c.directory
	}
	_, err := c.Register(ctx, q)
	return err
}

// UnregisterNode forgets a node that is gone for good. One that is alive or holds replicas is refused with ErrNodeInUse. Its
// replica of the metadata group is removed in time.
func (c *Controller) UnregisterNode(ctx context.Context, id replication.NodeID) error {
	if c.router.around.isLive(id) {
		return failf(ErrNodeInUse, "node %d is alive; stop it first", id)
	}
	_, err := c.submit(ctx, &metapb.Command{Kind: &metapb.Command_UnregisterNode{UnregisterNode: &metapb.UnregisterNode{Node: int32(id)}}})
	return err
}

// EnsureClusterID gives a cluster of one node an id, once and for ever.
func (c *Controller) EnsureClusterID(ctx context.Context) error {
	if c.Image().ClusterID != "" {
		return nil
	}
	return c.NameCluster(ctx, NewClusterID(), 1)
}

// NewClusterID makes an id in Kafka's form.
func NewClusterID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// NameCluster gives the cluster the id under which it is founded, for a number of nodes: until so many are registered, topics
// whose creator leaves the replication factor to the cluster are refused rather than made with fewer replicas. If the cluster
// has another id, the error is ErrOtherCluster.
func (c *Controller) NameCluster(ctx context.Context, id string, nodes int) error {
	now := c.Image().ClusterID
	if now == "" {
		r, err := c.submitRepeatable(ctx, &metapb.Command{Kind: &metapb.Command_SetClusterId{
			SetClusterId: &metapb.SetClusterID{ClusterId: id, Nodes: int32(nodes)},
		}})
		if err != nil {
			return err
		}
		now = r.ClusterID
	}
	if now != id {
		return failf(ErrOtherCluster, "it is %s, not %s", now, id)
	}
	return nil
}

// AllocateProducerIDs takes the next block of producer ids for this node: first, first+1, ... count of them.
func (c *Controller) AllocateProducerIDs(ctx context.Context) (first int64, count int32, err error) {
	// Kafka's block size: 1,000 producers connect before the metadata group is asked again.
	const block = 1000
	r, err := c.repeat(ctx, func() (*Result, error) { // a block that nobody got costs nothing
		return c.propose(ctx, &metapb.Command{Kind: &metapb.Command_AllocateProducerIds{
			AllocateProducerIds: &metapb.AllocateProducerIDs{Node: int32(c.machine.local.node), Count: block},
		}})
	})
	if err != nil {
		return -1, 0, err
	}
	return r.FirstProducerID, block, nil
}

// SetFeature finalizes a feature's level; 0 removes it (KIP-584).
func (c *Controller) SetFeature(ctx context.Context, name string, level int32) error {
	_, err := c.submitRepeatable(ctx, &metapb.Command{Kind: &metapb.Command_SetFeature{SetFeature: &metapb.SetFeature{Name: name, Level: level}}})
	return err
}
