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
		BrokerConfig: toSettings(im.BrokerConfig), NextProducerId: im.NextProducerID, FoundedNodes: int32(im.FoundedNodes),
	}
	for _, id := range slices.Sorted(maps.Keys(im.Nodes)) {
		n, r := im.Nodes[id], im.Registrations[id]
		node := &metapb.Node{
			Id: int32(id), Host: n.Host, Port: n.Port, Rack: n.Rack, Endpoints: toEndpoints(n.Endpoints),
			Epoch: r.Epoch, NextIncarnation: uint32(r.NextIncarnation), RegisteredMs: r.RegisteredMillis,
			MetaIncarnation: uint32(r.Meta), NextMeta: uint32(r.NextMeta), Version: r.Version, Start: uint64(r.Start),
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
	for _, id := range slices.Sorted(maps.Keys(im.Departed)) {
		d := im.Departed[id]
		out.Departed = append(out.Departed, &metapb.Departed{Node: int32(id), NextIncarnation: uint32(d.NextIncarnation), NextMeta: uint32(d.NextMeta)})
	}
	out.Users, out.UsersSecret = encodeUsers(im.Users), im.UsersSecret
	out.Acls = fromACLs(im.ACLs.rules())
	return seal(out)
}

func encodeTopic(t *Topic) *metapb.Topic {
	out := &metapb.Topic{
		Name: t.Name, Id: t.ID[:], Config: toSettings(t.Config), Internal: t.Internal, CreatedMs: t.CreatedMillis,
		Partitions: make([]*metapb.Partition, len(t.Partitions)),
	}
	for i, p := range t.Partitions {
		out.Partitions[i] = &metapb.Partition{
			Replicas: fromReplicas(p.Replicas), Adding: fromReplicas(p.Adding), Removing: fromReplicas(p.Removing), Initial: fromReplicas(p.Initial), Origin: fromNodes(p.Origin),
		}
	}
	return out
}

// decodeTopic does not check what it reads.
func decodeTopic(t *metapb.Topic) *Topic {
	id, _ := toTopicID(t.GetId())
	out := &Topic{
		Name: t.GetName(), ID: id, Config: fromSettings(t.GetConfig()), Internal: t.GetInternal(), CreatedMillis: t.GetCreatedMs(),
		Partitions: make([]replication.Assignment, len(t.GetPartitions())),
	}
	for i, p := range t.GetPartitions() {
		out.Partitions[i] = replication.Assignment{
			Replicas: toReplicas(p.GetReplicas()), Adding: toReplicas(p.GetAdding()), Removing: toReplicas(p.GetRemoving()), Initial: toReplicas(p.GetInitial()), Origin: toNodes(p.GetOrigin()),
		}
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
	im.Index, im.ClusterID, im.NextProducerID, im.FoundedNodes = in.GetIndex(), in.GetClusterId(), in.GetNextProducerId(), int(in.GetFoundedNodes())
	im.BrokerConfig = fromSettings(in.GetBrokerConfig())
	for _, n := range in.GetNodes() {
		id := replication.NodeID(n.GetId())
		im.Nodes[id] = replication.Node{ID: id, Host: n.GetHost(), Port: n.GetPort(), Rack: n.GetRack(), Endpoints: fromEndpoints(n.GetEndpoints())}
		r := Registration{
			Epoch: n.GetEpoch(), NextIncarnation: replication.Incarnation(n.GetNextIncarnation()), RegisteredMillis: n.GetRegisteredMs(),
			Meta: replication.Incarnation(n.GetMetaIncarnation()), NextMeta: replication.Incarnation(n.GetNextMeta()), Version: n.GetVersion(),
			Start: StartID(n.GetStart()),
		}
		r.NextMeta = max(r.NextMeta, r.Meta+1) // at level 1 there was none
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
	for _, d := range in.GetDeparted() {
		im.Departed[replication.NodeID(d.GetNode())] = Departed{replication.Incarnation(d.GetNextIncarnation()), replication.Incarnation(d.GetNextMeta())}
	}
	if err := im.restoreUsers(in); err != nil {
		return nil, err
	}
	im.ACLs = newACLs(slices.Compact(sortedACLs(in.GetAcls())))
	return im, nil
}

func (im *Image) restoreTopic(t *metapb.Topic) error {
	topic := decodeTopic(t)
	if topic.ID == (replication.TopicID{}) || im.Topics[topic.Name] != nil || im.ByID[topic.ID] != nil {
		return failf(ErrDamaged, "topic %q: its name or id is wrong or not the only one", topic.Name)
	}
	if len(topic.Partitions) == 0 {
		return failf(ErrDamaged, "topic %q has no partition", topic.Name)
	}
	for i, a := range topic.Partitions {
		if err := im.checkAssignment(a); err != nil {
			return failf(err, "topic %q, partition %d", topic.Name, i)
		}
	}
	im.Topics[topic.Name], im.ByID[topic.ID] = topic, topic
	im.partitions += len(topic.Partitions)
	return nil
}

// checkAssignment holds an assignment against the invariants of Image.
func (im *Image) checkAssignment(a replication.Assignment) error {
	target := a.Target()
	if len(target) == 0 {
		return failf(ErrDamaged, "there is no replica")
	}
	for i, r := range a.Replicas {
		if r.Incarnation == 0 || r.Incarnation >= im.Registrations[r.Node].NextIncarnation {
			return failf(ErrDamaged, "replica %s was never placed", r)
		}
		if slices.Contains(a.Replicas[:i], r) {
			return failf(ErrDamaged, "replica %s is named twice", r)
		}
	}
	for i, r := range target {
		if newest, _ := newestOn(a, r.Node); newest != r || slices.ContainsFunc(target[:i], func(x replication.ReplicaID) bool { return x.Node == r.Node }) {
			return failf(ErrDamaged, "replica %s is not the only one on its node", r)
		}
	}
	for _, r := range a.Removing {
		if !slices.Contains(a.Replicas, r) || slices.Contains(a.Adding, r) {
			return failf(ErrDamaged, "replica %s is to go and is not there, or is to come too", r)
		}
	}
	if a.Origin != nil && !moving(a) {
		return failf(ErrDamaged, "it came from %v and is not on its way", a.Origin)
	}
	for _, r := range a.Adding {
		if !slices.Contains(a.Replicas, r) {
			return failf(ErrDamaged, "replica %s is to come and is not there", r)
		}
	}
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
			for i, r := range p.Target() {
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
