//quorlog:bubble

package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

var joinSeeds = flag.Int("join.seeds", 200, "how many histories of nodes that find their cluster are tried")

// TestCrashAtEveryWrite: three nodes found a cluster, and the power of one of them is cut at each of the calls by which it writes
// its identity, with each kind of what a disk may have kept. Always one cluster comes of it, with all three in it.
func TestCrashAtEveryWrite(t *testing.T) {
	for victim := replication.NodeID(1); victim <= 3; victim++ {
		calls := 1
		for nth := 1; nth <= calls; nth++ {
			for _, survive := range []int{0, 100, -1} {
				calls = max(calls, crashAt(t, victim, nth, vfs.CrashOptions{Survive: survive, Garbage: true}))
			}
		}
		if calls < 12 {
			t.Errorf("node %d has only %d calls that change something", victim, calls)
		}
	}
}

// crashAt cuts the victim's power at its nth call, and returns how many calls it made without that.
func crashAt(t *testing.T, victim replication.NodeID, nth int, o vfs.CrashOptions) (calls int) {
	w := newJoinWorld(t)
	v := w.node(victim)
	crashed := false
	v.faults = []vfs.Rule{{Last: -1, Do: func(vfs.Call) {
		if calls++; calls == nth {
			crashed = true
			v.crash(rand.New(rand.NewPCG(1, uint64(nth))), o)
		}
	}}}
	for id := replication.NodeID(1); id <= 3; id++ {
		w.node(id)
	}
	for range 60 {
		for _, id := range w.ids() {
			n := w.nodes[id]
			if !n.up() {
				if err := n.start(3, true); errors.Is(err, vfs.ErrCrashed) {
					continue
				} else if err != nil {
					t.Fatalf("crash of node %d at call %d: node %d: %v", victim, nth, id, err)
				}
			}
			step := nextBootStep(n.j.view())
			var err error
			if step.kind == bootDone {
				if err = n.open(n.j.result()); err == nil {
					n.j.tell()
				}
			} else {
				_, err = n.j.take(t.Context(), step)
			}
			if v.up() && errors.Is(err, errDisk) {
				t.Fatalf("crash of node %d at call %d: node %d: %v", victim, nth, id, err)
			}
			w.check()
		}
	}
	if crashed != (nth <= calls) {
		t.Errorf("the power of node %d was not cut at call %d of %d", victim, nth, calls)
	}
	for _, n := range w.nodes {
		if i := n.store.get(); !n.up() || i.State != member || len(w.mu.founders) != 1 || w.mu.founders[i.ClusterID] == 0 {
			t.Errorf("crash of node %d at call %d, survive %d: node %d is %s", victim, nth, o.Survive, n.id, n.state())
		}
	}
	return calls
}

// TestJoinHistories runs nodes as they run: at the same time, seeing and reaching each other or not, with power cuts at any
// moment. Whatever happens, there is never a second cluster; and once all is well, all are in the first.
func TestJoinHistories(t *testing.T) {
	for seed := range *joinSeeds {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { joinHistory(t, rand.New(rand.NewPCG(7, uint64(seed)))) })
		})
		if !ok {
			t.Fatalf("seed %d", seed)
		}
	}
}

// process is a node's process under a history.
type process struct {
	n      *worldNode
	cancel context.CancelFunc
	ended  chan struct{}
}

func (p *process) run(t *testing.T, ctx context.Context) {
	defer close(p.ended)
	r, err := p.n.j.run(ctx)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, errDisk) {
			t.Errorf("node %d: %v", p.n.id, err)
		}
		return
	}
	if err := p.n.open(r); err != nil && !errors.Is(err, errDisk) {
		t.Errorf("node %d: %v", p.n.id, err)
	}
	<-ctx.Done()
}

