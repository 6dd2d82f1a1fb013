//quorlog:bubble

package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/membership"
	"github.com/quorlog/quorlog/replication/transport"
)

// joinWorld is nodes on their way into a cluster: real joiners and identity files on disks that can be crashed, with gossip, calls
// and the metadata group played by the world.
type joinWorld struct {
	t     testing.TB
	nodes map[replication.NodeID]*worldNode
	// lag is how long news and messages are under way; nil: not at all.
	lag func() time.Duration
	mu  struct {
		sync.Mutex
		seen     map[[2]replication.NodeID]membership.Member // who last saw what of whom, with lag
		founders map[string]replication.NodeID               // of clusters whose metadata group has begun
		members  map[string]map[replication.NodeID]controller.Registered
		dirs     map[string]map[replication.NodeID]controller.DirectoryID
		blind    map[[2]replication.NodeID]bool // who does not see whom
		cut      map[[2]replication.NodeID]bool // whose calls do not get to whom
	}
}

// worldNode is a node's disk, and its process while it is up.
type worldNode struct {
	w      *joinWorld
	id     replication.NodeID
	expect int
	join   bool
	disk   *vfs.Mem
	faults []vfs.Rule // of the process

	mu struct {
		sync.Mutex
		metadata bool // on the disk
		self     membership.Member
		watch    func()
		up       bool
	}
	// The process's; written under mu, as calls of other nodes may come while it is replaced.
	store *identityStore
	j     *joiner
}

// process is what a node that is up runs; a call meets one, even if that is replaced meanwhile.
func (n *worldNode) process() (*identityStore, *joiner) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.store, n.j
}

func newJoinWorld(t testing.TB) *joinWorld {
	w := &joinWorld{t: t, nodes: map[replication.NodeID]*worldNode{}}
	w.mu.founders, w.mu.members = map[string]replication.NodeID{}, map[string]map[replication.NodeID]controller.Registered{}
	w.mu.dirs = map[string]map[replication.NodeID]controller.DirectoryID{}
	w.mu.seen = map[[2]replication.NodeID]membership.Member{}
	w.mu.blind, w.mu.cut = map[[2]replication.NodeID]bool{}, map[[2]replication.NodeID]bool{}
	return w
}

func (w *joinWorld) node(id replication.NodeID) *worldNode {
	if w.nodes[id] == nil {
		w.nodes[id] = &worldNode{w: w, id: id, disk: vfs.NewMem()}
	}
	return w.nodes[id]
}

// start starts a node's process on its disk.
func (n *worldNode) start(expect int, join bool) error {
	n.expect, n.join = expect, join
	store, err := openIdentityWith(vfs.Inject(n.disk, n.faults...), "/data", n.id, func() (bool, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.mu.metadata, nil
	})
	if err != nil {
		return err
	}
	self := replication.Node{ID: n.id, Host: fmt.Sprint("node-", n.id), Port: 9092}
	addr := fmt.Sprintf("node-%d:9092", n.id)
	j := newJoiner(joinerOptions{Store: store, Self: self, Expect: expect, Join: join, Gossip: n, Peers: n})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.store, n.j = store, j
	n.mu.self, n.mu.up = describeSelf(store.get(), self, addr, "1", expect), true
	return nil
}

// crash cuts a node's power.
func (n *worldNode) crash(rng *rand.Rand, o vfs.CrashOptions) {
	n.mu.Lock()
	n.mu.up, n.mu.watch = false, nil
	n.mu.Unlock()
	n.disk = n.disk.Crash(rng, o)
}

// wipe gives a node that is down a new disk.
func (n *worldNode) wipe() {
	n.disk = vfs.NewMem()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.metadata = false
}

func (n *worldNode) up() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.up
}

// Self implements gossiper.
func (n *worldNode) Self() membership.Member {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.self
}

// SetSelf implements gossiper.
func (n *worldNode) SetSelf(m membership.Member) error {
	n.mu.Lock()
	n.mu.self = m
	n.mu.Unlock()
	n.w.news()
	return nil
}

// Watch implements gossiper.
func (n *worldNode) Watch(fn func()) func() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.watch = fn
	return func() {}
}

// news tells all of all, each after a time of its own.
func (w *joinWorld) news() {
	for _, n := range w.nodes {
		if w.lag == nil {
			n.wake()
			continue
		}
		for _, of := range w.nodes {
			time.AfterFunc(w.lag(), func() {
				w.mu.Lock()
				if pair := [2]replication.NodeID{n.id, of.id}; !w.mu.blind[pair] {
					w.mu.seen[pair] = of.now()
				}
				w.mu.Unlock()
				n.wake()
			})
		}
	}
}

func (n *worldNode) wake() {
	n.mu.Lock()
	fn := n.mu.watch
	n.mu.Unlock()
	if fn != nil {
		fn()
	}
}

// now is the node as somebody sees who looks now.
func (n *worldNode) now() membership.Member {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.mu.self
	m.Status = membership.Failed
	if n.mu.up {
		m.Status = membership.Alive
	}
	return m
}

