package faults

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// members is a consumer group at work.
type members struct {
	mu        sync.Mutex
	delivered map[Value]int
	committed map[int32]int64
	back      []string // commits that went back
	failed    []error
}

// TestGroupAcrossKills runs a consumer group of three members while nodes are killed, among them the group's coordinator: no
// record is missed, and no committed offset is forgotten.
func TestGroupAcrossKills(t *testing.T) { testGroup(t, 3) }

// TestSingleGroup is the same with one node.
func TestSingleGroup(t *testing.T) { testGroup(t, 1) }

func testGroup(t *testing.T, nodes int) {
	const group = "workers"
	c, l, rng := cluster(t, testcluster.ClusterOptions{Nodes: nodes}, LoadOptions{Probers: 1, Replicas: int16(nodes)})
	m := &members{delivered: map[Value]int{}, committed: map[int32]int64{}}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer func() { stop(); wg.Wait() }()
	for range 3 {
		cl := l.client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(l.Topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(300*time.Millisecond),
			kgo.FetchMaxWait(200*time.Millisecond))
		wg.Go(func() { m.work(ctx, cl) })
	}
	wg.Go(func() { m.watch(ctx, l, group) })
	for i := range scaled(6, 60) {
		l.WaitAcked(300 + rng.IntN(500))
		victim := coordinatorOf(t, l, group)
		if i%3 == 2 {
			victim = rng.IntN(nodes) + 1
		}
		c.Kill(victim)
		if nodes > 1 {
			l.WaitAcked(300)
		}
		c.StartAll(victim)
		awaitWhole(t, c, l.Topic, l.o.Partitions)
	}
	l.Stop()
	_, ends := l.offsets()
	await(t, func() string {
		m.mu.Lock()
		defer m.mu.Unlock()
		for p, end := range ends {
			if m.committed[int32(p)] < end {
				return fmt.Sprintf("the group has committed %d of partition %d, whose end is %d", m.committed[int32(p)], p, end)
			}
		}
		return ""
	})
	stop()
	wg.Wait()
	l.Check()
	m.verdict(t, l.History)
}

// work polls, remembers, and commits, until ctx ends.
func (m *members) work(ctx context.Context, cl *kgo.Client) {
	for ctx.Err() == nil {
		fetches := cl.PollRecords(ctx, 500)
		m.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			if v, err := DecodeValue(r.Value); err == nil {
				m.delivered[v]++
			} else {
				m.failed = append(m.failed, err)
			}
		})
		m.mu.Unlock()
		if fetches.NumRecords() > 0 {
			// A commit that fails is repeated by whoever gets the records next: they come again then.
			_ = cl.CommitUncommittedOffsets(ctx)
		}
		cl.AllowRebalance()
	}
}

// watch asks for the committed offsets again and again.
func (m *members) watch(ctx context.Context, l *Load, group string) {
	adm := kadm.NewClient(l.client())
	tick := time.NewTicker(watchPace)
	defer tick.Stop()
	for ctx.Err() == nil {
		got, err := adm.FetchOffsets(ctx, group)
		if err == nil {
			m.note(got)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (m *members) note(got kadm.OffsetResponses) {
	m.mu.Lock()
	defer m.mu.Unlock()
	got.Each(func(o kadm.OffsetResponse) {
		if o.Err != nil {
			return
		}
		if o.At < m.committed[o.Partition] {
			m.back = append(m.back, fmt.Sprintf("partition %d: %d after %d", o.Partition, o.At, m.committed[o.Partition]))
		}
		m.committed[o.Partition] = max(m.committed[o.Partition], o.At)
	})
	if len(got) == 0 && len(m.committed) > 0 {
		m.back = append(m.back, "no committed offsets at all, after some")
	}
}

// verdict compares what was delivered with what is in the log.
func (m *members) verdict(t *testing.T, h *History) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	missed, again := 0, 0
	h.eachFinal(func(v Value) {
		switch m.delivered[v] {
		case 0:
			missed++
		case 1:
		default:
			again++
		}
	})
	t.Logf("delivered %d values, %d of them more than once, missed %d", len(m.delivered), again, missed)
	if missed > 0 {
		t.Errorf("the group missed %d records", missed)
	}
	for _, text := range m.back {
		t.Errorf("a committed offset went back: %s", text)
	}
	for _, err := range m.failed {
		t.Error(err)
	}
}

// coordinatorOf asks who coordinates a group.
func coordinatorOf(t *testing.T, l *Load, group string) (id int) {
	t.Helper()
	adm := kadm.NewClient(l.client())
	await(t, func() string {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		got := adm.FindGroupCoordinators(ctx, group)
		if err := got.Error(); err != nil {
			return err.Error()
		}
		id = int(got[group].NodeID)
		return ""
	})
	return id
}
