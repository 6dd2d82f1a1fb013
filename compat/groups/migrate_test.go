package groups

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// ledger is what the members of a group have processed and committed.
type ledger struct {
	sync.Mutex
	times     map[int32]map[int64]int // how often an offset of a partition was processed
	committed map[int32]int64         // acknowledged
	repeated  []string                // processed though it was committed
}

func (l *ledger) process(r *kgo.Record) {
	l.Lock()
	defer l.Unlock()
	if r.Offset < l.committed[r.Partition] {
		l.repeated = append(l.repeated, fmt.Sprintf("%d/%d, committed up to %d", r.Partition, r.Offset, l.committed[r.Partition]))
	}
	if l.times[r.Partition] == nil {
		l.times[r.Partition] = map[int64]int{}
	}
	l.times[r.Partition][r.Offset]++
}

func (l *ledger) commit(offsets map[int32]kgo.EpochOffset) {
	l.Lock()
	defer l.Unlock()
	for p, o := range offsets {
		l.committed[p] = max(l.committed[p], o.Offset)
	}
}

func (l *ledger) processed() (n int) {
	l.Lock()
	defer l.Unlock()
	for _, offsets := range l.times {
		n += len(offsets)
	}
	return n
}

// roller is a group whose members are exchanged one by one.
type roller struct {
	*ledger
	c       *testcluster.Cluster
	topic   string
	options []kgo.Opt // of its classic members
	members []func()  // end them, the oldest first
}

// exchange starts a member, and has the oldest one leave if there are three already.
func (g *roller) exchange(t *testing.T, options ...kgo.Opt) {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(g.c.Addrs()...), kgo.ConsumerGroup("group-" + g.topic), kgo.ConsumeTopics(g.topic), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(),
		kgo.HeartbeatInterval(200 * time.Millisecond), kgo.MetadataMinAge(50 * time.Millisecond),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var wait sync.WaitGroup
	wait.Go(func() { g.work(ctx, t, cl) })
	end := sync.OnceFunc(func() {
		cancel()
		wait.Wait()
		cl.CloseAllowingRebalance() // leaves
	})
	t.Cleanup(end)
	g.members = append(g.members, end)
	if len(g.members) > 3 {
		g.members[0]()
		g.members = g.members[1:]
	}
}

// work processes records and commits them before another member may have their partitions.
func (g *roller) work(ctx context.Context, t *testing.T, cl *kgo.Client) {
	for ctx.Err() == nil {
		cl.PollRecords(ctx, 100).EachRecord(g.process)
		if err := cl.CommitUncommittedOffsets(context.WithoutCancel(ctx)); err == nil {
			g.commit(cl.CommittedOffsets()[g.topic])
		} else {
			t.Logf("commit: %v", err) // its share may be another's by now: it will be read again
		}
		cl.AllowRebalance()
	}
}

// awaitShared waits until the group is of the type, and its members share all partitions.
func (g *roller) awaitShared(t *testing.T, consumers bool) {
	t.Helper()
	rig.Await(t, func() string {
		state, shares, err := (&crew{kind: kind{next: consumers}, c: g.c, topic: g.topic}).describe(t.Context())
		all := slices.Sorted(slices.Values(slices.Concat(shares...)))
		if err != nil || state != "Stable" || len(shares) != len(g.members) || !slices.Equal(all, []int32{0, 1, 2, 3, 4, 5}) {
			return fmt.Sprintf("%s: %s, shares %v of %d members, %v", g.topic, state, shares, len(g.members), err)
		}
		return ""
	})
	before := g.processed()
	rig.Await(t, func() string {
		if now := g.processed(); now < before+more {
			return fmt.Sprintf("%s: %d records processed since", g.topic, now-before)
		}
		return ""
	})
}

// TestMigration rolls groups of classic members over to KIP-848 and back while records come in, and kills the coordinator's node
// in the middle of either way. Every record is processed, and none that was committed comes again.
func TestMigration(t *testing.T) {
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{})
	next := []kgo.Opt{kgo.ServerSideBalancer()}
	for name, balancer := range map[string]kgo.GroupBalancer{"eager": kgo.RangeBalancer(), "cooperative": kgo.CooperativeStickyBalancer()} {
		if rig.Default() && name == "eager" {
			continue
		}
		g := &roller{ledger: &ledger{times: map[int32]map[int64]int{}, committed: map[int32]int64{}}, c: c, topic: name, options: []kgo.Opt{kgo.Balancers(balancer)}}
		t.Run(name, func(t *testing.T) {
			c.CreateTopic(name, partitions, 3)
			told := newHistory()
			w := startWriter(t, c, []*crew{{topic: name, c: c, history: told}})
			for range 3 {
				g.exchange(t, g.options...)
			}
			g.awaitShared(t, false)
			for range rig.Count(1, 1, 5) {
				g.roll(t, next, true)
				g.roll(t, g.options, false)
			}
			w.stop(t)
			g.verdict(t)
			wrong, _ := told.verdict(nil)
			for _, text := range wrong[:min(len(wrong), 20)] {
				t.Error(text)
			}
		})
	}
}

