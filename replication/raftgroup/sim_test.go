package raftgroup

//quorlog:bubble simulate and its kind run every test of this file in one

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftlog"
	"github.com/quorlog/quorlog/replication/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A simulated cluster: replicas of one group on crash-testing file systems and a network in memory, in a synctest bubble, so
// that elections and back-offs take no real time.

const (
	simGroup = "g-0"
	simDir   = "/data/g-0"
)

// simNode is a machine. Its group is nil while it is off.
type simNode struct {
	s    *sim
	id   replication.ReplicaID
	disk *vfs.Mem
	in   *vfs.Injector // over disk, for the current life

	votes *raftlog.Votes
	log   *log.Log
	group *Group

	mu       sync.Mutex
	leader   replication.Leader
	local    bool
	failures []error
	high     log.Offset // highest watermark seen in this life; it never goes back
	installs int        // InstallSnapshot requests received
	refuse   bool       // its connections are refused: errors at once instead of time-outs

	lose func(raft.RPC) bool // messages to it that are lost
}

type sim struct {
	t        testing.TB
	net      *transport.Mem
	nodes    []*simNode
	rng      *rand.Rand
	segment  int64
	timing   Timing
	voters   []replication.ReplicaID
	leaders  map[log.Epoch]replication.NodeID // election safety: one for each epoch
	served   log.Offset                       // highest watermark of any leader; none begins below it
	leaderMu sync.Mutex
	values   int
	patrol   *Patrol // of every second seed
	herald   *Herald // of two seeds in four
	pace     Pace
}

// newSim starts a cluster of n voters.
func newSim(t testing.TB, n int, seed uint64) *sim {
	s := &sim{t: t}
	s.begin(n, seed)
	return s
}

func (s *sim) begin(n int, seed uint64) {
	s.net, s.rng = transport.NewMem(0), rand.New(rand.NewPCG(seed, 7))
	s.segment = 2 << 10
	if seed%2 == 1 {
		s.patrol = NewPatrol()
	}
	if seed%4 >= 2 {
		s.herald = NewHerald()
	}
	s.leaders = make(map[log.Epoch]replication.NodeID)
	for i := range n {
		s.voters = append(s.voters, replication.ReplicaID{Node: replication.NodeID(i + 1)})
	}
	for i := range n {
		s.add(i + 1)
	}
	// The preferred replica last: here it would wait for an answer from one that is not there yet, where Peers says so at once.
	for _, n := range slices.Backward(s.nodes) {
		n.start()
	}
}

func (s *sim) add(node int) *simNode {
	n := &simNode{s: s, id: replication.ReplicaID{Node: replication.NodeID(node)}, disk: vfs.NewMem()}
	n.in = vfs.Inject(n.disk)
	s.nodes = append(s.nodes, n)
	return n
}

