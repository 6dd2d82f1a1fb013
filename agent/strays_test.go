package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

// TestDeletedWhileDown: a node that comes back removes what it has of topics that were deleted meanwhile, and only that.
func TestDeletedWhileDown(t *testing.T) {
	c := startCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	adm := kadm.NewClient(newClient(t, seeds(c)))
	for _, topic := range []string{"kept", "deleted"} {
		if _, err := adm.CreateTopic(ctx, 4, 3, nil, topic); err != nil {
			t.Fatal(err)
		}
	}
	away := c.Nodes()[2]
	for len(away.partitions.All()) < 8 {
		pause(ctx, t)
	}
	deleted := away.controller.Image().Topics["deleted"].ID
	if err := away.Close(ctx); err != nil {
		t.Error(err)
	}
	for {
		_, err := adm.DeleteTopic(ctx, "deleted")
		if err == nil || errors.Is(err, kerr.UnknownTopicOrPartition) { // its leader may have changed behind a deletion that nobody answered for
			break
		}
		t.Log(err)
		pause(ctx, t)
	}
	// A replica that the metadata has never heard of: they may be older than it.
	root := filepath.Join(away.node.DataDir, "partitions")
	unheard := replication.PartitionID{Topic: replication.TopicID{1, 2, 3}}
	writeMeta(t, root, unheard, `{"version":1,"topic":"later","topicId":"`+unheard.Topic.Hex()+`","partition":0,"node":3,"incarnation":1000000}`)
	nameless := replication.PartitionID{Topic: replication.TopicID{1, 2, 4}}
	writeMeta(t, root, nameless, "nonsense")
	back, err := New(away.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := back.Start(ctx); err != nil {
		t.Fatal(err)
	}
	c.nodes[2] = back
	left, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, e := range left {
		found[e.Name()] = true
		if strings.HasPrefix(e.Name(), deleted.Hex()) {
			t.Errorf("the node still has %s", e.Name())
		}
	}
	if !found[unheard.String()] || !found[nameless.String()] {
		t.Errorf("what nobody has deleted is gone: %v", found)
	}
	if n := len(back.partitions.All()); n != 4 {
		t.Errorf("%d partitions are open, want 4", n)
	}
}

func writeMeta(t *testing.T, root string, id replication.PartitionID, text string) {
	t.Helper()
	dir := filepath.Join(root, id.String())
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "partition.meta"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestOpeningIsTriedAgain: a partition that could not be opened, on a disk without room, is opened once there is room, though
// nothing else changes.
func TestOpeningIsTriedAgain(t *testing.T) {
	node, err := config.Load(config.Sources{Flags: map[string]string{"data-dir": t.TempDir(), "listen": "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	disk := vfs.Inject(vfs.OS{})
	a, err := New(Config{Node: node, FS: disk, OnFatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	full := disk.Arm(vfs.Rule{Path: "partition.meta", Last: -1, Err: syscall.ENOSPC})
	if _, err := kadm.NewClient(newClient(t, kgo.SeedBrokers(a.Addr()))).CreateTopic(ctx, 1, 1, nil, "waits"); err != nil {
		t.Log(err) // the topic is there, without a leader
	}
	for !a.unopened.Load() {
		pause(ctx, t)
	}
	full.Disarm()
	for len(a.partitions.All()) == 0 {
		pause(ctx, t)
	}
}
