// Package replicated gives a coordinator what it needs from the rest of the node: the replicas of its topic as
// coordinator.Logs, and the controller's image with the leadership table as coordinator.Cluster. It is apart from package
// coordinator so that coordinators can be built and tested without Raft. It starts no goroutine.
package replicated

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"
)

// Partitions finds the partitions on this node. *partition.Manager is one.
type Partitions interface {
	Get(id replication.PartitionID) (*partition.Partition, bool)
}

// Controller is the part of *controller.Controller that is needed.
type Controller interface {
	Image() *controller.Image
	Sync(ctx context.Context) error
	CreateTopics(ctx context.Context, topics []controller.NewTopic, validateOnly bool) []controller.TopicResult
}

// Leaders is the leadership table. *leaders.Table is one.
type Leaders interface {
	Leader(id replication.PartitionID) (replication.Leader, []replication.NodeID, bool)
}

// Options make a Node.
type Options struct {
	Partitions Partitions
	Controller Controller
	// Leaders finds the coordinators on other nodes; nil: only what the replicas here know.
	Leaders Leaders
	// Topic is the coordinator's topic; empty: __consumer_offsets.
	Topic string
	// Count is the number of partitions that the topic is made with; 0 stands for DefaultPartitions.
	Count int32
	// Replicas is the replication factor that the topic is made with; 0 and -1 leave it to the cluster.
	Replicas int16
	// Config is added to the settings that the topic is made with.
	Config map[string]string
	// Address overrides where clients of a listener reach a node; nil stands for the registered address.
	Address func(id replication.NodeID, listener string) (replication.Node, bool)
}

// DefaultPartitions is less than Kafka's 50: each is a Raft group, and most clusters have few consumer groups.
const DefaultPartitions = 16

// Node implements coordinator.Logs and coordinator.Cluster.
type Node struct{ o Options }

// New returns a Node over the parts.
func New(o Options) *Node {
	if o.Topic == "" {
		o.Topic = broker.OffsetsTopic
	}
	if o.Replicas == 0 {
		o.Replicas = -1
	}
	if o.Count <= 0 {
		o.Count = DefaultPartitions
	}
	n := &Node{o: o}
	if o.Address == nil {
		n.o.Address = n.registered
	}
	return n
}

func (n *Node) registered(id replication.NodeID, listener string) (replication.Node, bool) {
	node, ok := n.o.Controller.Image().Nodes[id]
	if !ok {
		return node, false
	}
	return node.At(listener)
}

// Leading is told which partitions of its topic this node leads. Every coordinator's service is.
type Leading interface {
	LeaderChanged(partition int32, epoch batch.Epoch, local bool)
}

// Forward passes a change of leadership on to the coordinator if it is about its topic. It is meant for
// partition.Options.OnLeader.
func (n *Node) Forward(s Leading, c partition.LeaderChange) {
	if t := n.o.Controller.Image().ByID[c.ID.Topic]; t != nil && t.Name == n.o.Topic {
		s.LeaderChanged(c.ID.Partition, c.Leader.Epoch, c.Local)
	}
}

// Changes is told of topics that are no more, and that some came, went or grew, or may be seen by others than before.
type Changes interface {
	TopicsDeleted(topics ...coordinator.Topic)
	TopicsChanged()
}

// ForwardChanges tells in what the topics of an image differ from those of the one before. It is meant for
// (*controller.Controller).Watch.
func ForwardChanges(s Changes, before, after *controller.Image) {
	if before == nil || after == nil {
		return
	}
	var gone []coordinator.Topic
	changed := len(before.Topics) != len(after.Topics) || before.ACLs != after.ACLs
	for name, t := range before.Topics {
		now := after.Topics[name]
		if now == nil || now.ID != t.ID {
			gone = append(gone, coordinator.Topic{Name: name, ID: t.ID, Partitions: int32(len(t.Partitions))})
		} else if len(now.Partitions) != len(t.Partitions) {
			changed = true
		}
	}
	if len(gone) > 0 {
		s.TopicsDeleted(gone...)
	}
	if len(gone) > 0 || changed {
		s.TopicsChanged()
	}
}

