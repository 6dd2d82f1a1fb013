package partition

import (
	"errors"
	"flag"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/transport"
)

var clusterSeeds = flag.Int("cluster.seeds", 6, "number of runs of the simulated cluster with idempotent producers")

// cluster is three nodes with one partition, on file systems and a network in memory.
type cluster struct {
	t     *testing.T
	net   *transport.Mem
	rng   *rand.Rand
	disks [3]*vfs.Mem
	nodes [3]*node
	parts [3]atomic.Pointer[Partition] // nil while the node is down
	tail  int64                        // Options.TailBytes
}

func newCluster(t *testing.T, seed uint64) *cluster { return newClusterOf(t, seed, 0) }

func newClusterOf(t *testing.T, seed uint64, tail int64) *cluster {
	c := &cluster{t: t, net: transport.NewMem(0), rng: rand.New(rand.NewPCG(seed, 3)), tail: tail}
	for i := range c.nodes {
		c.disks[i] = vfs.NewMem()
		c.start(i)
	}
	return c
}

func (c *cluster) replica(i int) replication.ReplicaID {
	return replication.ReplicaID{Node: replication.NodeID(i + 1)}
}

func (c *cluster) start(i int) {
	c.t.Helper()
	c.nodes[i] = open(c.t, Options{DataDir: "/d", FS: c.disks[i], Node: replication.NodeID(i + 1), Network: c.net, CheckpointBytes: 16 << 10, TailBytes: c.tail})
	var a replication.Assignment
	for k := range c.nodes {
		a.Replicas = append(a.Replicas, c.replica(k))
	}
	cfg := testConfig()
	cfg.SegmentBytes, cfg.MinInsyncReplicas = 4<<10, 2
	p, err := c.nodes[i].Ensure(ctx, testID(0), "topic", a, cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.parts[i].Store(p)
}

// crash cuts the power of a node.
func (c *cluster) crash(i int) {
	addr := func(k int) string { return c.replica(k).String() }
	for k := range c.nodes {
		c.net.Isolate(raft.ServerAddress(addr(i)), raft.ServerAddress(addr(k)))
	}
	c.disks[i] = c.disks[i].Crash(c.rng, vfs.CrashOptions{Survive: -1})
	_ = c.nodes[i].Close()
	c.parts[i].Store(nil)
}

func (c *cluster) restart(i int) {
	for k := range c.nodes {
		c.net.Join(raft.ServerAddress(c.replica(i).String()), raft.ServerAddress(c.replica(k).String()))
		c.net.Join(raft.ServerAddress(c.replica(k).String()), raft.ServerAddress(c.replica(i).String()))
	}
	c.start(i)
}

// leader waits for the node that leads, and returns its replica too.
func (c *cluster) leader() (int, *Partition) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for i := range c.parts {
			if p := c.parts[i].Load(); p != nil && p.Leading() {
				return i, p
			}
		}
	}
	c.t.Fatal("no leader")
	return -1, nil
}

func (c *cluster) close() {
	c.net.Heal()
	for _, n := range c.nodes {
		if err := n.Close(); err != nil && !errors.Is(err, vfs.ErrCrashed) {
			c.t.Error(err)
		}
	}
}

// Every node knows the leader; only the leader takes batches and serves, and a follower serves who asks for any replica.
func TestClusterServesFromItsLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		l, lp := c.leader()
		mustAppend(t, lp, batch.BuildOptions{}, "a", "b", "c")
		time.Sleep(3 * time.Second) // longer than the commit timeout, after which idle followers hear of the watermark
		want := replication.Leader{Node: replication.NodeID(l + 1), Epoch: lp.Leader().Epoch}
		for i := range c.parts {
			p := c.parts[i].Load()
			if p.Leader() != want {
				t.Errorf("node %d: %+v leads, want %+v", i+1, p.Leader(), want)
			}
			if i == l {
				if got := p.ISR(); len(got) != 3 {
					t.Errorf("in sync: %v", got)
				}
				continue
			}
			if _, err := p.Append(frameOf(t, batch.BuildOptions{}, "x")).Wait(ctx); !errors.Is(err, replication.ErrNotLeader) {
				t.Errorf("append at a follower: %v", err)
			}
			r := ReadRequest{MaxBytes: 1000, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch}
			if _, err := p.Read(r); !errors.Is(err, replication.ErrNotLeader) {
				t.Errorf("read at a follower: %v", err)
			}
			r.AnyReplica = true
			res, err := p.Read(r)
			if err != nil || res.Range.Next != 3 {
				t.Fatalf("read at any replica: %+v, %v", res, err)
			}
			res.Range.Release()
			r.Offset = 4
			if _, err := p.Read(r); !errors.Is(err, replication.ErrOffsetNotAvailable) {
				t.Errorf("above the watermark: %v", err)
			}
		}
	})
}

