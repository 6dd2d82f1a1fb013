package partition

//quorlog:bubble every test of this file runs in one

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftgroup"
	"github.com/quorlog/quorlog/replication/transport"
)

// world is some nodes, one partition, and what a controller would know of it.
type world struct {
	t     *testing.T
	net   *transport.Mem
	disks map[replication.NodeID]*vfs.Mem
	nodes map[replication.NodeID]*node
	pace  raftgroup.Pace
	mu    struct {
		sync.Mutex
		a     replication.Assignment
		parts map[replication.NodeID]*Partition
		low   map[replication.NodeID]bool
	}
}

func newWorld(t *testing.T, a replication.Assignment) *world {
	w := &world{t: t, net: transport.NewMem(0), disks: map[replication.NodeID]*vfs.Mem{}, nodes: map[replication.NodeID]*node{}}
	w.mu.a, w.mu.parts, w.mu.low = a, map[replication.NodeID]*Partition{}, map[replication.NodeID]bool{}
	return w
}

func (w *world) lowSpace(n replication.NodeID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.low[n]
}

// start starts nodes, with the disks that they had.
func (w *world) start(nodes ...replication.NodeID) {
	w.t.Helper()
	for _, n := range nodes {
		if w.disks[n] == nil {
			w.disks[n] = vfs.NewMem()
		}
		w.nodes[n] = open(w.t, Options{
			DataDir: "/d", FS: w.disks[n], Node: n, Network: w.net, CheckpointBytes: 16 << 10, LowSpace: w.lowSpace, Pace: w.pace,
		})
	}
	w.assign(w.assignment())
}

func (w *world) stop(n replication.NodeID) {
	w.t.Helper()
	if err := w.nodes[n].Close(); err != nil {
		w.t.Error(err)
	}
	delete(w.nodes, n)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.mu.parts, n)
}

func (w *world) close() {
	for n := range w.nodes {
		w.stop(n)
	}
}

func (w *world) assignment() replication.Assignment {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.a
}

// assign has all nodes that run follow an assignment, as the agent does.
func (w *world) assign(a replication.Assignment) {
	w.t.Helper()
	w.mu.Lock()
	w.mu.a = a
	w.mu.Unlock()
	for id, n := range w.nodes {
		if !slices.ContainsFunc(a.Replicas, func(r replication.ReplicaID) bool { return r.Node == id }) {
			if err := n.Delete(ctx, testID(0)); err != nil {
				w.t.Error(err)
			}
			w.mu.Lock()
			delete(w.mu.parts, id)
			w.mu.Unlock()
			continue
		}
		p, err := n.Ensure(ctx, testID(0), "topic", a, testConfig())
		if err != nil && !errors.Is(err, replication.ErrStorage) {
			w.t.Error(err)
		}
		w.mu.Lock()
		w.mu.parts[id] = p
		w.mu.Unlock()
	}
}

func (w *world) part(n replication.NodeID) *Partition {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.parts[n]
}

func (w *world) leader() *Partition {
	w.t.Helper()
	for range 20000 {
		w.mu.Lock()
		for _, p := range w.mu.parts {
			if p.Leading() {
				w.mu.Unlock()
				return p
			}
		}
		w.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
	w.t.Fatal("no leader")
	return nil
}

// move lets the nodes converge until the group is what it is to be, and says so to all.
func (w *world) move() {
	w.t.Helper()
	var reached []replication.ReplicaID
	for try := 0; reached == nil; try++ {
		if try > 600 {
			w.t.Fatal("the group does not become what it is to be")
		}
		for _, n := range w.nodes {
			n.Converge(ctx, func(_ replication.PartitionID, voters []replication.ReplicaID) { reached = voters })
		}
		time.Sleep(50 * time.Millisecond)
	}
	a := w.assignment()
	target := a.Target()
	if len(reached) != len(target) || slices.ContainsFunc(target, func(r replication.ReplicaID) bool { return !slices.Contains(reached, r) }) {
		w.t.Fatalf("the group is %v, not %v", reached, target)
	}
	w.assign(replication.Assignment{Replicas: target, Initial: a.Initial})
}

// reassign is what a controller makes of a wish.
func reassign(a replication.Assignment, target ...replication.ReplicaID) replication.Assignment {
	out := replication.Assignment{Replicas: slices.Clone(target), Initial: a.Founders()}
	for _, r := range target {
		if !slices.Contains(a.Replicas, r) {
			out.Adding = append(out.Adding, r)
		}
	}
	for _, r := range a.Replicas {
		if !slices.Contains(target, r) {
			out.Replicas, out.Removing = append(out.Replicas, r), append(out.Removing, r)
		}
	}
	return out
}

// load appends from several goroutines, each value once, and keeps what was answered.
type load struct {
	stop  chan struct{}
	wg    sync.WaitGroup
	mu    sync.Mutex
	acked map[string]batch.Offset
	never map[string]bool // refused for certain
}

func (w *world) load(producers int) *load {
	l := &load{stop: make(chan struct{}), acked: map[string]batch.Offset{}, never: map[string]bool{}}
	for p := range producers {
		l.wg.Add(1)
		go func() {
			defer l.wg.Done()
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				v := fmt.Sprintf("%d-%d", p, i)
				l.note(w.t, v, w.leader().Append(frameOf(w.t, batch.BuildOptions{}, v)))
			}
		}()
	}
	return l
}

