package compat

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestFsyncErrorStopsTheProcess runs the broker on ext4 in a sparse file on a small tmpfs. When the tmpfs is full, writing
// pages back fails and the kernel reports it to fsync, once; a second fsync would succeed. The process must end with a
// clear reason. On a larger tmpfs everything acknowledged must then be there, or the partition must say that it is not.
func TestFsyncErrorStopsTheProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		missing(t, "a tmpfs", errors.New("not root"))
	}
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=96m"); err != nil {
		missing(t, "a tmpfs", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	d := testcluster.NewDiskAt(t, filepath.Join(small, "disk.img"), 512)
	node := testcluster.Start(t, testcluster.Options{DataDir: filepath.Join(d.Dir, "data")})
	createTopic(t, node, "full", 1)
	h := newHistory()
	ctx, stop := context.WithCancel(t.Context())
	cl := idempotentProducer(t, node, "full")
	var wg sync.WaitGroup
	wg.Go(func() { h.produceUntil(ctx, t, cl, 0, 1, rand.New(rand.NewPCG(1, 2))) })
	noise, quiet := context.WithCancel(ctx)
	go fillWithNoise(noise, newClient(t, node, kgo.DefaultProduceTopic("noise"), kgo.AllowAutoTopicCreation(), kgo.ProducerBatchCompression(kgo.NoCompression())))
	select {
	case <-node.Exited():
	case <-time.After(clientPatience):
		t.Fatal("the process goes on after the disk has failed")
	}
	if node.ExitError() == nil {
		t.Error("the process ended with exit code 0 after a failed fsync")
	}
	// EIO from the loop device; ENOSPC where the kernel passes the reason on.
	if !strings.Contains(node.Log(), "fdatasync") {
		t.Errorf("the log does not name the reason:\n%s", node.Log())
	}
	quiet()
	// The device gets room, the file system is checked as an operator would, and the node starts again.
	if err := unix.Mount("tmpfs", small, "tmpfs", unix.MS_REMOUNT, "size=700m"); err != nil {
		t.Fatal(err)
	}
	if err := d.Unmount(); err != nil {
		t.Fatal(err)
	}
	_ = exec.Command("fsck.ext4", "-fy", d.Dev).Run() // exit code 1 says "errors corrected"
	if err := d.Mount(); err != nil {
		t.Fatal(err)
	}
	node.Restart()
	defer node.Kill()
	// This disk also lies: where ext4 could not convert an extent whose data it had written, an fsync before had answered
	// that all is well. Then the bytes that the index proves to have been durable are gone, and with one replica nobody can
	// bring them back. What must not happen is that the partition serves without them.
	if strings.Contains(node.Log(), "partition is offline\",\"topic\":\"full\"") {
		t.Log("the disk had lied to an fsync: the partition is offline and says so")
		cl.Close()
		stop()
		wg.Wait()
		return
	}
	waitAcked(t, h, h.ackedCount()+100)
	stop()
	wg.Wait()
	h.check(t, node, "full")
}

// fillWithNoise produces incompressible records of 64 KiB until ctx ends.
func fillWithNoise(ctx context.Context, cl *kgo.Client) {
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for ctx.Err() == nil {
		if err := cl.ProduceSync(ctx, &kgo.Record{Value: noise}).FirstErr(); err != nil {
			return
		}
	}
}

// TestRestartLarge fills a partition with 64 KiB batches and measures how long the broker needs until it is ready, after
// SIGKILL with entries behind the last checkpoint, and after a clean stop. Only what lies behind the checkpoint may be read.
func TestRestartLarge(t *testing.T) {
	megabytes := scaled(512, 10<<10)
	node := testcluster.Start(t, testcluster.Options{})
	createTopic(t, node, "large", 1)
	cl := newClient(t, node, kgo.DefaultProduceTopic("large"), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(66<<10), kgo.MaxBufferedRecords(512))
	noise := make([]byte, 64<<20)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	var failed error
	var mu sync.Mutex
	for i := range megabytes * 16 {
		at := (i * 64 << 10) % (len(noise) - 64<<10)
		cl.Produce(t.Context(), &kgo.Record{Value: noise[at : at+64<<10]}, func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
		})
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if failed != nil {
		t.Fatal(failed)
	}
	for _, how := range []string{"SIGKILL", "a clean stop"} {
		if how == "SIGKILL" {
			node.Kill()
		} else {
			node.Stop()
		}
		took := node.Restart()
		scanned, ok := node.Ready("scanned_bytes").(float64)
		if !ok {
			t.Fatal("the ready line does not say how many bytes were scanned")
		}
		t.Logf("%d MiB, after %s: ready in %v, %.1f MiB scanned, %v entries read by Raft", megabytes, how, took, scanned/(1<<20), node.Ready("raft_entries_read"))
		// 64 MiB is the distance of checkpoints; one group commit may lie beyond.
		if limit := float64(96 << 20); scanned > limit {
			t.Errorf("after %s %.0f bytes were scanned, more than the %.0f that can lie behind a checkpoint", how, scanned, limit)
		}
		checkEnd(t, node, "large", int64(megabytes*16))
	}
}

// checkEnd reads the last record of a partition.
func checkEnd(t *testing.T, node *testcluster.Node, topic string, records int64) {
	t.Helper()
	reader := newClient(t, node, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(records - 1)}}))
	ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
	defer cancel()
	got := reader.PollFetches(ctx)
	for ; got.Err() == nil && got.NumRecords() == 0; got = reader.PollFetches(ctx) {
	}
	if err := got.Err(); err != nil {
		t.Fatal(fmt.Errorf("read the last record: %w", err))
	}
	last := got.Records()[got.NumRecords()-1]
	if last.Offset != records-1 {
		t.Errorf("the last record has offset %d, want %d", last.Offset, records-1)
	}
}
