package group

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// memLog is a partition in memory. By default an append is committed at once; with hold it waits for release.
type memLog struct {
	mu      sync.Mutex
	frames  []byte
	next    batch.Offset
	hold    bool
	waiting []*memPending
	fail    error // of new appends
	readErr error
	appends int
	held    batch.Offset // what Bounds.Committed lags behind the end
	asking  []*memVerified
}

// memVerified counts until a marker comes.
type memVerified struct {
	log   *memLog
	over  bool
	ended bool
}

func (v *memVerified) End() {
	v.log.mu.Lock()
	defer v.log.mu.Unlock()
	v.ended = true
}

func (l *memLog) Verify(batch.Producer) coordinator.Verified {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := &memVerified{log: l}
	l.asking = append(l.asking, v)
	return v
}

// admitLocked refuses what was verified before a marker, or was not.
func (l *memLog) admitLocked(frame []byte, verified coordinator.Verified) error {
	h, err := batch.ParseHeader(frame)
	if err != nil || !h.IsTransactional() {
		return err
	}
	if h.IsControl() {
		for _, v := range l.asking {
			v.over = true
		}
		return nil
	}
	if v, ok := verified.(*memVerified); !ok || v.over || v.ended {
		return replication.ErrInvalidTxnState
	}
	return nil
}

type memPending struct {
	frame []byte
	done  chan struct{}
	err   error
}

func (p *memPending) Done() <-chan struct{} { return p.done }
func (p *memPending) Err() error            { return p.err }

func (l *memLog) Append(frame []byte, verified coordinator.Verified) coordinator.Pending {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.appends++
	p := &memPending{frame: frame, done: make(chan struct{})}
	if err := l.admitLocked(frame, verified); err != nil {
		l.finishLocked(p, err)
		return p
	}
	if l.hold {
		l.waiting = append(l.waiting, p)
		return p
	}
	l.finishLocked(p, l.fail)
	return p
}

func (l *memLog) finishLocked(p *memPending, err error) {
	if err == nil {
		batch.Stamp(p.frame, l.next, 1)
		h, parseErr := batch.ParseHeader(p.frame)
		if parseErr != nil {
			err = parseErr
		} else {
			l.frames = append(l.frames, p.frame...)
			l.next = h.NextOffset()
		}
	}
	p.err = err
	close(p.done)
}

// release ends the appends that wait.
func (l *memLog) release(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.waiting {
		l.finishLocked(p, err)
	}
	l.waiting = nil
}

func (l *memLog) Bounds() (coordinator.Bounds, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return coordinator.Bounds{Committed: l.next - l.held, End: l.next}, l.readErr
}

func (l *memLog) Read(from batch.Offset, maxBytes int) (coordinator.Chunk, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readErr != nil {
		return coordinator.Chunk{}, l.readErr
	}
	var out coordinator.Chunk
	rest := l.frames
	for len(rest) > 0 {
		h, err := batch.ParseHeader(rest)
		if err != nil {
			return coordinator.Chunk{}, err
		}
		if h.LastOffset() >= from && (len(out.Frames) == 0 || len(out.Frames)+h.Size() <= maxBytes) {
			out.Frames = append(out.Frames, rest[:h.Size()]...)
			out.Next = h.NextOffset()
		}
		rest = rest[h.Size():]
	}
	return out, nil
}

func (l *memLog) appendRecords(t *testing.T, records ...batch.Record) {
	t.Helper()
	frame, err := batch.Build(batch.BuildOptions{}, records...)
	if err != nil {
		t.Fatal(err)
	}
	<-l.Append(frame, nil).Done()
}

// fakeCluster is a cluster of one node with some topics.
type fakeCluster struct {
	mu      sync.Mutex
	topics  map[string]coordinator.Topic
	ensured int
	leader  bool
	syncs   int
	sync    func(context.Context) error // nil: everything is known
}

const fakePartitions = 4

func newFakeCluster() *fakeCluster {
	c := &fakeCluster{topics: map[string]coordinator.Topic{}, leader: true}
	c.add("t", 8)
	c.add("u", 1)
	return c
}

func (c *fakeCluster) add(name string, partitions int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := replication.TopicID{1}
	copy(id[1:], name)
	c.topics[name] = coordinator.Topic{Name: name, ID: id, Partitions: partitions}
}

func (c *fakeCluster) Topic(name string) (coordinator.Topic, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.topics[name]
	return t, ok
}

func (c *fakeCluster) TopicNames() (names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Keys(c.topics))
}

func (c *fakeCluster) TopicByID(id replication.TopicID) (coordinator.Topic, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.topics {
		if t.ID == id {
			return t, true
		}
	}
	return coordinator.Topic{}, false
}

func (c *fakeCluster) Coordinator(int32, string) (replication.Node, bool) {
	return replication.Node{ID: 7, Host: "broker", Port: 9092}, c.leader
}

// Sync makes known what there is, unless the cluster is cut off.
func (c *fakeCluster) Sync(ctx context.Context) error {
	c.mu.Lock()
	sync := c.sync
	c.syncs++
	c.mu.Unlock()
	if sync == nil {
		return nil
	}
	return sync(ctx)
}

func (c *fakeCluster) remove(name string) coordinator.Topic {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topics[name]
	delete(c.topics, name)
	return t
}

// replace makes a topic again under its name.
func (c *fakeCluster) replace(name string, id byte) coordinator.Topic {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.topics[name]
	t.ID = replication.TopicID{id}
	c.topics[name] = t
	return t
}

func (c *fakeCluster) EnsureTopic(context.Context) error {
	c.ensured++
	c.add(broker.OffsetsTopic, fakePartitions)
	return nil
}

// fakeLogs are the replicas of __consumer_offsets.
type fakeLogs struct{ logs [fakePartitions]*memLog }

func newFakeLogs() *fakeLogs {
	f := &fakeLogs{}
	for i := range f.logs {
		f.logs[i] = &memLog{}
	}
	return f
}

func (f *fakeLogs) Open(p int32, _ batch.Epoch) (coordinator.Log, error) { return f.logs[p], nil }

// node is a service with its surroundings.
type node struct {
	*Service
	logs    *fakeLogs
	cluster *fakeCluster
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// newNode returns a service that leads all partitions of logs, loaded. It must run in a synctest bubble.
func newNode(t *testing.T, logs *fakeLogs, limits Limits) *node {
	t.Helper()
	n := &node{logs: logs, cluster: newFakeCluster()}
	n.cluster.add(broker.OffsetsTopic, fakePartitions)
	var err error
	n.Service, err = New(Options{Logs: logs, Cluster: n.cluster, Limits: limits, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	n.lead(1)
	t.Cleanup(n.Close)
	return n
}

func (n *node) lead(epoch batch.Epoch) {
	for p := range int32(fakePartitions) {
		n.LeaderChanged(p, epoch, true)
	}
	synctest.Wait()
}

func (n *node) logOf(group string) *memLog {
	return n.logs.logs[coordinator.PartitionOf(group, fakePartitions)]
}