func (l *load) note(t *testing.T, v string, pd *Pending) {
	a, err := pd.Wait(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.acked[v] = a.Base
	case errors.Is(err, replication.ErrUnknownOutcome):
	case errors.Is(err, replication.ErrNotLeader), errors.Is(err, replication.ErrStorage):
		l.never[v] = true
	default:
		t.Errorf("%s: %v", v, err)
	}
}

// end stops the load and holds what was answered against the leader's log.
func (l *load) end(w *world, least int) {
	w.t.Helper()
	close(l.stop)
	l.wg.Wait()
	p := w.leader()
	all := readAll(w.t, p, 0)
	at := map[string]int{}
	for i, v := range all {
		if _, twice := at[v]; twice {
			w.t.Errorf("%s is stored twice", v)
		}
		at[v] = i
		if l.never[v] {
			w.t.Errorf("%s was refused, and is stored", v)
		}
	}
	for v, o := range l.acked {
		if i, ok := at[v]; !ok || batch.Offset(i) != o {
			w.t.Errorf("%s was acknowledged at %d and is at %d, %v", v, o, i, ok)
		}
	}
	if len(l.acked) < least {
		w.t.Errorf("only %d of at least %d acknowledged", len(l.acked), least)
	}
}

// same waits until all replicas hold the same.
func (w *world) same() {
	w.t.Helper()
	time.Sleep(3 * time.Second)
	want := w.leader().log.Offsets().LogEnd
	for _, r := range w.assignment().Replicas {
		if p := w.part(r.Node); p == nil || p.Replica() != r || p.Err() != nil || p.log.Offsets().LogEnd != want {
			w.t.Errorf("replica %s: %+v", r, p.Status())
		}
	}
}

// A partition moves to other nodes, and back to ones where it had been, while it is written to.
func TestReassignmentUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3)})
		defer w.close()
		w.start(1, 2, 3, 4, 5)
		l := w.load(3)
		time.Sleep(time.Second)
		w.assign(reassign(w.assignment(), rids(4, 5, 3)...))
		w.move()
		if p := w.part(1); p != nil {
			t.Errorf("node 1 still has a replica")
		}
		back := replication.ReplicaID{Node: 1, Incarnation: 1}
		w.assign(reassign(w.assignment(), back, rid(4)))
		w.move()
		if _, err := w.disks[5].Stat(path.Join("/d/partitions", testID(0).String())); err == nil {
			t.Error("node 5 still has files")
		}
		l.end(w, 500)
		w.same()
	})
}

// A reassignment that is called off half-way leaves the group as it was.
func TestCanceledReassignment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3)})
		defer w.close()
		w.start(1, 2, 3, 4) // node 5 is down
		l := w.load(1)
		before := w.assignment()
		w.assign(reassign(before, rids(4, 5, 1)...))
		for range 40 {
			for _, n := range w.nodes {
				n.Converge(ctx, func(replication.PartitionID, []replication.ReplicaID) { t.Error("reached without node 5") })
			}
			time.Sleep(50 * time.Millisecond)
		}
		if voters := w.leader().group.Voters(); !slices.Contains(voters, rid(4)) || slices.Contains(voters, rid(5)) || len(voters) != 4 {
			t.Errorf("voters %v", voters)
		}
		half := w.assignment()
		w.assign(replication.Assignment{Replicas: append(rids(1, 2, 3), rids(4, 5)...), Removing: rids(4, 5), Initial: half.Initial})
		w.move()
		l.end(w, 100)
		w.same()
	})
}

