package groupload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// aimWithout is how long a group should be without a coordinator at most, in 99 of 100 cases.
const aimWithout = 2 * time.Second

// TestLoad puts the load on, reports its costs, and kills one node after the other.
func TestLoad(t *testing.T) {
	groups, rate := rig.Count(30, 200, 1000), rig.Count(300, 2_000, 10_000)
	length := rig.Length(2*time.Second, 10*time.Second, time.Minute)
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{})
	c.CreateTopic("work", perGroup, 3)
	l := start(t, c, groups)

	before, began := usage(t, c), time.Now()
	l.commitFor(length, rate)
	took, after := time.Since(began), usage(t, c)
	for id := range before {
		cores := float64(after[id].cpu-before[id].cpu) / float64(took)
		t.Logf("node %d: %.2f cores, %d MiB", id+1, cores, after[id].memory>>20)
	}
	l.mu.Lock()
	t.Logf("%d groups of %d members, %d commits (%.0f/s): p50 %v, p99 %v, max %v", groups, perGroup, l.latency.TotalCount(),
		float64(l.latency.TotalCount())/took.Seconds(), at(l.latency, 50), at(l.latency, 99), at(l.latency, 100))
	l.mu.Unlock()

	var without []time.Duration
	for i := range rig.Count(1, 3, 20) {
		without = append(without, l.failOver(t, c, i%3+1)...)
	}
	if len(without) == 0 {
		t.Fatal("no group was coordinated by a node that was killed: this has shown nothing")
	}
	l.mu.Lock()
	if l.failed != nil { // a member that was forgotten, or a generation
		t.Errorf("a commit or a heartbeat failed: %v", l.failed)
	}
	l.mu.Unlock()
	slices.Sort(without)
	t.Logf("without a coordinator: %s", rig.Quantiles(without))
	if p99 := without[min(len(without)-1, len(without)*99/100)]; rig.Full() && p99 > aimWithout {
		t.Errorf("the aim is a p99 of %v", aimWithout)
	}
}

func at(h *hdrhistogram.Histogram, percent float64) time.Duration {
	return (time.Duration(h.ValueAtPercentile(percent)) * time.Microsecond).Round(10 * time.Microsecond)
}

type used struct {
	cpu    time.Duration
	memory int64
}

func usage(t *testing.T, c *testcluster.Cluster) (all []used) {
	t.Helper()
	for _, id := range c.IDs() {
		spent, err := cpu(c.Node(id).Pid)
		held, err2 := resident(c.Node(id).Pid)
		if err := errors.Join(err, err2); err != nil {
			testcluster.Missing(t, "/proc", err)
		}
		all = append(all, used{spent, held})
	}
	return all
}

// load is all groups at work.
type load struct {
	groups []*group
	mu     sync.Mutex
	failed error
	// latency of commits in microseconds, from when each was due
	latency *hdrhistogram.Histogram
}

// clients share the groups. Each has one connection per node, on which a node, as Kafka does, answers one commit after the other: eight
// clients get 2,900 commits a second out of nodes that have time for 10,000.
const clients = 200

func start(t *testing.T, c *testcluster.Cluster, groups int) *load {
	t.Helper()
	l := &load{latency: hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3)}
	shared := make([]*kgo.Client, min(clients, groups))
	for i := range shared {
		cl, err := newClient(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		shared[i] = cl
	}
	topics, err := c.Admin().ListTopics(t.Context(), "work")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*rig.Patience)
	defer cancel()
	joining := make(chan error)
	slots := make(chan struct{}, 64) // a join waits for the group's initial delay, not for the cluster
	for i := range groups {
		g := &group{name: fmt.Sprintf("group-%d", i), topic: "work", id: topics["work"].ID, cl: shared[i%len(shared)]}
		l.groups = append(l.groups, g)
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			joining <- joinOn(ctx, c, g)
		}()
	}
	for range groups {
		if err := <-joining; err != nil {
			t.Errorf("join: %v", err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
	beating, end := context.WithCancel(t.Context())
	var beats sync.WaitGroup
	for _, g := range l.groups {
		beats.Go(func() { l.beat(beating, g) })
	}
	t.Cleanup(func() { end(); beats.Wait() })
	return l
}

func newClient(c *testcluster.Cluster) (*kgo.Client, error) {
	return kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.MetadataMinAge(50*time.Millisecond), kgo.RequestTimeoutOverhead(5*time.Second),
		kgo.RetryTimeout(rig.Patience), kgo.AlwaysRetryEOF(), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
}

// joinOn lets a group's members join over clients of their own.
func joinOn(ctx context.Context, c *testcluster.Cluster, g *group) error {
	var own [perGroup]*kgo.Client
	for i := range own {
		cl, err := newClient(c)
		if err != nil {
			return err
		}
		defer cl.Close()
		own[i] = cl
	}
	return g.join(ctx, own)
}

// beat sends a group's heartbeats.
func (l *load) beat(ctx context.Context, g *group) {
	for !rig.Idle(heartbeatEvery, ctx.Done()) {
		for member := range perGroup {
			err := g.heartbeat(ctx, g.cl, member)
			if answered := (*kerr.Error)(nil); errors.As(err, &answered) { // a node that is down answers nothing; the next beat finds another
				l.note(err)
			}
		}
	}
}

func (l *load) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		l.failed = err
	}
}

// commitFor sends commits at a rate; those that are late are sent all the same, and their lateness is part of their latency.
func (l *load) commitFor(length time.Duration, rate int) {
	const slice = 10 * time.Millisecond
	type job struct {
		g   *group
		due time.Time
	}
	jobs := make(chan job, rate)
	var wg sync.WaitGroup
	for range perGroup * len(l.groups) {
		wg.Go(func() {
			for j := range jobs {
				err := j.g.commit(context.Background())
				if err != nil {
					l.note(err)
					continue
				}
				l.mu.Lock()
				_ = l.latency.RecordValue(min(time.Since(j.due), time.Minute).Microseconds()) // it is within the range
				l.mu.Unlock()
			}
		})
	}
	began, sent := time.Now(), 0
	tick := time.NewTicker(slice)
	defer tick.Stop()
	for now := range tick.C {
		if now.Sub(began) > length {
			break
		}
		for ; sent < int(now.Sub(began).Seconds()*float64(rate)); sent++ {
			jobs <- job{l.groups[sent%len(l.groups)], now}
		}
	}
	close(jobs)
	wg.Wait()
}

// failOver kills a node and returns for each group that it coordinated how long that group could not commit.
func (l *load) failOver(t *testing.T, c *testcluster.Cluster, node int) (without []time.Duration) {
	t.Helper()
	names := make([]string, len(l.groups))
	for i, g := range l.groups {
		names[i] = g.name
	}
	found := c.Admin().FindGroupCoordinators(t.Context(), names...)
	if err := found.Error(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), rig.Patience)
	defer cancel()
	c.Kill(node)
	began := time.Now()
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	for _, g := range l.groups {
		if int(found[g.name].NodeID) != node {
			continue
		}
		wg.Go(func() {
			err := g.commit(ctx)
			for err != nil && !rig.Idle(20*time.Millisecond, ctx.Done()) {
				err = g.commit(ctx)
			}
			mu.Lock()
			defer mu.Unlock()
			without = append(without, time.Since(began))
			if err != nil {
				l.failed = errors.Join(l.failed, err)
			}
		})
	}
	wg.Wait()
	c.StartAll(node)
	rig.AwaitWhole(t, c)
	if err := ctx.Err(); err != nil {
		t.Errorf("after the kill of node %d groups are without a coordinator: %v", node, err)
	}
	return without
}
