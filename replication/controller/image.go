package controller

import (
	"maps"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/replication"
)

// Image is the cluster's metadata at one point. Nothing in it ever changes, so any number of goroutines may read it, and
// two images may be compared entry by entry to see what happened between them.
//
// Invariants: Topics[n].Name == n; ByID holds exactly the topics of Topics; Nodes holds exactly the nodes of Registrations;
// every replica is on a registered node and has an incarnation in [1, NextIncarnation of that node). Adding and Removing of an
// assignment are disjoint subsets of its Replicas; its target has each node at most once, and the last incarnation on it.
type Image struct {
	// Index is the Raft index of the last command that changed anything.
	Index     uint64
	ClusterID string // empty until the cluster has been named
	// Nodes are the registered brokers, and Registrations what the controller keeps about each besides.
	Nodes         map[replication.NodeID]replication.Node
	Registrations map[replication.NodeID]Registration
	Topics        map[string]*Topic
	ByID          map[replication.TopicID]*Topic
	BrokerConfig  map[string]string                        // dynamic broker settings of all nodes
	NodeConfig    map[replication.NodeID]map[string]string // and of single nodes, which are stronger
	GroupConfig   map[string]map[string]string
	// NextProducerID is the first producer id that nobody has.
	NextProducerID int64
	// Features are the finalized feature levels (KIP-584).
	Features map[string]int32
	// ACLs are the rules of access control; nil if there are none.
	ACLs *ACLs
	// FoundedNodes is how many nodes the cluster was founded for, 0 for one. Until as many are registered, nobody may take the
	// few that are there for all.
	FoundedNodes int
	// Departed are the counters of nodes that were unregistered.
	Departed map[replication.NodeID]Departed
	// Users are those that prove themselves by a password, by name. UsersSecret is empty until there are any, and kept for ever:
	// see package broker/auth for what it is for. It never leaves the nodes.
	Users       map[string]*User
	UsersSecret []byte

	partitions int // of all topics
	local      *local
}

// Registration is what the controller keeps about a node.
type Registration struct {
	// Directory identifies the node's data directory; zero if the node did not say.
	Directory DirectoryID
	// Epoch grows with each registration: it is the registration's Raft index.
	Epoch uint64
	// NextIncarnation is what the next replica placed here gets.
	NextIncarnation replication.Incarnation
	// RegisteredMillis is when it registered, by the proposer's clock, in milliseconds since 1970.
	RegisteredMillis int64
	// Meta is the incarnation of the node's replica of the metadata group, and NextMeta what that gets next.
	Meta, NextMeta replication.Incarnation
	// Version is that of the node's program; empty if it did not say.
	Version string
	// Start is which start of the node's directory registered last; zero if the node did not say.
	Start StartID
}

// MetaReplica is the node's replica of the metadata group.
func (r Registration) MetaReplica(id replication.NodeID) replication.ReplicaID {
	return replication.ReplicaID{Node: id, Incarnation: r.Meta}
}

// Departed is what is kept of a node that was unregistered: incarnations are never used again.
type Departed struct{ NextIncarnation, NextMeta replication.Incarnation }

// DrainSetting is the dynamic setting of a broker that takes it out of service: leaderships move away from it, and no new
// replicas to it, unless it is "false".
const DrainSetting = "quorlog.drain"

// DrainUntilRestart is the value of DrainSetting that the node takes back itself when it starts.
const DrainUntilRestart = "until-restart"

// Draining tells whether a node is to give up its leaderships.
func (im *Image) Draining(id replication.NodeID) bool {
	return config.Layers{Broker: im.NodeConfig[id], BrokerDefault: im.BrokerConfig}.Get(config.Broker, DrainSetting) != "false"
}

// DrainingUntilRestart tells whether it is to do so only until it starts again.
func (im *Image) DrainingUntilRestart(id replication.NodeID) bool {
	return im.NodeConfig[id][DrainSetting] == DrainUntilRestart
}

// DirectoryID identifies a data directory.
type DirectoryID [16]byte

// StartID is drawn at each start of a node from its data directory, and written there before it is told to anybody. So a directory
// that knows nothing of the last start that registered is an older copy.
type StartID uint64

// Topic is a topic of an image.
type Topic struct {
	Name       string
	ID         replication.TopicID
	Partitions []replication.Assignment // by partition index
	Config     map[string]string        // what is set for this topic itself
	Internal   bool                     // written by the cluster, not by clients
	// CreatedMillis is when it was created, by the proposer's clock, in milliseconds since 1970.
	CreatedMillis int64
}

// local is what this node adds to an image when it resolves settings. It is not part of the metadata.
type local struct {
	node   replication.NodeID
	static map[string]string
}

func emptyImage(l *local) *Image {
	return &Image{
		Nodes: map[replication.NodeID]replication.Node{}, Registrations: map[replication.NodeID]Registration{},
		Topics: map[string]*Topic{}, ByID: map[replication.TopicID]*Topic{},
		BrokerConfig: map[string]string{}, NodeConfig: map[replication.NodeID]map[string]string{},
		GroupConfig: map[string]map[string]string{}, Features: map[string]int32{}, Departed: map[replication.NodeID]Departed{},
		Users: map[string]*User{},
		local: l,
	}
}

