package agent

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
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
	if why := catchingUpAtStart(t.Context(), a); why != "" || !a.caughtUp.Load() {
		t.Errorf("a new node: %q", why)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := kadm.NewClient(newClient(t, kgo.SeedBrokers(a.Addr()))).CreateTopic(ctx, 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	id := replication.PartitionID{Topic: a.controller.Image().Topics["t"].ID}
	late := func() string {
		a.table.SetISR(id, []replication.NodeID{9})
		return catchingUpAtStart(ctx, a)
	}
	if why := late(); why != "" {
		t.Errorf("a replica that lags later: %q", why)
	}
	a.caughtUp.Store(false)
	for late() == "" { // its partition says each moment that it is in sync
		if ctx.Err() != nil {
			t.Fatal("the replica does not lag")
		}
		a.caughtUp.Store(false)
	}
}

// Probes that come while a leader is silent wait for it together, and none longer than whoever asked.
func TestProbesWaitTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m missed
		var asked atomic.Int32
		begun := make(chan struct{})
		silent := func(of []replication.PartitionID) map[replication.PartitionID]batch.Offset {
			if asked.Add(1) == 1 {
				close(begun)
			}
			<-time.After(lagPatience)
			return map[replication.PartitionID]batch.Offset{of[0]: 7} // of the other one's leader there is no answer
		}
		of := []replication.PartitionID{{Partition: 0}, {Partition: 1}}
		start := time.Now()
		probe := func(patience, want time.Duration, known int) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			marks := m.learn(ctx, of, silent)
			if took := time.Since(start); took != want || len(marks) != known {
				t.Errorf("with a patience of %v: %d marks after %v, want %d after %v", patience, len(marks), took, known, want)
			}
		}
		go probe(time.Second, time.Second, 0) // who asks first, and gives up
		<-begun
		for range 3 {
			go probe(time.Minute, lagPatience, 1)
		}
		<-time.After(lagPatience)
		synctest.Wait()
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times at the same time", n)
		}
		// What came for nobody is known all the same.
		m.mu.marks, start = nil, time.Now()
		probe(time.Second, time.Second, 0)
		synctest.Wait()
		<-time.After(lagPatience)
		start = time.Now()
		go probe(time.Minute, lagPatience, 2) // the other one is asked for again
		synctest.Wait()
		of = of[:1]
		probe(time.Second, 0, 1) // who knows all does not wait for the others
		if n := asked.Load(); n != 3 {
			t.Errorf("asked %d times", n)
		}
		<-time.After(lagPatience)
		synctest.Wait()
	})
}

// A node that comes back soon is in sync in the eyes of the leaders, who gave it half a minute. It is ready all the same only when it has what
// was written meanwhile: a rolling restart takes the next node along then.
func TestReadyWhenCaughtUp(t *testing.T) {
	c := startCluster(t, 3)
	cl := newClient(t, seeds(c), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 8, 3, nil, "t"); err != nil {
		t.Fatal(err)
	}
	produce := func(n int) {
		t.Helper()
		for range n {
			cl.Produce(t.Context(), &kgo.Record{Value: make([]byte, 256<<10)}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	produce(8)
	old := c.nodes[2]
	if err := old.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	produce(120)
	back, err := New(Config{Node: old.node, Logger: old.config.Logger, OnFatal: old.config.OnFatal})
	if err != nil {
		t.Fatal(err)
	}
	if err := back.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.nodes[2] = back
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ; slices.ContainsFunc(back.web.ready(t.Context()), func(c check) bool { return c.reason != "" }); <-tick.C {
	}
	ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range back.partitions.All() {
		at, _ := partition.PositionOf(p)
		if im := back.controller.Image(); im.ByID[p.ID().Topic].Name == "t" && int64(at.HighWatermark) < ends["t"][p.ID().Partition].Offset {
			t.Errorf("ready, with %d of %d records of partition %d", at.HighWatermark, ends["t"][p.ID().Partition].Offset, p.ID().Partition)
		}
	}
}
