package admin

import (
	"slices"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"
)

// Partitions finds the partition that a request names among those that this node hosts, and says why it can't: the
// three answers send a client three different ways. It also knows which node a client should go to instead.
type Partitions struct {
	images  Images
	local   Local
	leaders Leaders
}

// NewPartitions returns a Partitions over the cluster's image, this node's partitions and the leadership table, which is
// nil for a node without peers.
func NewPartitions(images Images, local Local, leaders Leaders) *Partitions {
	if leaders == nil {
		leaders = alone{local}
	}
	return &Partitions{images: images, local: local, leaders: leaders}
}

// Lookup finds a partition by its topic's name. The error is replication.ErrUnknownPartition if there is no such topic or
// partition, and replication.ErrNotLeader if other nodes host it.
func (p *Partitions) Lookup(topic string, partition int32) (*partition.Partition, error) {
	return p.find(p.images.Image().Topics[topic], partition, replication.ErrUnknownPartition)
}

// LookupID finds a partition by its topic's id. The error is replication.ErrUnknownTopicID if no topic has the id; else as
// for Lookup.
func (p *Partitions) LookupID(id replication.TopicID, partition int32) (*partition.Partition, error) {
	return p.find(p.images.Image().ByID[id], partition, replication.ErrUnknownTopicID)
}

func (p *Partitions) find(t *controller.Topic, index int32, unknown error) (*partition.Partition, error) {
	if t == nil {
		return nil, unknown
	}
	if index < 0 || int(index) >= len(t.Partitions) {
		return nil, replication.ErrUnknownPartition
	}
	if part, ok := p.local.Get(replication.PartitionID{Topic: t.ID, Partition: index}); ok {
		return part, nil
	}
	// Either other nodes host it, or it was created a moment ago and this node has not opened it yet. The client does the
	// same in both cases: it looks for the leader again.
	return nil, replication.ErrNotLeader
}

// topic finds a topic by its id, or by name if the id is zero, and one of its partitions.
func (p *Partitions) topic(im *controller.Image, name string, id replication.TopicID, index int32) (*controller.Topic, bool) {
	t := im.ByID[id]
	if id == (replication.TopicID{}) {
		t = im.Topics[name]
	}
	return t, t != nil && index >= 0 && int(index) < len(t.Partitions)
}

// LeaderOf tells who leads a partition, so that a client that asked another node can be sent there (KIP-951); Node is
// NoNode if nobody is known to lead. The topic is named by its id, or by its name if the id is zero.
func (p *Partitions) LeaderOf(name string, id replication.TopicID, index int32) replication.Leader {
	t, ok := p.topic(p.images.Image(), name, id, index)
	if !ok {
		return replication.NoLeader
	}
	pid := replication.PartitionID{Topic: t.ID, Partition: index}
	told, _, _ := p.leaders.Leader(pid)
	if part, hosted := p.local.Get(pid); hosted {
		// The replica here may have heard from a new leader before that one's word came, or have ceased to lead a moment ago.
		if own := part.Leader(); own.Epoch > told.Epoch || own.Epoch == told.Epoch && own.Node != replication.NoNode {
			told = own
		}
	}
	if told.Node == replication.NoNode {
		return replication.NoLeader
	}
	return told
}

// Kafka's selectors of the replica that a consumer reads from (KIP-392), as values of replica.selector.class.
const (
	selectorSetting = "replica.selector.class"
	leaderSelector  = "org.apache.kafka.common.replica.LeaderSelector"
)

// ReadReplica names the replica that a consumer in a rack should read a partition from, from an offset on, instead of from this
// node, which leads it: one in sync in the same rack that has what is wanted (KIP-392). It is NoNode if the consumer should stay:
// there is no such replica, the leader itself is in that rack, this node does not lead, or the setting is for leaders only.
func (p *Partitions) ReadReplica(name string, id replication.TopicID, index int32, rack string, from batch.Offset) replication.NodeID {
	im := p.images.Image()
	t, ok := p.topic(im, name, id, index)
	if !ok || rack == "" || im.Layers().Get(config.Broker, selectorSetting) == leaderSelector {
		return replication.NoNode
	}
	part, hosted := p.local.Get(replication.PartitionID{Topic: t.ID, Partition: index})
	if !hosted || !part.Leading() {
		return replication.NoNode
	}
	self := part.Leader().Node
	if im.Nodes[self].Rack == rack {
		return replication.NoNode
	}
	isr := part.ISR()
	var near []replication.NodeID
	for _, r := range t.Partitions[index].Replicas {
		// In sync is who was within half a minute, and after an election everybody: it does not tell who has the offset.
		if r.Node != self && im.Nodes[r.Node].Rack == rack && slices.Contains(isr, r.Node) && p.leaders.Alive(r.Node) && part.Holds(r, from) {
			near = append(near, r.Node)
		}
	}
	if len(near) == 0 {
		return replication.NoNode
	}
	// The same one for every consumer, another one for other partitions: sessions stay, and the load is spread.
	return near[int(index)%len(near)]
}
