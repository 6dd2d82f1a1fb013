package admin

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

// TopicRef names a topic in a request, by name or by id.
type TopicRef struct {
	Name string
	ID   replication.TopicID // used if Name is empty
	// Known asks for a topic that exists: it is not created, whatever the request says.
	Known bool
}

// TopicInfo is what clients need to know of a topic in order to use it.
type TopicInfo struct {
	Err        error
	Name       string
	ID         replication.TopicID
	Internal   bool
	Partitions []PartitionInfo
}

// PartitionInfo tells where a partition is.
type PartitionInfo struct {
	Index    int32
	Leader   replication.Leader // Node is NoNode if there is none
	Replicas []replication.NodeID
	ISR      []replication.NodeID
	Offline  []replication.NodeID // replicas on nodes that are not there
}

// Cluster is what clients need to know of the cluster.
type Cluster struct {
	ID         string
	Controller replication.NodeID
	Nodes      []replication.Node // that clients should use, by id
	Fenced     []replication.Node // registered ones that have been gone for a while, by id
}

// fencedAfter is for how long a node must be gone before clients are no longer told its address; Kafka's
// broker.session.timeout.ms. It is longer than a restart: a client closes its connections to a node that is not named, and
// would have to find it again.
const fencedAfter = 9 * time.Second

// Cluster describes the cluster. A node that has been gone for a while is fenced, but only where this node is in touch with
// most of the cluster: one that is cut off must not tell its clients that all others are gone.
func (s *Service) Cluster() Cluster {
	im := s.images.Image()
	c := Cluster{ID: im.ClusterID, Controller: s.images.ControllerNode(), Nodes: make([]replication.Node, 0, len(im.Nodes))}
	alive := 0
	for id := range im.Nodes {
		if s.leaders.Alive(id) {
			alive++
		}
	}
	most := 2*alive > len(im.Nodes)
	for id, n := range im.Nodes {
		if most && id != s.node && s.leaders.Silent(id) > fencedAfter {
			c.Fenced = append(c.Fenced, n)
		} else {
			c.Nodes = append(c.Nodes, n)
		}
	}
	byID := func(a, b replication.Node) int { return cmp.Compare(a.ID, b.ID) }
	slices.SortFunc(c.Nodes, byID)
	slices.SortFunc(c.Fenced, byID)
	return c
}

// AllTopics describes every topic, by name.
func (s *Service) AllTopics() []TopicInfo {
	im := s.images.Image()
	infos := make([]TopicInfo, 0, len(im.Topics))
	for _, t := range im.Topics {
		infos = append(infos, s.describe(im, t))
	}
	slices.SortFunc(infos, func(a, b TopicInfo) int { return cmp.Compare(a.Name, b.Name) })
	return infos
}

// Topics describes the named topics, in their order. Those that do not exist are created first if create is set and
// auto.create.topics.enable allows it.
func (s *Service) Topics(ctx context.Context, refs []TopicRef, create bool) []TopicInfo {
	im := s.images.Image()
	infos := make([]TopicInfo, len(refs))
	var missing []string
	for i, ref := range refs {
		infos[i] = s.describeRef(im, ref)
		if infos[i].Err == replication.ErrUnknownPartition && ref.Name != "" && !ref.Known {
			missing = append(missing, ref.Name)
		}
	}
	if len(missing) == 0 || !create || !autoCreate(im) {
		return infos
	}
	failed := s.createMissing(ctx, missing)
	im = s.images.Image()
	for i, ref := range refs {
		if infos[i].Err != replication.ErrUnknownPartition || ref.Name == "" {
			continue
		}
		infos[i] = s.describeRef(im, ref)
		if err := failed[ref.Name]; err != nil && infos[i].Err != nil {
			infos[i].Err = err
		}
	}
	return infos
}

// createMissing makes topics and returns why some could not be made: those of users with the default settings.
func (s *Service) createMissing(ctx context.Context, names []string) map[string]error {
	slices.Sort(names)
	failed := make(map[string]error)
	var topics []controller.NewTopic
	for _, name := range slices.Compact(names) {
		switch ensure := s.internal[name]; {
		case name == broker.MetadataTopic: // stays unknown
		case !broker.IsInternalTopic(name):
			topics = append(topics, controller.NewTopic{Name: name, Partitions: -1, ReplicationFactor: -1})
		case ensure != nil:
			if err := ensure(ctx); err != nil {
				failed[name] = err
			}
		}
	}
	for i, r := range s.CreateTopics(ctx, topics, false) {
		if r.Err != nil {
			failed[topics[i].Name] = r.Err
		}
	}
	return failed
}

func (s *Service) describeRef(im *controller.Image, ref TopicRef) TopicInfo {
	if ref.Name == "" && ref.ID != (replication.TopicID{}) {
		if t := im.ByID[ref.ID]; t != nil {
			return s.describe(im, t)
		}
		return TopicInfo{ID: ref.ID, Err: replication.ErrUnknownTopicID}
	}
	if t := im.Topics[ref.Name]; t != nil {
		return s.describe(im, t)
	}
	info := TopicInfo{Name: ref.Name, Internal: broker.IsInternalTopic(ref.Name)}
	if info.Err = replication.ErrUnknownPartition; controller.ValidateTopicName(ref.Name) != nil {
		info.Err = fmt.Errorf("%w: %q", replication.ErrInvalidTopic, ref.Name)
	}
	return info
}

func (s *Service) describe(im *controller.Image, t *controller.Topic) TopicInfo {
	info := TopicInfo{Name: t.Name, ID: t.ID, Internal: t.Internal, Partitions: make([]PartitionInfo, len(t.Partitions))}
	for i := range t.Partitions {
		info.Partitions[i] = s.partition(im, t, int32(i))
	}
	return info
}

func (s *Service) partition(im *controller.Image, t *controller.Topic, index int32) PartitionInfo {
	replicas := t.Partitions[index].Replicas
	info := PartitionInfo{Index: index, Replicas: make([]replication.NodeID, len(replicas))}
	for i, r := range replicas {
		info.Replicas[i] = r.Node
		if _, there := im.Nodes[r.Node]; !there || !s.leaders.Alive(r.Node) {
			info.Offline = append(info.Offline, r.Node)
		}
	}
	info.Leader, info.ISR = leader(s.leaders, s.local, replication.PartitionID{Topic: t.ID, Partition: index})
	if _, there := im.Nodes[info.Leader.Node]; !there {
		info.Leader.Node = replication.NoNode // a client would not know where it is
	}
	return info
}

// Target is whom a client means to talk to (KIP-1242). A client that is only looking for the cluster gives neither.
type Target struct {
	ClusterID *string
	Node      replication.NodeID // NoNode for none
}

// CheckTarget tells a client that reached another cluster or broker than it meant, for example through an address that
// was given to a new owner.
func (s *Service) CheckTarget(t Target) error {
	if t.ClusterID == nil && t.Node == replication.NoNode {
		return nil
	}
	if t.ClusterID == nil || t.Node == replication.NoNode {
		return fmt.Errorf("%w: cluster id and node id must be given together", replication.ErrInvalidRequest)
	}
	if *t.ClusterID != s.images.Image().ClusterID || t.Node != s.node {
		return ErrRebootstrap
	}
	return nil
}
