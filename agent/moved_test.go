package agent

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/quorlog/quorlog/replication"
)

// TestMovedWhileDown: a node that comes back has no use for replicas that were moved to others meanwhile. It removes them, and
// makes none that the cluster wanted once. What the cluster has never heard of it keeps.
func TestMovedWhileDown(t *testing.T) {
	c := startCluster(t, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cl := newClient(t, seeds(c))
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(ctx, 8, 3, nil, "moved"); err != nil {
		t.Fatal(err)
	}
	away := c.Nodes()[2]
	for away.controller.Image().Topics["moved"] == nil {
		pause(ctx, t)
	}
	if err := away.Close(ctx); err != nil {
		t.Error(err)
	}
	var wish kadm.AlterPartitionAssignmentsReq
	all := kadm.TopicsSet{}
	for p := range int32(8) {
		wish.Assign("moved", p, []int32{1, 2, 4})
		all.Add("moved", p)
	}
	for {
		moved, err := adm.AlterPartitionAssignments(ctx, wish)
		if err == nil {
			err = moved.Error()
		}
		if err == nil {
			break
		}
		t.Log(err)
		pause(ctx, t)
	}
	for {
		left, err := adm.ListPartitionReassignments(ctx, all)
		if err == nil && len(left) == 0 {
			break
		}
		pause(ctx, t)
	}
	// Two of them are none of those that were moved, as far as one can tell: the metadata may be older than the data.
	topic := away.controller.Image().Topics["moved"].ID
	root := filepath.Join(away.node.DataDir, "partitions")
	later, nameless := replication.PartitionID{Topic: topic, Partition: 6}, replication.PartitionID{Topic: topic, Partition: 7}
	writeMeta(t, root, later, `{"version":1,"topic":"moved","topicId":"`+topic.Hex()+`","partition":6,"node":3,"incarnation":1000000}`)
	writeMeta(t, root, nameless, "nonsense")
	back, err := New(away.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := back.Start(ctx); err != nil {
		t.Fatal(err)
	}
	c.nodes[2] = back
	im := back.controller.Image()
	for _, a := range im.Topics["moved"].Partitions {
		if len(a.Replicas) != 3 || back.hosts(a) {
			t.Errorf("the node starts with an old assignment: %v", a)
		}
	}
	stored, err := back.partitions.Stored()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []replication.PartitionID{later, nameless} {
		if !slices.Contains(stored, id) {
			t.Errorf("%s is gone, which nobody has moved away", id)
		}
	}
	stored = slices.DeleteFunc(stored, func(id replication.PartitionID) bool { return id.Topic != topic || id == later || id == nameless })
	if len(stored) > 0 || len(back.partitions.All()) > 0 {
		t.Errorf("the node still has %v", stored)
	}
}

// pause waits before something is looked at again.
func pause(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	case <-time.After(20 * time.Millisecond):
	}
}
