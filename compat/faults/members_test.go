package faults

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestMovesAndKills moves partitions between four nodes, again and again, and takes moves back, while nodes are killed,
// paused and lose their disks. In Jepsen's runs of other brokers, changes of members together with crashes have lost most.
func TestMovesAndKills(t *testing.T) {
	c, l, rng := cluster(t, testcluster.ClusterOptions{Nodes: 4}, LoadOptions{Probers: 2, Shots: 1, Plain: 1, Readers: 2})
	moves := 0
	for i := range scaled(12, 300) {
		l.WaitAcked(50 + rng.IntN(300))
		moves += moveSome(t, c, l, rng)
		victim := rng.IntN(4) + 1
		switch i % 4 {
		case 0:
			c.Kill(victim)
			idle(time.Duration(rng.IntN(1500)) * time.Millisecond)
			c.StartAll(victim)
		case 1:
			c.Node(victim).Pause()
			idle(time.Duration(rng.IntN(1500)) * time.Millisecond)
			c.Node(victim).Resume()
		case 2: // moves alone
		case 3:
			awaitSettled(t, c, l.Topic, l.o.Partitions)
			c.Kill(victim)
			c.Wipe(victim)
			c.StartAll(victim)
			moves += moveSome(t, c, l, rng)
		}
		if rng.IntN(3) == 0 {
			awaitSettled(t, c, l.Topic, l.o.Partitions)
		}
	}
	awaitSettled(t, c, l.Topic, l.o.Partitions)
	l.WaitAcked(100)
	l.Check()
	t.Logf("%d moves begun or taken back", moves)
}

// moveSome gives some partitions another set of three nodes, or takes a move back. It returns for how many.
func moveSome(t *testing.T, c *testcluster.Cluster, l *Load, rng *rand.Rand) (moved int) {
	t.Helper()
	var req kadm.AlterPartitionAssignmentsReq
	for p := range l.o.Partitions {
		switch rng.IntN(4) {
		case 0:
			ids := rng.Perm(4)[:3]
			req.Assign(l.Topic, p, []int32{int32(ids[0] + 1), int32(ids[1] + 1), int32(ids[2] + 1)})
			moved++
		case 1:
			req.CancelAssign(l.Topic, p)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := c.Admin().AlterPartitionAssignments(ctx, req)
	if err != nil {
		t.Logf("moves: %v", err) // the controller may have been killed
		return 0
	}
	resp.Each(func(r kadm.AlterPartitionAssignmentsResponse) {
		if r.Err != nil && !errors.Is(r.Err, kerr.NoReassignmentInProgress) && !kerr.IsRetriable(r.Err) {
			t.Errorf("move of %s-%d: %v", r.Topic, r.Partition, r.Err)
		}
	})
	return moved
}

// awaitSettled waits until no move is under way and every partition is whole, with three replicas.
func awaitSettled(t *testing.T, c *testcluster.Cluster, topic string, partitions int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	await(t, func() string {
		var all kadm.TopicsSet
		for p := range partitions {
			all.Add(topic, p)
		}
		moves, err := c.Admin().ListPartitionReassignments(ctx, all)
		if err != nil {
			return err.Error()
		}
		for _, m := range moves.Sorted() {
			if len(m.AddingReplicas)+len(m.RemovingReplicas) > 0 {
				return fmt.Sprintf("%s-%d is still on its way: %v, adding %v, removing %v", m.Topic, m.Partition, m.Replicas, m.AddingReplicas, m.RemovingReplicas)
			}
		}
		view := lookAt(c, topic)
		for p := range partitions {
			if r := slices.Compact(slices.Sorted(slices.Values(view.replica[p]))); len(r) != 3 {
				return fmt.Sprintf("%s-%d is on %v", topic, p, r)
			}
		}
		return cmp.Or(notWhole(view, c, topic, partitions), metadataNotWhole(c))
	})
}
