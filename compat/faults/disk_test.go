package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/internal/testcluster"
	"github.com/quorlog/quorlog/log/batch"
)

// TestWipedDisk replaces a node's disk by an empty one, of the leader and of followers, under load: the node comes back
// under its id with replicas that have forgotten everything, and ends equal to the others.
func TestWipedDisk(t *testing.T) {
	c, l, rng := cluster(t, testcluster.ClusterOptions{}, LoadOptions{Probers: 1, Plain: 1})
	for i := range scaled(3, 30) {
		l.WaitAcked(500 + rng.IntN(1000))
		leader := leaderOf(t, c, l.Topic, 0)
		victim := []int{leader%3 + 1, leader}[i%2]
		if rng.IntN(2) == 0 {
			c.Kill(victim)
		} else {
			c.Stop(victim)
		}
		c.Wipe(victim)
		l.WaitAcked(200)
		c.StartAll(victim)
		awaitWhole(t, c, l.Topic, l.o.Partitions)
	}
	l.Check()
}

// TestWipedWhileAnotherIsDown: a node that has lost its disk must not vote as if it remembered. With the third node down,
// nothing that was acknowledged by the pair that is gone may be lost by an election between the wiped node and the other.
func TestWipedWhileAnotherIsDown(t *testing.T) {
	c, l, rng := cluster(t, testcluster.ClusterOptions{}, LoadOptions{Probers: 1})
	for range scaled(2, 20) {
		l.WaitAcked(200 + rng.IntN(500))
		ids := rng.Perm(3)
		behind, wiped, last := ids[0]+1, ids[1]+1, ids[2]+1
		c.Kill(behind) // it misses what is acknowledged from here on
		l.WaitAcked(200)
		c.Kill(wiped, last)
		c.Wipe(wiped)
		c.Launch(behind, wiped)
		idle(3 * time.Second) // long enough for an election, which must not be won
		c.Launch(last)
		c.AwaitReady(behind, wiped, last)
		awaitWhole(t, c, l.Topic, l.o.Partitions)
		l.WaitAcked(100)
	}
	l.Check()
}

// TestOlderCopyWhileAnotherIsDown puts a node's data directory back to an earlier state. The third node misses what the node has
// acknowledged since, together with one that is down by then: the copy must not help to elect the third one.
func TestOlderCopyWhileAnotherIsDown(t *testing.T) {
	c, l, rng := cluster(t, testcluster.ClusterOptions{}, LoadOptions{Probers: 1})
	for range scaled(2, 20) {
		l.WaitAcked(200 + rng.IntN(500))
		ids := rng.Perm(3)
		behind, copied, last := ids[0]+1, ids[1]+1, ids[2]+1
		dir, kept := c.Node(copied).DataDir, filepath.Join(t.TempDir(), "kept")
		c.Stop(copied)
		copyTo(t, kept, dir)
		c.StartAll(copied)
		awaitWhole(t, c, l.Topic, l.o.Partitions)
		c.Kill(behind) // it misses what is acknowledged from here on
		l.WaitAcked(200)
		c.Kill(copied, last)
		c.Wipe(copied)
		copyTo(t, dir, kept)
		c.Launch(behind, copied)
		idle(3 * time.Second) // long enough for an election, which must not be won
		c.Launch(last)
		c.AwaitReady(behind, copied, last)
		awaitWhole(t, c, l.Topic, l.o.Partitions)
		l.WaitAcked(100)
		if !strings.Contains(c.Node(copied).Log(), "an older copy of itself") {
			t.Errorf("node %d takes the copy for itself", copied)
		}
	}
	l.Check()
}

func copyTo(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestDiskFullCluster fills the disk of one node after the other. The node gives what it leads to others; records are refused
// before the log meets the end of the disk, but for partitions without a replica there; reading goes on, and with room
// everything goes on without a restart.
func TestDiskFullCluster(t *testing.T) {
	c, l, rng := cluster(t, testcluster.ClusterOptions{DiskMB: 512}, LoadOptions{Probers: 1, Plain: 1})
	const beside = "beside" // each of its partitions is on one node
	cl := l.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 3, 1, nil, beside); err != nil {
		t.Fatal(err)
	}
	awaitWhole(t, c, beside, 3)
	for i := range scaled(3, 12) {
		l.WaitAcked(200 + rng.IntN(500))
		id := i%3 + 1
		c.Disk(id).Fill(t, "filler", 24<<20)
		await(t, func() string {
			parts := lookAt(c, l.Topic).parts
			for p := range l.o.Partitions {
				if v := parts[p]; v.leader <= 0 || v.leader == id {
					return fmt.Sprintf("%s-%d is led by %d, while the disk of node %d is full", l.Topic, p, v.leader, id)
				}
			}
			return ""
		})
		for p, v := range ledParts(t, c, beside, 3) {
			if v.leader != id {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				if err := cl.ProduceSync(ctx, &kgo.Record{Topic: beside, Partition: p, Value: []byte("x")}).FirstErr(); err != nil {
					t.Errorf("%s-%d, on node %d: %v", beside, p, v.leader, err)
				}
				cancel()
			}
		}
		if !c.Node(id).Running() {
			t.Fatalf("node %d ended when its disk filled: %v", id, c.Node(id).ExitError())
		}
		if err := os.Remove(filepath.Join(c.Disk(id).Dir, "filler")); err != nil {
			t.Fatal(err)
		}
		awaitWhole(t, c, l.Topic, l.o.Partitions)
		l.WaitAcked(100)
	}
	l.Check()
	t.Logf("the prober's answers: %v", l.Probers[0].Errors())
}