func joinHistory(t *testing.T, rng *rand.Rand) {
	w := newJoinWorld(t)
	var lags sync.Mutex
	slowness := time.Duration(1+rng.IntN(1000)) * time.Millisecond
	lagging := rand.New(rand.NewPCG(rng.Uint64(), 1))
	w.lag = func() time.Duration {
		lags.Lock()
		defer lags.Unlock()
		return time.Duration(lagging.Int64N(int64(slowness)))
	}
	expect := 2 + rng.IntN(3)
	count := expect + rng.IntN(expect) // fewer than twice as many as are expected: then two halves can't both be enough
	running := map[replication.NodeID]*process{}
	for id := range replication.NodeID(count) {
		w.node(id + 1)
	}
	start := func(n *worldNode) {
		if err := n.start(expect, true); err != nil {
			t.Fatalf("node %d: %v", n.id, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		p := &process{n: n, cancel: cancel, ended: make(chan struct{})}
		running[n.id] = p
		go p.run(t, ctx)
		w.news()
	}
	stop := func(n *worldNode) {
		if p := running[n.id]; p != nil {
			n.crash(rng, vfs.CrashOptions{Survive: -1})
			p.cancel()
			<-p.ended
			delete(running, n.id)
			w.news()
		}
	}
	for range 60 {
		n := w.nodes[replication.NodeID(1+rng.IntN(count))]
		other := replication.NodeID(1 + rng.IntN(count))
		switch event := rng.IntN(10); {
		case event < 5 && running[n.id] == nil:
			start(n)
		case event < 7:
			stop(n)
		default:
			pair := [2]replication.NodeID{n.id, other}
			w.mu.Lock()
			if n.id != other {
				w.mu.blind[pair] = rng.IntN(3) == 0
				w.mu.cut[pair] = rng.IntN(3) == 0
			}
			w.mu.Unlock()
			w.news()
		}
		time.Sleep(time.Duration(rng.IntN(700)) * time.Millisecond)
		w.check()
	}
	w.mu.Lock()
	clear(w.mu.blind)
	clear(w.mu.cut)
	w.mu.Unlock()
	w.news()
	for _, id := range w.ids() {
		if running[id] == nil {
			start(w.nodes[id])
		}
	}
	time.Sleep(time.Minute)
	w.check()
	var states []string
	for _, id := range w.ids() {
		states = append(states, w.nodes[id].state())
		if w.nodes[id].store.get().State != member {
			t.Errorf("node %d is %s", id, w.nodes[id].state())
		}
	}
	if t.Failed() {
		t.Logf("%d nodes that expect %d: %q", count, expect, states)
	}
	for _, id := range w.ids() {
		stop(w.nodes[id])
	}
}

// TestPromisesBind: what may and may not be promised, and what a promise is worth to a candidate that decides at the same time.
func TestPromisesBind(t *testing.T) {
	one, two := directoryID{1}, directoryID{2}
	ask := promise{Founder: 1, Directory: one, ClusterID: "A"}
	for _, tc := range []struct {
		what   string
		self   identity
		expect int
		want   bool
	}{
		{"fresh", identity{NodeID: 3, State: fresh}, 3, true},
		{"another number is expected", identity{NodeID: 3, State: fresh}, 4, false},
		{"a lower id", identity{NodeID: 0, State: fresh}, 3, false},
		{"its own id", identity{NodeID: 1, State: fresh}, 3, false},
		{"asked again", identity{NodeID: 3, State: promised, Promise: ask}, 3, true},
		{"asked for another cluster", identity{NodeID: 3, State: promised, Promise: promise{1, one, "B"}}, 3, true},
		{"promised to another directory", identity{NodeID: 3, State: promised, Promise: promise{1, two, "A"}}, 3, false},
		{"promised to another node", identity{NodeID: 3, State: promised, Promise: promise{2, one, "A"}}, 3, false},
		{"a candidate", identity{NodeID: 3, State: candidate, Promise: promise{3, two, "B"}}, 3, true},
		{"founding", identity{NodeID: 3, State: founding, ClusterID: "B"}, 3, false},
		{"joined", identity{NodeID: 3, State: joined, ClusterID: "B"}, 3, false},
		{"member", identity{NodeID: 3, State: member, ClusterID: "B"}, 3, false},
	} {
		after := tc.self
		refused := grant(&after, tc.expect, ask, 3)
		if granted := after.State == promised && after.Promise == ask; (refused == "") != tc.want || granted != tc.want || !tc.want && after != tc.self {
			t.Errorf("%s: %q, %+v", tc.what, refused, after)
		}
	}

	// A candidate with all promises gives its own away before it has written down that it founds.
	w := newJoinWorld(t)
	n := w.node(2)
	if err := n.start(2, true); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []bootKind{bootCandidate, bootFound} {
		if kind == bootFound {
			if err := n.store.change(func(i *identity) error { grant(i, 2, ask, 2); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := n.j.take(t.Context(), bootStep{kind: kind}); err != nil {
			t.Fatal(err)
		}
	}
	if i := n.store.get(); i.State != promised || i.ClusterID != "" {
		t.Errorf("the candidate is %s", n.state())
	}
}

// TestDuplicateEndsTheNode: a node whose id is another live one's waits as long as it may be its own former life, and ends.
func TestDuplicateEndsTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJoinWorld(t)
		one, two := w.node(1), w.node(2)
		if err := errors.Join(one.start(1, false), two.start(0, true)); err != nil {
			t.Fatal(err)
		}
		r, err := one.j.run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := one.open(r); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		alive := true
		one.j.serveRegistrations(func(_ context.Context, q controller.RegisterRequest) (controller.Registered, error) {
			mu.Lock()
			defer mu.Unlock()
			if alive {
				return controller.Registered{}, fmt.Errorf("%w: node 2", controller.ErrDuplicateNode)
			}
			return w.register(r.ClusterID, q)
		})
		began := time.Now()
		if _, err := two.j.run(t.Context()); !errors.Is(err, ErrDuplicateNode) || time.Since(began) < duplicatePatience {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		go func() {
			time.Sleep(duplicatePatience / 2)
			mu.Lock()
			defer mu.Unlock()
			alive = false
		}()
		if _, err := two.j.run(t.Context()); err != nil {
			t.Errorf("the other one has gone: %v", err)
		}
	})
}

// TestRegisterAgain: a member that was removed and hears of no leader finds its cluster through the others, and is told to begin
// its replica of the metadata anew.
func TestRegisterAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newJoinWorld(t)
		for id := replication.NodeID(1); id <= 2; id++ {
			if err := w.node(id).start(int(2-id), id == 2); err != nil {
				t.Fatal(err)
			}
			r, err := w.nodes[id].j.run(t.Context())
			if err == nil {
				err = w.nodes[id].open(r)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		two := w.nodes[2]
		calls := 0
		nobody := func(context.Context, controller.RegisterRequest) (controller.Registered, error) {
			calls++
			return controller.Registered{}, controller.ErrNotController
		}
		r, err := two.j.register(t.Context(), nobody)
		if err != nil || r.Meta != (replication.ReplicaID{Node: 2, Incarnation: 1}) || two.store.get().State != member {
			t.Errorf("%+v, %v, %s", r, err, two.state())
		}
		cluster := two.store.clusterID()
		renewed := w.mu.members[cluster][2]
		renewed.Meta.Incarnation = 5
		w.mu.members[cluster][2] = renewed
		r, err = two.j.register(t.Context(), nobody)
		if err != nil || r.Meta.Incarnation != 5 || two.store.get().State != joined || two.store.get().Meta != 5 {
			t.Errorf("%+v, %v, %s", r, err, two.state())
		}
		if calls != 2 {
			t.Errorf("the node's own controller was asked %d times", calls)
		}
		// What will never be is not tried again.
		never := func(context.Context, controller.RegisterRequest) (controller.Registered, error) {
			return controller.Registered{}, controller.ErrDirectoryChanged
		}
		if _, err := two.j.register(t.Context(), never); !errors.Is(err, controller.ErrDirectoryChanged) {
			t.Error(err)
		}
		// And what may yet be is tried until the node stops.
		one := w.nodes[1]
		one.crash(nil, vfs.CrashOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := two.j.register(ctx, nobody); !errors.Is(err, context.DeadlineExceeded) || calls < 20 {
			t.Errorf("after %d calls: %v", calls, err)
		}
	})
}

// TestStrangersCalls: a call that speaks for somebody else, or makes no sense, gets an error and changes nothing.
func TestStrangersCalls(t *testing.T) {
	w := newJoinWorld(t)
	one, two := w.node(1), w.node(2)
	if err := errors.Join(one.start(2, true), two.start(2, true)); err != nil {
		t.Fatal(err)
	}
	handlers := handlerMap{}
	two.j.handle(handlers)
	if names := len(handlers); names != 3 {
		t.Errorf("%d handlers", names)
	}
	dir := one.store.get().Directory.String()
	for _, body := range []string{
		"", "{", "[]", fmt.Sprintf(`{"promise":{"founder":0,"founder_directory":%q,"cluster_id":"x"},"expect":2}`, dir),
		`{"promise":{"founder":1,"founder_directory":"00","cluster_id":"x"},"expect":2}`,
		fmt.Sprintf(`{"promise":{"founder":1,"founder_directory":%q},"expect":2}`, dir),
		fmt.Sprintf(`{"node":3,"directory":%q}`, dir), string(slices.Repeat([]byte(" "), maxJoinBody+1)),
	} {
		for _, name := range []string{joinPromise, joinRegister} {
			if answer, err := handlers[name](t.Context(), one.info(one.store), []byte(body)); err == nil {
				t.Errorf("%s %.40s: %s", name, body, answer)
			}
		}
	}
	if s := two.state(); s != "fresh" {
		t.Errorf("node 2 is %s", s)
	}
}

// TestForeignCluster: a node that is a cluster of its own and is told to join another one ends, one with company goes on.
func TestForeignCluster(t *testing.T) {
	w := newJoinWorld(t)
	n := w.node(1)
	if err := n.start(1, true); err != nil {
		t.Fatal(err)
	}
	if err := n.store.change(func(i *identity) error { i.State, i.ClusterID = founding, "here"; return nil }); err != nil {
		t.Fatal(err)
	}
	other := n.Self()
	other.Node, other.Cluster = 2, "there"
	if err := n.j.foreign(other, 1); !errors.Is(err, ErrOtherCluster) {
		t.Error(err)
	}
	if err := n.j.foreign(other, 3); err != nil {
		t.Error(err)
	}
	other.Cluster = "here"
	if err := n.j.foreign(other, 1); err != nil {
		t.Error(err)
	}
}

// A step that finds another state than it was meant for changes nothing and says so: who was told of progress would look again at
// once, and for ever.
func TestAStepThatChangesNothingIsNoProgress(t *testing.T) {
	w := newJoinWorld(t)
	n := w.node(2)
	if err := n.start(1, false); err != nil {
		t.Fatal(err)
	}
	err := n.store.change(func(i *identity) error {
		i.State, i.Promise = promised, promise{Founder: 1, ClusterID: "x"}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []bootKind{bootAlone, bootCandidate, bootFound} {
		if progress, err := n.j.take(t.Context(), bootStep{kind: kind}); progress || err != nil {
			t.Errorf("step %d: progress %v, error %v", kind, progress, err)
		}
	}
}