// Members implements gossiper: who is up and in sight.
func (n *worldNode) Members() (out []membership.Member) {
	for _, id := range n.w.ids() {
		n.w.mu.Lock()
		pair := [2]replication.NodeID{n.id, id}
		m, ok := n.w.mu.seen[pair]
		if n.w.lag == nil {
			m, ok = n.w.nodes[id].now(), !n.w.mu.blind[pair]
		}
		n.w.mu.Unlock()
		if ok && m.Addr != "" {
			out = append(out, m)
		}
	}
	return out
}

func (w *joinWorld) ids() (ids []replication.NodeID) {
	for id := range w.nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// CallAddr implements joinCaller.
func (n *worldNode) CallAddr(ctx context.Context, addr, name string, body []byte) (transport.PeerInfo, []byte, error) {
	for _, to := range n.w.nodes {
		if addr != fmt.Sprintf("node-%d:9092", to.id) {
			continue
		}
		n.delay()
		n.w.mu.Lock()
		cut := n.w.mu.cut[[2]replication.NodeID{n.id, to.id}]
		n.w.mu.Unlock()
		if cut || !to.up() || !n.up() {
			return transport.PeerInfo{}, nil, transport.ErrUnreachable
		}
		handlers := map[string]transport.CallHandler{}
		store, j := to.process()
		j.handle(handlerMap(handlers))
		own, _ := n.process()
		answer, err := handlers[name](ctx, n.info(own), body)
		n.delay()
		if errors.Is(err, errDisk) || !to.up() {
			return transport.PeerInfo{}, nil, transport.ErrUnanswered // that process ends
		}
		return to.info(store), answer, err
	}
	return transport.PeerInfo{}, nil, transport.ErrUnreachable
}

func (n *worldNode) delay() {
	if n.w.lag != nil {
		time.Sleep(n.w.lag())
	}
}

type handlerMap map[string]transport.CallHandler

func (m handlerMap) Handle(name string, h transport.CallHandler) { m[name] = h }

func (n *worldNode) info(store *identityStore) transport.PeerInfo {
	i := store.get()
	return transport.PeerInfo{Node: n.id, Directory: i.Directory, Cluster: i.ClusterID}
}

// open is what the agent does with a result: it opens the metadata group.
func (n *worldNode) open(r membershipResult) error {
	w := n.w
	w.mu.Lock()
	if r.Found {
		if w.mu.founders[r.ClusterID] == 0 {
			w.mu.founders[r.ClusterID] = n.id
			w.mu.members[r.ClusterID] = map[replication.NodeID]controller.Registered{n.id: {Meta: r.Meta, ClusterID: r.ClusterID}}
			w.mu.dirs[r.ClusterID] = map[replication.NodeID]controller.DirectoryID{n.id: controller.DirectoryID(n.store.get().Directory)}
		}
	}
	if is := w.mu.members[r.ClusterID][n.id]; is.Meta != r.Meta {
		w.t.Errorf("node %d opens replica %v of the metadata of cluster %s, which knows %v", n.id, r.Meta, r.ClusterID, is.Meta)
	}
	w.mu.Unlock()
	n.mu.Lock()
	n.mu.metadata = true
	n.mu.Unlock()
	n.j.serveRegistrations(func(_ context.Context, q controller.RegisterRequest) (controller.Registered, error) {
		return w.register(r.ClusterID, q)
	})
	return n.j.opened(r.ClusterID)
}

// register plays the controller, which the founder is.
func (w *joinWorld) register(cluster string, q controller.RegisterRequest) (controller.Registered, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if founder := w.nodes[w.mu.founders[cluster]]; !founder.up() {
		return controller.Registered{}, controller.ErrNotController
	}
	r, known := w.mu.members[cluster][q.Node.ID]
	if dir := w.mu.dirs[cluster][q.Node.ID]; known && dir != q.Directory {
		if n := w.nodes[q.Node.ID]; n.up() && controller.DirectoryID(n.store.get().Directory) == dir {
			return r, controller.ErrDuplicateNode
		}
		r.Meta.Incarnation++
		r.Renewed = true
	} else if !known {
		r = controller.Registered{Meta: replication.ReplicaID{Node: q.Node.ID, Incarnation: 1}, ClusterID: cluster}
	}
	w.mu.members[cluster][q.Node.ID], w.mu.dirs[cluster][q.Node.ID] = r, q.Directory
	return r, nil
}

// check holds what must be true at any time.
func (w *joinWorld) check() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mu.founders) > 1 {
		w.t.Fatalf("several clusters were founded: %v", w.mu.founders)
	}
}

// state is a node's in one word.
func (n *worldNode) state() string {
	if !n.up() {
		return "down"
	}
	i := n.store.get()
	var b strings.Builder
	b.WriteString(string(i.State))
	switch i.State {
	case candidate:
		fmt.Fprintf(&b, " for cluster %s", i.Promise.ClusterID)
	case promised:
		fmt.Fprintf(&b, " to node %d for cluster %s", i.Promise.Founder, i.Promise.ClusterID)
	case founding, joined, member:
		fmt.Fprintf(&b, " of cluster %s as %s", i.ClusterID, i.replica())
	}
	return b.String()
}