func (s *sim) logger() *slog.Logger {
	if os.Getenv("SIM_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// intercept counts snapshots on their way to a node.
type intercept struct {
	*transport.Mem
	n *simNode
}

func (i intercept) Attach(group string, self raft.ServerAddress, h transport.Handler) (transport.Endpoint, error) {
	return i.Mem.Attach(group, self, counting{h, i.n})
}

type counting struct {
	transport.Handler
	n *simNode
}

func (c counting) Receive(rpc raft.RPC) {
	c.n.mu.Lock()
	if _, ok := rpc.Command.(*raft.InstallSnapshotRequest); ok {
		c.n.installs++
	}
	refuse := c.n.refuse
	lost := c.n.lose != nil && c.n.lose(rpc)
	c.n.mu.Unlock()
	if lost {
		return
	}
	if refuse {
		rpc.Respond(nil, transport.ErrUnreachable)
		return
	}
	c.Handler.Receive(rpc)
}

// Heartbeat implements transport.Beater.
func (c counting) Heartbeat(leader raft.ServerID, term uint64) (uint64, bool) {
	c.n.mu.Lock()
	plain := c.n.refuse || c.n.lose != nil
	c.n.mu.Unlock()
	if plain {
		return 0, false
	}
	return c.Handler.(transport.Beater).Heartbeat(leader, term)
}

// tryStart turns the machine on, on what its disk holds.
func (n *simNode) tryStart() error {
	var err error
	if n.votes, err = raftlog.OpenVotesFS(n.in, "/data/votes.db", raftlog.VoteOptions{OnFatal: n.Failed}); err != nil {
		return err
	}
	if err = vfs.MkdirDurable(n.in, "/data"); err != nil {
		return err
	}
	n.log, err = log.Open(log.Options{FS: n.in, Dir: simDir, SegmentBytes: n.s.segment, CheckpointBytes: 8 << 10})
	if err != nil {
		return err
	}
	o := Options{
		Name: simGroup, Self: n.id, Log: n.log, Stable: n.votes.Group("g-0.0"), Network: intercept{n.s.net, n}, Owner: n, Timing: n.s.timing, Patrol: n.s.patrol,
		Herald: n.s.herald, Pace: n.s.pace,
		Logger: n.s.logger().With("node", n.id.Node),
	}
	for _, v := range n.s.voters {
		if v == n.id {
			o.Bootstrap = n.s.voters
		}
	}
	n.group, err = Open(o)
	return err
}

func (n *simNode) start() {
	n.s.t.Helper()
	if err := vfs.MkdirDurable(n.disk, "/data"); err != nil {
		n.s.t.Fatal(err)
	}
	if err := n.tryStart(); err != nil {
		n.s.t.Fatalf("node %d: %v", n.id.Node, err)
	}
}

// stop turns the machine off in order.
func (n *simNode) stop() {
	n.s.t.Helper()
	if n.group == nil {
		return
	}
	if err := errors.Join(n.group.Close(), n.log.Close(), n.votes.Close()); err != nil {
		n.s.t.Errorf("node %d: %v", n.id.Node, err)
	}
	n.group = nil
}

// crash cuts the power: the machine is gone from the network, and its disk keeps what was fsynced, and luck.
func (n *simNode) crash(o vfs.CrashOptions) {
	if n.group == nil {
		return
	}
	for _, other := range n.s.nodes {
		n.s.net.Isolate(addr(n.id), addr(other.id))
	}
	n.disk = n.disk.Crash(n.s.rng, o)
	n.abandon()
	n.in = vfs.Inject(n.disk)
}

// crashAt cuts the power at some call of the file system that is to come: from the nth on of those whose path contains path,
// all fail. image returns what the disk holds then, nil as long as that has not come.
func (n *simNode) crashAt(path string, nth int) (image func() *vfs.Mem) {
	var once sync.Once
	var found atomic.Pointer[vfs.Mem]
	rng, disk := rand.New(rand.NewPCG(n.s.rng.Uint64(), 1)), n.disk
	n.in.Add(vfs.Rule{Op: vfs.OpAny, Path: path, Nth: nth, Last: -1, Err: vfs.ErrCrashed, Do: func(vfs.Call) {
		once.Do(func() {
			found.Store(disk.CrashClone(rng, vfs.CrashOptions{Survive: -1}))
			n.isolate()
		})
	}})
	return found.Load
}

// abandon ends the goroutines of a machine that has no power.
func (n *simNode) abandon() {
	if n.group != nil {
		_ = n.group.Close()
	}
	if n.log != nil {
		_ = n.log.Close()
	}
	if n.votes != nil {
		_ = n.votes.Close()
	}
	n.group, n.log, n.votes = nil, nil, nil
	n.mu.Lock()
	defer n.mu.Unlock()
	n.local, n.leader, n.failures, n.high = false, replication.Leader{}, nil, 0
}

// connect joins the machine to the others.
func (n *simNode) connect() {
	for _, o := range n.s.nodes {
		n.s.net.Join(addr(n.id), addr(o.id))
		n.s.net.Join(addr(o.id), addr(n.id))
	}
}

// refuses makes the machine hear nobody, and say so.
func (n *simNode) refuses(yes bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.refuse = yes
}

// isolate cuts the machine off.
func (n *simNode) isolate() {
	for _, o := range n.s.nodes {
		n.s.net.Isolate(addr(n.id), addr(o.id))
	}
}

func addr(r replication.ReplicaID) raft.ServerAddress { return raft.ServerAddress(r.String()) }

func (s *sim) close() {
	s.net.Heal()
	for _, n := range s.nodes {
		n.stop()
	}
	if s.herald != nil {
		s.herald.Close()
	}
	if s.patrol != nil {
		s.patrol.Close()
	}
}

// Applied implements Owner.
func (n *simNode) Applied() {
	hw := n.log.Offsets().HighWatermark
	n.mu.Lock()
	defer n.mu.Unlock()
	if hw < n.high {
		n.s.t.Errorf("node %d: watermark went back from %d to %d", n.id.Node, n.high, hw)
	}
	n.high = hw
	if n.local {
		n.s.leaderMu.Lock()
		n.s.served = max(n.s.served, hw)
		n.s.leaderMu.Unlock()
	}
}

// Led implements Owner.
func (n *simNode) Led(l replication.Leader, local bool) {
	hw := n.log.Offsets().HighWatermark
	n.mu.Lock()
	n.leader, n.local = l, local
	n.mu.Unlock()
	if l.Node == replication.NoNode {
		return
	}
	n.s.leaderMu.Lock()
	defer n.s.leaderMu.Unlock()
	if local && hw < n.s.served {
		n.s.t.Errorf("node %d leads from watermark %d on; %d was served", n.id.Node, hw, n.s.served)
	}
	if was, ok := n.s.leaders[l.Epoch]; ok && was != l.Node {
		n.s.t.Errorf("epoch %d is led by %d and by %d", l.Epoch, was, l.Node)
	}
	n.s.leaders[l.Epoch] = l.Node
}

// Failed implements Owner.
func (n *simNode) Failed(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failures = append(n.failures, err)
}

func (n *simNode) leads() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.group != nil && n.local
}

func (n *simNode) installed() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.installs
}

