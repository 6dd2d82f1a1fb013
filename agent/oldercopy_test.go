package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

// TestStarts: each start has a number of its own, which lies on disk, and those that the cluster may know last are kept.
func TestStarts(t *testing.T) {
	disk := vfs.NewMem()
	var s *identityStore
	open := func() {
		t.Helper()
		var err error
		if s, err = openIdentityWith(disk, "/data", 1, func() (bool, error) { return true, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := vfs.MkdirDurable(disk, "/data"); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFileAtomic(disk, "/data/node.json", []byte(formatTwo(`"state":"member","cluster_id":"A"`))); err != nil {
		t.Fatal(err)
	}
	open()
	if now, earlier, err := s.get().Starts.ids(); now != 0 || earlier != nil || err != nil {
		t.Errorf("a directory of before has %x, %x, %v", now, earlier, err)
	}
	for i := range mostStarts + 2 {
		if err := s.begun(); err != nil {
			t.Fatal(err)
		}
		before := s.get().Starts
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		open()
		now, earlier, err := s.get().Starts.ids()
		if err != nil || s.get().Starts != before || now == 0 || slices.Contains(earlier, now) || len(earlier) != min(i, mostStarts-1) {
			t.Fatalf("start %d: %x after %x, %v", i, now, earlier, err)
		}
	}
	last, _, _ := s.get().Starts.ids()
	if err := s.rejoined(replication.ReplicaID{Node: 1}); err != nil {
		t.Fatal(err)
	}
	if now, earlier, err := s.get().Starts.ids(); now != last || earlier != nil || err != nil {
		t.Errorf("confirmed: %x, %x, %v", now, earlier, err)
	}
	// A node starts on a full disk as well, as what it was.
	disk.SetFree(0)
	if err := s.begun(); err != nil {
		t.Error(err)
	}
	if now, _, _ := s.get().Starts.ids(); now != last {
		t.Errorf("%x is not on disk", now)
	}
	disk.SetFree(1 << 20)
	if err := s.begun(); err != nil {
		t.Error(err)
	}
	if now, earlier, _ := s.get().Starts.ids(); now == last || len(earlier) != 1 || earlier[0] != last {
		t.Errorf("%x after %x", now, earlier)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestOlderCopy: a node whose directory is put back to an earlier state has forgotten what it acknowledged since. It must not count for
// it, and so comes back as another incarnation, which the others fill.
func TestOlderCopy(t *testing.T) {
	c := startCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cl := newClient(t, seeds(c))
	if _, err := kadm.NewClient(cl).CreateTopic(ctx, 2, 3, nil, "copied"); err != nil {
		t.Fatal(err)
	}
	records := 0
	produce := func() {
		for range 20 {
			r := &kgo.Record{Topic: "copied", Key: fmt.Append(nil, records), Value: fmt.Append(nil, records)}
			if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
			records++
		}
	}
	restart := func() *Agent {
		t.Helper()
		back, err := New(c.nodes[2].config)
		if err != nil {
			t.Fatal(err)
		}
		if err := back.Start(ctx); err != nil {
			t.Fatal(err)
		}
		c.nodes[2] = back
		return back
	}
	stop := func() {
		if err := c.nodes[2].Close(ctx); err != nil {
			t.Error(err)
		}
	}
	produce()
	stop()
	before := c.nodes[2].joined.Meta
	if meta := restart().joined.Meta; meta != before {
		t.Errorf("an ordinary start gives %s after %s", meta, before)
	}
	stop()
	dir := c.nodes[2].node.DataDir
	kept := filepath.Join(t.TempDir(), "kept")
	if err := os.CopyFS(kept, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	inSync := func() bool {
		_, isr, _ := c.nodes[0].table.Leader(replication.PartitionID{Topic: c.nodes[0].controller.Image().Topics["copied"].ID})
		return len(isr) == 3
	}
	if restart().joined.Meta != before {
		t.Error("the copy is not to be seen before it is put back")
	}
	produce()
	stop()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(kept)); err != nil {
		t.Fatal(err)
	}
	back := restart()
	if back.joined.Meta.Incarnation <= before.Incarnation {
		t.Errorf("it came back as %s after %s", back.joined.Meta, before)
	}
	for !inSync() || len(back.controller.ListReassignments()) > 0 {
		pause(ctx, t)
	}
	// From now on it is an ordinary node.
	after := back.joined.Meta
	stop()
	if meta := restart().joined.Meta; meta != after {
		t.Errorf("an ordinary start gives %s after %s", meta, after)
	}
	reader := newClient(t, seeds(c), kgo.ConsumeTopics("copied"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for seen := 0; seen < records; {
		f := reader.PollFetches(ctx)
		if err := f.Err(); err != nil {
			t.Fatal(err)
		}
		seen += f.NumRecords()
	}
}
