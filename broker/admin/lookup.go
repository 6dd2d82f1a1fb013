package admin

import (
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"
)

// Partitions finds the partition that a request names among those that this node hosts, and says why it can't: the
// three answers send a client three different ways.
type Partitions struct {
	images Images
	local  Local
}

// NewPartitions returns a Partitions over the cluster's image and this node's partitions.
func NewPartitions(images Images, local Local) *Partitions {
	return &Partitions{images: images, local: local}
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
