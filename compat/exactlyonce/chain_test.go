package exactlyonce

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
)

// chain is A -> B -> C with two workers on each arrow.
type chain struct {
	*broker
	t       *testing.T
	workers []*worker
	moved   atomic.Int64 // records of committed transactions, over both arrows
	zombies sync.WaitGroup
}

// TestChain moves ids through the chain while something is killed after every so many.
func TestChain(t *testing.T) { brokers(t, txnOffsetCommit, testChain) }

func testChain(t *testing.T, b *broker) {
	rng := rig.Chance(t)
	ids, kills := rig.Count(1_000, 10_000, 100_000), rig.Count(3, 10, 100)
	if b.cluster == nil {
		// What is tested there is the test. Nothing is killed: kfake forgets members that wait for a rebalance when their session
		// times out and leaves them without an answer, and each that comes back starts the wait of the others again, for ever.
		ids, kills = 1_000, 0
	}
	for _, topic := range []string{"A", "B", "C"} {
		b.createTopic(t, topic, 4)
	}
	c := &chain{broker: b, t: t}
	defer func() { c.stop(); c.zombies.Wait() }()
	for i := range 4 {
		c.workers = append(c.workers, c.hire(i, i))
	}
	feeding := make(chan error, 1)
	pace := make(chan struct{}, ids)
	go func() { feeding <- c.feed(pace) }()
	disturbed, fed := map[string]int{}, 0
	for k := range kills + 1 {
		for ; fed < ids*(k+1)/(kills+1); fed++ {
			pace <- struct{}{}
		}
		if k == kills {
			break
		}
		goal := int64(2 * fed * 4 / 5) // the kill comes while the rest is on its way
		rig.Await(t, func() string {
			if now := c.moved.Load(); now < goal {
				return fmt.Sprintf("%d records moved of %d", now, goal)
			}
			return ""
		})
		disturbed[c.disturb(k, rng)]++
	}
	close(pace)
	if err := <-feeding; err != nil {
		t.Fatal(err)
	}
	c.awaitEnd(ids)
	c.stop()
	for _, topic := range []string{"B", "C"} {
		seen := tally{}
		b.readCommitted(t, topic, func(r *kgo.Record) {
			id, err := strconv.Atoi(string(r.Value))
			if err != nil {
				t.Errorf("%s-%d at %d holds %q", topic, r.Partition, r.Offset, r.Value)
			}
			seen[id]++
		})
		for _, fault := range few(seen.wrong(ids)) {
			t.Errorf("%s: %s", topic, fault)
		}
	}
	t.Logf("%d ids through A, B and C; %d kills: %v", ids, kills, disturbed)
}

// feed sends one id for each token.
func (c *chain) feed(pace <-chan struct{}) error {
	cl := c.client(c.t, nil, kgo.DefaultProduceTopic("A"))
	var failed atomic.Pointer[error]
	next := 0
	for range pace {
		cl.Produce(context.Background(), kgo.StringRecord(strconv.Itoa(next)), func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
		next++
	}
	if err := cl.Flush(context.Background()); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// awaitEnd waits until a reader of committed records has seen that many different ids in C.
func (c *chain) awaitEnd(total int) {
	c.t.Helper()
	cl := c.client(c.t, nil, kgo.ConsumeTopics("C"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	seen := tally{}
	for last := time.Now(); len(seen) < total; {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
		before := len(seen)
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			id, _ := strconv.Atoi(string(r.Value)) // the final read looks at each value
			seen[id]++
		})
		cancel()
		if len(seen) > before {
			last = time.Now()
		} else if time.Since(last) > rig.Patience {
			c.t.Fatalf("C has %d ids of %d and no more come; first: %v", len(seen), total, few(seen.wrong(total))[0])
		}
	}
}

// disturb kills something, and says what: a worker's machine; a worker, whose zombie lives on; a node; the coordinator of a
// worker's transactions; the coordinator of a group.
func (c *chain) disturb(k int, rng *rand.Rand) string {
	c.t.Helper()
	i := rng.IntN(len(c.workers))
	w := c.workers[i]
	switch k % 5 {
	case 0:
		w.line.cut()
		w.stop()
		c.workers[i] = c.hire(w.slot, w.number+len(c.workers))
		return "worker's machine"
	case 1:
		c.workers[i] = c.hire(w.slot, w.number+len(c.workers))
		c.zombies.Go(func() { rig.Idle(5*time.Second, w.done); w.stop() })
		return "worker, its zombie lives on"
	case 2:
		c.killOne(c.t, rng.IntN(3)+1)
		return "node"
	case 3:
		c.killOne(c.t, c.coordinator(c.t, w.id))
		return "transaction coordinator"
	}
	c.killOne(c.t, rig.Coordinator(c.t, c.cluster, w.group))
	return "group coordinator"
}

func (c *chain) stop() {
	for _, w := range c.workers {
		w.stop()
	}
	c.workers = nil
}

// worker is one member of an arrow's group.
type worker struct {
	slot, number int
	id, group    string // the transactional id, which a successor takes over; the group
	line         *cord
	cancel       context.CancelFunc
	done         chan struct{}
}

func (w *worker) stop() { w.cancel(); <-w.done }

// hire starts a worker: those of even slots move from A to B, the others from B to C.
func (c *chain) hire(slot, number int) *worker {
	from, to := "A", "B"
	if slot%2 == 1 {
		from, to = "B", "C"
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &worker{slot: slot, number: number, id: fmt.Sprintf("worker-%d", slot), group: from + "-to-" + to, line: &cord{}, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for ctx.Err() == nil {
			if err := c.work(ctx, w, from, to); err != nil && ctx.Err() == nil {
				c.t.Logf("worker %d of %s: %v", w.number, w.group, err)
				if !rig.Idle(50*time.Millisecond, ctx.Done()) {
					continue // a fenced worker begins anew, as an application does that a supervisor restarts
				}
			}
		}
	}()
	return w
}

// work moves records until something fails.
func (c *chain) work(ctx context.Context, w *worker, from, to string) error {
	session, err := kgo.NewGroupTransactSession(c.options(w.line, []kgo.Opt{
		kgo.TransactionalID(w.id), kgo.TransactionTimeout(10 * time.Second), kgo.ConsumerGroup(w.group), kgo.ConsumeTopics(from),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.SessionTimeout(6 * time.Second), kgo.RebalanceTimeout(10 * time.Second), kgo.HeartbeatInterval(300 * time.Millisecond), kgo.FetchMaxWait(200 * time.Millisecond),
		kgo.DefaultProduceTopic(to),
	})...)
	if err != nil {
		return err
	}
	end := sync.OnceFunc(session.Close)
	defer end()
	// Produces over a line that is cut end with their client, and not before.
	defer context.AfterFunc(ctx, end)()
	for ctx.Err() == nil {
		fetches := session.PollRecords(ctx, 100)
		if fetches.NumRecords() == 0 {
			continue
		}
		if err := session.Begin(); err != nil {
			return err
		}
		var failed kgo.FirstErrPromise
		fetches.EachRecord(func(r *kgo.Record) {
			session.Produce(ctx, &kgo.Record{Value: r.Value, Key: r.Key}, failed.Promise())
		})
		bad := failed.Err()
		committed, err := session.End(ctx, kgo.TransactionEndTry(bad == nil))
		if err != nil {
			return err
		}
		if committed {
			c.moved.Add(int64(fetches.NumRecords()))
		}
	}
	return nil
}