func (n *simNode) failed() []error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]error(nil), n.failures...)
}

// waitFor waits in virtual time.
func (s *sim) waitFor(what string, limit time.Duration, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(limit); !ok(); {
		if time.Now().After(deadline) {
			for _, n := range s.nodes {
				if n.group != nil {
					k, _ := n.log.Boundary()
					s.t.Logf("node %d: boundary %d, last %d, applied %d, leads %v, failures %v", n.id.Node, k, n.log.LastIndex(), n.log.AppliedIndex(), n.leads(), n.failed())
				}
			}
			s.t.Fatalf("waited %v for %s", limit, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// leader waits for the one that leads and serves, among those that are not excluded.
func (s *sim) leader(except ...*simNode) (l *simNode) {
	s.t.Helper()
	s.waitFor("a leader", 30*time.Second, func() bool {
		for _, n := range s.nodes {
			excluded := false
			for _, e := range except {
				excluded = excluded || e == n
			}
			if !excluded && n.leads() {
				l = n
				return true
			}
		}
		return false
	})
	return l
}

// value builds a batch of a value that nobody else has.
func (s *sim) value() []byte {
	s.t.Helper()
	s.values++
	f, err := batch.Build(batch.BuildOptions{}, batch.Record{Timestamp: 1, Value: fmt.Appendf(nil, "value-%06d", s.values)})
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

// produce appends count batches at a node, and returns those that were acknowledged.
func (n *simNode) produce(count int) (acked [][]byte) {
	n.s.t.Helper()
	var ps []Proposal
	var frames [][]byte
	for range count {
		f := n.s.value()
		epoch, _ := n.group.Leading()
		batch.Stamp(f, batch.Unstamped, epoch)
		frames = append(frames, f)
		ps = append(ps, n.group.Propose(f))
	}
	for i, p := range ps {
		if refused, err := p.Wait(); err == nil && refused == nil {
			acked = append(acked, frames[i])
		}
	}
	return acked
}

// mustProduce appends batches of which none may fail.
func (n *simNode) mustProduce(count int) [][]byte {
	n.s.t.Helper()
	acked := n.produce(count)
	if len(acked) != count {
		n.s.t.Fatalf("node %d took %d of %d batches", n.id.Node, len(acked), count)
	}
	return acked
}

// trim advances the log start to the watermark and drops what lies below, at the leader and whoever else has applied it.
func (s *sim) trim(leader *simNode, at ...*simNode) {
	s.t.Helper()
	start := leader.log.Offsets().HighWatermark
	if _, err := leader.group.Propose(log.InternalFrame(log.KindLogStart, log.EncodeLogStart(start))).Wait(); err != nil {
		s.t.Fatal(err)
	}
	for _, n := range at {
		s.waitFor("the log start", 10*time.Second, func() bool { return n.log.Offsets().LogStart >= start })
		if _, err := n.log.DropSegments(); err != nil {
			s.t.Fatal(err)
		}
		if k, _ := n.log.Boundary(); k == 0 {
			s.t.Fatalf("node %d dropped nothing", n.id.Node)
		}
	}
}

// converge waits until all running replicas have applied everything, and holds their logs against each other.
func (s *sim) converge(limit time.Duration) {
	s.t.Helper()
	var leader *simNode
	var acked [][]byte
	s.waitFor("a batch to be taken", limit, func() bool { // right after a partition, leaders come and go
		leader = s.leader()
		acked = leader.produce(1)
		return len(acked) > 0
	})
	s.waitFor("all replicas to catch up", limit, func() bool {
		for _, n := range s.nodes {
			if n.group != nil && n.log.AppliedIndex() < leader.log.AppliedIndex() {
				return false
			}
		}
		return true
	})
	s.compare(leader)
	s.find(leader, acked)
}

// compare checks that what two logs both have is the same, byte for byte.
func (s *sim) compare(a *simNode) {
	s.t.Helper()
	for _, b := range s.nodes {
		if b == a || b.group == nil {
			continue
		}
		ka, _ := a.log.Boundary()
		kb, _ := b.log.Boundary()
		for i := max(ka, kb) + 1; i <= min(a.log.AppliedIndex(), b.log.AppliedIndex()); i++ {
			ea, err1 := a.log.Entry(i)
			eb, err2 := b.log.Entry(i)
			if err := errors.Join(err1, err2); err != nil {
				s.t.Fatalf("entry %d of nodes %d and %d: %v", i, a.id.Node, b.id.Node, err)
			}
			if ea.Term != eb.Term || !bytes.Equal(ea.Frame, eb.Frame) {
				s.t.Fatalf("entry %d differs: %v of term %d on node %d, %v of term %d on node %d", i, ea.Kind, ea.Term, a.id.Node, eb.Kind, eb.Term, b.id.Node)
			}
		}
		if oa, ob := a.log.Offsets(), b.log.Offsets(); oa.HighWatermark != ob.HighWatermark || oa.LogStart != ob.LogStart {
			s.t.Fatalf("offsets differ: %+v on node %d, %+v on node %d", oa, a.id.Node, ob, b.id.Node)
		}
	}
}

// find checks that acknowledged batches are where they were acknowledged, and nowhere else, unless retention took them.
func (s *sim) find(n *simNode, acked [][]byte) {
	s.t.Helper()
	o := n.log.Offsets()
	for _, f := range acked {
		h, err := batch.ParseHeader(f)
		if err != nil {
			s.t.Fatal(err)
		}
		if h.BaseOffset < o.LogStart {
			continue
		}
		r, err := n.log.Read(h.BaseOffset, o.HighWatermark, len(f), true)
		if err != nil {
			s.t.Fatalf("acknowledged offset %d: %v", h.BaseOffset, err)
		}
		got, err := r.AppendTo(nil)
		r.Release()
		if err != nil || !bytes.Equal(got, f) {
			s.t.Fatalf("node %d: acknowledged offset %d holds something else: %v", n.id.Node, h.BaseOffset, err)
		}
	}
}

// inBubble runs a simulation.
func inBubble(t *testing.T, test func(t *testing.T)) { synctest.Test(t, test) }

// ask hands a request to a node and waits for the answer, as a peer would.
func (n *simNode) ask(command any, data []byte) (any, error) {
	answer := make(chan raft.RPCResponse, 1)
	var r io.Reader
	if data != nil {
		r = bytes.NewReader(data)
	}
	n.group.link.Receive(raft.RPC{Command: command, Reader: r, RespChan: answer})
	out := <-answer
	return out.Response, out.Error
}
