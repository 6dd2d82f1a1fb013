package controller

import (
	"cmp"
	"maps"
	"slices"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// encodeImage is the snapshot of an image. Equal images have equal snapshots, byte for byte.
func encodeImage(im *Image) ([]byte, error) {
	out := &metapb.Image{
		Level: metadataLevel, Index: im.Index, ClusterId: im.ClusterID,
		BrokerConfig: toSettings(im.BrokerConfig), NextProducerId: im.NextProducerID,
	}
	for _, id := range slices.Sorted(maps.Keys(im.Nodes)) {
		n, r := im.Nodes[id], im.Registrations[id]
		node := &metapb.Node{
			Id: int32(id), Host: n.Host, Port: n.Port, Rack: n.Rack,
			Epoch: r.Epoch, NextIncarnation: uint32(r.NextIncarnation), RegisteredMs: r.RegisteredMillis,
		}
		if r.Directory != (DirectoryID{}) {
			node.Directory = r.Directory[:]
		}
		out.Nodes = append(out.Nodes, node)
	}
	for _, name := range slices.Sorted(maps.Keys(im.Topics)) {
		out.Topics = append(out.Topics, encodeTopic(im.Topics[name]))
	}
	for _, id := range slices.Sorted(maps.Keys(im.NodeConfig)) {
		out.NodeConfigs = append(out.NodeConfigs, &metapb.NodeConfig{Node: int32(id), Config: toSettings(im.NodeConfig[id])})
	}
	for _, group := range slices.Sorted(maps.Keys(im.GroupConfig)) {
		out.GroupConfigs = append(out.GroupConfigs, &metapb.GroupConfig{Group: group, Config: toSettings(im.GroupConfig[group])})
	}
	for _, name := range slices.Sorted(maps.Keys(im.Features)) {
		out.Features = append(out.Features, &metapb.Feature{Name: name, Level: im.Features[name]})
	}
	return seal(out)
}

func encodeTopic(t *Topic) *metapb.Topic {
	out := &metapb.Topic{
		Name: t.Name, Id: t.ID[:], Config: toSettings(t.Config), Internal: t.Internal, CreatedMs: t.CreatedMillis,
		Partitions: make([]*metapb.Partition, len(t.Partitions)),
	}
	for i, p := range t.Partitions {
		replicas := make([]*metapb.Replica, len(p.Replicas))
		for j, r := range p.Replicas {
			replicas[j] = &metapb.Replica{Node: int32(r.Node), Incarnation: uint32(r.Incarnation)}
		}
		out.Partitions[i] = &metapb.Partition{Replicas: replicas}
	}
	return out
}

// decodeImage restores an image. It refuses one that does not keep the invariants of Image.
func decodeImage(data []byte, l *local) (*Image, error) {
	in := &metapb.Image{}
	if err := unseal(data, in); err != nil {
		return nil, err
	}
	if in.GetLevel() > metadataLevel {
		return nil, failf(ErrTooNew, "a snapshot of metadata level %d, this program knows %d", in.GetLevel(), metadataLevel)
	}
	im := emptyImage(l)
	im.Index, im.ClusterID, im.NextProducerID = in.GetIndex(), in.GetClusterId(), in.GetNextProducerId()
	im.BrokerConfig = fromSettings(in.GetBrokerConfig())
	for _, n := range in.GetNodes() {
		id := replication.NodeID(n.GetId())
		im.Nodes[id] = replication.Node{ID: id, Host: n.GetHost(), Port: n.GetPort(), Rack: n.GetRack()}
		r := Registration{Epoch: n.GetEpoch(), NextIncarnation: replication.Incarnation(n.GetNextIncarnation()), RegisteredMillis: n.GetRegisteredMs()}
		copy(r.Directory[:], n.GetDirectory())
		im.Registrations[id] = r
	}
	for _, t := range in.GetTopics() {
		if err := im.restoreTopic(t); err != nil {
			return nil, err
		}
	}
	for _, c := range in.GetNodeConfigs() {
		im.NodeConfig[replication.NodeID(c.GetNode())] = fromSettings(c.GetConfig())
	}
	for _, c := range in.GetGroupConfigs() {
		im.GroupConfig[c.GetGroup()] = fromSettings(c.GetConfig())
	}
	for _, f := range in.GetFeatures() {
		im.Features[f.GetName()] = f.GetLevel()
	}
	return im, nil
}

func (im *Image) restoreTopic(t *metapb.Topic) error {
	id, ok := toTopicID(t.GetId())
	if !ok || im.Topics[t.GetName()] != nil || im.ByID[id] != nil {
		return failf(ErrDamaged, "topic %q: its name or id is wrong or not the only one", t.GetName())
	}
	topic := &Topic{
		Name: t.GetName(), ID: id, Config: fromSettings(t.GetConfig()), Internal: t.GetInternal(), CreatedMillis: t.GetCreatedMs(),
		Partitions: make([]replication.Assignment, len(t.GetPartitions())),
	}
	if len(t.GetPartitions()) == 0 {
		return failf(ErrDamaged, "topic %q has no partition", t.GetName())
	}
	for i, p := range t.GetPartitions() {
		if len(p.GetReplicas()) == 0 {
			return failf(ErrDamaged, "topic %q: partition %d has no replica", t.GetName(), i)
		}
		replicas := make([]replication.ReplicaID, len(p.GetReplicas()))
		for j, r := range p.GetReplicas() {
			replicas[j] = replication.ReplicaID{Node: replication.NodeID(r.GetNode()), Incarnation: replication.Incarnation(r.GetIncarnation())}
			next := im.Registrations[replicas[j].Node].NextIncarnation
			if replicas[j].Incarnation == 0 || replicas[j].Incarnation >= next {
				return failf(ErrDamaged, "topic %q: replica %s was never placed", t.GetName(), replicas[j])
			}
		}
		topic.Partitions[i].Replicas = replicas
	}
	im.Topics[topic.Name], im.ByID[id] = topic, topic
	im.partitions += len(topic.Partitions)
	return nil
}

// replicaCounts is how many replicas, and how many first replicas, each registered node has.
func (im *Image) replicaCounts() []load {
	byNode := make(map[replication.NodeID]*load, len(im.Nodes))
	for id, n := range im.Nodes {
		byNode[id] = &load{id: id, rack: n.Rack}
	}
	for _, t := range im.Topics {
		for _, p := range t.Partitions {
			for i, r := range p.Replicas {
				if l := byNode[r.Node]; l != nil {
					l.replicas++
					if i == 0 {
						l.leaders++
					}
				}
			}
		}
	}
	out := make([]load, 0, len(byNode))
	for _, l := range byNode {
		out = append(out, *l)
	}
	slices.SortFunc(out, func(a, b load) int { return cmp.Compare(a.id, b.id) })
	return out
}
