package keeper

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
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/replication"
)

// leads is a cluster whose topic has a partition for each entry: its leader, or replication.NoNode.
type leads []replication.NodeID

func (l leads) Topic(string) (coordinator.Topic, bool) {
	return coordinator.Topic{Partitions: int32(len(l))}, len(l) > 0
}

func (leads) TopicByID(replication.TopicID) (coordinator.Topic, bool) {
	return coordinator.Topic{}, false
}

func (l leads) Coordinator(p int32, _ string) (replication.Node, bool) {
	return replication.Node{ID: l[p]}, l[p] != replication.NoNode
}

func (leads) Sync(context.Context) error { return nil }

func (leads) EnsureTopic(context.Context) error { return nil }

var errDead = errors.New("the node is dead")

// A listing asks those who lead the topic's partitions, and nobody else, until it has heard of all partitions: who leads one that is
// being read, or has just lost one, leaves it out.
func TestList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := func(p int32) share.Key { return share.Key{Group: "g", Partition: p} }
		var asked []replication.NodeID
		c := &Client{Cluster: leads{1, 2, 1}, Peers: func(_ context.Context, to replication.NodeID, name string, group []byte) ([]byte, error) {
			asked = append(asked, to)
			first := len(asked) <= 2
			a := answer{Listed: []Listed{{Key: key(0), Position: Position{Start: 3}}}, Partitions: []int32{0, 2}}
			switch {
			case name != ListCallName || string(group) != "g":
				t.Errorf("%s of %q", name, group)
			case to == 2 && first:
				a = answer{}
			case to == 2:
				a = answer{Listed: []Listed{{Key: key(1), Position: Position{Start: 4}}}, Partitions: []int32{1}}
			case to != 1:
				return nil, errDead
			}
			return json.Marshal(a)
		}}
		got, err := c.List(t.Context(), "g")
		slices.SortFunc(got, func(a, b Listed) int { return int(a.Key.Partition - b.Key.Partition) })
		if err != nil || len(got) != 2 || got[0].Start != 3 || got[1].Start != 4 || len(asked) != 4 {
			t.Errorf("%+v, %v; asked were %v", got, err, asked)
		}
		c.Cluster = leads{1, 3, 1}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.List(ctx, "g"); !errors.Is(err, broker.ErrCoordinatorNotAvailable) || errors.Is(err, errDead) {
			t.Errorf("a keeper that is dead: %v", err)
		}
		c.Cluster = leads{1, replication.NoNode}
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := c.List(ctx, "g"); !errors.Is(err, broker.ErrCoordinatorNotAvailable) {
			t.Errorf("a partition without a leader: %v", err)
		}
		c.Cluster = leads{}
		if got, err := c.List(t.Context(), "g"); err != nil || len(got) != 0 {
			t.Errorf("without the topic: %+v, %v", got, err)
		}
	})
}

// unmade is a cluster without the topic, which counts how often somebody wants it.
type unmade struct {
	leads
	wanted int
}

func (u *unmade) EnsureTopic(context.Context) error {
	u.wanted++
	return errDead
}

// Where nothing was ever stored nothing is known: to look, or to forget, is no reason to make the topic.
func TestWithoutTheTopic(t *testing.T) {
	u := &unmade{}
	c := &Client{Cluster: u}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, op := range []Op{Look, Delete} {
		if d, err := c.once(ctx, &Request{Op: op, Key: share.Key{Group: "g"}}); d != nil || err != nil || u.wanted != 0 {
			t.Errorf("operation %d: %+v, %v; the topic was wanted %d times", op, d, err, u.wanted)
		}
	}
	for i, op := range []Op{Read, Write, Set} {
		if _, err := c.once(ctx, &Request{Op: op, Key: share.Key{Group: "g"}}); !errors.Is(err, errDead) || u.wanted != i+1 {
			t.Errorf("operation %d: %v; the topic was wanted %d times", op, err, u.wanted)
		}
	}
}

// late is a cluster that is cut off from the metadata: it knows of the topic when it has heard from them again.
type late struct {
	leads
	there leads
	cut   int // how many questions are not answered
	syncs int
}

func (l *late) Sync(context.Context) error {
	l.syncs++
	if l.cut--; l.cut >= 0 {
		return errDead
	}
	l.leads = l.there
	return nil
}

// What a node has not heard of may be there nonetheless: whether nothing was ever stored is asked of the metadata.
func TestATopicNotHeardOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := answer{State: &share.Durable{Start: 7}, Listed: []Listed{{Key: share.Key{Group: "g"}}}, Partitions: []int32{0}}
		c := &Client{Peers: func(context.Context, replication.NodeID, string, []byte) ([]byte, error) { return json.Marshal(state) }}
		look := &Request{Op: Look, Key: share.Key{Group: "g"}}
		c.Cluster = &late{there: leads{1}, cut: 2}
		if d, err := c.Ask(t.Context(), look); err != nil || d == nil || d.Start != 7 {
			t.Errorf("asked for a state: %+v, %v", d, err)
		}
		c.Cluster = &late{there: leads{1}, cut: 2}
		if got, err := c.List(t.Context(), "g"); err != nil || len(got) != 1 {
			t.Errorf("asked for a list: %+v, %v", got, err)
		}
		cluster := &late{there: leads{}}
		c.Cluster = cluster
		for i, r := range c.AskAll(t.Context(), []*Request{look, look}) {
			if r.Err != nil || r.State != nil {
				t.Errorf("request %d, without the topic: %+v, %v", i, r.State, r.Err)
			}
		}
		for range 20 {
			if got, err := c.List(t.Context(), "g"); err != nil || len(got) != 0 {
				t.Fatalf("without the topic: %+v, %v", got, err)
			}
		}
		if cluster.syncs != 1 {
			t.Errorf("asked %d times at once whether there is a topic", cluster.syncs)
		}
		time.Sleep(absentFor)
		if _, err := c.List(t.Context(), "g"); err != nil || cluster.syncs != 2 {
			t.Errorf("a moment later: %v; asked %d times", err, cluster.syncs)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c = &Client{Cluster: &late{there: leads{1}, cut: 1 << 30}}
		if _, err := c.List(ctx, "g"); !errors.Is(err, broker.ErrCoordinatorNotAvailable) {
			t.Errorf("cut off for good: %v", err)
		}
	})
}

// An error keeps its kind on the way, and one of two kinds travels as the same one each time.
func TestErrorsKeepTheirKindOnTheWay(t *testing.T) {
	for _, e := range wireErrors {
		for range 100 {
			name := errorName(fmt.Errorf("%w: %w", e.kind, replication.ErrInvalidRequest))
			body, err := json.Marshal(answer{Error: name})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := decodeAnswer(body); name != e.name || !errors.Is(err, e.kind) {
				t.Fatalf("%v travels as %q and is %v there", e.kind, name, err)
			}
		}
	}
	if name := errorName(errDead); name != "other" {
		t.Errorf("an error of no kind travels as %q", name)
	}
	if _, err := decodeAnswer([]byte(`{"Error":"of a later version"}`)); !errors.Is(err, errKeeper) {
		t.Errorf("a kind that is not known: %v", err)
	}
}
