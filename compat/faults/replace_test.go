package faults

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestReplacedUnderLoad adds a fourth node to three, moves everything of one of them to it under load, and takes the old one
// away. It measures how fast the data moves and what that costs the producers.
func TestReplacedUnderLoad(t *testing.T) {
	megabytes := scaled(256, 8<<10)
	c, l, _ := cluster(t, testcluster.ClusterOptions{}, LoadOptions{Probers: 1})
	preload(t, c, "bulk", 4, megabytes)
	l.WaitAcked(500)
	l.ResetLatency()
	l.WaitAcked(2000)
	before := l.Latency(99)
	old, added := 3, c.Add()
	l.ResetLatency()
	began := time.Now()
	moveAll(t, c, old, added, l.Topic, "bulk")
	took := time.Since(began)
	during := l.Latency(99)
	c.Stop(old)
	l.WaitAcked(500)
	l.Check()
	rate := float64(megabytes) / took.Seconds()
	t.Logf("%d MiB moved in %v, %.0f MiB/s; p99 of the produce latency %v before, %v meanwhile", megabytes, took.Round(time.Millisecond), rate, before, during)
}

// preload fills a topic with incompressible data.
func preload(t *testing.T, c *testcluster.Cluster, topic string, partitions int32, megabytes int) {
	t.Helper()
	c.CreateTopic(topic, partitions, 3)
	rng, _ := chance(t)
	noise := make([]byte, 16<<20)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(256), kgo.UnknownTopicRetries(-1), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	failed := make(chan error, 1)
	for i := range megabytes * 16 {
		at := (i * 61 << 10) % (len(noise) - 64<<10)
		cl.Produce(t.Context(), &kgo.Record{Value: noise[at : at+64<<10]}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
}

// moveAll reassigns every partition of some topics, and of the broker's own, from one node to another and waits until that is done.
func moveAll(t *testing.T, c *testcluster.Cluster, from, to int, topics ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	adm := c.Admin()
	known, err := adm.ListTopicsWithInternal(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var req kadm.AlterPartitionAssignmentsReq
	for _, topic := range known.Sorted() {
		for _, p := range topic.Partitions.Sorted() {
			if at := slices.Index(p.Replicas, int32(from)); at >= 0 {
				target := slices.Clone(p.Replicas)
				target[at] = int32(to)
				req.Assign(topic.Topic, p.Partition, target)
			}
		}
	}
	resp, err := adm.AlterPartitionAssignments(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Error(); err != nil {
		t.Fatal(err)
	}
	awaitFor(t, 15*time.Minute, func() string {
		for _, topic := range topics {
			view := lookAt(c, topic)
			if len(view.replica) < len(known[topic].Partitions) {
				return fmt.Sprintf("%d partitions of %s are shown", len(view.replica), topic)
			}
			for p, replicas := range view.replica {
				if slices.Contains(replicas, int32(from)) {
					return fmt.Sprintf("%s-%d is still on %v", topic, p, replicas)
				}
				if missing := notWhole(view, c, topic, p+1); missing != "" {
					return missing
				}
			}
		}
		return ""
	})
}
