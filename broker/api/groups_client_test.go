package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// These tests put the group keys before a real client. The data keys are kfake's, so that nothing but the groups is under
// test.

// borrowed is a cluster whose topics are kfake's.
type borrowed struct {
	address netip.AddrPort
	mu      sync.Mutex
	topics  map[string]coordinator.Topic
}

func (b *borrowed) Topic(name string) (coordinator.Topic, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.topics[name]
	return t, ok
}

func (b *borrowed) TopicNames() (names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name := range b.topics {
		names = append(names, name)
	}
	return names
}

func (b *borrowed) TopicByID(id replication.TopicID) (coordinator.Topic, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.topics {
		if t.ID == id {
			return t, true
		}
	}
	return coordinator.Topic{}, false
}

func (b *borrowed) Coordinator(int32, string) (replication.Node, bool) {
	return replication.Node{Host: b.address.Addr().String(), Port: int32(b.address.Port())}, true
}

func (b *borrowed) Sync(context.Context) error        { return nil }
func (b *borrowed) EnsureTopic(context.Context) error { return nil }

// front is kfake with the group keys answered by our handlers.
type front struct {
	t       *testing.T
	kfake   *kfake.Cluster
	cluster *borrowed
	offsets *memOffsets
	api     atomic.Pointer[API]
	limits  group.Limits
}

const frontTopic, frontPartitions = "work", 6

func newFront(t *testing.T) *front {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(frontPartitions, frontTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	f := &front{t: t, kfake: k, offsets: &memOffsets{}, limits: group.DefaultLimits()}
	f.limits.MinSessionTimeout = 100 * time.Millisecond
	f.cluster = &borrowed{address: netip.MustParseAddrPort(k.ListenAddrs()[0]), topics: map[string]coordinator.Topic{
		broker.OffsetsTopic: {Name: broker.OffsetsTopic, Partitions: 1},
	}}
	f.learnTopic()
	f.coordinate()
	// Before the clients in the order of registration, so after them in the order of cleaning up: they say good-bye.
	t.Cleanup(func() { f.api.Load().Group.Close() })
	for _, r := range groupRows {
		k.ControlKey(int16(r.Key), f.control(r))
	}
	return f
}

func (f *front) learnTopic() {
	f.t.Helper()
	cl := f.client()
	defer cl.Close()
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = kmsg.StringPtr(frontTopic)
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(f.t.Context(), cl)
	if err != nil || len(resp.Topics) != 1 {
		f.t.Fatalf("got %+v, %v", resp, err)
	}
	f.cluster.topics[frontTopic] = coordinator.Topic{Name: frontTopic, ID: replication.TopicID(resp.Topics[0].TopicID), Partitions: frontPartitions}
}

// coordinate starts a coordinator that reads what the one before it wrote.
func (f *front) coordinate() {
	f.t.Helper()
	s, err := group.New(group.Options{Logs: f.offsets, Cluster: f.cluster, Limits: f.limits, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.t.Fatal(err)
	}
	s.LeaderChanged(0, 1, true)
	f.api.Store(New(Services{Group: s, Logger: slog.New(slog.DiscardHandler)}))
}

func (f *front) control(r *Row) func(kmsg.Request) (kmsg.Response, error, bool) {
	session := conn.NewSession(conn.SessionInfo{Remote: f.cluster.address})
	return func(req kmsg.Request) (kmsg.Response, error, bool) {
		f.kfake.KeepControl()
		var resp kmsg.Response
		var err error
		f.kfake.SleepControl(func() {
			h := kafkaproto.RequestHeader{Key: r.Key, Version: req.GetVersion(), ClientID: "client"}
			resp, err = r.Handler(context.Background(), f.api.Load(), &Request{Header: h, Session: session}, req)
		})
		if resp != nil {
			resp.SetVersion(req.GetVersion())
		}
		return resp, err, true
	}
}

func (f *front) client(opts ...kgo.Opt) *kgo.Client {
	f.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(f.kfake.ListenAddrs()...)}, opts...)...)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(cl.Close)
	return cl
}

// worker consumes in the group and tells what it read.
type worker struct {
	*kgo.Client
	dead atomic.Bool
	seen chan string
	end  context.CancelFunc
}

func (f *front) worker(opts ...kgo.Opt) *worker {
	f.t.Helper()
	w := &worker{seen: make(chan string, 1000)}
	dialer := net.Dialer{}
	w.Client = f.client(append([]kgo.Opt{
		kgo.ConsumerGroup("workers"), kgo.ConsumeTopics(frontTopic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(30 * time.Second), kgo.HeartbeatInterval(50 * time.Millisecond), kgo.DisableAutoCommit(),
		kgo.RebalanceTimeout(2 * time.Second),
		kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
			if w.dead.Load() {
				return nil, errors.New("this worker is dead")
			}
			c, err := dialer.DialContext(ctx, network, host)
			if err != nil {
				return nil, err
			}
			return mortal{c, &w.dead}, nil
		}),
	}, opts...)...)
	ctx, cancel := context.WithCancel(f.t.Context())
	w.end = cancel
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.work(ctx)
	}()
	f.t.Cleanup(func() {
		cancel()
		<-done
		w.dead.Store(false) // or closing the client takes as long as it tries to leave the group
	})
	return w
}

