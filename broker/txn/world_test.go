package txn

//quorlog:bubble a world lives in one

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

var worldSeeds = flag.Int("txn.seeds", 12, "how many worlds TestWorlds plays")

const (
	worldPartitions = 3
	worldTimeout    = 5 * time.Second // of transactions
)

// world is a cluster in which much goes wrong: real partitions, and a real coordinator over a log in memory, between which
// messages get lost, come late and come twice, and a coordinator that dies at any moment.
type world struct {
	t       *testing.T
	ctx     context.Context
	manager *partition.Manager
	fs      vfs.FS
	parts   []*partition.Partition
	late    sync.WaitGroup // what is on its way still
	limits  Limits         // of coordinators that are yet to begin

	mu      sync.Mutex
	rng     *rand.Rand
	calm    bool // nothing goes wrong any more
	epoch   batch.Epoch
	frames  []byte
	next    batch.Offset
	service *Service
	ids     ProducerID
	topics  map[string]int32 // partitions of the topics that the coordinator knows
	told    map[string]fate  // by value
	acked   map[string]map[int]bool
}

// fate is what a client knows of its transaction.
type fate string

const (
	committed fate = "committed"
	aborted   fate = "aborted"
	unknown   fate = "unknown"
)

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, ctx: t.Context(), fs: vfs.NewMem(), rng: rand.New(rand.NewPCG(seed, 1)), epoch: 1, ids: 1000, limits: DefaultLimits(),
		topics: map[string]int32{"t": worldPartitions, broker.TransactionTopic: 1},
		told:   map[string]fate{}, acked: map[string]map[int]bool{},
	}
	w.open()
	w.lead()
	return w
}

// open opens the partitions.
func (w *world) open() {
	var err error
	w.manager, err = partition.NewManager(partition.Options{DataDir: "/d", FS: w.fs, Node: 1, OnFatal: func(err error) { w.t.Error(err) }})
	if err != nil {
		w.t.Fatal(err)
	}
	w.parts = nil
	for i := range int32(worldPartitions) {
		replicas := []replication.ReplicaID{{Node: 1, Incarnation: 1}}
		id := replication.PartitionID{Topic: replication.TopicID{1}, Partition: i}
		cfg := replication.TopicConfig{SegmentBytes: 64 << 10, SegmentIndexBytes: 1 << 20, MaxMessageBytes: 1 << 20, Compression: "producer"}
		p, err := w.manager.Ensure(w.ctx, id, "t", replication.Assignment{Replicas: replicas}, cfg)
		if err != nil {
			w.t.Fatal(err)
		}
		for !p.Leading() {
			<-time.After(time.Millisecond)
		}
		w.parts = append(w.parts, p)
	}
}

// chance is true once in n times, while anything may go wrong.
func (w *world) chance(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.calm && w.rng.IntN(n) == 0
}