// TestBehindTheLogStart keeps a follower down until the log start has moved past what it has. It must come back equal to
// the others, byte by byte, in answers and in files.
func TestBehindTheLogStart(t *testing.T) {
	c, l, _ := cluster(t, testcluster.ClusterOptions{Args: []string{"--set", "log.retention.check.interval.ms=1000"}}, LoadOptions{
		Partitions: 1, Jumps: true, Size: 4 << 10, Rate: 1500,
		Configs: []string{"segment.bytes=1048576", "retention.bytes=4194304"},
	})
	for range scaled(1, 10) {
		l.WaitAcked(500)
		leader := leaderOf(t, c, l.Topic, 0)
		victim := leader%3 + 1
		c.Kill(victim)
		// The follower may have what is in flight; with so many more acknowledged, the ends lie beyond all of that.
		now := l.History.Counts()
		l.WaitAcked(now.Sent - now.Acked)
		starts, ends := l.offsets()
		await(t, func() string {
			if now, _ := l.offsets(); now[0] <= ends[0] {
				return fmt.Sprintf("the log start went from %d to %d, the follower has offsets up to %d", starts[0], now[0], ends[0])
			}
			return ""
		})
		before := len(snapshots(c.Node(victim)))
		c.StartAll(victim)
		awaitWhole(t, c, l.Topic, 1)
		await(t, func() string { return caughtUp(c, victim, l.Topic, ends[0]) })
		got := snapshots(c.Node(victim))[before:]
		if len(got) == 0 || slices.Max(got) > 16<<10 { // a second one where the log start has moved on meanwhile
			t.Errorf("the follower got %d snapshots, of %v bytes; want some of a few KiB", len(got), got)
		}
		t.Logf("snapshots, in bytes: %v", got)
	}
	l.Check()
	compareFiles(t, c, l.Topic, 0)
}

// snapshots are the sizes of the snapshots that a node says it has taken, in bytes.
func snapshots(n *testcluster.Node) (sizes []int) {
	for line := range strings.Lines(n.Log()) {
		var entry struct {
			Message string `json:"msg"`
			Bytes   int    `json:"bytes"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && strings.HasPrefix(entry.Message, "resetting to the leader's") {
			sizes = append(sizes, entry.Bytes)
		}
	}
	return sizes
}

// caughtUp asks a follower for a record that was written while it was down.
func caughtUp(c *testcluster.Cluster, node int, topic string, beyond int64) string {
	w, err := dialWire(context.Background(), c.Node(node).Addr)
	if err != nil {
		return err.Error()
	}
	defer w.close()
	frames, err := w.fetch(topic, 0, beyond)
	if errors.Is(err, kerr.OffsetOutOfRange) { // the log start has moved on meanwhile, and the follower knows it
		return ""
	}
	if err == nil && len(frames) == 0 {
		return "the follower has nothing yet"
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// compareFiles stops the cluster and compares the bytes of a partition's frames, from the highest start of the files to the
// lowest end. Where one file ends and the next begins need not be the same.
func compareFiles(t *testing.T, c *testcluster.Cluster, topic string, p int32) {
	t.Helper()
	dir := directoryOf(t, c, topic, p)
	c.Stop()
	var all [][]byte
	start := int64(0)
	for _, id := range c.IDs() {
		names, err := filepath.Glob(filepath.Join(c.Node(id).DataDir, "partitions", dir, "*.log"))
		if err != nil || len(names) == 0 {
			t.Fatalf("node %d has no segments of %s-%d: %v", id, topic, p, err)
		}
		slices.Sort(names)
		var base int64
		if _, err := fmt.Sscanf(filepath.Base(names[0]), "%d-", &base); err != nil {
			t.Fatal(err)
		}
		start = max(start, base)
		var text []byte
		for _, name := range names {
			data, err := readAll(name)
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, data...)
		}
		all = append(all, text)
	}
	shortest := 0
	for i := range all {
		all[i] = framesFrom(t, all[i], start)
		if len(all[i]) < len(all[shortest]) {
			shortest = i
		}
	}
	// The last to stop may have begun a term of its own: some bytes at the end are only there.
	const ends = 4 << 10
	want := all[shortest]
	if len(want) == 0 {
		t.Fatalf("node %d has nothing from offset %d on", shortest+1, start)
	}
	for i, text := range all {
		if len(text) > len(want)+ends || !bytes.Equal(text[:len(want)], want) {
			t.Errorf("from offset %d the files of node %d hold %d bytes that differ from the %d of node %d", start, i+1, len(text), len(want), shortest+1)
		}
	}
	t.Logf("%d nodes, %d equal bytes from offset %d", len(all), len(want), start)
}

// framesFrom is what a log holds from the first frame with records at or above an offset.
func framesFrom(t *testing.T, text []byte, start int64) []byte {
	t.Helper()
	for at := 0; at < len(text); {
		h, err := batch.ParseHeader(text[at:])
		if err != nil {
			t.Fatalf("byte %d of the log: %v", at, err)
		}
		if h.NumRecords > 0 && int64(h.BaseOffset) >= start {
			return text[at:]
		}
		at += h.Size()
	}
	return nil
}

// directoryOf is the name of a partition's directory: the topic's id and the partition's number.
func directoryOf(t *testing.T, c *testcluster.Cluster, topic string, p int32) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	topics, err := c.Admin().ListTopics(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	id := topics[topic].ID
	return fmt.Sprintf("%x-%d", id[:], p)
}

func readAll(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(f)
}