// A node whose disk was replaced, and a replica whose files are damaged, begin again under another incarnation.
func TestReplicaBeginsAgain(t *testing.T) {
	for _, damage := range []string{"wiped", "damaged"} {
		t.Run(damage, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3)})
				defer w.close()
				w.start(1, 2, 3)
				l := w.load(2)
				time.Sleep(time.Second)
				w.stop(3)
				if damage == "wiped" {
					w.disks[3] = vfs.NewMem()
				} else {
					removeSegments(t, w.disks[3])
					w.start(3)
					if p := w.part(3); p.Err() == nil || !isDamage(p.Err()) {
						t.Fatalf("not damaged: %v", p.Err())
					}
				}
				time.Sleep(time.Second)
				again := replication.ReplicaID{Node: 3, Incarnation: 1}
				w.assign(reassign(w.assignment(), rid(1), rid(2), again))
				if damage == "wiped" {
					w.start(3)
				}
				w.move()
				l.end(w, 500)
				w.same()
				// Which of the two is the newer is not forgotten over a restart.
				w.stop(3)
				w.start(3)
				w.same()
			})
		})
	}
}

func removeSegments(t *testing.T, disk *vfs.Mem) {
	t.Helper()
	dir := path.Join("/d/partitions", testID(0).String())
	names, err := disk.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".log") || strings.HasSuffix(name, ".seg") {
			if err := disk.Remove(path.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// An assignment that is older than what lies on disk opens nothing: the older incarnation's votes are forgotten.
func TestOlderIncarnationStaysClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := open(t, Options{DataDir: "/d", FS: vfs.NewMem(), Network: transport.NewMem(0)})
		defer n.Close()
		newer := replication.Assignment{Replicas: []replication.ReplicaID{{Node: 1, Incarnation: 2}}, Initial: rids(7)}
		if _, err := n.Ensure(ctx, testID(0), "topic", newer, testConfig()); err != nil {
			t.Fatal(err)
		}
		p, _ := n.Get(testID(0))
		n.retire(p)
		if _, err := n.Ensure(ctx, testID(0), "topic", single(1), testConfig()); !errors.Is(err, errOlder) {
			t.Fatalf("opened: %v", err)
		}
		if _, err := n.Ensure(ctx, testID(0), "topic", newer, testConfig()); err != nil {
			t.Fatal(err)
		}
	})
}

// Leaderships are handed over while batches come. What was acknowledged is there, what was refused is not.
func TestHandOverUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3)})
		defer w.close()
		w.start(1, 2, 3)
		l := w.load(8)
		moved := 0
		for range 20 {
			time.Sleep(100 * time.Millisecond)
			p := w.leader()
			w.nodes[p.self.Node].HandOver(ctx, nil)
			if p.Leading() {
				t.Errorf("node %d still leads", p.self.Node)
			}
			if q := w.leader(); q != p {
				moved++
			}
		}
		if moved < 15 {
			t.Errorf("%d moves", moved)
		}
		l.end(w, 1000)
		if len(l.never) == 0 {
			t.Log("no batch met a hand-over")
		}
	})
}

// Leaderships go back to the preferred replicas, and to nobody who may not lead.
func TestBalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3)})
		defer w.close()
		w.start(1, 2, 3)
		p := w.leader()
		if p.self.Node == 1 {
			if err := p.TransferLeadership(ctx, 2); err != nil {
				t.Fatal(err)
			}
			p = w.leader()
		}
		if err := p.TransferLeadership(ctx, 9); !errors.Is(err, ErrNoHeir) {
			t.Errorf("to a stranger: %v", err)
		}
		time.Sleep(time.Second)
		here := w.nodes[p.self.Node]
		if n := here.Balance(ctx, func(id replication.NodeID) bool { return id != 1 }, 10); n != 0 {
			t.Errorf("%d moved to a node that may not lead", n)
		}
		if n := here.Balance(ctx, func(replication.NodeID) bool { return true }, 10); n != 1 {
			t.Errorf("%d moved", n)
		}
		if p := w.leader(); p.self.Node != 1 {
			t.Errorf("node %d leads", p.self.Node)
		}
	})
}

// A replica that is opened long after its group was made, and changed, bootstraps with what the group was made with, or not at all.
func TestLateFounders(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 5))
			w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3)})
			defer w.close()
			w.start(1, 2) // node 3 comes late
			l := w.load(1)
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
			w.assign(reassign(w.assignment(), rids(1, 2, 4)...))
			w.start(4)
			early := rng.IntN(2) == 0
			if early {
				w.start(3) // while it is still to be removed
			}
			time.Sleep(time.Second)
			w.move()
			if !early {
				w.start(3) // it has no replica any more
			}
			founders := map[replication.NodeID][]replication.ReplicaID{1: rids(1, 2, 3), 2: rids(1, 2, 3), 4: nil}
			for n, want := range founders {
				m, err := openMeta(w.disks[n], path.Join("/d/partitions", testID(0).String()), metaFile{TopicID: testID(0).Topic.Hex(), Node: n})
				if err != nil || !slices.Equal(m.Voters, want) {
					t.Errorf("node %d was made with %v: %v", n, m.Voters, err)
				}
			}
			if w.part(3) != nil {
				t.Error("node 3 has a replica")
			}
			l.end(w, 20)
			w.same()
		})
	}
}

