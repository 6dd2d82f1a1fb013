package groups

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// partitions of each group's topic: two for each of three members.
const partitions = 6

// more is how many records a group must process after each event before it counts as having got over it.
const more = 150

// kind is a client and the way in which it forms a group.
type kind struct {
	name   string
	find   rig.Foreign
	member func(argv []string, brokers, topic, group string) []string
	light  bool // also runs beside everything else of `go test ./...`
	next   bool // KIP-848
	silent bool // it does not tell what it has in which generation: only the coordinator does
}

// ours is the command line of the programs of compat/clients.
func ours(protocol string) func(argv []string, brokers, topic, group string) []string {
	return func(argv []string, brokers, topic, group string) []string {
		return append(slices.Clone(argv), "member", brokers, topic, group, protocol)
	}
}

func kcat(argv []string, brokers, topic, group string) []string {
	return append(slices.Clone(argv), "-b", brokers, "-G", group, "-E", "-u", "-f", "record %p %o %s\n", "-X", "auto.offset.reset=earliest",
		"-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=500", "-X", "auto.commit.interval.ms=300", topic)
}

var kinds = []kind{
	{name: "kcat", find: func(t testing.TB) []string { return []string{rig.Tool(t, "kcat")} }, member: kcat, light: true, silent: true},
	{name: "sarama", find: rig.Go("sarama"), member: ours("classic"), light: true},
	{name: "kafka-go", find: rig.Go("kafkago"), member: ours("classic"), silent: true},
	{name: "confluent-go", find: rig.Go("confluent"), member: ours("classic")},
	{name: "confluent-go consumer", find: rig.Go("confluent"), member: ours("consumer"), next: true},
	{name: "kafkajs", find: rig.Node, member: ours("classic")},
	{name: "confluent-python", find: rig.Python("confluent.py", "confluent_kafka"), member: ours("classic")},
	{name: "confluent-python consumer", find: rig.Python("confluent.py", "confluent_kafka"), member: ours("consumer"), next: true},
	{name: "aiokafka", find: rig.Python("aio.py", "aiokafka"), member: ours("classic")},
	{name: "java", find: rig.Java("Client"), member: ours("classic")},
	{name: "java cooperative", find: rig.Java("Client"), member: ours("cooperative")},
	{name: "java consumer", find: rig.Java("Client"), member: ours("consumer"), next: true},
}

// crew is one group at work.
type crew struct {
	kind
	*history
	c       *testcluster.Cluster
	argv    []string
	topic   string
	members []*member
	joined  int // members so far, for their numbers
}

// TestGroups runs all kinds of groups at the same time through the same events.
func TestGroups(t *testing.T) {
	rng := rig.Chance(t)
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{})
	crews := available(t, c)
	if len(crews) == 0 {
		t.Skip("no client is there")
	}
	w := startWriter(t, c, crews)
	for _, g := range crews { // one after the other: thirty clients that start at once keep two processors busy for a minute
		g.hire(t, 3)
		g.awaitSettled(t)
	}
	for range rig.Count(1, 1, 10) {
		each(crews, func(g *crew) { g.fire() })
		each(crews, func(g *crew) { g.awaitSettled(t) })
		each(crews, func(g *crew) { g.hire(t, 1) })
		each(crews, func(g *crew) { g.awaitSettled(t) })
		nodes := rng.Perm(3)
		for _, node := range nodes[:rig.Count(1, 3, 3)] { // with all three, each group's coordinator is among them
			c.Kill(node + 1)
			each(crews, func(g *crew) { g.awaitMore(t) })
			c.StartAll(node + 1)
			rig.AwaitWhole(t, c)
			each(crews, func(g *crew) { g.awaitSettled(t) })
		}
	}
	acknowledged := w.stop(t)
	ends := rig.Ends(t, c.Admin())
	for _, g := range crews {
		rig.Await(t, func() string { return g.about(g.behind(offsetsOf(ends, g.topic))) })
		wrong, again := g.verdict(acknowledged[g.topic])
		told, shown := g.assignments()
		if told == 0 && !g.silent || shown == 0 {
			t.Errorf("%s: %d assignments told by members, %d answers of the coordinator with some: this has shown nothing", g.name, told, shown)
		}
		t.Logf("%s: %d values, %d of them more than once; %d assignments told, %d shown", g.name, len(acknowledged[g.topic]), again, told, shown)
		for _, text := range wrong[:min(len(wrong), 20)] {
			t.Errorf("%s: %s", g.name, text)
		}
	}
}

