package agent

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// startCluster runs a cluster within the test.
func startCluster(t *testing.T, nodes int) *Cluster {
	t.Helper()
	return startClusterWith(t, nodes, nil)
}

// calm are settings with which no leader changes by itself: a stall of the machine makes no elections.
var calm = map[string]string{"quorlog.election.timeout.ms": "10000", "auto.leader.rebalance.enable": "false"}

func startClusterWith(t *testing.T, nodes int, settings map[string]string) *Cluster {
	t.Helper()
	c, err := NewCluster(ClusterConfig{
		Nodes: nodes, Dir: t.TempDir(), Settings: settings, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		OnFatal: func(err error) { t.Errorf("fatal: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

func seeds(c *Cluster) kgo.Opt {
	var addrs []string
	for _, n := range c.Nodes() {
		addrs = append(addrs, n.Addr())
	}
	return kgo.SeedBrokers(addrs...)
}

func newClient(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// TestClusterServes: three nodes found a cluster; a topic's leaders are spread; what is produced through any node is
// consumed through any, also after a node was stopped, and after it came back.
func TestClusterServes(t *testing.T) {
	c := startCluster(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl := newClient(t, seeds(c))
	adm := kadm.NewClient(cl)
	created, err := adm.CreateTopic(ctx, 6, 3, nil, "spread")
	if err != nil {
		t.Fatal(err, created.Err)
	}
	for led := map[int32]int{}; led[1] != 2 || led[2] != 2 || led[3] != 2; { // a first election may take a second try
		meta, err := adm.Metadata(ctx, "spread")
		if err != nil {
			t.Fatal(err, led)
		}
		if len(meta.Brokers) != 3 {
			t.Errorf("%d brokers", len(meta.Brokers))
		}
		clear(led)
		for _, p := range meta.Topics["spread"].Partitions.Sorted() {
			led[p.Leader]++
			if len(p.Replicas) != 3 {
				t.Errorf("partition %d has replicas %v", p.Partition, p.Replicas)
			}
		}
	}
	for _, n := range c.Nodes() {
		one := newClient(t, kgo.SeedBrokers(n.Addr()), kgo.DefaultProduceTopic("spread"))
		for i := range 20 {
			r := kgo.StringRecord(fmt.Sprintf("%d-%d", n.node.NodeID, i))
			r.Key = []byte(fmt.Sprint(i))
			if err := one.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := consumeAll(ctx, t, "spread", 60, seeds(c)); len(got) != 60 {
		t.Errorf("%d records", len(got))
	}

	stopped := c.Nodes()[1]
	if err := stopped.Close(ctx); err != nil {
		t.Error(err)
	}
	cl2 := newClient(t, kgo.SeedBrokers(c.Nodes()[0].Addr(), c.Nodes()[2].Addr()), kgo.DefaultProduceTopic("spread"))
	for i := range 30 {
		r := kgo.StringRecord(fmt.Sprintf("after-%d", i))
		r.Key = []byte(fmt.Sprint(i))
		if err := cl2.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	back, err := New(stopped.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := back.Start(ctx); err != nil {
		t.Fatal(err)
	}
	c.nodes[1] = back
	if got := consumeAll(ctx, t, "spread", 90, kgo.SeedBrokers(back.Addr())); len(got) != 90 {
		t.Errorf("%d records", len(got))
	}
}

// consumeAll reads n records of a topic from its start.
func consumeAll(ctx context.Context, t *testing.T, topic string, n int, opts ...kgo.Opt) map[string]bool {
	t.Helper()
	cl := newClient(t, append(opts, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	got := map[string]bool{}
	for len(got) < n {
		fetches := cl.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", len(got), n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if got[string(r.Value)] {
				t.Errorf("%s twice", r.Value)
			}
			got[string(r.Value)] = true
		})
	}
	return got
}
