package replicated

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"
)

// fakeController creates what it is asked to.
type fakeController struct {
	image *controller.Image
	asked []controller.NewTopic
	err   error
}

func (f *fakeController) Image() *controller.Image   { return f.image }
func (f *fakeController) Sync(context.Context) error { return nil }

func (f *fakeController) CreateTopics(_ context.Context, topics []controller.NewTopic, _ bool) []controller.TopicResult {
	f.asked = append(f.asked, topics...)
	if f.err == nil {
		f.image = imageOf(topics[0].Name, int(topics[0].Partitions))
	}
	return []controller.TopicResult{{Err: f.err}}
}

func imageOf(name string, partitions int) *controller.Image {
	t := &controller.Topic{Name: name, ID: replication.NewTopicID(), Partitions: make([]replication.Assignment, partitions)}
	return &controller.Image{
		Topics: map[string]*controller.Topic{name: t}, ByID: map[replication.TopicID]*controller.Topic{t.ID: t},
		Nodes: map[replication.NodeID]replication.Node{1: {ID: 1, Host: "one", Port: 9092}},
	}
}

// nowhere hosts no partition.
type nowhere struct{}

func (nowhere) Get(replication.PartitionID) (*partition.Partition, bool) { return nil, false }

func TestTheTopicIsCreatedOnce(t *testing.T) {
	c := &fakeController{image: &controller.Image{}}
	n := New(Options{Partitions: nowhere{}, Controller: c})
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // no partition will have a leader here
	if err := n.EnsureTopic(ctx); err != nil {
		t.Fatal(err)
	}
	if err := n.EnsureTopic(ctx); err != nil || len(c.asked) != 1 {
		t.Fatalf("%d topics, %v", len(c.asked), err)
	}
	got := c.asked[0]
	if got.Name != broker.OffsetsTopic || got.Partitions != DefaultPartitions || got.ReplicationFactor != -1 || !got.Internal || got.Config["cleanup.policy"] != "compact" {
		t.Errorf("got %+v", got)
	}
	if topic, ok := n.Topic(broker.OffsetsTopic); !ok || topic.Partitions != DefaultPartitions {
		t.Errorf("got %+v", topic)
	}
	if _, ok := n.Topic("other"); ok {
		t.Error("an unknown topic is there")
	}
	if _, ok := n.Coordinator(0, ""); ok {
		t.Error("a partition that is nowhere has a leader")
	}
	if _, err := n.Open(0, 1); !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("got %v", err)
	}
}

// table is a leadership table by partition.
type table map[int32]replication.Leader

func (l table) Leader(id replication.PartitionID) (replication.Leader, []replication.NodeID, bool) {
	leader, ok := l[id.Partition]
	return leader, nil, ok
}

func TestCoordinatorsOnOtherNodes(t *testing.T) {
	image := imageOf(broker.OffsetsTopic, 3)
	image.Nodes[2] = replication.Node{ID: 2, Host: "two", Port: 9093}
	leaders := table{0: {Node: 2, Epoch: 4}, 1: {Node: 3, Epoch: 4}}
	n := New(Options{Partitions: nowhere{}, Controller: &fakeController{image: image}, Leaders: leaders})
	if node, ok := n.Coordinator(0, ""); !ok || node.Port != 9093 {
		t.Errorf("%+v, %v", node, ok)
	}
	for index, why := range map[int32]string{1: "a node that is not registered", 2: "nobody", 9: "nobody"} {
		if node, ok := n.Coordinator(index, ""); ok {
			t.Errorf("%s leads partition %d: %+v", why, index, node)
		}
	}
}

func TestCreationMayBeRefused(t *testing.T) {
	for _, c := range []struct{ err, want error }{
		{replication.ErrTopicExists, nil}, // another node was first
		{replication.ErrInvalidReplicationFactor, replication.ErrInvalidReplicationFactor},
	} {
		n := New(Options{Partitions: nowhere{}, Controller: &fakeController{image: &controller.Image{}, err: c.err}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := n.EnsureTopic(ctx); !errors.Is(err, c.want) {
			t.Errorf("%v: got %v", c.err, err)
		}
	}
}

func TestOnlyTheOffsetsTopicIsForwarded(t *testing.T) {
	for _, c := range []struct {
		topic string
		want  error
	}{
		{"other", broker.ErrNotCoordinator},
		{broker.OffsetsTopic, broker.ErrCoordinatorLoading}, // for ever, as there is nothing to read
	} {
		ctl := &fakeController{image: imageOf(c.topic, 1)}
		n := New(Options{Partitions: nowhere{}, Controller: ctl})
		s, err := group.New(group.Options{Logs: n, Cluster: n, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		id := replication.PartitionID{Topic: ctl.image.Topics[c.topic].ID}
		n.Forward(s, partition.LeaderChange{ID: id, Leader: replication.Leader{Node: 1, Epoch: 1}, Local: true})
		if got := s.Heartbeat(t.Context(), group.HeartbeatRequest{Group: "g", Member: "m"}); !errors.Is(got, c.want) {
			t.Errorf("%s: got %v", c.topic, got)
		}
		ForwardChanges(s, ctl.image, &controller.Image{})
		ForwardChanges(s, nil, ctl.image)
		s.Close()
	}
}

// told counts what a service is told.
type told struct {
	changes int
	deleted []coordinator.Topic
}

func (c *told) TopicsDeleted(topics ...coordinator.Topic) { c.deleted = append(c.deleted, topics...) }
func (c *told) TopicsChanged()                            { c.changes++ }

// TestForwardChanges: groups hear of topics that come, go or grow, and that others may see them; of nothing else.
func TestForwardChanges(t *testing.T) {
	topic := func(id byte, partitions int) *controller.Topic {
		return &controller.Topic{ID: replication.TopicID{id}, Partitions: make([]replication.Assignment, partitions)}
	}
	gone := []coordinator.Topic{{Name: "a", ID: replication.TopicID{1}, Partitions: 1}}
	before := &controller.Image{Topics: map[string]*controller.Topic{"a": topic(1, 1), "b": topic(2, 1)}, ACLs: &controller.ACLs{}}
	for name, c := range map[string]struct {
		alter func(im *controller.Image)
		want  told
	}{
		"nothing": {func(*controller.Image) {}, told{}},
		"made":    {func(im *controller.Image) { im.Topics["c"] = topic(3, 1) }, told{changes: 1}},
		"grown":   {func(im *controller.Image) { im.Topics["a"] = topic(1, 2) }, told{changes: 1}},
		"deleted": {func(im *controller.Image) { delete(im.Topics, "a") }, told{changes: 1, deleted: gone}},
		"another": {func(im *controller.Image) { im.Topics["a"] = topic(4, 1) }, told{changes: 1, deleted: gone}},
		"rules":   {func(im *controller.Image) { im.ACLs = &controller.ACLs{} }, told{changes: 1}},
	} {
		after := &controller.Image{Topics: maps.Clone(before.Topics), ACLs: before.ACLs}
		c.alter(after)
		var got told
		if ForwardChanges(&got, before, after); got.changes != c.want.changes || !slices.Equal(got.deleted, c.want.deleted) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
