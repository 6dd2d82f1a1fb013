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

// nextRecords is how many records are written at a time.
const nextRecords = 300

// nextGroup is the group and the topic "next", with one producer.
type nextGroup struct {
	t        *testing.T
	ctx      context.Context
	c        *testcluster.Cluster
	producer *kgo.Client
	seen     chan string // by any member
}

// TestFranzGoConsumers has franz-go's members of a group of KIP-848 read a topic; one leaves, one joins. Every record is read, and when
// all have gone the next member begins at what was committed.
func TestFranzGoConsumers(t *testing.T) {
	g := &nextGroup{t: t, c: testcluster.StartCluster(t, testcluster.ClusterOptions{}), seen: make(chan string, 10*nextRecords)}
	g.c.CreateTopic("next", partitions, 3)
	var cancel func()
	g.ctx, cancel = context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var err error
	if g.producer, err = kgo.NewClient(kgo.SeedBrokers(g.c.Addrs()...)); err != nil {
		t.Fatal(err)
	}
	defer g.producer.Close()
	adm := kadm.NewClient(g.producer)

	have := map[string]bool{}
	first := g.member()
	second := g.member()
	g.produce(0)
	g.await(nextRecords, have)
	first()
	third := g.member()
	g.produce(nextRecords)
	g.await(2*nextRecords, have)

	groups, err := adm.ListGroups(g.ctx)
	if listed := groups["next"]; err != nil || listed.ProtocolType != "consumer" {
		t.Fatalf("%+v, %v", groups, err)
	}
	g.awaitCommits(adm, 2*nextRecords)
	second()
	third()
	for len(g.seen) > 0 {
		<-g.seen
	}
	fourth := g.member()
	g.produce(2 * nextRecords)
	later := map[string]bool{}
	g.await(nextRecords, later)
	for v := range later {
		if have[v] {
			t.Errorf("record %s, which was committed, was read again", v)
		}
	}
	fourth()
}

func (g *nextGroup) produce(from int) {
	g.t.Helper()
	for i := from; i < from+nextRecords; i++ {
		g.producer.Produce(g.ctx, &kgo.Record{Topic: "next", Value: fmt.Append(nil, i)}, nil)
	}
	if err := g.producer.Flush(g.ctx); err != nil {
		g.t.Fatal(err)
	}
}

// member reads and commits until it is stopped.
func (g *nextGroup) member() (stop func()) {
	g.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(g.c.Addrs()...), kgo.ConsumerGroup("next"), kgo.ConsumeTopics("next"),
		kgo.ServerSideBalancer(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		g.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			fetches := cl.PollFetches(g.ctx)
			if fetches.IsClientClosed() || g.ctx.Err() != nil {
				return
			}
			fetches.EachRecord(func(r *kgo.Record) { g.seen <- string(r.Value) })
			if err := cl.CommitUncommittedOffsets(g.ctx); err != nil && g.ctx.Err() == nil {
				g.t.Logf("commit: %v", err) // in the midst of a change of members
			}
		}
	}()
	return func() {
		cl.Close()
		<-ended
	}
}

func (g *nextGroup) await(n int, have map[string]bool) {
	g.t.Helper()
	for len(have) < n {
		select {
		case v := <-g.seen:
			have[v] = true
		case <-g.ctx.Done():
			g.t.Fatalf("%d of %d records were read", len(have), n)
		}
	}
}

// awaitCommits waits until so many records are committed. A commit that failed in the midst of a change of members is made good by
// the next one, of which franz-go makes one every five seconds.
func (g *nextGroup) awaitCommits(adm *kadm.Client, want int64) {
	g.t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for committed := int64(0); committed < want; {
		select {
		case <-tick.C:
		case <-g.ctx.Done():
			g.t.Fatalf("%d of %d records are committed", committed, want)
		}
		offsets, err := adm.FetchOffsets(g.ctx, "next")
		if err != nil {
			g.t.Fatal(err)
		}
		committed = 0
		offsets.Each(func(o kadm.OffsetResponse) { committed += max(o.At, 0) })
	}
}