func (w *world) draw(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

// soon is how long something takes that is late.
func (w *world) soon() time.Duration { return time.Duration(1+w.draw(2000)) * time.Millisecond }

// lead begins a coordinator.
func (w *world) lead() {
	s, err := New(Options{
		Logs: w, Cluster: w, Node: 1, Peers: w, Limits: w.limits, Logger: slog.New(slog.DiscardHandler),
		NewID: func(context.Context) (ProducerID, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.ids++
			return w.ids, nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.service = s
	epoch := w.epoch
	w.mu.Unlock()
	s.LeaderChanged(0, epoch, true)
}

// kill ends the coordinator, and begins another.
func (w *world) kill() {
	w.mu.Lock()
	old := w.service
	w.epoch++
	w.mu.Unlock()
	w.late.Go(old.Close) // what it is about to do may still happen
	w.lead()
}

func (w *world) coordinator() *Service {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.service
}

// The log of __transaction_state.

type worldLog struct {
	*world
	epoch batch.Epoch
}

type worldAppend struct {
	done chan struct{}
	err  error
}

func (a *worldAppend) Done() <-chan struct{} { return a.done }
func (a *worldAppend) Err() error            { return a.err }

func (w *world) Open(_ int32, epoch batch.Epoch) (coordinator.Log, error) {
	return worldLog{w, epoch}, nil
}

// Verify is for what a coordinator writes within transactions.
func (l worldLog) Verify(batch.Producer) coordinator.Verified { return nil }

func (l worldLog) Append(frame []byte, _ coordinator.Verified) coordinator.Pending {
	a := &worldAppend{done: make(chan struct{})}
	l.late.Go(func() {
		<-time.After(time.Duration(l.draw(5)) * time.Millisecond)
		defer close(a.done)
		refused, forgotten := l.chance(30), l.chance(60)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.epoch != l.world.epoch || refused {
			if a.err = replication.ErrNotLeader; forgotten {
				a.err = replication.ErrUnknownOutcome
			}
			return
		}
		batch.Stamp(frame, l.next, l.epoch)
		h, _ := batch.ParseHeader(frame)
		l.world.frames, l.world.next = append(l.world.frames, frame...), h.NextOffset()
		if forgotten {
			a.err = replication.ErrUnknownOutcome
		}
	})
	return a
}

func (l worldLog) Bounds() (coordinator.Bounds, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch != l.world.epoch {
		return coordinator.Bounds{}, replication.ErrNotLeader
	}
	return coordinator.Bounds{Committed: l.next, End: l.next}, nil
}

func (l worldLog) Read(from batch.Offset, _ int) (coordinator.Chunk, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := l.frames; len(rest) > 0; {
		h, err := batch.ParseHeader(rest)
		if err != nil {
			return coordinator.Chunk{}, err
		}
		if h.BaseOffset >= from {
			return coordinator.Chunk{Frames: append([]byte(nil), rest...), Next: l.next}, nil
		}
		rest = rest[h.Size():]
	}
	return coordinator.Chunk{Next: l.next}, nil
}

// The cluster.

func (w *world) Topic(name string) (coordinator.Topic, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, ok := w.topics[name]
	return coordinator.Topic{Name: name, Partitions: n}, ok
}

func (w *world) TopicByID(replication.TopicID) (coordinator.Topic, bool) {
	return coordinator.Topic{}, false
}

func (w *world) Coordinator(int32, string) (replication.Node, bool) {
	return replication.Node{ID: 1}, !w.chance(30)
}

func (w *world) EnsureTopic(context.Context) error { return nil }

func (w *world) Leader(Partition) (replication.NodeID, error) {
	if w.chance(10) {
		return replication.NoNode, nil
	}
	return 1, nil
}

func (w *world) Sync(context.Context) error { return nil }

func (w *world) AddPartitions(ctx context.Context, _ replication.NodeID, r AddRequest) ([]error, error) {
	each, err := w.coordinator().AddPartitions(ctx, r)
	if w.chance(15) {
		return nil, broker.ErrCoordinatorNotAvailable // the answer got lost
	}
	return each, err
}

func (w *world) WriteMarkers(ctx context.Context, _ replication.NodeID, markers []Marker) ([]error, error) {
	if w.chance(6) {
		return nil, errors.New("lost on the way")
	}
	if w.chance(4) {
		// Of an old client's transactions nobody can tell a late marker from the next one's.
		again, twice := w.soon(), slices.DeleteFunc(slices.Clone(markers), func(m Marker) bool { return m.Version < V2 })
		w.late.Go(func() {
			<-time.After(again)
			w.mark(w.ctx, twice)
		})
	}
	each := w.mark(ctx, markers)
	if w.chance(6) {
		return nil, errors.New("the answer got lost")
	}
	return each, nil
}

func (w *world) mark(ctx context.Context, markers []Marker) []error {
	each := make([]error, len(markers))
	for i, m := range markers {
		if w.chance(10) {
			each[i] = replication.ErrNotLeader
			continue
		}
		_, each[i] = w.parts[m.Partition.Index].Append(partition.Marker{
			ProducerID: int64(m.ProducerID), ProducerEpoch: int16(m.Epoch), CoordinatorEpoch: int32(m.CoordinatorEpoch),
			Commit: m.Commit, Bumped: m.Version >= V2,
		}.Batch(time.Now())).Wait(ctx)
	}
	return each
}

// produce does what a broker does with a batch.
func (w *world) produce(ctx context.Context, id string, who Identity, v Version, n int, seq int32, value string) error {
	p := w.parts[n]
	frame, err := batch.Build(batch.BuildOptions{
		Producer: &batch.Producer{ID: int64(who.ProducerID), Epoch: int16(who.Epoch), Sequence: seq}, Transactional: true,
	}, batch.Record{Value: []byte(value), Timestamp: time.Now().UnixMilli()})
	if err != nil {
		return err
	}
	h, err := batch.ParseHeader(frame)
	if err != nil {
		return err
	}
	token := partition.Verify(p, h)
	defer token.End()
	if token != nil {
		each, err := w.coordinator().Join(ctx, AddRequest{
			ID: id, Identity: who, Partitions: []Partition{{"t", int32(n)}}, VerifyOnly: v < V2, Version: v,
		})
		if err == nil {
			err = each[0]
		}
		if err != nil {
			token.Refused(h)
			return err
		}
	}
	if w.chance(20) {
		<-time.After(w.soon())
	}
	_, err = p.Append(partition.Batch{Frame: frame, Info: batch.Info{Header: h}, Client: true, Verified: token, Continues: v < V2}).Wait(ctx)
	return err
}

// client is a producer under a transactional id.
type client struct {
	*world
	name, id  string
	version   Version
	who       Identity
	sequences map[int]int32
}

func retriable(err error) bool {
	return passing(err) || errors.Is(err, replication.ErrUnknownOutcome) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, replication.ErrNotLeader)
}

// retry repeats a request as clients do. Two minutes are far longer than anything here is wrong.
func (w *world) retry(fn func() error) error {
	for since := time.Now(); ; <-time.After(20 * time.Millisecond) {
		err := fn()
		if err == nil || !retriable(err) {
			return err
		}
		if time.Since(since) > 2*time.Minute {
			w.t.Errorf("no end of it: %v", err)
			return errors.New("enough")
		}
	}
}

func (c *client) run(transactions int) {
	c.who = noIdentity
	for n := range transactions {
		if c.who == noIdentity {
			c.begin()
		}
		c.transact(fmt.Sprintf("%s/%d", c.name, n))
		if c.chance(12) {
			c.who = noIdentity // it crashes, and another comes under its id
		}
		<-time.After(time.Duration(c.draw(50)) * time.Millisecond)
	}
}

func (c *client) begin() {
	c.sequences = map[int]int32{}
	err := c.retry(func() (err error) {
		c.who, err = c.coordinator().InitProducerID(c.ctx, InitRequest{ID: c.id, Timeout: worldTimeout, Expected: noIdentity})
		return err
	})
	if err != nil {
		c.t.Errorf("%s: %v", c.name, err)
	}
}

// transact plays one transaction and notes what is known of it.
func (c *client) transact(value string) {
	good := true
	at := map[int]bool{}
	for range 1 + c.draw(3) {
		n := c.draw(worldPartitions)
		if at[n] {
			continue
		}
		err := c.write(n, value)
		good = good && err == nil
		at[n] = at[n] || err == nil
	}
	if c.chance(15) {
		c.note(value, unknown, nil) // it crashes before it ends
		c.who = noIdentity
		return
	}
	commit := good && c.draw(4) > 0
	if len(at) == 0 && c.version < V2 {
		return
	}
	who := c.who
	err := c.retry(func() (err error) {
		end := EndRequest{ID: c.id, Identity: who, Commit: commit, Version: c.version}
		next, err := c.coordinator().End(c.ctx, end)
		if c.chance(8) && c.version >= V2 { // what comes late from an old client may hit its next transaction
			again := c.soon()
			c.late.Go(func() {
				<-time.After(again)
				late := end
				late.Commit = !commit // the worst that a late packet can say
				_, _ = c.coordinator().End(c.ctx, late)
			})
		}
		if c.chance(8) {
			return context.DeadlineExceeded // the answer got lost
		}
		if err == nil {
			if c.version >= V2 {
				c.who, c.sequences = next, map[int]int32{}
			}
		}
		return err
	})
	switch {
	case err != nil:
		c.note(value, unknown, at)
		c.who = noIdentity
	case commit:
		c.note(value, committed, at)
	default:
		c.note(value, aborted, nil)
	}
}

// write sends a batch, again and again, and now and then once more, late.
func (c *client) write(n int, value string) error {
	if c.version < V2 {
		err := c.retry(func() error {
			_, err := c.coordinator().AddPartitions(c.ctx, AddRequest{ID: c.id, Identity: c.who, Partitions: []Partition{{"t", int32(n)}}, Version: c.version})
			return err
		})
		if err != nil {
			return err
		}
	}
	who, seq := c.who, c.sequences[n]
	c.sequences[n]++
	if c.chance(4) && c.version >= V2 {
		again := c.soon()
		c.late.Go(func() {
			<-time.After(again)
			_ = c.produce(c.ctx, c.id, who, c.version, n, seq, value)
		})
	}
	return c.retry(func() error { return c.produce(c.ctx, c.id, who, c.version, n, seq, value) })
}

func (w *world) note(value string, f fate, at map[int]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told[value], w.acked[value] = f, at
}

// readCommitted reads a partition as a consumer does.
func (w *world) readCommitted(n int) (values []string) {
	p := w.parts[n]
	o, err := p.Offsets(batch.NoEpoch)
	if err != nil {
		w.t.Fatal(err)
	}
	if o.LastStable != o.HighWatermark {
		w.t.Errorf("partition %d: a transaction is open at %d of %d", n, o.LastStable, o.HighWatermark)
	}
	for at := o.LogStart; at < o.LastStable; {
		got, err := p.Read(partition.ReadRequest{Offset: at, MaxBytes: 4 << 10, AtLeastOne: true, ReadCommitted: true, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch})
		if err != nil {
			w.t.Fatal(err)
		}
		frames, err := got.Range.AppendTo(nil)
		if err != nil {
			w.t.Fatal(err)
		}
		at = got.Range.Next
		got.Range.Release()
		values = append(values, visible(w.t, frames, got.Aborted)...)
	}
	return values
}

// visible drops what was aborted, by the list that goes with the frames.
func visible(t *testing.T, frames []byte, dropped []partition.AbortedTxn) (values []string) {
	open := map[int64]bool{}
	for len(frames) > 0 {
		h, err := batch.ParseHeader(frames)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range dropped {
			if a.ProducerID == h.ProducerID && a.FirstOffset <= h.LastOffset() && h.BaseOffset <= a.LastOffset {
				open[h.ProducerID] = true
			}
		}
		switch frame := frames[:h.Size()]; {
		case h.IsControl():
			delete(open, h.ProducerID)
		case !open[h.ProducerID]:
			err := batch.Iterate(frame, func(r batch.Record) error {
				values = append(values, string(r.Value))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		frames = frames[h.Size():]
	}
	return values
}

// check compares what can be read with what the clients know.
func (w *world) check(when string) {
	seen := map[string]map[int]int{}
	for n := range w.parts {
		for _, v := range w.readCommitted(n) {
			if seen[v] == nil {
				seen[v] = map[int]int{}
			}
			if seen[v][n]++; seen[v][n] > 1 {
				w.t.Errorf("%s: %s is twice in partition %d", when, v, n)
			}
		}
	}
	for value, f := range w.told {
		found := 0
		for n := range w.acked[value] {
			if w.acked[value][n] {
				found += seen[value][n]
			}
		}
		want := 0
		for _, ok := range w.acked[value] {
			if ok {
				want++
			}
		}
		switch {
		case f == committed && found != want, f == unknown && found != 0 && found < want:
			w.t.Errorf("%s: %s is %s, and in %d of its %d partitions", when, value, f, found, want)
		case f == aborted && len(seen[value]) > 0:
			w.t.Errorf("%s: %s was aborted, and is there: %v", when, value, seen[value])
		}
	}
}

// settle lets everything come to its end.
func (w *world) settle() {
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	for range 1000 {
		<-time.After(100 * time.Millisecond)
		found, err := w.coordinator().List(ListRequest{States: []State{Ongoing, PrepareCommit, PrepareAbort}, Running: -1})
		if err == nil && len(found) == 0 {
			return
		}
	}
	w.t.Error("transactions do not end")
}

// TestWorlds: whatever goes wrong, a transaction is there as a whole or not at all, as its producer was told; nothing is twice;
// nobody commits what was aborted; and no transaction stays open. All this is as true after a restart of the partitions.
func TestWorlds(t *testing.T) {
	for seed := range uint64(*worldSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed)
				var clients sync.WaitGroup
				for i := range 6 {
					c := &client{world: w, name: fmt.Sprint("client", i), id: fmt.Sprint("id", i/2), version: V2}
					if i/2 == 2 {
						c.version, c.id = V1, fmt.Sprint("id", i)
					}
					clients.Go(func() { c.run(40) })
				}
				ended := make(chan struct{})
				go func() {
					clients.Wait()
					close(ended)
				}()
				for over := false; !over; {
					select {
					case <-ended:
						over = true
					case <-time.After(w.soon()):
						w.kill()
					}
				}
				w.settle()
				w.coordinator().Close()
				w.late.Wait()
				w.check("at the end")
				for range 2 {
					if err := w.manager.Close(); err != nil {
						t.Fatal(err)
					}
					w.open()
					w.check("after a restart")
				}
				if err := w.manager.Close(); err != nil {
					t.Fatal(err)
				}
				known := map[fate]int{}
				for _, f := range w.told {
					known[f]++
				}
				t.Logf("%v in %d epochs", known, w.epoch)
				if known[committed] < 50 || known[aborted] < 10 {
					t.Errorf("too little was done: %v", known)
				}
			})
		})
	}
}
