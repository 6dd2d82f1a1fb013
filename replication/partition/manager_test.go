package partition

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testTopic = replication.TopicID{1, 2, 3, 4}

func testID(n int32) replication.PartitionID {
	return replication.PartitionID{Topic: testTopic, Partition: n}
}

func testConfig() replication.TopicConfig {
	return replication.TopicConfig{
		CleanupPolicy: replication.CleanupDelete, RetentionTime: -1, RetentionBytes: -1,
		SegmentBytes: 1 << 30, SegmentAge: 7 * 24 * time.Hour, SegmentIndexBytes: 10 << 20, MinInsyncReplicas: 1,
	}
}

func single(node replication.NodeID) replication.Assignment {
	return replication.Assignment{Replicas: []replication.ReplicaID{{Node: node}}}
}

// frameOf builds a batch of n records.
func frameOf(t testing.TB, o batch.BuildOptions, values ...string) Batch {
	t.Helper()
	b := batch.NewBuilder(o)
	for _, v := range values {
		b.Add(batch.Record{Timestamp: 1000, Value: []byte(v)})
	}
	frame, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return Batch{Frame: frame}
}

func TestSingleVoterProduceAndRead(t *testing.T) {
	led := make(chan LeaderChange, 16)
	m, err := NewManager(Options{DataDir: t.TempDir(), Node: 1, OnLeader: func(c LeaderChange) { led <- c }})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	began := time.Now()
	p, err := m.Ensure(ctx, testID(0), "t", single(1), testConfig())
	if err != nil {
		t.Fatal(err)
	}
	c := <-led
	t.Log("leads after", time.Since(began), c)
	a, err := p.Append(frameOf(t, batch.BuildOptions{}, "a", "b", "c")).Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", a)
	res, err := p.Read(ReadRequest{MaxBytes: 1 << 20, CurrentEpoch: -1, LastFetchedEpoch: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(res.Range.Len(), res.Offsets)
	res.Range.Release()
	began = time.Now()
	if err := m.Close(ctx); err != nil {
		t.Fatal(err)
	}
	t.Log("closed in", time.Since(began))
}