// A follower that is cut off still holds what it had confirmed: the leader knows that, and that it lacks the rest.
func TestALeaderKnowsWhatFollowersHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		l, lp := c.leader()
		mustAppend(t, lp, batch.BuildOptions{}, "a", "b")
		mustAppend(t, lp, batch.BuildOptions{}, "c")
		time.Sleep(3 * time.Second) // as above
		late, other := (l+1)%3, (l+2)%3
		addr := func(i int) raft.ServerAddress { return raft.ServerAddress(c.replica(i).String()) }
		holds := func(i int, offset batch.Offset, want bool) {
			t.Helper()
			if got := lp.Holds(c.replica(i), offset); got != want {
				t.Errorf("node %d, offset %d: %v", i+1, offset, got)
			}
		}
		for offset := batch.Offset(0); offset <= 4; offset++ {
			holds(late, offset, offset <= 3)
		}
		c.net.Isolate(addr(l), addr(late))
		mustAppend(t, lp, batch.BuildOptions{}, "d", "e")
		mustAppend(t, lp, batch.BuildOptions{}, "f")
		synctest.Wait()
		for offset := batch.Offset(0); offset <= 7; offset++ {
			holds(late, offset, offset <= 2)
			holds(other, offset, offset <= 6)
		}
		if lp.Holds(replication.ReplicaID{Node: 9}, 0) {
			t.Error("nobody holds something")
		}
		time.Sleep(holdsWithin + time.Second)
		if isr := lp.ISR(); !slices.Contains(isr, c.replica(late).Node) {
			t.Errorf("in sync: %v", isr)
		}
		holds(late, 0, false) // its node may be about to open it, or it knows no leader
		holds(other, 6, true)
		c.net.Heal()
		time.Sleep(time.Minute) // with nothing to replicate
		if !lp.Leading() {
			t.Fatal("another one leads")
		}
		for offset := batch.Offset(0); offset <= 7; offset++ {
			holds(late, offset, offset <= 6)
		}
	})
}

// What a follower holds above its watermark may be committed already: who asks for it is to wait there, not to go back to the leader,
// which would send it here again. Nor does the follower say where the two logs part, as its own may yet be cut.
func TestAFollowerHasReadersWaitForItsWatermark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		l, lp := c.leader()
		mustAppend(t, lp, batch.BuildOptions{}, "a")
		time.Sleep(3 * time.Second) // as above
		for i := range c.parts {
			if i != l { // it gets the entry, and the leader no answer
				c.net.Cut(raft.ServerAddress(c.replica(i).String()), raft.ServerAddress(c.replica(l).String()))
			}
		}
		pending := lp.Append(frameOf(t, batch.BuildOptions{}, "b", "c"))
		synctest.Wait()
		epoch := lp.Leader().Epoch
		for i := range c.parts {
			if i == l {
				continue
			}
			p := c.parts[i].Load()
			for _, last := range []batch.Epoch{batch.NoEpoch, epoch, epoch + 7} {
				for offset := batch.Offset(2); offset <= 3; offset++ {
					res, err := p.Read(ReadRequest{Offset: offset, MaxBytes: 1000, AtLeastOne: true, AnyReplica: true, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: last})
					if err != nil || res.Diverging != nil || res.Range.Len() != 0 || res.Offsets.HighWatermark != 1 || res.Offsets.LogEnd != 3 {
						t.Errorf("node %d, offset %d after epoch %d: %+v, %v", i+1, offset, last, res, err)
					}
					if res.Range != nil {
						res.Range.Release()
					}
				}
			}
			r := ReadRequest{Offset: 4, MaxBytes: 1000, AnyReplica: true, CurrentEpoch: batch.NoEpoch, LastFetchedEpoch: batch.NoEpoch}
			if _, err := p.Read(r); !errors.Is(err, replication.ErrOffsetNotAvailable) {
				t.Errorf("node %d, above its log's end: %v", i+1, err)
			}
		}
		c.net.Heal()
		<-pending.Done()
	})
}

// producer is an idempotent client: one batch at a time, retried with the same sequence until its fate is known.
type producer struct {
	c        *cluster
	id       int64
	sequence int32
	acked    []string
	offsets  []batch.Offset
}

