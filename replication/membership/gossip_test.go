package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/internal/leaks"
	"github.com/quorlog/quorlog/replication"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, leaks.Gossip()...)
}

// patience is for conditions that always come true; it only ends a test that hangs.
const patience = time.Minute

var testKey = []byte("a cluster key for tests")

// eventually waits for a condition.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !cond() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		}
	}
}

// hasty makes memberlist notice failures in a fraction of a second.
func hasty(c *memberlist.Config) {
	c.ProbeInterval, c.ProbeTimeout, c.GossipInterval = 50*time.Millisecond, 25*time.Millisecond, 10*time.Millisecond
	c.SuspicionMult, c.SuspicionMaxTimeoutMult, c.PushPullInterval = 1, 1, 500*time.Millisecond
}

// logged keeps log lines.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(b))
	return len(b), nil
}

func (l *logged) has(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool {
		return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) })
	})
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func member(node replication.NodeID) Member {
	return Member{
		Node: node, Addr: fmt.Sprintf("127.0.0.1:%d", 19000+node), Rack: fmt.Sprint("rack-", node), Version: "1", Directory: [16]byte{byte(node)}, Expect: 3, Fresh: true,
	}
}

// start opens a node's gossip on a free port; the test's end closes it.
func start(t *testing.T, node replication.NodeID, change func(*Options), join ...string) *Gossip {
	t.Helper()
	o := Options{
		Node: node, Bind: "127.0.0.1:0", Key: testKey, Self: member(node), Join: join, JoinPause: 10 * time.Millisecond, CheckPause: 20 * time.Millisecond, tune: hasty,
	}
	if change != nil {
		change(&o)
	}
	g, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func sees(g *Gossip, want func(Member) bool, nodes ...replication.NodeID) bool {
	members := g.Members()
	for _, n := range nodes {
		if !slices.ContainsFunc(members, func(m Member) bool { return m.Node == n && want(m) }) {
			return false
		}
	}
	return true
}

func alive(m Member) bool { return m.Status == Alive }

// TestThreeNodes: all see each other through whom they know, learn what a node changes about itself, notice one that is gone
// and see it again when it is back with another address.
func TestThreeNodes(t *testing.T) {
	one := start(t, 1, nil)
	two := start(t, 2, nil, one.Addr())
	three := start(t, 3, nil, two.Addr())
	all := []*Gossip{one, two, three}
	for _, g := range all {
		eventually(t, "all see all", func() bool { return sees(g, alive, 1, 2, 3) })
	}
	want := member(3)
	want.Status, want.Gossip, want.boot = Alive, three.Addr(), three.boot
	eventually(t, "node 1 knows all of node 3", func() bool {
		m, ok := one.Find(3)
		return ok && m == want
	})

	changed := make(chan struct{}, 1)
	cancel := one.Watch(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	self := three.Self()
	self.Cluster, self.Fresh = "the-cluster", false
	if err := three.SetSelf(self); err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		eventually(t, "node 3's cluster is known", func() bool {
			return sees(g, func(m Member) bool { return m.Cluster == "the-cluster" && !m.Fresh }, 3)
		})
	}
	select {
	case <-changed:
	case <-time.After(patience):
		t.Error("a watcher was not called")
	}
	cancel()

	if err := three.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "node 3 is missed", func() bool {
		return sees(one, func(m Member) bool { return m.Status == Failed && m.Cluster == "the-cluster" }, 3)
	})
	again := start(t, 3, nil, one.Addr())
	eventually(t, "node 3 is back", func() bool {
		return sees(one, func(m Member) bool { return m.Status == Alive && m.Gossip == again.Addr() }, 3) && sees(again, alive, 1, 2)
	})
}

// TestMovedAtOnce: a node that comes back elsewhere is believed before anybody has noticed that it was gone: memberlist
// alone would call it a conflict until its failure is noticed.
func TestMovedAtOnce(t *testing.T) {
	slow := func(o *Options) {
		o.tune = func(c *memberlist.Config) { hasty(c); c.ProbeInterval = time.Hour }
	}
	var later atomic.Int64
	var logs logged
	one := start(t, 1, func(o *Options) {
		slow(o)
		o.Now, o.Logger = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }, logs.logger()
	})
	two := start(t, 2, slow, one.Addr())
	eventually(t, "node 2 is there", func() bool { return sees(one, alive, 2) })
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	again := start(t, 2, func(o *Options) {
		slow(o)
		o.Self.Addr = "127.0.0.1:19992"
		o.Now = func() time.Time { return time.Now().Add(time.Second) }
	}, one.Addr())
	eventually(t, "node 2's new address is known", func() bool {
		return sees(one, func(m Member) bool {
			return m.Status == Alive && m.Addr == "127.0.0.1:19992" && m.Gossip == again.Addr()
		}, 2)
	})
	if logs.has("two live nodes have the same id") {
		t.Error("a node that moved was called a conflict")
	}
	// What is never confirmed is believed for a while only: from when it was last heard, which may be just now.
	eventually(t, "an address that memberlist does not take is believed no more", func() bool {
		later.Add(int64(2 * movedFor))
		m, _ := one.Find(2)
		return m.Addr != "127.0.0.1:19992"
	})
}

