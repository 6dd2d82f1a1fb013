package agent

import (
	"testing"

	"github.com/quorlog/quorlog/replication"
)

func TestBehindOf(t *testing.T) {
	isr := map[replication.PartitionID][]replication.NodeID{
		{Partition: 0}: {1, 2, 3}, {Partition: 1}: {1, 3}, {Partition: 2}: {},
	}
	inSync := func(id replication.PartitionID) ([]replication.NodeID, bool) {
		nodes, known := isr[id]
		return nodes, known
	}
	for _, tc := range []struct {
		partitions []int32
		behind     int
		certain    bool
	}{
		{nil, 0, true},
		{[]int32{0}, 0, true},
		{[]int32{0, 1, 2}, 2, true},
		{[]int32{0, 9}, 0, false}, // nobody is known to lead it
		{[]int32{1, 9}, 1, false},
	} {
		var mine []replication.PartitionID
		for _, p := range tc.partitions {
			mine = append(mine, replication.PartitionID{Partition: p})
		}
		if behind, certain := behindOf(2, mine, inSync); behind != tc.behind || certain != tc.certain {
			t.Errorf("%v: %d, %t", tc.partitions, behind, certain)
		}
	}
}

// Once a node has caught up after its start, it stays so in the eyes of probes.
func TestCaughtUpForGood(t *testing.T) {
	a := testNode(t, nil, nil)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if why := catchingUpAtStart(a); why != "" || !a.caughtUp.Load() {
		t.Errorf("a new node: %q", why)
	}
}
