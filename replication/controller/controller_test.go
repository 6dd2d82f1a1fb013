package controller

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/quorlog/quorlog/replication"
)

func TestValidateTopicName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "A-b.c_9": true, "...": true, "__x": true, strings.Repeat("a", 249): true,
		"": false, ".": false, "..": false, strings.Repeat("a", 250): false, "a b": false, "a/b": false, "ä": false, "a\x00": false, "a:b": false,
	} {
		if err := ValidateTopicName(name); (err == nil) != ok || err != nil && !errors.Is(err, replication.ErrInvalidTopic) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestStaticSettings(t *testing.T) {
	c, _ := newTestController(t, map[string]string{"num.partitions": "4", "log.retention.hours": "1", "delete.topic.enable": "false"})
	register(t, c, 1)
	topic := create(t, c, NewTopic{Name: "a", Partitions: -1, ReplicationFactor: -1})[0]
	if len(topic.Partitions) != 4 {
		t.Errorf("%d partitions", len(topic.Partitions))
	}
	if got := c.Image().TopicConfig("a").RetentionTime.Hours(); got != 1 {
		t.Errorf("%v hours", got)
	}
	if err := c.DeleteTopics(t.Context(), []TopicRef{{Name: "a"}})[0]; !errors.Is(err, ErrTopicDeletionDisabled) {
		t.Error(err)
	}
	if got := c.Image().TopicConfig("nothing").RetentionBytes; got != -1 {
		t.Errorf("retention.bytes of no topic is %d", got)
	}
}

// Somebody else creates, deletes or grows a topic between our look and our command.
func TestLosingARace(t *testing.T) {
	c, g := newTestController(t, nil)
	register(t, c, 1)
	one := NewTopic{Name: "a", Partitions: 1, ReplicationFactor: 1}

	g.before = func() { create(t, c, one) }
	if r := c.CreateTopics(t.Context(), []NewTopic{one, {Name: "b", Partitions: 1, ReplicationFactor: 1}}, false); !errors.Is(r[0].Err, replication.ErrTopicExists) || r[1].Err != nil {
		t.Errorf("%+v", r)
	}
	grow := func(to int32) error { return c.CreatePartitions(t.Context(), "a", to, nil, false) }
	g.before = func() {
		if err := grow(3); err != nil {
			t.Error(err)
		}
	}
	if err := grow(5); err != nil || len(c.Image().Topics["a"].Partitions) != 5 {
		t.Errorf("%v: %+v", err, c.Image().Topics["a"])
	}
	g.before = func() {
		if err := grow(8); err != nil {
			t.Error(err)
		}
	}
	if err := grow(7); !errors.Is(err, replication.ErrInvalidPartitions) {
		t.Error(err)
	}
	remove := func() {
		for _, err := range c.DeleteTopics(t.Context(), []TopicRef{{Name: "a"}}) {
			if err != nil {
				t.Error(err)
			}
		}
	}
	g.before = remove
	if err := c.DeleteTopics(t.Context(), []TopicRef{{Name: "a"}})[0]; !errors.Is(err, replication.ErrUnknownPartition) {
		t.Error(err)
	}
	create(t, c, one)
	g.before = remove
	if err := c.AlterConfigs(t.Context(), Resource{TopicResource, "a"}, []ConfigOp{{Name: "retention.ms", Value: "5"}}, false); !errors.Is(err, replication.ErrUnknownPartition) {
		t.Error(err)
	}
	id := create(t, c, one)[0].ID
	g.before = remove
	if err := c.DeleteTopics(t.Context(), []TopicRef{{ID: id}})[0]; !errors.Is(err, replication.ErrUnknownTopicID) {
		t.Error(err)
	}
}

// Two controllers, as around a change of leadership, append to one list at the same time: neither addition is lost.
func TestAppendsAreNotLost(t *testing.T) {
	c, g := newTestController(t, nil)
	register(t, c, 1)
	create(t, c, NewTopic{Name: "a", Partitions: 1, ReplicationFactor: 1})
	other := New(Options{Machine: c.machine, Group: g})
	defer other.Close()
	add := func(c *Controller, value string) error {
		return c.AlterConfigs(t.Context(), Resource{TopicResource, "a"},
			[]ConfigOp{{Name: "leader.replication.throttled.replicas", Op: OpAppend, Value: value}}, false)
	}
	g.before = func() {
		if err := add(other, "0:1"); err != nil {
			t.Error(err)
		}
	}
	if err := add(c, "0:2"); err != nil {
		t.Fatal(err)
	}
	if got := c.Image().Topics["a"].Config["leader.replication.throttled.replicas"]; got != "0:1,0:2" {
		t.Errorf("the list is %q", got)
	}
}

func TestConflictsEnd(t *testing.T) {
	calls := 0
	err := settle(t.Context(), func() error { calls++; return errConflict })
	if !errors.Is(err, replication.ErrOverloaded) || calls != mostTries {
		t.Errorf("%v after %d calls", err, calls)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := settle(ctx, func() error { return errConflict }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestProposalErrors(t *testing.T) {
	for _, tc := range []struct{ from, want error }{
		{replication.ErrNotLeader, ErrNotController},
		{fmt.Errorf("x: %w", replication.ErrUnknownOutcome), replication.ErrUnknownOutcome},
		{context.DeadlineExceeded, replication.ErrUnknownOutcome},
		{errors.New("anything else"), replication.ErrUnknownOutcome},
		{replication.ErrOverloaded, replication.ErrOverloaded},
	} {
		c, g := newTestController(t, nil)
		register(t, c, 1)
		create(t, c, NewTopic{Name: "a", Partitions: 1, ReplicationFactor: 1})
		g.fail = tc.from
		_, _, idErr := c.AllocateProducerIDs(t.Context())
		for what, err := range map[string]error{
			"create":   c.CreateTopics(t.Context(), []NewTopic{{Name: "b", Partitions: 1, ReplicationFactor: 1}}, false)[0].Err,
			"delete":   c.DeleteTopics(t.Context(), []TopicRef{{Name: "a"}})[0],
			"grow":     c.CreatePartitions(t.Context(), "a", 3, nil, false),
			"alter":    c.AlterConfigs(t.Context(), Resource{TopicResource, "a"}, []ConfigOp{{Name: "retention.ms", Value: "5"}}, false),
			"replace":  c.ReplaceConfigs(t.Context(), Resource{BrokerResource, ""}, map[string]string{"num.partitions": "5"}, false),
			"ids":      idErr,
			"register": c.RegisterNode(t.Context(), replication.Node{ID: 9, Host: "h", Port: 1}),
			"name":     c.EnsureClusterID(t.Context()),
			"feature":  c.SetFeature(t.Context(), "f", 1),
		} {
			if !errors.Is(err, tc.want) {
				t.Errorf("%s after %v: %v", what, tc.from, err)
			}
		}
	}
}

// A metadata group whose machine is stuck answers with the machine's error; that is definite.
func TestStuckMachine(t *testing.T) {
	m := NewMachine(MachineOptions{})
	m.Apply(1, nil)
	c := New(Options{Machine: m, Group: &group{machine: m}})
	defer c.Close()
	if err := c.EnsureClusterID(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	c, g := newTestController(t, nil)
	c.maxPartitions = 10
	register(t, c, 1)
	topics := []NewTopic{{Name: "a", Partitions: 6, ReplicationFactor: 1}, {Name: "b", Partitions: 6, ReplicationFactor: 1}, {Name: "c", Partitions: 4, ReplicationFactor: 1}}
	r := c.CreateTopics(t.Context(), topics, false)
	if r[0].Err != nil || !errors.Is(r[1].Err, replication.ErrPolicyViolation) || r[2].Err != nil {
		t.Errorf("%+v", r)
	}
	if err := c.CreatePartitions(t.Context(), "a", 7, nil, false); !errors.Is(err, replication.ErrPolicyViolation) {
		t.Error(err)
	}
	c.maxPartitions = DefaultMaxPartitions
	before := g.index
	if err := c.AlterConfigs(t.Context(), Resource{TopicResource, "a"},
		[]ConfigOp{{Name: "follower.replication.throttled.replicas", Value: strings.Repeat("x", maxValue+1)}}, false); !errors.Is(err, replication.ErrInvalidConfig) {
		t.Error(err)
	}
	if err := c.AlterConfigs(t.Context(), Resource{GroupResource, strings.Repeat("g", maxGroupName+1)},
		[]ConfigOp{{Name: "consumer.session.timeout.ms", Value: "5"}}, false); !errors.Is(err, replication.ErrInvalidRequest) {
		t.Error(err)
	}
	if err := c.AlterConfigs(t.Context(), Resource{GroupResource, "g"},
		[]ConfigOp{{Name: "consumer.session.timeout.ms", Value: "50000" + strings.Repeat(" ", maxGroupValue)}}, false); !errors.Is(err, replication.ErrInvalidConfig) {
		t.Error(err)
	}
	if g.index != before {
		t.Error("something was written")
	}
}

// A group's settings are in every node's memory: there is a bound on how many groups have some. Those that do may change theirs.
func TestGroupsWithSettings(t *testing.T) {
	c, _ := newTestController(t, nil)
	register(t, c, 1)
	if err := c.AlterConfigs(t.Context(), Resource{GroupResource, "g"},
		[]ConfigOp{{Name: "consumer.session.timeout.ms", Value: "44999"}}, false); !errors.Is(err, replication.ErrInvalidConfig) {
		t.Errorf("less than the nodes allow: %v", err)
	}
	own := map[string]string{"consumer.session.timeout.ms": "50000"}
	im := *c.Image()
	im.GroupConfig = map[string]map[string]string{}
	for i := range maxOwnGroups {
		im.GroupConfig[strconv.Itoa(i)] = own
	}
	if err := im.checkGroupConfig(nil, own); !errors.Is(err, replication.ErrPolicyViolation) {
		t.Errorf("one group too many: %v", err)
	}
	if err := im.checkGroupConfig(own, own); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}

// TestManyTopics: a request of many topics goes in several commands and answers in order.
func TestManyTopics(t *testing.T) {
	c, g := newTestController(t, nil)
	register(t, c, 3)
	topics := make([]NewTopic, 1200)
	for i := range topics {
		topics[i] = NewTopic{Name: fmt.Sprintf("t%d", i), Partitions: 40, ReplicationFactor: 3}
	}
	before := g.index
	for i, topic := range create(t, c, topics...) {
		if topic.Name != topics[i].Name {
			t.Fatalf("result %d is of %s", i, topic.Name)
		}
	}
	if n := g.index - before; n != 3 || c.Image().Partitions() != 48_000 {
		t.Errorf("%d commands, %d partitions", n, c.Image().Partitions())
	}
	for i, data := range g.log {
		if len(data) > maxCommand/4 {
			t.Errorf("command %d has %d bytes", i, len(data))
		}
	}
	refs := make([]TopicRef, len(topics))
	for i := range refs {
		refs[i].Name = topics[i].Name
	}
	for _, err := range c.DeleteTopics(t.Context(), refs) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if im := c.Image(); len(im.Topics) != 0 || im.Partitions() != 0 {
		t.Errorf("%d topics are left", len(im.Topics))
	}
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newTestController(t, nil)
		register(t, c, 1)
		type call struct{ old, new *Image }
		var calls []call
		hold := make(chan struct{})
		close(hold)
		cancel := c.Watch(func(old, new *Image) {
			<-hold
			calls = append(calls, call{old, new})
		})
		synctest.Wait()
		if len(calls) != 1 || len(calls[0].old.Nodes) != 0 || calls[0].new != c.Image() {
			t.Fatalf("the first call: %+v", calls)
		}
		create(t, c, NewTopic{Name: "a", Partitions: 1, ReplicationFactor: 1})
		synctest.Wait()
		// While the watcher is busy three changes come; they do not wait for it, and it sees the sum of the last two.
		hold = make(chan struct{})
		create(t, c, NewTopic{Name: "b", Partitions: 1, ReplicationFactor: 1})
		synctest.Wait()
		create(t, c, NewTopic{Name: "c", Partitions: 1, ReplicationFactor: 1})
		create(t, c, NewTopic{Name: "d", Partitions: 1, ReplicationFactor: 1})
		close(hold)
		synctest.Wait()
		for i := 1; i < len(calls); i++ {
			if calls[i].old != calls[i-1].new {
				t.Errorf("call %d does not go on where the one before ended", i)
			}
		}
		if last := calls[len(calls)-1].new; len(calls) != 4 || last != c.Image() {
			t.Errorf("%d calls", len(calls))
		}
		cancel()
		create(t, c, NewTopic{Name: "e", Partitions: 1, ReplicationFactor: 1})
		synctest.Wait()
		if len(calls) != 4 {
			t.Error("called after cancel")
		}
	})
}

// TestConcurrentCallers: many at once, with the race detector as the judge.
func TestConcurrentCallers(t *testing.T) {
	c, g := newTestController(t, nil)
	c.newTopicID = replication.NewTopicID
	register(t, c, 3)
	locked := &lockedGroup{group: g}
	c.router.group = locked
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				name := fmt.Sprintf("t%d-%d", i, j)
				if r := c.CreateTopics(t.Context(), []NewTopic{{Name: name, Partitions: 2, ReplicationFactor: 3}}, false); r[0].Err != nil {
					t.Error(r[0].Err)
				}
				if err := c.AlterConfigs(t.Context(), Resource{BrokerResource, ""}, []ConfigOp{{Name: "log.retention.ms", Value: "5"}}, false); err != nil {
					t.Error(err)
				}
				if err := c.CreatePartitions(t.Context(), name, 4, nil, false); err != nil {
					t.Error(err)
				}
				_ = c.Image().TopicConfig(name)
			}
		})
	}
	wg.Wait()
	if err := checkImage(c.Image()); err != nil || c.Image().Partitions() != 8*20*4 {
		t.Errorf("%v, %d partitions", err, c.Image().Partitions())
	}
}

// lockedGroup serialises proposals, as Raft does.
type lockedGroup struct {
	mu sync.Mutex
	*group
}

func (g *lockedGroup) Propose(ctx context.Context, command []byte) (any, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.group.Propose(ctx, command)
}

func TestProducerIDsNeverRepeat(t *testing.T) {
	c, _ := newTestController(t, nil)
	register(t, c, 1)
	next := int64(0)
	for range 5 {
		first, count, err := c.AllocateProducerIDs(t.Context())
		if err != nil || first != next || count != 1000 {
			t.Fatalf("%d, %d, %v; want %d", first, count, err, next)
		}
		next = first + int64(count)
	}
}
