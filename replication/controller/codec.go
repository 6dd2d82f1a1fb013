package controller

import (
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// metadataLevel is the level of commands and snapshots that this program writes, and the highest that it can read. Level 1 is
// that of single nodes, before there were incarnations in the metadata group and reassignments. Since level 3 a reassignment
// remembers where it began (levelOrigin). Level 4 has users and rules of access control, and the
// addresses of all of a node's listeners. Since level 5 a registration says which start of the node it is (levelStarts).
const (
	metadataLevel = 5
	levelOrigin   = 3
	levelStarts   = 5
)

// Commands and snapshots lie in a small envelope:
//
//	+---------+------------------+----------------------+
//	| version | CRC32C           | protobuf message     |
//	| 1 byte  | 4 bytes, big end | the rest             |
//	+---------+------------------+----------------------+
//
// The checksum covers the message. It is there because the metadata group's log, a bbolt file, has none of its own, and a
// flipped bit in a command must stop this node rather than make its metadata differ from everybody else's.
const (
	envelopeVersion = 1
	envelopeSize    = 5
)

// maxEncoded bounds what is decoded, in bytes: 100,000 partitions with three replicas need about 3 MiB, 10,000 topics with
// every setting set about as much.
const maxEncoded = 256 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func seal(m proto.Message) ([]byte, error) {
	out, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(make([]byte, envelopeSize), m)
	if err != nil {
		return nil, err
	}
	return resum(out), nil
}

// resum fills in the envelope around a message.
func resum(data []byte) []byte {
	data[0] = envelopeVersion
	binary.BigEndian.PutUint32(data[1:], crc32.Checksum(data[envelopeSize:], castagnoli))
	return data
}

func unseal(data []byte, m proto.Message) error {
	switch {
	case len(data) < envelopeSize || len(data) > maxEncoded:
		return failf(ErrDamaged, "%d bytes", len(data))
	case data[0] != envelopeVersion:
		return failf(ErrTooNew, "format version %d, this program knows %d", data[0], envelopeVersion)
	case crc32.Checksum(data[envelopeSize:], castagnoli) != binary.BigEndian.Uint32(data[1:]):
		return failf(ErrDamaged, "the checksum is wrong")
	}
	if err := proto.Unmarshal(data[envelopeSize:], m); err != nil {
		return failf(ErrDamaged, "%v", err)
	}
	return nil
}

// encodeCommand seals a command for the metadata log.
func encodeCommand(c *metapb.Command) ([]byte, error) {
	c.Level, c.Rules = metadataLevel, rulesVersion
	return seal(c)
}

// decodeCommand opens a sealed command. ErrTooNew and ErrDamaged mean that this node can't go on.
func decodeCommand(data []byte) (*metapb.Command, error) {
	c := &metapb.Command{}
	if err := unseal(data, c); err != nil {
		return nil, err
	}
	if c.GetLevel() > metadataLevel {
		return nil, failf(ErrTooNew, "a command of metadata level %d, this program knows %d", c.GetLevel(), metadataLevel)
	}
	if c.GetKind() == nil {
		return nil, failf(ErrTooNew, "a command of an unknown kind")
	}
	return c, nil
}

// toSettings is a map in its durable form, sorted.
func toSettings(values map[string]string) []*metapb.Setting {
	if len(values) == 0 {
		return nil
	}
	out := make([]*metapb.Setting, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		out = append(out, &metapb.Setting{Name: name, Value: values[name]})
	}
	return out
}

// fromSettings never returns nil, so that an image has one form for "nothing is set".
func fromSettings(settings []*metapb.Setting) map[string]string {
	out := make(map[string]string, len(settings))
	for _, s := range settings {
		out[s.GetName()] = s.GetValue()
	}
	return out
}

func toTopicID(b []byte) (replication.TopicID, bool) {
	if len(b) != len(replication.TopicID{}) {
		return replication.TopicID{}, false
	}
	id := replication.TopicID(b)
	return id, id != replication.TopicID{}
}

func toPlacement(nodes []replication.NodeID) *metapb.Placement {
	return &metapb.Placement{Nodes: fromNodes(nodes)}
}

func fromNodes(nodes []replication.NodeID) (out []int32) {
	for _, n := range nodes {
		out = append(out, int32(n))
	}
	return out
}

func toNodes(nodes []int32) (out []replication.NodeID) {
	for _, n := range nodes {
		out = append(out, replication.NodeID(n))
	}
	return out
}

func toPlacements(nodes [][]replication.NodeID) []*metapb.Placement {
	out := make([]*metapb.Placement, len(nodes))
	for i := range nodes {
		out[i] = toPlacement(nodes[i])
	}
	return out
}

func toReplica(r *metapb.Replica) replication.ReplicaID {
	return replication.ReplicaID{Node: replication.NodeID(r.GetNode()), Incarnation: replication.Incarnation(r.GetIncarnation())}
}

func fromReplica(r replication.ReplicaID) *metapb.Replica {
	return &metapb.Replica{Node: int32(r.Node), Incarnation: uint32(r.Incarnation)}
}

// toReplicas returns nil for none.
func toReplicas(in []*metapb.Replica) []replication.ReplicaID {
	if len(in) == 0 {
		return nil
	}
	out := make([]replication.ReplicaID, len(in))
	for i, r := range in {
		out[i] = toReplica(r)
	}
	return out
}

func fromReplicas(in []replication.ReplicaID) []*metapb.Replica {
	out := make([]*metapb.Replica, len(in))
	for i, r := range in {
		out[i] = fromReplica(r)
	}
	return out
}
