package main

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// fiveNodes in three racks; node 5 is gone, node 4 is empty.
func fiveNodes() *clusterView {
	v := &clusterView{Nodes: []nodeView{{ID: 1, Rack: "a"}, {ID: 2, Rack: "b"}, {ID: 3, Rack: "c"}, {ID: 4, Rack: "b"}, {ID: 5, Rack: "c", Gone: true}}}
	for i := range int32(3) {
		v.Partitions = append(v.Partitions, partitionView{Topic: "t", Partition: i, Leader: 1, Replicas: []int32{1, 2, 3}, ISR: []int32{1, 2, 3}})
	}
	v.Partitions = append(v.Partitions, partitionView{Topic: "u", Leader: 2, Replicas: []int32{2}, ISR: []int32{2}})
	v.count()
	return v
}

func TestReassignPlans(t *testing.T) {
	none := reassignFlags{partition: -1, from: -1, to: -1}
	with := func(change func(*reassignFlags)) reassignFlags {
		f := none
		change(&f)
		return f
	}
	for _, c := range []struct {
		name   string
		f      reassignFlags
		topics []string
		want   string // the moves, or part of the error
	}{
		{"one for another", with(func(f *reassignFlags) { f.from, f.to = 2, 4 }), nil, "t-0 1,4,3; t-1 1,4,3; t-2 1,4,3; u-0 4"},
		{"one topic", with(func(f *reassignFlags) { f.from, f.to = 2, 4 }), []string{"u"}, "u-0 4"},
		{"one partition", with(func(f *reassignFlags) { f.from, f.to, f.partition = 2, 4, 1 }), []string{"t"}, "t-1 1,4,3"},
		{"empty a node: the free rack", with(func(f *reassignFlags) { f.from, f.partition = 2, 0 }), []string{"t"}, "t-0 1,4,3"},
		{"nothing there", with(func(f *reassignFlags) { f.from, f.to = 4, 1 }), nil, ""},
		{"both have one", with(func(f *reassignFlags) { f.from, f.to = 2, 3 }), []string{"t"}, "nodes 2 and 3 both have a replica"},
		{"to a node that is gone", with(func(f *reassignFlags) { f.from, f.to = 2, 5 }), nil, "node 5 is not there"},
		{"to nobody", with(func(f *reassignFlags) { f.from, f.to = 2, 9 }), nil, "node 9 is not there"},
		{"exactly", with(func(f *reassignFlags) { f.replicas, f.partition = "3, 4,1", 2 }), []string{"t"}, "t-2 3,4,1"},
		{"named twice", with(func(f *reassignFlags) { f.replicas, f.partition = "3,3", 2 }), []string{"t"}, "node 3 is named twice"},
		{"as it is", with(func(f *reassignFlags) { f.replicas, f.partition = "1,2,3", 2 }), []string{"t"}, ""},
		{"more replicas: other racks, the emptiest", with(func(f *reassignFlags) { f.factor = 3 }), []string{"u"}, "u-0 2,1,3"},
		{"fewer replicas", with(func(f *reassignFlags) { f.factor = 1 }), []string{"t"}, "t-0 1; t-1 1; t-2 1"},
		{"too many replicas", with(func(f *reassignFlags) { f.factor = 5 }), []string{"u"}, "no node is left for one more replica"},
		{"no such topic", with(func(f *reassignFlags) { f.factor = 1 }), []string{"t", "x", "y"}, "there is no topic x, y"},
		{"no such partition", with(func(f *reassignFlags) { f.factor, f.partition = 1, 8 }), []string{"t"}, "there is no partition 8 of topic t"},
	} {
		moves, err := fiveNodes().plan(c.f, c.topics)
		var got []string
		for _, m := range moves {
			got = append(got, partitionName(m.Topic, m.Partition)+" "+join32(m.Target))
		}
		text := strings.Join(got, "; ")
		if err != nil {
			text = err.Error()
		}
		if text != c.want && (err == nil || !strings.Contains(text, c.want)) {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
	}
}

func TestReassignCancels(t *testing.T) {
	v := fiveNodes()
	v.Partitions[1].Replicas, v.Partitions[1].Adding, v.Partitions[1].Removing = []int32{1, 4, 3, 2}, []int32{4}, []int32{2}
	moves, err := v.plan(reassignFlags{cancel: true, partition: -1, from: -1, to: -1}, nil)
	if err != nil || len(moves) != 1 || moves[0].Partition != 1 || moves[0].Target != nil {
		t.Errorf("%+v, %v", moves, err)
	}
}

func TestReassignFlagsFitTogether(t *testing.T) {
	base := reassignFlags{partition: -1, from: -1, to: -1}
	for _, c := range []struct {
		change func(*reassignFlags)
		topics []string
	}{
		{func(*reassignFlags) {}, nil},
		{func(f *reassignFlags) { f.list, f.cancel = true, true }, nil},
		{func(f *reassignFlags) { f.replicas = "1" }, []string{"t"}},
		{func(f *reassignFlags) { f.cancel, f.to = true, 1 }, nil},
		{func(f *reassignFlags) { f.from, f.to = 1, 1 }, nil},
		{func(f *reassignFlags) { f.factor = 3 }, nil},
	} {
		f := base
		c.change(&f)
		if err := f.check(c.topics); err == nil {
			t.Errorf("%+v with topics %v is accepted", f, c.topics)
		}
	}
}

// TestEmptyingANode: whatever the cluster looks like, afterwards the node has nothing, no partition lost or doubled a
// replica, and nothing went to a node that is gone or drained.
func TestEmptyingANode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := &clusterView{}
		for id := range int32(rapid.IntRange(4, 9).Draw(t, "nodes")) {
			v.Nodes = append(v.Nodes, nodeView{ID: id, Rack: rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "rack"), Gone: id > 3 && rapid.Bool().Draw(t, "gone")})
		}
		var ids []int32
		for _, n := range v.Nodes {
			ids = append(ids, n.ID)
		}
		for i := range int32(rapid.IntRange(1, 20).Draw(t, "partitions")) {
			replicas := rapid.Permutation(ids).Draw(t, "replicas")[:rapid.IntRange(1, 3).Draw(t, "factor")]
			v.Partitions = append(v.Partitions, partitionView{Topic: "t", Partition: i, Replicas: replicas, ISR: replicas})
		}
		v.count()
		from := rapid.SampledFrom(ids).Draw(t, "from")
		moves, err := v.plan(reassignFlags{partition: -1, from: from, to: -1}, nil)
		if err != nil {
			t.Skip(err) // not enough nodes are alive
		}
		if len(moves) != len(v.partitionsOn(from)) {
			t.Fatalf("%d moves of %d partitions", len(moves), len(v.partitionsOn(from)))
		}
		for _, m := range moves {
			added := without(m.Target, m.Replicas)
			if len(m.Target) != len(m.Replicas) || slices.Contains(m.Target, from) || len(added) != 1 {
				t.Fatalf("%v becomes %v", m.Replicas, m.Target)
			}
			if n, _ := v.node(added[0]); n.Gone {
				t.Fatalf("node %d is gone", n.ID)
			}
		}
	})
}
