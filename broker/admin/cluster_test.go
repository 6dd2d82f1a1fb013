package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

// news is a leadership table that says what it was told to.
type news struct {
	leaders map[replication.PartitionID]replication.Leader
	isr     []replication.NodeID
	silent  map[replication.NodeID]time.Duration
}

func (n *news) Leader(id replication.PartitionID) (replication.Leader, []replication.NodeID, bool) {
	l, ok := n.leaders[id]
	if !ok {
		return replication.Leader{Node: replication.NoNode, Epoch: 3}, nil, false
	}
	return l, n.isr, true
}
func (n *news) Alive(id replication.NodeID) bool           { return n.silent[id] == 0 }
func (n *news) Silent(id replication.NodeID) time.Duration { return n.silent[id] }

// orders is an image of three nodes with a topic of partitions on all of them.
func orders(partitions int) *controller.Image {
	t := &controller.Topic{Name: "orders", ID: replication.TopicID{1}}
	for range partitions {
		t.Partitions = append(t.Partitions, replication.Assignment{Replicas: []replication.ReplicaID{{Node: 1}, {Node: 2}, {Node: 3}}})
	}
	im := &controller.Image{
		Topics: map[string]*controller.Topic{"orders": t}, ByID: map[replication.TopicID]*controller.Topic{t.ID: t},
		Nodes: map[replication.NodeID]replication.Node{},
	}
	for id := replication.NodeID(1); id <= 3; id++ {
		im.Nodes[id] = replication.Node{ID: id, Host: fmt.Sprint("n", id), Port: 9092, Rack: fmt.Sprint("r", id)}
	}
	return im
}

func pid(i int32) replication.PartitionID {
	return replication.PartitionID{Topic: replication.TopicID{1}, Partition: i}
}

func TestPartitionsFromTheTable(t *testing.T) {
	im := orders(3)
	im.Topics["orders"].Partitions[2].Replicas[2].Node = 9 // not registered
	table := &news{
		leaders: map[replication.PartitionID]replication.Leader{pid(0): {Node: 2, Epoch: 4}, pid(2): {Node: 9, Epoch: 5}},
		isr:     []replication.NodeID{2, 1}, silent: map[replication.NodeID]time.Duration{3: time.Second},
	}
	s := New(Options{Node: 1, Images: fixed{im}, Local: hosted{}, Leaders: table})
	got := s.AllTopics()[0].Partitions
	want := []PartitionInfo{
		{0, replication.Leader{Node: 2, Epoch: 4}, []replication.NodeID{1, 2, 3}, []replication.NodeID{2, 1}, []replication.NodeID{3}},
		{1, replication.Leader{Node: -1, Epoch: 3}, []replication.NodeID{1, 2, 3}, nil, []replication.NodeID{3}},
		{2, replication.Leader{Node: -1, Epoch: 5}, []replication.NodeID{1, 2, 9}, []replication.NodeID{2, 1}, []replication.NodeID{9}},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	p := NewPartitions(fixed{im}, hosted{}, table)
	for i, want := range []replication.NodeID{2, -1, 9, -1} {
		if l := p.LeaderOf("orders", replication.TopicID{}, int32(i)); l.Node != want {
			t.Errorf("%d: %+v", i, l)
		}
		if l := p.LeaderOf("", replication.TopicID{1}, int32(i)); l.Node != want {
			t.Errorf("%d by id: %+v", i, l)
		}
		if n := p.ReadReplica("orders", replication.TopicID{}, int32(i), "r2", 0); n != replication.NoNode {
			t.Errorf("a node that does not lead sends consumers to node %d", n)
		}
	}
	if l := p.LeaderOf("", replication.TopicID{2}, 0); l.Node != replication.NoNode {
		t.Errorf("of a topic that is not there: %+v", l)
	}
}

func TestFencedNodes(t *testing.T) {
	for name, c := range map[string]struct {
		silent map[replication.NodeID]time.Duration
		fenced []replication.NodeID
	}{
		"all there":           {nil, nil},
		"one for a moment":    {map[replication.NodeID]time.Duration{3: 8 * time.Second}, nil},
		"one for long":        {map[replication.NodeID]time.Duration{3: 10 * time.Second}, []replication.NodeID{3}},
		"this one is cut off": {map[replication.NodeID]time.Duration{2: time.Minute, 3: time.Minute}, nil},
	} {
		s := New(Options{Node: 1, Images: fixed{orders(1)}, Local: hosted{}, Leaders: &news{silent: c.silent}})
		got := s.Cluster()
		var fenced []replication.NodeID
		for _, n := range got.Fenced {
			fenced = append(fenced, n.ID)
		}
		if !slices.Equal(fenced, c.fenced) || len(got.Nodes)+len(fenced) != 3 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestWaitingForLeadersEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		im := orders(2)
		table := &news{leaders: map[replication.PartitionID]replication.Leader{pid(0): {Node: 2, Epoch: 4}}}
		s := New(Options{Node: 1, Images: fixed{im}, Local: hosted{}, Leaders: table, LeaderWait: time.Second})
		began := time.Now()
		s.awaitLeaders(t.Context(), []*controller.Topic{im.Topics["orders"]})
		if d := time.Since(began); d != time.Second {
			t.Errorf("gave up after %v", d)
		}
		table.leaders[pid(1)] = replication.Leader{Node: 3, Epoch: 1}
		s.awaitLeaders(t.Context(), []*controller.Topic{im.Topics["orders"]})
		if d := time.Since(began); d != time.Second {
			t.Errorf("waited for nothing: %v", d)
		}
	})
}

