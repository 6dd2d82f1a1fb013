// Package admin is the service behind the administrative requests: metadata, topics, partitions, configuration, log
// directories, record deletion and producer ids. It reads the controller's image, which every node has in memory, and
// leaves every change to the controller.
//
// Goroutines: ElectLeaders runs elections side by side and waits for them; there are no others.
package admin

import (
	"context"
	"errors"
	"time"

	"github.com/quorlog/quorlog/internal/logging"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"
)

// Errors of this service, beside those of package replication.
var (
	// ErrLeaderNotAvailable: the partition has no leader at the moment (LEADER_NOT_AVAILABLE).
	ErrLeaderNotAvailable = errors.New("the partition has no leader")
	// ErrMismatchedEndpoint: brokers answer for brokers, not for controllers (MISMATCHED_ENDPOINT_TYPE).
	ErrMismatchedEndpoint = errors.New("this is a broker's address, not a controller's")
	// ErrUnsupportedEndpoint: the request names a kind of endpoint that does not exist (UNSUPPORTED_ENDPOINT_TYPE).
	ErrUnsupportedEndpoint = errors.New("unknown type of endpoint")
	// ErrRebootstrap: the client reached another cluster or broker than it meant (REBOOTSTRAP_REQUIRED).
	ErrRebootstrap = errors.New("this is another cluster or broker than the client expects")
)

// Controller is the part of *controller.Controller that changes things.
type Controller interface {
	CreateTopics(ctx context.Context, topics []controller.NewTopic, validateOnly bool) []controller.TopicResult
	DeleteTopics(ctx context.Context, topics []controller.TopicRef) []error
	CreatePartitions(ctx context.Context, name string, count int32, assignments [][]replication.NodeID, validateOnly bool) error
	AlterConfigs(ctx context.Context, r controller.Resource, ops []controller.ConfigOp, validateOnly bool) error
	ReplaceConfigs(ctx context.Context, r controller.Resource, values map[string]string, validateOnly bool) error
	AllocateProducerIDs(ctx context.Context) (first int64, count int32, err error)
}

// Placement is the part of *controller.Controller that moves replicas between nodes.
type Placement interface {
	// ReassignPartitions begins moves, or cancels them. The errors are in their order.
	ReassignPartitions(ctx context.Context, moves []controller.Reassignment) []error
	// UnregisterNode forgets a node, unless it is alive or hosts replicas.
	UnregisterNode(ctx context.Context, id replication.NodeID) error
}

// Images gives the newest image of the cluster and tells which node is the controller.
type Images interface {
	Image() *controller.Image
	ControllerNode() replication.NodeID
}

// Local finds the partitions that this node hosts. *partition.Manager is one.
type Local interface {
	Get(id replication.PartitionID) (*partition.Partition, bool)
	All() []*partition.Partition
}

// Volume tells how much room there is. Every vfs.FS is one.
type Volume interface {
	Free(dir string) (free, total uint64, err error)
}

// Options configure a Service.
type Options struct {
	Node       replication.NodeID
	Images     Images
	Controller Controller
	Local      Local
	// Leaders is the leadership table; nil for a node without peers.
	Leaders Leaders
	// Groups are the Raft groups of this node, Call reaches other nodes, and Placement moves replicas. Requests that need what
	// is nil fail.
	Groups    Groups
	Call      PeerCall
	Placement Placement
	// Internal makes the coordinators' topics, by name: with what settings only they know. A name that is missing is not created for whoever
	// asks for it.
	Internal map[string]func(context.Context) error
	// FS and DataDir tell DescribeLogDirs where the logs are.
	FS      Volume
	DataDir string
	// Levels are those of this node's loggers; nil where nobody may change them.
	Levels *logging.Levels
	// LeaderWait bounds how long CreateTopics waits for the new partitions to have leaders, so that the client's next
	// request finds them; 0 means DefaultLeaderWait, negative not at all.
	LeaderWait time.Duration
}

// DefaultLeaderWait is longer than an election on an idle cluster takes, and shorter than any client's patience.
const DefaultLeaderWait = 2 * time.Second

// Service answers administrative requests. It may be used by any number of goroutines.
type Service struct {
	node       replication.NodeID
	images     Images
	controller Controller
	local      Local
	leaders    Leaders
	groups     Groups
	call       PeerCall
	placement  Placement
	internal   map[string]func(context.Context) error
	peers      bool // there is a leadership table: all nodes' partitions are known
	fs         Volume
	dataDir    string
	leaderWait time.Duration
	loggers    loggers
	producers  producerIDs
}

// New returns a Service.
func New(o Options) *Service {
	s := &Service{
		node: o.Node, images: o.Images, controller: o.Controller, local: o.Local, leaders: o.Leaders, peers: o.Leaders != nil,
		groups: o.Groups, call: o.Call, placement: o.Placement, internal: o.Internal, fs: o.FS, dataDir: o.DataDir, leaderWait: o.LeaderWait, loggers: loggers{o.Node, o.Levels},
	}
	if s.leaderWait == 0 {
		s.leaderWait = DefaultLeaderWait
	}
	if s.leaders == nil {
		s.leaders = alone{o.Local}
	}
	if s.groups == nil {
		s.groups = noGroups{}
	}
	if s.placement == nil {
		s.placement = noPlacement{}
	}
	s.producers.init(o.Controller)
	return s
}

// Node tells where a node is reached.
func (s *Service) Node(id replication.NodeID) (replication.Node, bool) {
	n, ok := s.images.Image().Nodes[id]
	return n, ok
}

func (s *Service) lookup() *Partitions { return NewPartitions(s.images, s.local, s.leaders) }
