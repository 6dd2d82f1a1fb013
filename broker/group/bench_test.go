package group

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
)

// BenchmarkLoad reads a partition of 100,000 offset commits of 1,000 groups, in batches of 100.
func BenchmarkLoad(b *testing.B) {
	const records, groups, perBatch = 100_000, 1000, 100
	l := &memLog{}
	now := time.UnixMilli(1_700_000_000_000)
	for i := 0; i < records; i += perBatch {
		builder := batch.NewBuilder(batch.BuildOptions{})
		for j := i; j < i+perBatch; j++ {
			key, value := encodeRecord(&Record{
				Group: fmt.Sprint("group-", j%groups), Key: &OffsetKey{Topic: "topic", Partition: int32(j / groups)},
				Offset: &Committed{Offset: batch.Offset(j), At: now},
			})
			builder.Add(batch.Record{Timestamp: now.UnixMilli(), Key: key, Value: value})
		}
		frame, err := builder.Build()
		if err != nil {
			b.Fatal(err)
		}
		<-l.Append(frame, nil).Done()
	}
	limits := DefaultLimits()
	b.ReportAllocs()
	b.SetBytes(int64(len(l.frames)))
	for b.Loop() {
		loading := newLoader(&limits, limits.times)
		if n, err := coordinator.Replay(loading, l.frames); err != nil || n != records || len(loading.groups) != groups {
			b.Fatal(err, n, len(loading.groups))
		}
	}
	b.ReportMetric(float64(records)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkCommit is one client that commits the offsets of ten partitions, over a log that commits at once.
func BenchmarkCommit(b *testing.B) {
	logs := newFakeLogs()
	cluster := newFakeCluster()
	cluster.add("ten", 10)
	if err := cluster.EnsureTopic(context.Background()); err != nil {
		b.Fatal(err)
	}
	s, err := New(Options{Logs: logs, Cluster: cluster, Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for p := range int32(fakePartitions) {
		s.LeaderChanged(p, 1, true)
	}
	r := commitOf("g", "", NoGeneration, "ten", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
	for firstError(s.Commit(context.Background(), r)) != nil {
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := firstError(s.Commit(context.Background(), r)); err != nil {
			b.Fatal(err)
		}
	}
}
