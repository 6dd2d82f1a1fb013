package controller

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// group applies proposals to one machine at once, like a metadata group of one node.
type group struct {
	machine *Machine
	index   uint64
	log     [][]byte
	// before runs once, ahead of the next proposal: somebody else is faster.
	before func()
	// fail refuses proposals.
	fail error
	// follows tells that another node leads.
	follows bool
}

func (g *group) Propose(_ context.Context, command []byte) (any, error) {
	if before := g.before; before != nil {
		g.before = nil
		before()
	}
	if g.fail != nil {
		return nil, g.fail
	}
	g.index++
	g.log = append(g.log, slices.Clone(command))
	return g.machine.Apply(g.index, command), nil
}

func (g *group) IsLeader() bool { return !g.follows }

func (g *group) Leader() replication.NodeID { return 1 }

// epoch is the clock of the tests: nothing depends on it but what is written down.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// numbered gives the nth topic id: its last bytes are n.
func numbered(n uint64) replication.TopicID {
	var id replication.TopicID
	id[0] = 0xab
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

func newTestController(t testing.TB, static map[string]string) (*Controller, *group) {
	c, g := newTestControllerWith(t, static)
	t.Cleanup(c.Close)
	return c, g
}

// errorer is a test or a property.
type errorer interface {
	Errorf(format string, args ...any)
}

// newTestControllerOf is for properties, which close it themselves.
func newTestControllerOf(t errorer) (*Controller, *group) { return newTestControllerWith(t, nil) }

func newTestControllerWith(t errorer, static map[string]string) (*Controller, *group) {
	m := NewMachine(MachineOptions{Node: 1, Static: static, OnFatal: func(err error) { t.Errorf("fatal: %v", err) }})
	g := &group{machine: m}
	ids := uint64(0)
	c := New(Options{
		Machine: m, Group: g, Now: func() time.Time { return epoch },
		NewTopicID: func() replication.TopicID { ids++; return numbered(ids) },
	})
	return c, g
}

// register makes nodes 1..n known, in racks a, b and c by turns.
func register(t testing.TB, c *Controller, n int) {
	t.Helper()
	for i := range n {
		node := replication.Node{ID: replication.NodeID(i + 1), Host: fmt.Sprintf("host%d", i+1), Port: 9092, Rack: string(rune('a' + i%3))}
		if err := c.RegisterNode(t.Context(), node); err != nil {
			t.Fatal(err)
		}
	}
}

func create(t testing.TB, c *Controller, topics ...NewTopic) []*Topic {
	t.Helper()
	var out []*Topic
	for i, r := range c.CreateTopics(t.Context(), topics, false) {
		if r.Err != nil {
			t.Fatalf("topic %s: %v", topics[i].Name, r.Err)
		}
		out = append(out, r.Topic)
	}
	return out
}

// checkImage tests the invariants of Image.
func checkImage(im *Image) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	partitions := 0
	for name, t := range im.Topics {
		if t.Name != name || im.ByID[t.ID] != t || t.ID == (replication.TopicID{}) || len(t.Partitions) == 0 || t.Config == nil {
			bad("topic %q is %+v", name, t)
		}
		partitions += len(t.Partitions)
		for i, p := range t.Partitions {
			if err := im.checkAssignment(p); err != nil {
				bad("%s-%d is %+v: %v", name, i, p, err)
			}
		}
	}
	if len(im.ByID) != len(im.Topics) || partitions != im.partitions {
		bad("%d topics, %d ids, %d partitions, said to be %d", len(im.Topics), len(im.ByID), partitions, im.partitions)
	}
	if !slices.Equal(slices.Sorted(maps.Keys(im.Nodes)), slices.Sorted(maps.Keys(im.Registrations))) {
		bad("nodes %v, registrations %v", im.Nodes, im.Registrations)
	}
	for id, r := range im.Registrations {
		if r.NextMeta <= r.Meta || r.NextIncarnation == 0 {
			bad("node %d is registered as %+v", id, r)
		}
		if _, both := im.Departed[id]; both {
			bad("node %d is here and gone", id)
		}
	}
	for id, values := range im.NodeConfig {
		if len(values) == 0 {
			bad("node %d has an empty set of settings", id)
		}
	}
	for group, values := range im.GroupConfig {
		if len(values) == 0 {
			bad("group %s has an empty set of settings", group)
		}
	}
	if rules := im.ACLs.rules(); im.ACLs != nil && len(rules) == 0 || !slices.IsSortedFunc(rules, compareACLs) || len(slices.Compact(slices.Clone(rules))) != len(rules) {
		bad("the rules of access control are empty, unsorted or twice: %v", rules)
	}
	return errors.Join(errs...)
}