// Topic finds a topic by name.
func (n *Node) Topic(name string) (coordinator.Topic, bool) {
	return describe(n.o.Controller.Image().Topics[name])
}

// TopicByID finds a topic by id.
func (n *Node) TopicByID(id replication.TopicID) (coordinator.Topic, bool) {
	return describe(n.o.Controller.Image().ByID[id])
}

// Sync waits until the controller's image is that of now.
func (n *Node) Sync(ctx context.Context) error { return n.o.Controller.Sync(ctx) }

// TopicNames are the names of all topics, the internal ones too.
func (n *Node) TopicNames() []string { return slices.Collect(maps.Keys(n.o.Controller.Image().Topics)) }

func describe(t *controller.Topic) (coordinator.Topic, bool) {
	if t == nil {
		return coordinator.Topic{}, false
	}
	return coordinator.Topic{Name: t.Name, ID: t.ID, Partitions: int32(len(t.Partitions))}, true
}

// Coordinator is the leader of a partition of the topic, on whichever node it is.
func (n *Node) Coordinator(index int32, listener string) (replication.Node, bool) {
	leader := n.leader(index)
	if leader == replication.NoNode {
		return replication.Node{}, false
	}
	return n.o.Address(leader, listener)
}

// leader is the node that leads a partition of the topic; NoNode if none is known to.
func (n *Node) leader(index int32) replication.NodeID {
	t := n.o.Controller.Image().Topics[n.o.Topic]
	if t == nil {
		return replication.NoNode
	}
	id := replication.PartitionID{Topic: t.ID, Partition: index}
	// A replica here that leads knows it before anybody else.
	if p, ok := n.o.Partitions.Get(id); ok && (n.o.Leaders == nil || p.Leading()) {
		return p.Leader().Node
	}
	if n.o.Leaders == nil {
		return replication.NoNode
	}
	if l, _, ok := n.o.Leaders.Leader(id); ok {
		return l.Node
	}
	return replication.NoNode
}

func (n *Node) open(index int32) (*partition.Partition, error) {
	t := n.o.Controller.Image().Topics[n.o.Topic]
	if t == nil {
		return nil, replication.ErrUnknownPartition
	}
	p, ok := n.o.Partitions.Get(replication.PartitionID{Topic: t.ID, Partition: index})
	if !ok {
		return nil, replication.ErrNotLeader
	}
	return p, nil
}

// How a node waits for the partitions that it has just created.
const (
	leaderWait = 2 * time.Second
	leaderPoll = 5 * time.Millisecond
)

// maxMessage is the largest batch of a coordinator's topic, in bytes: all that a coordinator keeps of a key may be one record.
const maxMessage = 32 << 20

// EnsureTopic creates the topic unless it exists, and waits a moment for its partitions to have leaders: the client that asked
// uses one at once.
func (n *Node) EnsureTopic(ctx context.Context) error {
	if n.o.Controller.Image().Topics[n.o.Topic] != nil {
		return nil
	}
	config := map[string]string{
		"cleanup.policy": "compact", "compression.type": "producer", "segment.bytes": strconv.Itoa(100 << 20),
		"max.message.bytes": strconv.Itoa(maxMessage),
	}
	maps.Copy(config, n.o.Config)
	results := n.o.Controller.CreateTopics(ctx, []controller.NewTopic{{
		Name: n.o.Topic, Partitions: n.o.Count, ReplicationFactor: n.o.Replicas, Internal: true, Config: config,
	}}, false)
	for _, r := range results {
		if r.Err != nil && !errors.Is(r.Err, replication.ErrTopicExists) {
			return fmt.Errorf("creating %s: %w", n.o.Topic, r.Err)
		}
	}
	n.awaitLeaders(ctx)
	return nil
}