// groups is a node's Groups that answers with what is set.
type groups struct {
	err       error
	transfers []replication.NodeID
	quorum    Quorum
}

func (g *groups) Transfer(_ context.Context, _ replication.PartitionID, to replication.NodeID) error {
	g.transfers = append(g.transfers, to)
	return g.err
}
func (g *groups) Quorum(replication.PartitionID) (Quorum, error) { return g.quorum, g.err }
func (g *groups) MetadataQuorum() (Quorum, error)                { return g.quorum, g.err }

// two returns node 1, which calls node 2, whose groups are given.
func two(im *controller.Image, table Leaders, g Groups) *Service {
	other := New(Options{Node: 2, Images: fixed{im}, Local: hosted{}, Leaders: table, Groups: g})
	return New(Options{Node: 1, Images: fixed{im}, Local: hosted{}, Leaders: table,
		Call: func(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error) {
			if to != 2 {
				return nil, errors.New("no connection")
			}
			return other.Handlers()[name](ctx, 1, body)
		}})
}

func TestErrorsKeepTheirKindOnTheWay(t *testing.T) {
	table := &news{leaders: map[replication.PartitionID]replication.Leader{pid(0): {Node: 2, Epoch: 4}}}
	g := &groups{}
	s := two(orders(1), table, g)
	for _, e := range peerErrors {
		g.err = fmt.Errorf("%w: because", e.kind)
		if _, err := s.DescribeQuorum(t.Context(), PartitionRef{"orders", 0}); !errors.Is(err, e.kind) {
			t.Errorf("%v: %v", e.kind, err)
		}
	}
	// One of two kinds travels as the same one each time, the one that a client would be told here.
	for range 100 {
		g.err = fmt.Errorf("%w: %w", replication.ErrUnknownOutcome, replication.ErrStorage)
		if _, err := s.DescribeQuorum(t.Context(), PartitionRef{"orders", 0}); !errors.Is(err, replication.ErrUnknownOutcome) {
			t.Fatalf("%v: %v", g.err, err)
		}
	}
	g.err = errors.New("of no kind")
	if _, err := s.DescribeQuorum(t.Context(), PartitionRef{"orders", 0}); !errors.Is(err, errRemote) {
		t.Errorf("%v", err)
	}
	table.leaders[pid(0)] = replication.Leader{Node: 3, Epoch: 5}
	if _, err := s.DescribeQuorum(t.Context(), PartitionRef{"orders", 0}); !errors.Is(err, ErrLeaderNotAvailable) {
		t.Errorf("without a connection: %v", err)
	}
	if _, err := s.Handlers()[partitionQuorum](t.Context(), 2, []byte("{")); !errors.Is(err, replication.ErrInvalidRequest) {
		t.Errorf("damaged: %v", err)
	}
	if _, err := New(Options{Local: hosted{}, Images: fixed{orders(1)}, Leaders: table}).DescribeQuorum(t.Context(), PartitionRef{"orders", 0}); !errors.Is(err, ErrLeaderNotAvailable) {
		t.Errorf("without peers: %v", err)
	}
}