// TestDuplicateID: a second node with the id of a live one is reported on both sides, changes nothing, and ends nobody.
func TestDuplicateID(t *testing.T) {
	var logs logged
	report := func(o *Options) { o.Logger = logs.logger() }
	one := start(t, 1, report)
	two := start(t, 2, nil, one.Addr())
	eventually(t, "node 2 is there", func() bool { return sees(one, alive, 2) && sees(two, alive, 1) })
	other := start(t, 2, func(o *Options) {
		report(o)
		o.Self.Directory, o.Self.Addr = [16]byte{99}, "127.0.0.1:19999"
	}, one.Addr())
	eventually(t, "both sides tell of the conflict", func() bool {
		const said = "two live nodes have the same id"
		return logs.has(said, "node=2", " address=127.0.0.1:19002", " other_address=127.0.0.1:19999") &&
			logs.has(said, "node=2", " address=127.0.0.1:19999", " other_address=127.0.0.1:19002")
	})
	if m, _ := one.Find(2); m.Directory != [16]byte{2} || m.Gossip != two.Addr() {
		t.Errorf("node 1 now believes in %+v", m)
	}
	// Nobody's gossip has ended.
	three := start(t, 3, nil, two.Addr())
	eventually(t, "node 3 is known", func() bool { return sees(one, alive, 3) && sees(other, alive, 3) && sees(three, alive, 1, 2) })
}

// TestOtherCluster: members of two clusters never mix, also not through a node that belongs to none.
func TestOtherCluster(t *testing.T) {
	of := func(cluster string) func(*Options) {
		return func(o *Options) { o.Self.Cluster, o.Self.Fresh = cluster, false }
	}
	var logs logged
	strangers := make(chan Member, 8)
	one := start(t, 1, func(o *Options) {
		of("here")(o)
		o.Logger, o.OnStranger = logs.logger(), func(m Member) { strangers <- m }
	})
	two := start(t, 2, of("there"), one.Addr())
	select {
	case m := <-strangers:
		if m.Node != 2 || m.Cluster != "there" || m.Addr != "127.0.0.1:19002" {
			t.Errorf("the stranger is %+v", m)
		}
	case <-time.After(patience):
		t.Fatal("the stranger was not reported")
	}
	if !logs.has("of another cluster was refused", "its_cluster=there", "our_cluster=here") {
		t.Error("the log does not name both clusters")
	}
	fresh := start(t, 3, nil, two.Addr())
	eventually(t, "the fresh node knows node 2", func() bool { return sees(fresh, alive, 2) })
	if _, ok := one.Find(2); ok {
		t.Error("node 1 knows a node of another cluster")
	}
	if _, ok := two.Find(1); ok {
		t.Error("node 2 knows a node of another cluster")
	}
}

// TestOtherKey: who has another key is kept out, and the log says so once.
func TestOtherKey(t *testing.T) {
	var logs logged
	one := start(t, 1, func(o *Options) { o.Logger = logs.logger() })
	var theirs logged
	two := start(t, 2, func(o *Options) { o.Key, o.Logger = []byte("another key, as long"), theirs.logger() }, one.Addr())
	eventually(t, "both logs tell", func() bool {
		return logs.has("another cluster key was refused") && theirs.has("nobody of --join answers", "its cluster key is another")
	})
	if len(one.Members()) != 1 || len(two.Members()) != 1 {
		t.Errorf("they know each other: %+v, %+v", one.Members(), two.Members())
	}
	if _, err := Open(t.Context(), Options{Node: 1, Bind: "127.0.0.1:0"}); !errors.Is(err, ErrNoKey) {
		t.Errorf("gossip without a key: %v", err)
	}
}