// While the disk of a node with a replica is nearly full, its leaders take no batches; reads and retention go on.
func TestLowSpaceElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3)})
		defer w.close()
		w.start(1, 2, 3)
		p := w.leader()
		mustAppend(t, p, batch.BuildOptions{}, "before")
		low := func(n replication.NodeID, yes bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.mu.low[n] = yes
		}
		follower := 1 + p.self.Node%3
		low(4, true) // no replica there
		mustAppend(t, p, batch.BuildOptions{}, "other")
		low(follower, true)
		_, err := p.Append(frameOf(t, batch.BuildOptions{}, "refused")).Wait(ctx)
		if !errors.Is(err, replication.ErrStorage) {
			t.Errorf("the answer is %v", err)
		}
		if n, is := p.m.lowReplica(p.assignment.Load()); !is || n != follower {
			t.Errorf("node %d is low: %v", n, is)
		}
		if got := readAll(t, p, 0); !slices.Equal(got, []string{"before", "other"}) {
			t.Errorf("the log holds %v", got)
		}
		low(follower, false)
		mustAppend(t, p, batch.BuildOptions{}, "after")
	})
}

// A new replica gets its vote when it lacks little of what its leader has: little in bytes, too.
func TestNoVoteForALearnerFarBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3)})
		var left atomic.Int64
		w.pace = func(ctx context.Context, n int) error {
			for left.Load() < int64(n) {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(10 * time.Millisecond):
				}
			}
			left.Add(-int64(n))
			return nil
		}
		defer w.close()
		w.start(1, 2, 3, 4)
		l, large := w.leader(), strings.Repeat("x", 900<<10)
		for range 20 {
			mustAppend(t, l, batch.BuildOptions{}, large)
		}
		w.assign(reassign(w.assignment(), rids(2, 3, 4)...))
		for sent := range 18 {
			left.Add(1 << 20)
			for range 20 {
				for _, n := range w.nodes {
					n.Converge(ctx, func(replication.PartitionID, []replication.ReplicaID) {})
				}
				time.Sleep(50 * time.Millisecond)
			}
			if voters := w.leader().group.Voters(); slices.Contains(voters, rid(4)) && (19-sent)*900<<10 > catchUpBytes+2<<20 {
				t.Fatalf("a replica that was sent %d of 20 large batches has a vote", sent+1)
			}
		}
		left.Add(1 << 40)
		w.move()
	})
}

// New replicas on nodes that are down keep no others waiting.
func TestDeadLearnersTakeNoRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := transport.NewMem(0)
		nodes := map[replication.NodeID]*node{}
		for _, n := range []replication.NodeID{1, 2, 3, 5} { // node 4 is down
			nodes[n] = open(t, Options{DataDir: "/d", FS: vfs.NewMem(), Node: n, Network: net})
			defer nodes[n].Close()
		}
		const partitions = 2 * catchingUp
		ensure := func(i int32, a replication.Assignment) {
			for _, r := range a.Replicas {
				if n := nodes[r.Node]; n != nil {
					if _, err := n.Ensure(ctx, testID(i), "topic", a, testConfig()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		wanted := map[replication.PartitionID]bool{}
		for i := range int32(partitions) {
			ensure(i, replication.Assignment{Replicas: rids(1, 2, 3)})
		}
		time.Sleep(3 * time.Second)
		var mu sync.Mutex
		converge := func(passes int) {
			for range passes {
				for _, n := range nodes {
					n.Converge(ctx, func(id replication.PartitionID, _ []replication.ReplicaID) {
						mu.Lock()
						defer mu.Unlock()
						delete(wanted, id)
					})
				}
				time.Sleep(500 * time.Millisecond)
			}
		}
		for i := range int32(partitions - 4) {
			ensure(i, reassign(replication.Assignment{Replicas: rids(1, 2, 3)}, rids(1, 2, 4)...))
		}
		converge(10)
		for i := int32(partitions - 4); i < partitions; i++ {
			wanted[testID(i)] = true
			ensure(i, reassign(replication.Assignment{Replicas: rids(1, 2, 3)}, rids(1, 2, 5)...))
		}
		converge(10)
		if len(wanted) > 0 {
			t.Errorf("%d partitions wait for a node that is down", len(wanted))
		}
	})
}