// mortal is a connection that does not work any more once its worker is dead.
type mortal struct {
	net.Conn
	dead *atomic.Bool
}

func (m mortal) Write(b []byte) (int, error) {
	if m.dead.Load() {
		m.Close()
		return 0, net.ErrClosed
	}
	return m.Conn.Write(b)
}

func (w *worker) work(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := w.PollFetches(ctx)
		if fetches.Empty() {
			continue
		}
		if err := w.CommitRecords(ctx, fetches.Records()...); err != nil {
			continue
		}
		for _, r := range fetches.Records() {
			w.seen <- string(r.Value)
		}
	}
}

// die stops the worker without a word to the coordinator.
func (w *worker) die() {
	w.dead.Store(true)
	w.end()
}

// expect waits until each of the values [from, to) was read and committed by somebody, and counts who read how many.
func expect(t *testing.T, from, to int, workers ...*worker) []int {
	t.Helper()
	counts := make([]int, len(workers))
	missing := map[string]bool{}
	for i := from; i < to; i++ {
		missing[strconv.Itoa(i)] = true
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for len(missing) > 0 {
		for i, w := range workers {
			select {
			case v := <-w.seen:
				if !missing[v] {
					t.Errorf("%s was read again after it was committed, or out of turn", v)
				}
				delete(missing, v)
				counts[i]++
			default:
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("never read: %v", missing)
		case <-tick.C:
		}
	}
	return counts
}

func (f *front) produce(from, to int) {
	f.t.Helper()
	cl := f.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	for i := from; i < to; i++ {
		r := &kgo.Record{Topic: frontTopic, Partition: int32(i % frontPartitions), Value: []byte(strconv.Itoa(i))}
		if err := cl.ProduceSync(f.t.Context(), r).FirstErr(); err != nil {
			f.t.Fatal(err)
		}
	}
}

// members waits until the group is stable with so many members.
func (f *front) members(n int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		d := f.api.Load().Group.Describe([]string{"workers"})[0]
		if d.State == group.Stable && len(d.Members) == n {
			return
		}
		select {
		case <-ctx.Done():
			f.t.Fatalf("the group is %+v", d)
		case <-tick.C:
		}
	}
}

// TestFranzGoSharesAndTakesOver has two workers share the partitions, one die, the other go on from the committed offsets,
// and all of it go on under a new coordinator.
func TestFranzGoSharesAndTakesOver(t *testing.T) {
	balancers := map[string]kgo.GroupBalancer{"cooperative": kgo.CooperativeStickyBalancer(), "range": kgo.RangeBalancer()}
	for name, b := range balancers {
		t.Run(name, func(t *testing.T) {
			f := newFront(t)
			one, two := f.worker(kgo.Balancers(b)), f.worker(kgo.Balancers(b), kgo.SessionTimeout(5*time.Second))
			f.members(2)
			f.produce(0, 60)
			counts := expect(t, 0, 60, one, two)
			if counts[0] == 0 || counts[1] == 0 {
				t.Errorf("the work was not shared: %v", counts)
			}
			two.die()
			f.members(1)
			f.produce(60, 120)
			expect(t, 60, 120, one)

			f.api.Load().Group.Close()
			f.coordinate()
			f.members(1)
			f.produce(120, 150)
			expect(t, 120, 150, one)
			three := f.worker(kgo.Balancers(b))
			f.members(2)
			f.produce(150, 200)
			expect(t, 150, 200, one, three)
		})
	}
}

// TestFranzGoStaticMembers has static members restart without a rebalance.
func TestFranzGoStaticMembers(t *testing.T) {
	f := newFront(t)
	static := func(i int) *worker {
		return f.worker(kgo.InstanceID(fmt.Sprint("instance-", i)), kgo.SessionTimeout(20*time.Second), kgo.Balancers(kgo.RangeBalancer()))
	}
	one, two := static(1), static(2)
	f.members(2)
	f.produce(0, 60)
	expect(t, 0, 60, one, two)
	before := f.api.Load().Group.Describe([]string{"workers"})[0]

	two.end()
	two.Close() // a static member says nothing when it stops
	f.produce(60, 120)
	again := static(2)
	expect(t, 60, 120, one, again)
	after := f.api.Load().Group.Describe([]string{"workers"})[0]
	if len(after.Members) != 2 || after.State != group.Stable {
		t.Fatalf("got %+v", after)
	}
	for i, m := range after.Members {
		old := before.Members[i]
		if m.Instance != old.Instance || string(m.Assignment) != string(old.Assignment) {
			t.Errorf("%+v became %+v", old, m)
		}
		if restarted := m.Instance == "instance-2"; restarted == (m.Member == old.Member) {
			t.Errorf("%s was %s and is %s", m.Instance, old.Member, m.Member)
		}
	}
}