// TestJoinByName: a name is resolved again and again, and all its addresses are tried.
func TestJoinByName(t *testing.T) {
	one, two := start(t, 1, nil), start(t, 2, nil)
	_, port, err := splitAddress(two.Addr())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	calls := 0
	lookup := func(_ context.Context, host string) ([]net.IPAddr, error) {
		mu.Lock()
		defer mu.Unlock()
		calls++
		if calls < 4 {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		// Nobody listens on the first one.
		return []net.IPAddr{{IP: net.IPv4(127, 0, 0, 99)}, {IP: net.IPv4(127, 0, 0, 1)}}, nil
	}
	three := start(t, 3, func(o *Options) { o.Lookup = lookup }, fmt.Sprintf("quorlog.example:%d", port), one.Addr())
	eventually(t, "both named nodes are joined", func() bool { return sees(three, alive, 1, 2) })
	eventually(t, "and know each other", func() bool { return sees(one, alive, 2, 3) })
}

// TestOwnName: the names of this node's own addresses are resolved like those of others, and no longer than the start may take.
func TestOwnName(t *testing.T) {
	here := func(_ context.Context, host string) ([]net.IPAddr, error) {
		if host != "node.example" {
			t.Errorf("looks for %s", host)
		}
		return []net.IPAddr{{IP: net.IPv4(127, 0, 0, 1)}}, nil
	}
	one := start(t, 1, func(o *Options) { o.Bind, o.Lookup = "node.example:0", here })
	if host, _, err := splitAddress(one.Addr()); err != nil || host != "127.0.0.1" {
		t.Errorf("bound to %s, %v", one.Addr(), err)
	}
	o := Options{Node: 2, Bind: "node.example:0", Key: testKey, Self: member(2), tune: hasty}
	o.Lookup = func(context.Context, string) ([]net.IPAddr, error) { return nil, nil }
	if _, err := Open(t.Context(), o); !errors.Is(err, errNoAddress) {
		t.Errorf("a name without an address: %v", err)
	}
	o.Lookup = func(ctx context.Context, _ string) ([]net.IPAddr, error) { <-ctx.Done(); return nil, ctx.Err() }
	for _, bind := range []string{o.Bind, "127.0.0.1:0"} {
		o.Bind, o.Advertise = bind, "node.example:9093"
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Open(ctx, o); !errors.Is(err, context.Canceled) {
			t.Errorf("bound to %s, while the start is called off: %v", bind, err)
		}
	}
}

// TestWatcherThatWaits: code that is called back and takes its time holds up nothing.
func TestWatcherThatWaits(t *testing.T) {
	one := start(t, 1, nil)
	called, release := make(chan struct{}), make(chan struct{})
	var first sync.Once
	one.Watch(func() { first.Do(func() { close(called); <-release }) })
	start(t, 2, nil, one.Addr())
	<-called
	for n := replication.NodeID(3); n < 6; n++ {
		start(t, n, nil, one.Addr())
	}
	eventually(t, "all are seen meanwhile", func() bool { return sees(one, alive, 2, 3, 4, 5) })
	close(release)
}

// TestTooLong: what does not fit into a message is refused before it is spread.
func TestTooLong(t *testing.T) {
	one := start(t, 1, nil)
	long := one.Self()
	long.Rack = strings.Repeat("r", 500)
	if err := one.SetSelf(long); !errors.Is(err, ErrTooLong) {
		t.Errorf("a rack of 500 bytes: %v", err)
	}
	if m := one.Self(); m.Rack != "rack-1" {
		t.Errorf("it is set all the same: %q", m.Rack)
	}
	// The longest that settings allow fits, whatever Serf's encoding adds.
	long.Rack, long.Addr = strings.Repeat("r", 100), strings.Repeat("h", 200)+":65535"
	long.Cluster, long.Version = strings.Repeat("c", 22), "10.20.30-development"
	if err := one.SetSelf(long); err != nil {
		t.Error(err)
	}
	if m, _ := one.Find(1); m.Rack != long.Rack || m.Addr != long.Addr {
		t.Errorf("%+v", m)
	}
}

// TestSelfIsExact: what a node knows of itself does not wait for the gossip.
func TestSelfIsExact(t *testing.T) {
	one := start(t, 1, nil)
	m := one.Self()
	m.Cluster, m.Node, m.Status = "x", 7, Failed
	if err := one.SetSelf(m); err != nil {
		t.Fatal(err)
	}
	if m, ok := one.Find(1); !ok || m.Cluster != "x" || m.Node != 1 || m.Status != Alive || m.Gossip != one.Addr() {
		t.Errorf("%+v", m)
	}
}
