package controller_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/raftgroup"
)

// node is a metadata group of one on real files.
type node struct {
	machine *controller.Machine
	group   *raftgroup.MetaGroup
	*controller.Controller
}

func start(t *testing.T, dir string) *node {
	t.Helper()
	n := &node{machine: controller.NewMachine(controller.MachineOptions{Node: 1})}
	var err error
	n.group, err = raftgroup.OpenMeta(raftgroup.MetaOptions{
		Dir: dir, Self: replication.ReplicaID{Node: 1}, Machine: n.machine, Found: true, OnFatal: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.group.WaitLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.Controller = controller.New(controller.Options{Machine: n.machine, Group: n.group})
	return n
}

func (n *node) stop(t *testing.T) {
	t.Helper()
	n.Controller.Close()
	if err := n.group.Close(); err != nil {
		t.Error(err)
	}
}

func (n *node) encoded(t *testing.T) []byte {
	t.Helper()
	data, err := n.machine.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestRestart: what a real metadata group has answered is there, byte for byte, when the node comes back.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	var before []byte
	for life := range 3 {
		n := start(t, dir)
		if life > 0 && !bytes.Equal(n.encoded(t), before) {
			t.Errorf("life %d begins with something else", life)
		}
		if err := n.EnsureClusterID(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := n.RegisterNode(t.Context(), replication.Node{ID: 1, Host: "localhost", Port: int32(9092 + life)}); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("life-%d", life)
		for _, r := range n.CreateTopics(t.Context(), []controller.NewTopic{{Name: name, Partitions: 3, ReplicationFactor: -1}}, false) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		if _, _, err := n.AllocateProducerIDs(t.Context()); err != nil {
			t.Fatal(err)
		}
		if im := n.Image(); len(im.Topics) != life+1 || im.NextProducerID != int64(1000*(life+1)) || im.Topics[name] == nil || n.ControllerNode() != 1 {
			t.Errorf("life %d: %+v", life, im)
		}
		before = n.encoded(t)
		n.stop(t)
	}
}

// A machine that was used before is empty when a group opens over it: what it held is applied again, or is another replica's.
func TestAMachineBeginsAnew(t *testing.T) {
	dir := t.TempDir()
	n := start(t, dir)
	if err := n.RegisterNode(t.Context(), replication.Node{ID: 1, Host: "localhost", Port: 9092}); err != nil {
		t.Fatal(err)
	}
	if r := n.CreateTopics(t.Context(), []controller.NewTopic{{Name: "a", Partitions: 1, ReplicationFactor: 1}}, false); r[0].Err != nil {
		t.Fatal(r[0].Err)
	}
	before := n.encoded(t)
	n.stop(t)
	for _, self := range []replication.ReplicaID{{Node: 1}, {Node: 1, Incarnation: 2}} {
		g, err := raftgroup.OpenMeta(raftgroup.MetaOptions{Dir: dir, Self: self, Machine: n.machine, Found: self.Incarnation == 0})
		if err != nil {
			t.Fatal(err)
		}
		if self.Incarnation > 0 {
			if im := n.machine.Image(); len(im.Topics) != 0 || im.Index != 0 || n.machine.Applied() != 0 {
				t.Errorf("the new incarnation begins with %+v", im)
			}
		} else if err := g.WaitLeader(t.Context()); err != nil || !bytes.Equal(before, n.encoded(t)) {
			t.Errorf("the same incarnation has something else (%v)", err)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