// roll exchanges all three members. With the first that is of another protocol, and until the last one is, the group is a
// consumer group.
func (g *roller) roll(t *testing.T, options []kgo.Opt, consumers bool) {
	t.Helper()
	for i := range 3 {
		g.exchange(t, options...)
		if i == 1 {
			node := rig.Coordinator(t, g.c, "group-"+g.topic)
			g.c.Kill(node)
			g.c.StartAll(node)
			rig.AwaitWhole(t, g.c)
		}
		g.awaitShared(t, consumers || i < 2)
	}
}

func (g *roller) verdict(t *testing.T) {
	t.Helper()
	total := 0
	for _, end := range offsetsOf(rig.Ends(t, g.c.Admin(), g.topic), g.topic) {
		total += int(end)
	}
	rig.Await(t, func() string {
		if n := g.processed(); n < total {
			return fmt.Sprintf("%d of %d records were processed", n, total)
		}
		return ""
	})
	g.Lock()
	defer g.Unlock()
	again := 0
	for _, offsets := range g.times {
		for _, n := range offsets {
			again += n - 1
		}
	}
	t.Logf("%s: %d records, %d of them once more", g.topic, total, again)
	for _, text := range g.repeated[:min(len(g.repeated), 20)] {
		t.Errorf("processed again: %s", text)
	}
}

// TestMigrationOfForeigners takes groups of foreign clients to KIP-848 and back: members of it join two classic ones of the same client,
// these crash, a classic one joins, and the others crash. Each time the coordinator has to give up on the dead, in the time that the
// group has set for itself.
func TestMigrationOfForeigners(t *testing.T) {
	if rig.Default() {
		t.Skip("it takes a minute: with -ci and -full only")
	}
	classic := map[string]bool{"java": true, "java cooperative": true, "confluent-go": true, "confluent-python": true}
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{Args: []string{
		"--set", "group.consumer.min.session.timeout.ms=6000", "--set", "group.consumer.min.heartbeat.interval.ms=500",
	}})
	var crews []*crew
	for _, g := range available(t, c) {
		if classic[g.name] {
			crews = append(crews, g)
			g.configure(t, map[string]string{"consumer.session.timeout.ms": "6000", "consumer.heartbeat.interval.ms": "500"})
		}
	}
	if len(crews) == 0 {
		t.Skip("no client is there that has both protocols")
	}
	w := startWriter(t, c, crews)
	settle := func(consumers bool) {
		each(crews, func(g *crew) { g.next = consumers })
		each(crews, func(g *crew) { g.awaitSettled(t) })
	}
	each(crews, func(g *crew) { g.hire(t, 2) })
	settle(false)
	each(crews, func(g *crew) {
		old := g.member
		g.member = ours("consumer")
		g.hire(t, 2)
		g.member = old
	})
	settle(true)
	each(crews, func(g *crew) { g.fire(); g.fire() })
	settle(true)
	each(crews, func(g *crew) { g.hire(t, 1) })
	settle(true)
	each(crews, func(g *crew) { g.fire(); g.fire() })
	settle(false)
	acknowledged := w.stop(t)
	ends := rig.Ends(t, c.Admin())
	each(crews, func(g *crew) {
		rig.Await(t, func() string { return g.about(g.behind(offsetsOf(ends, g.topic))) })
		wrong, again := g.verdict(acknowledged[g.topic])
		t.Logf("%s: %d values, %d of them more than once", g.name, len(acknowledged[g.topic]), again)
		for _, text := range wrong[:min(len(wrong), 20)] {
			t.Errorf("%s: %s", g.name, text)
		}
	})
}

// configure sets what a group has for itself.
func (g *crew) configure(t *testing.T, settings map[string]string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(g.c.Addrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	req, r := kmsg.NewPtrIncrementalAlterConfigsRequest(), kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, "group-"+g.topic
	for name, value := range settings {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = name, &value
		r.Configs = append(r.Configs, c)
	}
	req.Resources = append(req.Resources, r)
	got, err := req.RequestWith(t.Context(), cl)
	if err != nil || got.Resources[0].ErrorCode != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
}
