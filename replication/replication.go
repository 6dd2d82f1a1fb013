// Package replication holds the nouns of the replicated side of Quorlog: nodes, topics, partitions, their settings and
// the errors that the services map to Kafka codes. It starts nothing and does no I/O.
package replication

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/quorlog/quorlog/log/batch"
)

// NodeID names a broker of the cluster (Kafka's broker.id). Ids start at 0; NoNode stands for "none".
type NodeID int32

// NoNode is the absent node, for example the leader of a partition without one.
const NoNode NodeID = -1

// Incarnation counts the lives of a replica on a node. A wiped disk or a new placement gets a new one, so that a replica
// can never vote with a vote that it has forgotten (DESIGN 4, Identity).
type Incarnation uint32

// ReplicaID is a replica's identity in its Raft group, printed as "node.incarnation".
type ReplicaID struct {
	Node        NodeID
	Incarnation Incarnation
}

// String is the Raft server id and address.
func (r ReplicaID) String() string { return fmt.Sprintf("%d.%d", r.Node, r.Incarnation) }

// TopicID is a topic's UUID (KIP-516). The zero value is no topic.
type TopicID [16]byte

// NewTopicID returns a random version-4 UUID whose text form does not start with '-', which command lines mistake for a flag.
func NewTopicID() TopicID {
	for {
		var id TopicID
		rand.Read(id[:]) // never fails (crypto/rand)
		id[6] = id[6]&0x0f | 0x40
		id[8] = id[8]&0x3f | 0x80
		if id.String()[0] != '-' {
			return id
		}
	}
}

// String is Kafka's text form: unpadded base64url.
func (t TopicID) String() string { return base64.RawURLEncoding.EncodeToString(t[:]) }

// Hex is the form for directory names: unlike base64 it survives file systems that fold case.
func (t TopicID) Hex() string { return hex.EncodeToString(t[:]) }

// PartitionID names a partition for ever: a topic that is deleted and made again has another TopicID.
type PartitionID struct {
	Topic     TopicID
	Partition int32
}

// String is the name of the partition's Raft group and of its directory.
func (p PartitionID) String() string { return fmt.Sprintf("%s-%d", p.Topic.Hex(), p.Partition) }

// Assignment lists a partition's replicas. While a reassignment is under way, Replicas holds Kafka's union: first those that
// are to be, then those that are to go.
type Assignment struct {
	// Replicas are all replicas; the first is the preferred leader.
	Replicas []ReplicaID
	// Adding and Removing are the replicas of Replicas that a reassignment under way brings and takes away.
	Adding, Removing []ReplicaID
	// Origin are the nodes that the replicas were on before a reassignment under way, where calling it off leads back to; nil
	// while there is none.
	Origin []NodeID
	// Initial are the voters that the partition's group was made with; nil stands for Replicas. It never changes: a replica
	// that is in it bootstraps its group with exactly these, any other starts empty and waits to be added.
	Initial []ReplicaID
}

// Target lists the replicas that are to be: Replicas without Removing.
func (a Assignment) Target() []ReplicaID {
	if len(a.Removing) == 0 {
		return a.Replicas
	}
	target := make([]ReplicaID, 0, len(a.Replicas))
	for _, r := range a.Replicas {
		if !slices.Contains(a.Removing, r) {
			target = append(target, r)
		}
	}
	return target
}

// Founders lists the voters that the partition's group was made with.
func (a Assignment) Founders() []ReplicaID {
	if a.Initial == nil {
		return a.Replicas
	}
	return a.Initial
}

// Leader tells who leads a partition. Node is NoNode while nobody is known to.
type Leader struct {
	Node  NodeID
	Epoch batch.Epoch
}

// NoLeader: nobody is known to lead, and no epoch. It must not be changed.
var NoLeader = Leader{Node: NoNode, Epoch: batch.NoEpoch}