// Partitions is the number of partitions of all topics.
func (im *Image) Partitions() int { return im.partitions }

// Layers are the broker settings that hold on this node.
func (im *Image) Layers() config.Layers {
	l := config.Layers{BrokerDefault: im.BrokerConfig}
	if im.local != nil {
		l.Broker, l.Static = im.NodeConfig[im.local.node], im.local.static
	}
	return l
}

// topicLayers are Layers with what is set for a topic on top.
func (im *Image) topicLayers(topic string) config.Layers {
	l := im.Layers()
	if t := im.Topics[topic]; t != nil {
		l.Topic = t.Config
	}
	return l
}

// TopicConfig is a topic's effective configuration on this node; that of a topic without settings if there is no such
// topic. It parses about thirty values, so callers keep the result until the image changes.
func (im *Image) TopicConfig(name string) replication.TopicConfig {
	// Each value was checked when it was set. What can still be wrong is a combination across layers, for example a
	// topic's minimum above the broker's maximum: then both values hold as they are.
	c, _ := im.topicLayers(name).TopicConfig()
	return c
}

// draft is an image in the making. A map is copied when it is first changed; what is not changed is shared with the image
// that the draft began with.
type draft struct {
	base *Image
	next *Image
	own  struct{ nodes, topics, node, group, features, departed bool }
}

func newDraft(im *Image) *draft {
	next := *im
	return &draft{base: im, next: &next}
}

// finish returns the image and seals it: the draft must not be used afterwards. Without a change it is the old image.
func (d *draft) finish(index uint64, changed bool) *Image {
	if !changed {
		return d.base
	}
	d.next.Index = index
	return d.next
}

func (d *draft) ownNodes() {
	if !d.own.nodes {
		d.next.Nodes, d.next.Registrations, d.own.nodes = maps.Clone(d.next.Nodes), maps.Clone(d.next.Registrations), true
	}
}

func (d *draft) setNode(n replication.Node, r Registration) {
	d.ownNodes()
	d.next.Nodes[n.ID], d.next.Registrations[n.ID] = n, r
}

// removeNode drops a node and what is set for it.
func (d *draft) removeNode(id replication.NodeID) {
	d.ownNodes()
	delete(d.next.Nodes, id)
	delete(d.next.Registrations, id)
	d.setNodeConfig(id, nil)
}

// setDeparted keeps the counters of a node; zero drops them.
func (d *draft) setDeparted(id replication.NodeID, counters Departed) {
	if !d.own.departed {
		d.next.Departed, d.own.departed = maps.Clone(d.next.Departed), true
	}
	if d.next.Departed[id] = counters; counters == (Departed{}) {
		delete(d.next.Departed, id)
	}
}

func (d *draft) ownTopics() {
	if !d.own.topics {
		d.next.Topics, d.next.ByID, d.own.topics = maps.Clone(d.next.Topics), maps.Clone(d.next.ByID), true
	}
}

func (d *draft) setTopic(t *Topic) {
	d.ownTopics()
	if old := d.next.Topics[t.Name]; old != nil {
		d.next.partitions -= len(old.Partitions)
	}
	d.next.partitions += len(t.Partitions)
	d.next.Topics[t.Name], d.next.ByID[t.ID] = t, t
}

func (d *draft) removeTopic(t *Topic) {
	d.ownTopics()
	d.next.partitions -= len(t.Partitions)
	delete(d.next.Topics, t.Name)
	delete(d.next.ByID, t.ID)
}

// setNodeConfig replaces what is set for a node. An empty map is dropped, so that equal content makes equal images.
func (d *draft) setNodeConfig(id replication.NodeID, values map[string]string) {
	if !d.own.node {
		d.next.NodeConfig, d.own.node = maps.Clone(d.next.NodeConfig), true
	}
	if d.next.NodeConfig[id] = values; len(values) == 0 {
		delete(d.next.NodeConfig, id)
	}
}

func (d *draft) setGroupConfig(group string, values map[string]string) {
	if !d.own.group {
		d.next.GroupConfig, d.own.group = maps.Clone(d.next.GroupConfig), true
	}
	if d.next.GroupConfig[group] = values; len(values) == 0 {
		delete(d.next.GroupConfig, group)
	}
}

func (d *draft) setFeature(name string, level int32) {
	if !d.own.features {
		d.next.Features, d.own.features = maps.Clone(d.next.Features), true
	}
	if d.next.Features[name] = level; level == 0 {
		delete(d.next.Features, name)
	}
}

// place gives replicas on nodes their incarnations. The nodes are registered.
func (d *draft) place(nodes []replication.NodeID) replication.Assignment {
	a := replication.Assignment{Replicas: make([]replication.ReplicaID, len(nodes))}
	for i, id := range nodes {
		a.Replicas[i] = d.incarnate(id)
	}
	return a
}

// incarnate takes the next incarnation on a registered node.
func (d *draft) incarnate(id replication.NodeID) replication.ReplicaID {
	r := d.next.Registrations[id]
	replica := replication.ReplicaID{Node: id, Incarnation: r.NextIncarnation}
	r.NextIncarnation++
	d.setNode(d.next.Nodes[id], r)
	return replica
}
