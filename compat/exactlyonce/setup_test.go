package exactlyonce

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// broker is what the workloads run against.
type broker struct {
	addrs    []string
	replicas int16
	cluster  *testcluster.Cluster // nil: kfake, whose brokers are not killed
}

// The newest requests that the workloads need.
const (
	endTxn          = 26
	txnOffsetCommit = 28
)

// brokers runs a test against both sides.
func brokers(t *testing.T, newest int16, test func(*testing.T, *broker)) {
	t.Helper()
	t.Run("kfake", func(t *testing.T) {
		fake, err := kfake.NewCluster(kfake.NumBrokers(3))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(fake.Close)
		test(t, &broker{addrs: fake.ListenAddrs(), replicas: 3})
	})
	t.Run("three nodes", func(t *testing.T) {
		c := testcluster.StartCluster(t, testcluster.ClusterOptions{})
		versions, err := c.Admin().ApiVersions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range versions {
			if _, ok := v.KeyMaxVersion(newest); !ok {
				t.Fatal("the cluster does not have transactions")
			}
		}
		test(t, &broker{addrs: c.Addrs(), replicas: 3, cluster: c})
	})
}

// client is a franz-go client that gives up on a silent node within seconds; cord may be nil.
func (b *broker) client(t testing.TB, line *cord, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(b.options(line, opts)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func (b *broker) options(line *cord, opts []kgo.Opt) []kgo.Opt {
	if line == nil {
		line = &cord{}
	}
	return append([]kgo.Opt{
		kgo.SeedBrokers(b.addrs...), kgo.Dialer(line.dial), kgo.MetadataMinAge(50 * time.Millisecond), kgo.RequestTimeoutOverhead(3 * time.Second),
		kgo.RetryTimeout(rig.Patience), kgo.AlwaysRetryEOF(), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	}, opts...)
}

func (b *broker) createTopic(t testing.TB, name string, partitions int32) {
	t.Helper()
	if _, err := kadm.NewClient(b.client(t, nil)).CreateTopic(t.Context(), partitions, b.replicas, nil, name); err != nil {
		t.Fatal(err)
	}
}

// killOne kills a node and starts it again.
func (b *broker) killOne(t *testing.T, id int) {
	t.Helper()
	b.cluster.Kill(id)
	b.cluster.StartAll(id)
	rig.AwaitWhole(t, b.cluster)
}

// coordinator is the node that coordinates a transactional id.
func (b *broker) coordinator(t *testing.T, id string) (node int) {
	t.Helper()
	rig.Await(t, func() string {
		found := b.cluster.Admin().FindTxnCoordinators(t.Context(), id)
		if err := found.Error(); err != nil {
			return err.Error()
		}
		node = int(found[id].NodeID)
		return ""
	})
	return node
}

// readerOfCommitted are the options of a reader of what is committed, which is shown the transactions' markers as well.
func readerOfCommitted(topic string) []kgo.Opt {
	return []kgo.Opt{kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200 * time.Millisecond)}
}

// readCommitted reads a topic from its start to its last stable offset, which must be its end, and hands over each record.
func (b *broker) readCommitted(t *testing.T, topic string, each func(*kgo.Record)) {
	t.Helper()
	ends := rig.SettledEnds(t, kadm.NewClient(b.client(t, nil)), topic)
	ctx, cancel := context.WithTimeout(t.Context(), rig.Patience)
	defer cancel()
	rig.ReadTo(ctx, t, b.client(t, nil, readerOfCommitted(topic)...), ends, func(r *kgo.Record) {
		if !r.Attrs.IsControl() {
			each(r)
		}
	})
}