func TestQuorumsTravelWhole(t *testing.T) {
	table := &news{leaders: map[replication.PartitionID]replication.Leader{pid(0): {Node: 2, Epoch: 4}}}
	im := orders(1)
	im.Registrations = map[replication.NodeID]controller.Registration{3: {Directory: controller.DirectoryID{7}}}
	want := Quorum{
		Leader: replication.Leader{Node: 2, Epoch: 4}, HighWatermark: 1 << 60,
		Voters:    []QuorumReplica{{Replica: replication.ReplicaID{Node: 3, Incarnation: 5}, LogEnd: -1, Contact: 8, CaughtUp: -1}},
		Observers: []QuorumReplica{{Replica: replication.ReplicaID{Node: 4}, LogEnd: 3}},
	}
	s := two(im, table, &groups{quorum: want})
	got, err := s.DescribeQuorum(t.Context(), PartitionRef{"orders", 0})
	want.Voters[0].Directory = [16]byte{7}
	if a, b := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); err != nil || a != b {
		t.Errorf("%s, %v", a, err)
	}
	if _, err := json.Marshal(want); err != nil {
		t.Error(err)
	}
	if _, err := s.DescribeQuorum(t.Context(), PartitionRef{broker.MetadataTopic, 1}); !errors.Is(err, replication.ErrUnknownPartition) {
		t.Error(err)
	}
}

func TestWhoMayBeElected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		im := orders(1)
		g := &groups{}
		table := &news{isr: []replication.NodeID{1, 2, 3}, silent: map[replication.NodeID]time.Duration{}}
		s := two(im, table, g)
		lead := func(n replication.NodeID) {
			table.leaders = map[replication.PartitionID]replication.Leader{pid(0): {Node: n, Epoch: 4}}
		}
		elect := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			e, err := s.ElectLeaders(ctx, PreferredElection, []PartitionRef{{"orders", 0}})
			if err != nil || len(e) != 1 {
				t.Fatalf("%v, %v", e, err)
			}
			return e[0].Err
		}
		expect := func(what string, want error, transfers int) {
			t.Helper()
			if err := elect(); !errors.Is(err, want) || len(g.transfers) != transfers {
				t.Errorf("%s: %v, %d transfers", what, err, len(g.transfers))
			}
			g.transfers = nil
		}
		expect("no leader", ErrPreferredLeaderNotAvailable, 0)
		lead(1)
		expect("it leads", ErrElectionNotNeeded, 0)
		lead(2)
		expect("it never leads", context.DeadlineExceeded, 1)
		g.err = replication.ErrNotLeader
		expect("the leader has changed", replication.ErrNotLeader, 1)
		g.err = nil
		table.isr = []replication.NodeID{2, 3}
		expect("not in sync", ErrPreferredLeaderNotAvailable, 0)
		table.isr = []replication.NodeID{1, 2}
		im.NodeConfig = map[replication.NodeID]map[string]string{1: {"quorlog.drain": "true"}}
		expect("drained", ErrPreferredLeaderNotAvailable, 0)
		im.NodeConfig = nil
		table.silent[1] = time.Second
		expect("gone", ErrPreferredLeaderNotAvailable, 0)
		delete(table.silent, 1)
		// While it is being moved away, the first of those that stay is preferred.
		a := &im.Topics["orders"].Partitions[0]
		a.Removing = a.Replicas[:1]
		expect("moving away", ErrElectionNotNeeded, 0)
	})
}

func TestReassignmentsAreListed(t *testing.T) {
	im := orders(3)
	a := &im.Topics["orders"].Partitions[1]
	a.Replicas = []replication.ReplicaID{{Node: 1}, {Node: 2, Incarnation: 2}, {Node: 4}, {Node: 2, Incarnation: 1}, {Node: 3}}
	a.Adding, a.Removing = []replication.ReplicaID{{Node: 2, Incarnation: 2}, {Node: 4}}, []replication.ReplicaID{{Node: 2, Incarnation: 1}, {Node: 3}}
	s := New(Options{Node: 1, Images: fixed{im}, Local: hosted{}})
	want := "[{{orders 1} [1 2 4 3] [2 4] [2 3]}]"
	for _, wanted := range [][]PartitionRef{nil, {{"orders", 1}, {"orders", 0}, {"nothing", 0}, {"orders", 9}}} {
		if got := fmt.Sprint(s.Reassignments(wanted)); got != want {
			t.Errorf("%v: %s", wanted, got)
		}
	}
	if got := s.Reassignments([]PartitionRef{}); got != nil {
		t.Errorf("none: %v", got)
	}
	if err := s.Reassign(t.Context(), []Move{{PartitionRef: PartitionRef{"orders", 0}}, {PartitionRef: PartitionRef{"orders", 0}}}, MoveRules{}); !errors.Is(err[0], replication.ErrInvalidRequest) {
		t.Errorf("twice: %v", err)
	}
}