func each(crews []*crew, do func(*crew)) {
	for _, g := range crews {
		do(g)
	}
}

func offsetsOf(all kadm.ListedOffsets, topic string) map[int32]int64 {
	ends := map[int32]int64{}
	for p, o := range all[topic] {
		ends[p] = o.Offset
	}
	return ends
}

// available are the groups whose clients are there, each with its topic; the others skip or fail as subtests.
func available(t *testing.T, c *testcluster.Cluster) (crews []*crew) {
	t.Helper()
	versions, err := c.Admin().ApiVersions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		if !k.light && rig.Default() {
			continue
		}
		t.Run(k.name, func(sub *testing.T) {
			if k.next && !offers(versions, 68) {
				sub.Fatal("the cluster does not have KIP-848")
			}
			argv := k.find(outliving{sub, t})
			topic := strings.ReplaceAll(k.name, " ", "-")
			c.CreateTopic(topic, partitions, 3)
			crews = append(crews, &crew{kind: k, history: newHistory(), c: c, argv: argv, topic: topic})
		})
	}
	return crews
}

// outliving is a subtest that skips and fails by itself and whose files live as long as its parent's.
type outliving struct {
	testing.TB
	parent *testing.T
}

// TempDir is the parent's.
func (o outliving) TempDir() string { return o.parent.TempDir() }

func offers(versions kadm.BrokersApiVersions, key int16) bool {
	for _, v := range versions {
		if _, ok := v.KeyMaxVersion(key); ok {
			return true
		}
	}
	return false
}

// hire starts members.
func (g *crew) hire(t *testing.T, count int) {
	t.Helper()
	for range count {
		g.joined++
		m, err := join(g.history, g.joined, g.member(g.argv, strings.Join(g.c.Addrs(), ","), g.topic, "group-"+g.topic))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Kill)
		g.members = append(g.members, m)
	}
}

// fire kills the member that is there longest: with most clients it leads the group.
func (g *crew) fire() {
	number, at := g.joined-len(g.members)+1, time.Now()
	g.members[0].Kill()
	g.killed(number, at)
	g.members = g.members[1:]
}

// about adds the group's name, and what matters more: that a member has ended by itself.
func (g *crew) about(missing string) string {
	for _, m := range g.members {
		if why := m.Gone(); why != "" {
			return g.name + ": " + why
		}
	}
	if missing == "" {
		return ""
	}
	return g.name + ": " + missing
}

// awaitMore waits until the group has processed some more.
func (g *crew) awaitMore(t *testing.T) {
	t.Helper()
	before := g.count()
	rig.Await(t, func() string {
		if now := g.count(); now < before+more {
			return g.about(fmt.Sprintf("%d records processed since", now-before))
		}
		return ""
	})
}

// awaitSettled waits until the living members share all partitions among them, and then process some more.
func (g *crew) awaitSettled(t *testing.T) {
	t.Helper()
	rig.Await(t, func() string { return g.about(g.unsettled(t.Context())) })
	g.awaitMore(t)
}

func (g *crew) unsettled(ctx context.Context) string {
	state, shares, err := g.describe(ctx)
	if err != nil {
		return err.Error()
	}
	if state != "Stable" || len(shares) != len(g.members) {
		return fmt.Sprintf("the group is %s with %d members of %d", state, len(shares), len(g.members))
	}
	all := slices.Sorted(slices.Values(slices.Concat(shares...)))
	if !slices.Equal(all, []int32{0, 1, 2, 3, 4, 5}) {
		return fmt.Sprintf("the members share %v", shares)
	}
	return ""
}

// describe asks for the group's state and each member's partitions.
func (g *crew) describe(ctx context.Context) (state string, shares [][]int32, err error) {
	group := "group-" + g.topic
	if g.next {
		all, err := g.c.Admin().DescribeConsumerGroups(ctx, group)
		if err != nil {
			return "", nil, err
		}
		d := all[group]
		return d.State, consumerShares(d, g.topic), d.Err
	}
	all, err := g.c.Admin().DescribeGroups(ctx, group)
	if err != nil {
		return "", nil, err
	}
	d := all[group]
	return d.State, classicShares(d), d.Err
}

