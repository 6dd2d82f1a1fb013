package controller

import (
	"context"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/replication"
)

// Image is the cluster's metadata at one point. It never changes; every field is to be read only.
type Image struct {
	Index        uint64
	ClusterID    string
	Nodes        map[replication.NodeID]replication.Node
	Topics       map[string]*Topic
	ByID         map[replication.TopicID]*Topic
	BrokerConfig map[string]string
	NodeConfig   map[replication.NodeID]map[string]string
	GroupConfig  map[string]map[string]string
}

// Topic is a topic of an Image.
type Topic struct {
	Name       string
	ID         replication.TopicID
	Partitions []replication.Assignment
	Config     map[string]string
	Internal   bool
}

// TopicConfig is a topic's effective configuration on this node.
func (im *Image) TopicConfig(name string) replication.TopicConfig { return replication.TopicConfig{} }

// Layers are the broker settings of this node.
func (im *Image) Layers() config.Layers { return config.Layers{} }

type NewTopic struct {
	Name              string
	Partitions        int32
	ReplicationFactor int16
	Assignments       map[int32][]replication.NodeID
	Config            map[string]string
	Internal          bool
}

type TopicResult struct {
	Topic *Topic
	Err   error
}

type TopicRef struct {
	Name string
	ID   replication.TopicID
}

type ResourceType uint8

const (
	TopicResource ResourceType = iota + 1
	BrokerResource
	GroupResource
)

type Resource struct {
	Type ResourceType
	Name string
}

type OpKind uint8

const (
	OpSet OpKind = iota
	OpDelete
	OpAppend
	OpSubtract
)

type ConfigOp struct {
	Name  string
	Op    OpKind
	Value string
}

// ValidateTopicName says whether a topic may have a name.
func ValidateTopicName(name string) error { return nil }

type Proposer interface {
	Propose(ctx context.Context, command []byte) (any, error)
	IsLeader() bool
	Leader() replication.NodeID
}

// Machine is the deterministic state machine of the metadata group.
type Machine struct{}

type MachineOptions struct {
	Node    replication.NodeID
	Static  map[string]string
	OnFatal func(error)
}

func NewMachine(o MachineOptions) *Machine                { return &Machine{} }
func (m *Machine) Apply(index uint64, command []byte) any { return nil }
func (m *Machine) Snapshot() ([]byte, error)              { return nil, nil }
func (m *Machine) Restore(data []byte) error              { return nil }

type Options struct {
	Machine *Machine
	Group   Proposer
}

type Controller struct{}

func New(o Options) *Controller                                      { return &Controller{} }
func (c *Controller) Close()                                         {}
func (c *Controller) Image() *Image                                  { return &Image{} }
func (c *Controller) ControllerNode() replication.NodeID             { return 0 }
func (c *Controller) Watch(fn func(old, new *Image)) (cancel func()) { return func() {} }
func (c *Controller) CreateTopics(ctx context.Context, topics []NewTopic, validateOnly bool) []TopicResult {
	return nil
}
func (c *Controller) DeleteTopics(ctx context.Context, topics []TopicRef) []error { return nil }
func (c *Controller) CreatePartitions(ctx context.Context, name string, count int32, assignments [][]replication.NodeID, validateOnly bool) error {
	return nil
}
func (c *Controller) AlterConfigs(ctx context.Context, r Resource, ops []ConfigOp, validateOnly bool) error {
	return nil
}
func (c *Controller) ReplaceConfigs(ctx context.Context, r Resource, values map[string]string, validateOnly bool) error {
	return nil
}
func (c *Controller) AllocateProducerIDs(ctx context.Context) (first int64, count int32, err error) {
	return 0, 0, nil
}
func (c *Controller) RegisterNode(ctx context.Context, n replication.Node) error { return nil }
func (c *Controller) EnsureClusterID(ctx context.Context) error                  { return nil }