func (p *producer) send(t *testing.T) {
	b := from(t, p.id, 0, p.sequence, 2)
	for try := 0; ; try++ {
		if try > 200 {
			t.Fatalf("producer %d does not get on", p.id)
		}
		_, part := p.c.leader()
		a, err := part.Append(Batch{Frame: slices.Clone(b.Frame)}).Wait(ctx)
		switch {
		case err == nil:
			p.acked = append(p.acked, valuesOf(t, b.Frame)...)
			p.offsets = append(p.offsets, a.Base)
			p.sequence += 2
			return
		case errors.Is(err, replication.ErrNotLeader), errors.Is(err, replication.ErrUnknownOutcome),
			errors.Is(err, replication.ErrNotEnoughReplicas), errors.Is(err, replication.ErrStorage):
			time.Sleep(20 * time.Millisecond)
		default:
			t.Fatalf("producer %d, sequence %d: %v", p.id, p.sequence, err)
		}
	}
}

func valuesOf(t *testing.T, frame []byte) (values []string) {
	t.Helper()
	if err := batch.Iterate(frame, func(r batch.Record) error { values = append(values, string(r.Value)); return nil }); err != nil {
		t.Fatal(err)
	}
	return values
}

// A leader that others have left behind knows nothing of the batches that its successor took: it must not tell a producer that
// something is missing before its own batch.
func TestDeposedLeaderJudgesNoSequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.close()
		l, lp := c.leader()
		producer := func(sequence int32) batch.BuildOptions {
			return batch.BuildOptions{Producer: &batch.Producer{ID: 7, Sequence: sequence}}
		}
		mustAppend(t, lp, producer(0), "a")
		if _, err := lp.Append(frameOf(t, producer(2), "c")).Wait(ctx); !errors.Is(err, replication.ErrOutOfOrderSequence) {
			t.Fatalf("at the leader: %v", err)
		}
		for k := range c.nodes {
			c.net.Isolate(raft.ServerAddress(c.replica(l).String()), raft.ServerAddress(c.replica(k).String()))
		}
		if !lp.Leading() {
			t.Fatal("it knows already")
		}
		for _, o := range []batch.BuildOptions{producer(2), {Producer: &batch.Producer{ID: 8, Sequence: 5}}} {
			_, err := lp.Append(frameOf(t, o, "c")).Wait(ctx)
			if !errors.Is(err, replication.ErrNotLeader) && !errors.Is(err, replication.ErrUnknownOutcome) {
				t.Errorf("at a leader that reaches nobody: %v", err)
			}
		}
	})
}

// Idempotent producers go on through crashes of the leader and others: no duplicate, no gap, the order kept, and every
// acknowledged batch at the offset that was told.
func TestIdempotenceThroughFailOvers(t *testing.T) {
	for seed := range uint64(*clusterSeeds) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, seed)
			defer c.close()
			producers := []*producer{{c: c, id: 1}, {c: c, id: 2}}
			for range 12 {
				done := make(chan struct{}, len(producers))
				for _, p := range producers {
					go func() {
						for range 8 {
							p.send(t)
							time.Sleep(time.Millisecond)
						}
						done <- struct{}{}
					}()
				}
				time.Sleep(time.Duration(c.rng.IntN(8)) * time.Millisecond)
				down := c.rng.IntN(3)
				if c.rng.IntN(2) == 0 {
					down, _ = c.leader()
				}
				c.crash(down)
				time.Sleep(time.Duration(c.rng.IntN(2000)) * time.Millisecond)
				c.restart(down)
				for range producers {
					<-done
				}
			}
			c.check(producers)
		})
	}
}

func (c *cluster) check(producers []*producer) {
	_, p := c.leader()
	all := readAll(c.t, p, 0)
	for _, pr := range producers {
		var got []string
		prefix := pr.acked[0][:2]
		for _, v := range all {
			if v[:2] == prefix {
				got = append(got, v)
			}
		}
		if !slices.Equal(got, pr.acked) {
			c.t.Errorf("producer %d: the log has %d records, %d were acknowledged, in another order or with duplicates", pr.id, len(got), len(pr.acked))
		}
		for i, o := range pr.offsets {
			if all[o] != pr.acked[2*i] {
				c.t.Errorf("producer %d: offset %d holds %q, not %q", pr.id, o, all[o], pr.acked[2*i])
			}
		}
	}
}
