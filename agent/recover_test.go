package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// TestRecoverLoneSurvivor: two of three nodes are lost with their disks. The third is recovered, and serves alone what it had.
func TestRecoverLoneSurvivor(t *testing.T) {
	c := startCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl := newClient(t, seeds(c), kgo.DefaultProduceTopic("kept"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if created, err := kadm.NewClient(cl).CreateTopic(ctx, 6, 3, nil, "kept"); err != nil {
		t.Fatal(err, created.Err)
	}
	ends := map[int32]batch.Offset{}
	for i := range 60 {
		r, err := cl.ProduceSync(ctx, kgo.StringRecord(fmt.Sprint(i))).First()
		if err != nil {
			t.Fatal(err)
		}
		ends[r.Partition] = batch.Offset(r.Offset + 1)
	}
	// Node 3 must have all: a majority may be the two that are lost.
	last := c.Nodes()[2]
	for len(last.partitions.All()) < 6 { // one may be opened yet
		if err := ctx.Err(); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	for _, p := range last.partitions.All() {
		moved := make(chan struct{}, 1)
		stop := p.Watch(moved)
		for p.Status().Offsets.HighWatermark < ends[p.ID().Partition] {
			select {
			case <-moved:
			case <-ctx.Done():
				t.Fatalf("%s has not all %d: %+v", p.ID(), ends[p.ID().Partition], p.Status())
			}
		}
		stop()
	}
	nodes := c.nodes
	c.nodes = nil // what runs at the test's end
	for _, n := range nodes {
		if err := n.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	for _, n := range nodes[:2] {
		if err := os.RemoveAll(n.node.DataDir); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	rc := RecoverConfig{DataDir: last.node.DataDir, Node: 3, Left: []replication.NodeID{3}, DryRun: true, Out: &out}
	if err := Recover(rc); err != nil {
		t.Fatal(err, out.String())
	}
	if !strings.Contains(out.String(), "would become") {
		t.Errorf("it tells %s", out.String())
	}
	out.Reset()
	rc.DryRun = false
	if err := Recover(rc); err != nil {
		t.Fatal(err, out.String())
	}
	if n := strings.Count(out.String(), "are now [3."); n < 7 {
		t.Errorf("%d groups were recovered:\n%s", n, out.String())
	}
	out.Reset()
	if err := Recover(rc); err != nil || strings.Contains(out.String(), "are now") {
		t.Errorf("once more: %v\n%s", err, out.String())
	}
	alone, err := New(last.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := alone.Start(ctx); err != nil {
		t.Fatal(err)
	}
	c.nodes = []*Agent{alone}
	if got := consumeAll(ctx, t, "kept", 60, kgo.SeedBrokers(alone.Addr())); len(got) != 60 {
		t.Errorf("%d records", len(got))
	}
	cl2 := newClient(t, kgo.SeedBrokers(alone.Addr()), kgo.DefaultProduceTopic("kept"), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	for i := range 12 {
		if err := cl2.ProduceSync(ctx, kgo.StringRecord(fmt.Sprintf("alone-%d", i))).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	// The metadata can be changed too.
	if created, err := kadm.NewClient(cl2).CreateTopic(ctx, 1, 1, nil, "new"); err != nil {
		t.Fatal(err, created.Err)
	}
}

// A directory whose node runs, or that is none, is refused.
func TestRecoverRefuses(t *testing.T) {
	c := startCluster(t, 1)
	n := c.Nodes()[0]
	rc := RecoverConfig{DataDir: n.node.DataDir, Node: n.node.NodeID, Left: []replication.NodeID{n.node.NodeID}, Out: &bytes.Buffer{}}
	if err := Recover(rc); err == nil {
		t.Error("a running node was recovered")
	}
	rc.DataDir = filepath.Join(t.TempDir(), "empty")
	if err := Recover(rc); err == nil {
		t.Error("nothing was recovered")
	}
	if _, err := os.Stat(rc.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Error("a data directory was made")
	}
}