func (n *Node) awaitLeaders(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	ticker := time.NewTicker(leaderPoll)
	defer ticker.Stop()
	for i := int32(0); i < n.o.Count; {
		if n.leader(i) != replication.NoNode {
			i++
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Open finds this node's replica, as leader of an epoch.
func (n *Node) Open(index int32, epoch batch.Epoch) (coordinator.Log, error) {
	p, err := n.open(index)
	if err != nil {
		return nil, err
	}
	return replica{p, epoch}, nil
}

// replica is a partition as coordinator.Log, as long as it leads in an epoch.
type replica struct {
	p     *partition.Partition
	epoch batch.Epoch
}

// fenced makes one error of all that mean that the epoch is over.
func fenced(err error) error {
	if errors.Is(err, replication.ErrFencedLeaderEpoch) || errors.Is(err, replication.ErrUnknownLeaderEpoch) {
		return fmt.Errorf("%w: %w", replication.ErrNotLeader, err)
	}
	return err
}

// verification is a partition.Verification, which is nil if none is needed, in the epoch in which it was begun: the marker that
// ends the transaction may be another leader's.
type verification struct {
	of    *partition.Verification
	epoch batch.Epoch
}

// End gives it back.
func (v verification) End() { v.of.End() }

// Verify begins a verification.
func (r replica) Verify(p batch.Producer) coordinator.Verified {
	h := batch.Header{Attributes: batch.AttrTransactional, ProducerID: p.ID, ProducerEpoch: p.Epoch, BaseSequence: batch.NoSequence}
	return verification{partition.Verify(r.p, h), r.epoch}
}

// Append hands a frame over.
func (r replica) Append(frame []byte, verified coordinator.Verified) coordinator.Pending {
	h, err := batch.ParseHeader(frame)
	if err != nil {
		return failed{err}
	}
	info := batch.Info{Header: h, MinTimestamp: h.BaseTimestamp, MaxTimestamp: h.MaxTimestamp}
	b := partition.Batch{Frame: frame, Info: info, Epoch: r.epoch, Client: h.IsTransactional()}
	if v, ok := verified.(verification); ok {
		if v.epoch != r.epoch {
			return failed{replication.ErrNotLeader}
		}
		b.Verified = v.of
	}
	return pending{r.p.Append(b)}
}

// pending is an append under way.
type pending struct{ p *partition.Pending }

// Done is closed when the outcome is known.
func (p pending) Done() <-chan struct{} { return p.p.Done() }

// Err is the outcome.
func (p pending) Err() error {
	_, err := p.p.Wait(context.Background()) // does not wait: Done is closed
	return err
}

// failed is an append that never began.
type failed struct{ err error }

var closed = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

// Done is closed.
func (f failed) Done() <-chan struct{} { return closed }

// Err is why.
func (f failed) Err() error { return f.err }

// Bounds tells from where to where the log can be read.
func (r replica) Bounds() (coordinator.Bounds, error) {
	o, err := r.p.Offsets(r.epoch)
	if err != nil {
		return coordinator.Bounds{}, fenced(err)
	}
	return coordinator.Bounds{Start: o.LogStart, Committed: o.HighWatermark, End: o.LogEnd}, nil
}

// Read returns committed frames.
func (r replica) Read(from batch.Offset, maxBytes int) (coordinator.Chunk, error) {
	got, err := r.p.Read(partition.ReadRequest{
		Offset: from, MaxBytes: maxBytes, AtLeastOne: true, CurrentEpoch: r.epoch, LastFetchedEpoch: batch.NoEpoch,
	})
	if err != nil {
		return coordinator.Chunk{}, fenced(err)
	}
	defer got.Range.Release()
	frames, err := got.Range.AppendTo(make([]byte, 0, got.Range.Len()))
	if err != nil {
		return coordinator.Chunk{}, err
	}
	return coordinator.Chunk{Frames: frames, Next: got.Range.Next}, nil
}