func consumerShares(d kadm.DescribedConsumerGroup, topic string) (shares [][]int32) {
	for _, m := range d.Members {
		shares = append(shares, slices.Collect(maps.Keys(m.Assignment[topic])))
	}
	return shares
}

func classicShares(d kadm.DescribedGroup) (shares [][]int32) {
	for _, m := range d.Members {
		var share []int32
		if assigned, ok := m.Assigned.AsConsumer(); ok {
			for _, topic := range assigned.Topics {
				share = append(share, topic.Partitions...)
			}
		}
		shares = append(shares, share)
	}
	return shares
}

// writer sends numbered values to all groups' topics and watches what the groups commit.
type writer struct {
	halt context.CancelFunc
	end  context.CancelFunc
	wait sync.WaitGroup
	acks struct {
		sync.Mutex
		values map[string][]string // by topic
		failed error
	}
	cl *kgo.Client
}

// pace is the pause between two values of a topic.
const pace = 10 * time.Millisecond

func startWriter(t *testing.T, c *testcluster.Cluster, crews []*crew) *writer {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.MetadataMinAge(50*time.Millisecond),
		kgo.ProducerBatchCompression(kgo.GzipCompression())) // the one codec that each client has without further packages
	if err != nil {
		t.Fatal(err)
	}
	writing, halt := context.WithCancel(t.Context())
	watching, end := context.WithCancel(t.Context())
	w := &writer{halt: halt, end: end, cl: cl}
	w.acks.values = map[string][]string{}
	w.wait.Go(func() { w.write(writing, crews) })
	w.wait.Go(func() { watch(watching, c, crews) })
	w.wait.Go(func() { watchShares(watching, c, crews) })
	t.Cleanup(func() { halt(); end(); w.wait.Wait(); cl.Close() })
	return w
}

func (w *writer) write(ctx context.Context, crews []*crew) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		for _, g := range crews {
			r := &kgo.Record{Topic: g.topic, Value: fmt.Appendf(nil, "%s-%d", g.topic, i)}
			w.cl.Produce(context.WithoutCancel(ctx), r, func(r *kgo.Record, err error) {
				w.acks.Lock()
				defer w.acks.Unlock()
				if err != nil {
					w.acks.failed = err
					return
				}
				w.acks.values[r.Topic] = append(w.acks.values[r.Topic], string(r.Value))
			})
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// watch asks for the committed offsets again and again. An answer that a node gives while another commits may be older than
// the answer before, so there is one question at a time.
func watch(ctx context.Context, c *testcluster.Cluster, crews []*crew) {
	again(ctx, c, func(adm *kadm.Client) {
		for _, g := range crews {
			offsets, err := adm.FetchOffsets(ctx, "group-"+g.topic)
			if err != nil || !offsets.Ok() {
				continue
			}
			all := map[int32]int64{}
			for p, o := range offsets[g.topic] {
				all[p] = o.At
			}
			g.answered(all)
		}
	})
}

// watchShares asks the coordinators again and again who has what. A group is of one type or the other, and may change it.
func watchShares(ctx context.Context, c *testcluster.Cluster, crews []*crew) {
	var names []string
	for _, g := range crews {
		names = append(names, "group-"+g.topic)
	}
	again(ctx, c, func(adm *kadm.Client) {
		// Some may be answered although others are not: their coordinators are down.
		classic, _ := adm.DescribeGroups(ctx, names...)
		consumer, _ := adm.DescribeConsumerGroups(ctx, names...)
		for _, g := range crews {
			if d, ok := classic["group-"+g.topic]; ok && d.Err == nil {
				g.described(classicShares(d))
			}
			if d, ok := consumer["group-"+g.topic]; ok && d.Err == nil {
				g.described(consumerShares(d, g.topic))
			}
		}
	})
}

// again has a client ask five times a second until the context ends.
func again(ctx context.Context, c *testcluster.Cluster, ask func(*kadm.Client)) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...))
	if err != nil {
		return // wrong options alone make it fail, and there are none
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		ask(adm)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// stop ends the writing and returns what was acknowledged. The watcher goes on until the test ends.
func (w *writer) stop(t *testing.T) map[string][]string {
	t.Helper()
	w.halt()
	if err := w.cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.acks.Lock()
	defer w.acks.Unlock()
	if w.acks.failed != nil {
		t.Errorf("a value was not taken: %v", w.acks.failed)
	}
	return w.acks.values
}
