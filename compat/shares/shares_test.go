package shares

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	topic      = "jobs"
	group      = "workers"
	partitions = 6

	deliveryLimit = 5 // the default
)

// TestKills has three members process records while they are produced, and kills one node after the other. A member releases
// some records and rejects none: in the end each is accepted, none was delivered more often than the limit, and the group's
// start is the end of every partition, so that another member gets nothing.
func TestKills(t *testing.T) {
	c := shortLocks(t)
	c.CreateTopic(topic, partitions, 3)
	w := &work{t: t, c: c, total: rig.Count(2_000, 20_000, 200_000), done: map[string]int{}}
	w.configure()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var running sync.WaitGroup
	for range 3 {
		running.Go(func() { w.member(ctx) })
	}
	running.Go(func() { w.produce(ctx) })
	kills := rig.Count(3, 6, 30)
	for i := range kills {
		node := i%3 + 1
		rig.Await(t, func() string { return w.progress(w.total * (i + 1) / (kills + 1)) }) // so that each has work to interrupt
		c.Kill(node)
		c.StartAll(node)
	}
	rig.Await(t, func() string { return w.progress(w.total) })
	rig.AwaitWhole(t, c)
	rig.Await(t, w.behind)
	c.Kill(3)
	rig.Await(t, w.behind) // a node that is down knows nothing that others do not
	c.StartAll(3)
	cancel()
	running.Wait()
	t.Logf("%d records, %d kills, %d deliveries, at most %d of one", w.total, kills, w.deliveries, w.most)
	if w.most > deliveryLimit {
		t.Errorf("a record was delivered %d times", w.most)
	}
}

// work is what the members do.
type work struct {
	t     *testing.T
	c     *testcluster.Cluster
	total int

	mu         sync.Mutex
	done       map[string]int // by the record's value
	deliveries int
	most       int32
}

func (w *work) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.done)
}

// progress says what is missing to so many processed records.
func (w *work) progress(want int) string {
	if n := w.count(); n < want {
		return fmt.Sprintf("%d of %d records are processed", n, want)
	}
	return ""
}

// shortLocks starts a cluster whose groups may have locks as short as configure wants them.
func shortLocks(t *testing.T) *testcluster.Cluster {
	t.Helper()
	return testcluster.StartCluster(t, testcluster.ClusterOptions{Args: []string{"--set", "group.share.min.record.lock.duration.ms=1000"}})
}

// configure has the group begin at the start, with locks that soon end.
func (w *work) configure() {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	settings := map[string]string{"share.auto.offset.reset": "earliest", "share.record.lock.duration.ms": "3000"}
	for name, value := range settings {
		o := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		o.Name, o.Value = name, kmsg.StringPtr(value)
		r.Configs = append(r.Configs, o)
	}
	req.Resources = append(req.Resources, r)
	cl := w.client()
	resp, err := req.RequestWith(w.t.Context(), cl)
	if err != nil || resp.Resources[0].ErrorCode != 0 {
		w.t.Fatalf("%+v, %v", resp, err)
	}
	for id := range w.c.Addrs() { // a member of a node that has not heard of them would begin at the end
		rig.Await(w.t, func() string { return unset(w.t.Context(), cl.Broker(id+1), settings) })
	}
}

// unset says which settings of the group a node does not know yet.
func unset(ctx context.Context, node *kgo.Broker, settings map[string]string) string {
	req := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	for name := range settings {
		r.ConfigNames = append(r.ConfigNames, name)
	}
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(ctx, node)
	if err != nil {
		return err.Error()
	}
	for _, r := range resp.Resources {
		known := map[string]string{}
		for _, c := range r.Configs {
			if c.Value != nil {
				known[c.Name] = *c.Value
			}
		}
		if !maps.Equal(known, settings) {
			return fmt.Sprintf("the group's settings are %v: error %d", known, r.ErrorCode)
		}
	}
	return ""
}

func (w *work) client(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(w.c.Addrs()...)}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(cl.Close)
	return cl
}

func (w *work) produce(ctx context.Context) {
	// Batches are acquired whole: one of thousands of records would keep all work with one member.
	cl := w.client(kgo.DefaultProduceTopic(topic), kgo.UnknownTopicRetries(-1), kgo.MaxBufferedRecords(100))
	for i := range w.total {
		cl.Produce(ctx, kgo.StringRecord(strconv.Itoa(i)), func(_ *kgo.Record, err error) {
			if err != nil && ctx.Err() == nil {
				w.t.Errorf("producing %d: %v", i, err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil && ctx.Err() == nil {
		w.t.Error(err)
	}
}

// member processes records until ctx ends. It releases every seventh that it gets for the first time.
func (w *work) member(ctx context.Context) {
	cl := w.client(kgo.ConsumeTopics(topic), kgo.ShareGroup(group))
	for seen := 0; ctx.Err() == nil; {
		fetches := cl.PollRecords(ctx, 100)
		for _, r := range fetches.Records() {
			seen++
			first := r.DeliveryCount() <= 1
			if seen%7 == 0 && first {
				r.Ack(kgo.AckRelease)
			} else {
				r.Ack(kgo.AckAccept)
			}
			w.note(string(r.Value), r.DeliveryCount(), seen%7 == 0 && first)
		}
	}
}

func (w *work) note(value string, deliveries int32, released bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deliveries++
	w.most = max(w.most, deliveries)
	if !released {
		w.done[value]++
	}
}

// behind says where the group is not at the end yet.
func (w *work) behind() string {
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	ends, err := w.c.Admin().ListEndOffsets(ctx, topic)
	if err != nil {
		return err.Error()
	}
	req := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	g := kmsg.NewDescribeShareGroupOffsetsRequestGroup()
	g.GroupID = group
	req.Groups = append(req.Groups, g)
	cl := w.client()
	defer cl.Close()
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err.Error()
	}
	if err := kerr.ErrorForCode(resp.Groups[0].ErrorCode); err != nil {
		return err.Error()
	}
	found := 0
	for _, rt := range resp.Groups[0].Topics {
		for _, p := range rt.Partitions {
			end, _ := ends.Lookup(topic, p.Partition)
			if found++; p.StartOffset != end.Offset || p.Lag != 0 {
				return fmt.Sprintf("partition %d: the group is at %d of %d, its lag is %d", p.Partition, p.StartOffset, end.Offset, p.Lag)
			}
		}
	}
	if found != partitions {
		return fmt.Sprintf("%d of %d partitions are known", found, partitions)
	}
	return ""
}
