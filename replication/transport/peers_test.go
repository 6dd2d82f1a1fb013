package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/replication"
)

var testKey = []byte("a key of the cluster, 32 bytes ..")

// lines is a log that tests can read.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) count(s string) int { return strings.Count(l.String(), s) }

// net3 is nodes on loopback.
type cluster struct {
	t     testing.TB
	nodes map[replication.NodeID]*node
	pipes *pipes // instead of TCP; nil without
	mu    sync.Mutex
	addrs map[replication.NodeID]string
}

type node struct {
	*Peers
	listener net.Listener
	log      *lines
	served   chan error
	events   chan string
}

func newCluster(t testing.TB) *cluster {
	return &cluster{t: t, nodes: make(map[replication.NodeID]*node), addrs: make(map[replication.NodeID]string)}
}

func (c *cluster) resolve(id replication.NodeID) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	addr, ok := c.addrs[id]
	return addr, ok
}

func (c *cluster) setAddr(id replication.NodeID, addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addrs[id] = addr
}

// options are those of a node that belongs to the cluster.
func (c *cluster) options(id replication.NodeID) (PeersOptions, *node) {
	n := &node{log: &lines{}, served: make(chan error, 1), events: make(chan string, 1000)}
	o := PeersOptions{
		Node: id, Directory: [16]byte{byte(id)}, Version: "test", Key: testKey,
		Cluster: func() string { return "the-cluster" }, Resolve: c.resolve,
		OnPeer: func(node replication.NodeID, up bool) { n.events <- fmt.Sprint(node, " ", up) },
		Logger: slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if c.pipes != nil {
		o.Dial = c.pipes.dial
	}
	return o, n
}

// add makes a node, with names of calls already handled.
func (c *cluster) add(id replication.NodeID, change func(*PeersOptions)) *node {
	c.t.Helper()
	o, n := c.options(id)
	if change != nil {
		change(&o)
	}
	n.Peers = NewPeers(o)
	n.Handle("echo", func(_ context.Context, from PeerInfo, body []byte) ([]byte, error) {
		return fmt.Appendf(nil, "%d from %d: %s", id, from.Node, body), nil
	})
	n.Handle("join.echo", func(_ context.Context, from PeerInfo, body []byte) ([]byte, error) {
		return fmt.Appendf(nil, "%d from %d of %q: %s", id, from.Node, from.Cluster, body), nil
	})
	n.Handle("refuse", func(context.Context, PeerInfo, []byte) ([]byte, error) {
		return nil, fmt.Errorf("wrapped: %w", &RemoteError{Code: "NO", Text: "not today"})
	})
	n.Handle("hang", func(ctx context.Context, _ PeerInfo, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	c.serve(id, n)
	return n
}

// serve opens a port for a node.
func (c *cluster) serve(id replication.NodeID, n *node) {
	c.t.Helper()
	var l net.Listener
	var err error
	if c.pipes != nil {
		l = c.pipes.listen(id)
	} else if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		c.t.Fatal(err)
	}
	n.listener = l
	c.setAddr(id, l.Addr().String())
	c.nodes[id] = n
	go func() { n.served <- n.Serve(l) }()
	c.t.Cleanup(func() { n.stop(c.t) })
}

// stop ends a node; once is enough.
func (n *node) stop(t testing.TB) {
	if n.listener == nil {
		return
	}
	if err := errors.Join(n.listener.Close(), n.Close(), <-n.served); err != nil {
		t.Error(err)
	}
	n.listener = nil
}

// wait waits for a condition.
func wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-timeout:
			t.Fatalf("waited for %s in vain", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// safeEcho is an echo that many goroutines may use.
type safeEcho struct {
	mu sync.Mutex
	echo
}

func (e *safeEcho) Receive(rpc raft.RPC) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.echo.Receive(rpc)
}

func (e *safeEcho) Matched(id raft.ServerID, index uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.echo.Matched(id, index)
}

// seen is the last request.
func (e *safeEcho) seen() any {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last
}

func (e *safeEcho) confirmed() []uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.matched)
}

func attach(t testing.TB, n *node, group, self string, h Handler) Endpoint {
	t.Helper()
	e, err := n.Attach(group, raft.ServerAddress(self), h)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// twoNodes is a group with a replica on each of two nodes.
func twoNodes(t testing.TB) (c *cluster, a, b *safeEcho, end Endpoint) {
	c = newCluster(t)
	n1, n2 := c.add(1, nil), c.add(2, nil)
	a, b = &safeEcho{}, &safeEcho{}
	end = attach(t, n1, "g", "1.7", a)
	attach(t, n2, "g", "2.8", b)
	return c, a, b, end
}

func TestPeersCarryRaft(t *testing.T) {
	_, a, b, end := twoNodes(t)
	req, resp := request(), &raft.AppendEntriesResponse{}
	req.LeaderCommitIndex = 2
	if err := end.AppendEntries("2.8", "2.8", req, resp); err != nil || !resp.Success || resp.Term != 3 {
		t.Fatalf("%+v, %v", resp, err)
	}
	got := b.seen().(*raft.AppendEntriesRequest)
	if string(got.Entries[0].Data) != "five" || got.Entries[1].Type != raft.LogNoop || got.Entries[0].Extensions != nil ||
		got.Entries[1].Index != 6 || got.PrevLogEntry != 4 || got.LeaderCommitIndex != 2 || string(got.ID) != "1.7" || string(got.Addr) != "1.7" ||
		got.ProtocolVersion != raft.ProtocolVersionMax {
		t.Errorf("%+v", got)
	}
	if m := a.confirmed(); len(m) != 1 || m[0] != 6 {
		t.Errorf("confirmed: %v", m)
	}
	vote, preVote, snapshot := &raft.RequestVoteResponse{}, &raft.RequestPreVoteResponse{}, &raft.InstallSnapshotResponse{}
	if err := end.RequestVote("2.8", "2.8", &raft.RequestVoteRequest{Term: 4, LastLogIndex: 5, LastLogTerm: 6, LeadershipTransfer: true}, vote); err != nil || !vote.Granted || vote.Term != 4 {
		t.Errorf("%+v, %v", vote, err)
	}
	if v := b.seen().(*raft.RequestVoteRequest); v.LastLogIndex != 5 || v.LastLogTerm != 6 || !v.LeadershipTransfer || string(v.ID) != "1.7" {
		t.Errorf("%+v", v)
	}
	if err := end.RequestPreVote("2.8", "2.8", &raft.RequestPreVoteRequest{Term: 5, LastLogIndex: 6, LastLogTerm: 7}, preVote); err != nil || !preVote.Granted {
		t.Errorf("%+v, %v", preVote, err)
	}
	if err := end.TimeoutNow("2.8", "2.8", &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{}); err != nil {
		t.Error(err)
	}
	in := &raft.InstallSnapshotRequest{Term: 6, SnapshotVersion: 1, LastLogIndex: 7, LastLogTerm: 5, Configuration: []byte("conf"), ConfigurationIndex: 3, Size: 5}
	if err := end.InstallSnapshot("2.8", "2.8", in, snapshot, []byte("state")); err != nil || !snapshot.Success {
		t.Errorf("%+v, %v", snapshot, err)
	}
	if s := b.seen().(*raft.InstallSnapshotRequest); s.Size != 5 || string(s.Configuration) != "conf" || s.ConfigurationIndex != 3 || s.SnapshotVersion != 1 || string(b.data) != "state" {
		t.Errorf("%+v %q", s, b.data)
	}
	heartbeat := &raft.AppendEntriesRequest{Term: 9}
	if err := end.AppendEntries("2.8", "2.8", heartbeat, resp); err != nil || !resp.Success || resp.Term != 9 {
		t.Errorf("%+v, %v", resp, err)
	}
}

func TestPeersAnswerErrors(t *testing.T) {
	c, _, b, end := twoNodes(t)
	b.answer = func(rpc raft.RPC) { rpc.Respond(nil, ErrBusy) }
	if err := end.AppendEntries("2.8", "2.8", request(), &raft.AppendEntriesResponse{}); !errors.Is(err, ErrBusy) {
		t.Error(err)
	}
	if err := end.RequestVote("2.9", "2.9", &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{}); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
	if err := end.AppendEntries("2.9", "2.9", &raft.AppendEntriesRequest{Term: 1}, &raft.AppendEntriesResponse{}); err == nil {
		t.Error("a heartbeat to nobody was answered")
	}
	for _, to := range []raft.ServerAddress{"1.7", "x", "3.1"} {
		if err := end.RequestVote("", to, &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{}); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v", to, err)
		}
	}
	for _, self := range []raft.ServerAddress{"2.7", "1", "one.two"} {
		if _, err := c.nodes[1].Attach("g", self, b); err == nil {
			t.Errorf("%s was attached to node 1", self)
		}
	}
	end.Detach()
	if err := end.AppendEntries("2.8", "2.8", request(), &raft.AppendEntriesResponse{}); !errors.Is(err, ErrDetached) {
		t.Error(err)
	}
}

// A request of more than a message goes as several, and succeeds only as a whole.
func TestLargeAppendIsSplit(t *testing.T) {
	_, a, b, end := twoNodes(t)
	req := &raft.AppendEntriesRequest{Term: 2, PrevLogEntry: 9, PrevLogTerm: 1, LeaderCommitIndex: 8}
	for i := range 10 {
		req.Entries = append(req.Entries, &raft.Log{Index: uint64(10 + i), Term: 2, Data: bytes.Repeat([]byte{byte(i)}, 1<<20)})
	}
	var got []*raft.AppendEntriesRequest
	refuse := false
	b.answer = func(rpc raft.RPC) {
		in := rpc.Command.(*raft.AppendEntriesRequest)
		got = append(got, in)
		rpc.Respond(&raft.AppendEntriesResponse{Term: 2, Success: !refuse || len(got) != 2, LastLog: uint64(len(got))}, nil)
	}
	resp := &raft.AppendEntriesResponse{}
	if err := end.AppendEntries("2.8", "2.8", req, resp); err != nil || !resp.Success {
		t.Fatalf("%+v, %v", resp, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	next, term := uint64(9), uint64(1)
	for _, part := range got {
		if part.PrevLogEntry != next || part.PrevLogTerm != term || part.LeaderCommitIndex != 8 || entriesSize(Whole{}, part) > maxAppend {
			t.Errorf("after %d: %d, %d, %d bytes", next, part.PrevLogEntry, part.PrevLogTerm, entriesSize(Whole{}, part))
		}
		for _, l := range part.Entries {
			next, term = next+1, 2
			if l.Index != next || l.Data[1<<19] != byte(next-10) {
				t.Errorf("entry %d is not %d", l.Index, next)
			}
		}
	}
	if len(got) != 3 || next != 19 {
		t.Errorf("%d parts up to %d", len(got), next)
	}
	got, refuse = nil, true
	b.mu.Unlock()
	if err := end.AppendEntries("2.8", "2.8", req, resp); err != nil || resp.Success || resp.LastLog != 2 {
		t.Errorf("%+v, %v", resp, err)
	}
	b.mu.Lock()
	if m := a.confirmed(); len(m) != 1 || m[0] != 19 {
		t.Errorf("confirmed: %v", m)
	}
}

// late leaves the data of entries out until they are sent.
type late struct {
	safeEcho
	filled atomic.Int64
	fail   atomic.Bool
}

func (*late) Size(l *raft.Log) int { return int(l.AppendedAt.Unix()) }

func (f *late) Fill(l *raft.Log) (*raft.Log, error) {
	if f.fail.Load() {
		return nil, errors.New("unreadable")
	}
	f.filled.Add(1)
	return &raft.Log{Index: l.Index, Term: l.Term, Type: l.Type, Data: make([]byte, f.Size(l))}, nil
}

// Entries are given their data when there is room for them on the way, and not before.
func TestEntriesAreFilledWhenThereIsRoom(t *testing.T) {
	c := newCluster(t)
	one, two := c.add(1, nil), c.add(2, nil)
	a, b := &late{}, &safeEcho{}
	end := attach(t, one, "g", "1.7", a)
	attach(t, two, "g", "2.8", b)
	const entries, size = maxFlying/maxAppend + 4, maxAppend
	waiting := make(chan raft.RPC, entries)
	b.answer = func(rpc raft.RPC) { waiting <- rpc }
	req := &raft.AppendEntriesRequest{Term: 2}
	for i := range uint64(entries) {
		req.Entries = append(req.Entries, &raft.Log{Index: i + 1, Term: 2, AppendedAt: time.Unix(size, 0)})
	}
	done := make(chan error, 1)
	resp := &raft.AppendEntriesResponse{}
	go func() { done <- end.AppendEntries("2.8", "2.8", req, resp) }()
	for answered := range int64(entries) {
		var rpc raft.RPC
		select {
		case rpc = <-waiting:
		case err := <-done:
			t.Fatalf("it ended after %d of %d entries: %v", answered, entries, err)
		}
		in := rpc.Command.(*raft.AppendEntriesRequest)
		if n := a.filled.Load(); n > answered+maxFlying/size || len(in.Entries) != 1 || len(in.Entries[0].Data) != size {
			t.Fatalf("%d entries filled, %d answered; %d entries came", n, answered, len(in.Entries))
		}
		rpc.Respond(&raft.AppendEntriesResponse{Term: 2, Success: true, LastLog: uint64(answered + 1)}, nil)
	}
	if err := <-done; err != nil || !resp.Success || a.filled.Load() != entries {
		t.Errorf("%v, %+v, %d filled", err, resp, a.filled.Load())
	}
	a.fail.Store(true)
	for range 2 * maxFlying / size { // the room comes back
		if err := end.AppendEntries("2.8", "2.8", req, resp); !errors.Is(err, ErrUnreachable) {
			t.Fatal(err)
		}
	}
	a.fail.Store(false)
	req.Entries = req.Entries[:1]
	go func() {
		rpc := <-waiting
		rpc.Respond(&raft.AppendEntriesResponse{Term: 2, Success: true}, nil)
	}()
	if err := end.AppendEntries("2.8", "2.8", req, resp); err != nil || !resp.Success {
		t.Errorf("%v, %+v", err, resp)
	}
}

// What has no entries does not queue behind those that wait for room: it tells followers what is committed.
func TestRoomIsForEntries(t *testing.T) {
	c, _, b, end := twoNodes(t)
	p, err := end.AppendEntriesPipeline("2.8", "2.8")
	if err != nil {
		t.Fatal(err)
	}
	room := c.nodes[1].mu.peers[2].room
	if err := room.Acquire(t.Context(), maxFlying); err != nil {
		t.Fatal(err)
	}
	queued := make(chan error, 1)
	go func() { queued <- room.Acquire(t.Context(), 1) }()
	wait(t, "somebody to wait for room", func() bool { return !room.TryAcquire(0) })
	f, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1, LeaderCommitIndex: 1}, &raft.AppendEntriesResponse{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Error(); err != nil || !f.Response().Success || b.seen() == nil {
		t.Errorf("%v, %+v", err, f.Response())
	}
	room.Release(maxFlying)
	if err := <-queued; err != nil {
		t.Error(err)
	}
}

func TestFlowKeepsTheOrder(t *testing.T) {
	_, a, b, end := twoNodes(t)
	waiting := make(chan raft.RPC, 2*smallWindow)
	b.answer = func(rpc raft.RPC) { waiting <- rpc }
	p, err := end.AppendEntriesPipeline("2.8", "2.8")
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(smallWindow) {
		if _, err := p.AppendEntries(&raft.AppendEntriesRequest{PrevLogEntry: i, Term: 1}, &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
	}
	more := make(chan error)
	go func() {
		_, err := p.AppendEntries(&raft.AppendEntriesRequest{PrevLogEntry: smallWindow, Term: 1}, &raft.AppendEntriesResponse{})
		more <- err
	}()
	var rpcs []raft.RPC
	for i := range smallWindow {
		rpc := <-waiting
		if got := rpc.Command.(*raft.AppendEntriesRequest).PrevLogEntry; got != uint64(i) {
			t.Errorf("request %d came as number %d", got, i)
		}
		rpcs = append(rpcs, rpc)
	}
	select {
	case err := <-more:
		t.Errorf("a request beyond the window was taken: %v", err)
	default:
	}
	for _, rpc := range slices.Backward(rpcs) { // the answers come in any order
		rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
	}
	for i := range uint64(smallWindow) {
		f := <-p.Consumer()
		if err := f.Error(); err != nil || f.Request().PrevLogEntry != i || !f.Response().Success || f.Start().IsZero() {
			t.Errorf("answer %d: %+v, %v", i, f.Request(), err)
		}
	}
	if err := <-more; err != nil {
		t.Error(err)
	}
	if m := a.confirmed(); len(m) != smallWindow {
		t.Errorf("confirmed: %v", m)
	}
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
	if _, err := p.AppendEntries(request(), &raft.AppendEntriesResponse{}); !errors.Is(err, raft.ErrPipelineShutdown) {
		t.Errorf("closed: %v", err)
	}
}

// When a node goes, pipelines and requests to it fail; requests that wait for it go on when it is back.
func TestNodeGoesAndComesBack(t *testing.T) {
	c, _, b, end := twoNodes(t)
	b.answer = func(raft.RPC) {}
	p, err := end.AppendEntriesPipeline("2.8", "2.8")
	if err != nil {
		t.Fatal(err)
	}
	f, err := p.AppendEntries(request(), &raft.AppendEntriesResponse{})
	if err != nil {
		t.Fatal(err)
	}
	c.nodes[2].stop(t)
	if <-p.Consumer() != f || !errors.Is(f.Error(), ErrUnreachable) || f.Response().Success {
		t.Errorf("%v", f.Error())
	}
	if _, err := p.AppendEntries(request(), &raft.AppendEntriesResponse{}); !errors.Is(err, raft.ErrPipelineShutdown) {
		t.Error(err)
	}
	wait(t, "the node to be down", func() bool { return !c.nodes[1].Up(2) })
	if err := end.RequestVote("2.8", "2.8", &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{}); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	if _, err := end.AppendEntriesPipeline("2.8", "2.8"); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	small, large := make(chan error, 1), make(chan error, 1)
	big := &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1, Entries: []*raft.Log{{Index: 2, Data: make([]byte, maxHeld+1)}}}
	go func() { small <- end.AppendEntries("2.8", "2.8", request(), &raft.AppendEntriesResponse{}) }()
	go func() { large <- end.AppendEntries("2.8", "2.8", big, &raft.AppendEntriesResponse{}) }()
	n2 := c.add(2, nil)
	attach(t, n2, "g", "2.8", &safeEcho{})
	if err := <-small; err != nil && !errors.Is(err, ErrUnreachable) { // it may come before the replica
		t.Error(err)
	}
	// It came before the node was back, or after.
	if err := <-large; errors.Is(err, ErrUnreachable) != (big.Entries == nil) {
		t.Errorf("%v, %d entries kept", err, len(big.Entries))
	}
	// Interrupt ends what waits.
	n2.stop(t)
	go func() { small <- end.AppendEntries("2.8", "2.8", request(), &raft.AppendEntriesResponse{}) }()
	for ended := false; !ended; {
		end.Interrupt()
		select {
		case err := <-small:
			if err == nil {
				t.Error("no error")
			}
			ended = true
		case <-time.After(time.Millisecond):
		}
	}
}

// A node that was started opens its replicas one after the other: what is for one of them waits for it, but not with many entries,
// and fails then: who is told that it succeeded may take the entries for stored.
func TestReplicaComesLater(t *testing.T) {
	c, _, _, end := twoNodes(t)
	for _, size := range []int{maxHeld - 1, maxHeld + 1} {
		before := c.nodes[2].Stats().BytesRead
		replica := fmt.Sprintf("2.%d", size)
		req := &raft.AppendEntriesRequest{Term: 1, PrevLogEntry: 1, Entries: []*raft.Log{{Index: 2, Data: make([]byte, size)}}}
		resp, got := &raft.AppendEntriesResponse{}, make(chan error, 1)
		go func() { got <- end.AppendEntries(raft.ServerID(replica), raft.ServerAddress(replica), req, resp) }()
		wait(t, "the request to arrive", func() bool { return c.nodes[2].Stats().BytesRead-before > int64(size) })
		// This comes over the same connection: once it is refused, the other was.
		if err := end.InstallSnapshot("2.9", "2.9", &raft.InstallSnapshotRequest{}, &raft.InstallSnapshotResponse{}, nil); !errors.Is(err, ErrAbsent) {
			t.Error(err)
		}
		select {
		case err := <-got:
			t.Errorf("it did not wait: %v", err)
		default:
		}
		late := &safeEcho{}
		attach(t, c.nodes[2], "g", replica, late)
		if err := <-got; !errors.Is(err, ErrUnreachable) || resp.Success || len(late.seen().(*raft.AppendEntriesRequest).Entries) > 0 {
			t.Errorf("%v, %+v, the replica saw %+v", err, resp, late.seen())
		}
		if kept := len(req.Entries) > 0; kept != (size <= maxHeld-1) {
			t.Errorf("%d bytes of entries, kept: %v", size, kept)
		}
	}
	small := make(chan error, 1)
	// Interrupt ends what waits.
	go func() { small <- end.AppendEntries("2.7", "2.7", request(), &raft.AppendEntriesResponse{}) }()
	for ended := false; !ended; {
		end.Interrupt()
		select {
		case err := <-small:
			if err == nil {
				t.Error("a replica that is nowhere answered")
			}
			ended = true
		case <-time.After(time.Millisecond):
		}
	}
}

func TestCalls(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(1, nil), c.add(2, nil)
	ctx := t.Context()
	if out, err := a.Call(ctx, 2, "echo", []byte("hi")); err != nil || string(out) != "2 from 1: hi" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := b.Call(ctx, 1, "echo", []byte("hi")); err != nil || string(out) != "1 from 2: hi" {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := a.Call(ctx, 1, "echo", []byte("me")); err != nil || string(out) != "1 from 1: me" {
		t.Errorf("to itself: %q, %v", out, err)
	}
	if out, err := a.Call(ctx, 2, "join.echo", []byte("x")); err != nil || string(out) != `2 from 1 of "the-cluster": x` {
		t.Errorf("%q, %v", out, err)
	}
	if info, out, err := a.CallAddr(ctx, b.listener.Addr().String(), "echo", []byte("x")); err != nil || string(out) != "2 from 1: x" ||
		info.Node != 2 || info.Directory != [16]byte{2} || info.Cluster != "the-cluster" || info.Version != "test" {
		t.Errorf("%+v %q, %v", info, out, err)
	}
	var remote *RemoteError
	for _, to := range []replication.NodeID{1, 2} {
		if _, err := a.Call(ctx, to, "refuse", nil); !errors.As(err, &remote) || remote.Code != "NO" || remote.Text != "not today" {
			t.Errorf("%v", err)
		}
		if _, err := a.Call(ctx, to, "nonsense", nil); !errors.As(err, &remote) || remote.Code != CodeUnknownCall {
			t.Errorf("%v", err)
		}
	}
	if _, err := a.Call(ctx, 2, "echo", make([]byte, MaxCall+1)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if _, err := a.Call(ctx, 2, "echo", make([]byte, MaxCall)); !errors.As(err, &remote) || remote.Code != CodeTooLarge {
		t.Error(err)
	}
	if out, err := a.Call(ctx, 2, "echo", make([]byte, MaxCall-100)); err != nil || len(out) < MaxCall-100 {
		t.Errorf("%d, %v", len(out), err)
	}
	if _, err := a.Call(ctx, 9, "echo", nil); !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrUnanswered) {
		t.Error(err)
	}
	short, cancel := context.WithCancel(ctx)
	result := make(chan error)
	go func() {
		_, err := a.Call(short, 2, "hang", nil)
		result <- err
	}()
	wait(t, "the call to be executed", func() bool { return b.calls() == 1 })
	cancel()
	if err := <-result; !errors.Is(err, ErrUnanswered) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	wait(t, "the handler to be told", func() bool { return b.calls() == 0 })
	if _, err := a.Call(short, 2, "echo", nil); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	// The node goes while it works on a call: nobody knows.
	go func() {
		_, err := a.Call(ctx, 2, "hang", nil)
		result <- err
	}()
	wait(t, "the call to be executed", func() bool { return b.calls() == 1 })
	b.stop(t)
	if err := <-result; !errors.Is(err, ErrUnanswered) {
		t.Error(err)
	}
}

// calls is how many calls of peers are being answered.
func (n *node) calls() (calls int) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, c := range n.mu.in {
		c.calls.Lock()
		calls += len(c.calls.cancel)
		c.calls.Unlock()
	}
	return calls
}

// A node that is back is dialled at once, over either lane, when it has reached us or we it over the other: not after a pause of a second.
func TestAReturningNodeIsNotWaitedFor(t *testing.T) {
	for name, reachesUs := range map[string]bool{"it reaches us": true, "we reach it": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var back atomic.Bool
				var us, it *Peers
				dials := func(to **Peers, can bool) func(context.Context, string) (net.Conn, error) {
					return func(context.Context, string) (net.Conn, error) {
						if !can || !back.Load() || !(*to).begin() {
							return nil, syscall.ECONNREFUSED
						}
						here, there := net.Pipe()
						go func() {
							defer (*to).running.Done()
							(*to).accepted(there)
						}()
						return here, nil
					}
				}
				o := PeersOptions{
					Node: 1, Key: testKey, Cluster: func() string { return "the-cluster" },
					Resolve: func(replication.NodeID) (string, bool) { return "nowhere", true }, Dial: dials(&it, true),
				}
				us = NewPeers(o)
				o.Node, o.Directory, o.Dial = 2, [16]byte{2}, dials(&us, reachesUs)
				it = NewPeers(o)
				lanes := mustPeer(t, us, 2).lanes
				waiting := make(chan error, 1)
				go func() {
					_, err := lanes[laneBulk].get(t.Context(), true)
					waiting <- err
				}()
				time.Sleep(time.Minute)
				back.Store(true)
				if reachesUs {
					mustPeer(t, it, 1)
				}
				for synctest.Wait(); !reachesUs && lanes[laneControl].current() == nil; synctest.Wait() {
					time.Sleep(time.Millisecond)
				}
				for _, d := range lanes {
					if d.current() == nil {
						t.Errorf("the lane %s is not connected", d.lane)
					}
				}
				if err := <-waiting; err != nil {
					t.Error(err)
				}
				if err := errors.Join(us.Close(), it.Close()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// mustPeer has p connect to a node.
func mustPeer(t *testing.T, p *Peers, node replication.NodeID) *peer {
	t.Helper()
	there, err := p.peer(node)
	if err != nil {
		t.Fatal(err)
	}
	return there
}

// Who is reached anew may be another process: nothing goes over what is left of the connections to the one before it.
func TestWhoIsReachedAnewIsReachedOverAllLanes(t *testing.T) {
	c := newCluster(t)
	a, _ := c.add(1, nil), c.add(2, nil)
	there := mustPeer(t, a.Peers, 2)
	bulk := func() *outConn {
		t.Helper()
		conn, err := there.lanes[laneBulk].get(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	before := bulk()
	wait(t, "the lane for heartbeats", func() bool { return there.lanes[laneControl].current() != nil })
	there.lanes[laneControl].current().fail(errors.New("it is silent"))
	wait(t, "the end of the other", func() bool { return before.err() != nil })
	// One that was made since the lane for heartbeats was lost is of the same process as the next.
	after := bulk()
	there.left.Store(before)
	there.reached()
	if err := after.err(); err != nil {
		t.Errorf("a connection that is newer than the loss ended: %v", err)
	}
}

func TestPeersKnowEachOther(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(1, nil), c.add(2, nil)
	a.Keep([]replication.NodeID{1, 2})
	for n, other := range map[*node]replication.NodeID{a: 2, b: 1} {
		if e := <-n.events; e != fmt.Sprint(other, " true") {
			t.Error(e)
		}
		wait(t, "the peer to be up", func() bool { return n.Up(other) })
		if at, ok := n.Heard(other); !ok || time.Since(at) > time.Minute {
			t.Errorf("heard %v, %v", at, ok)
		}
		if l := n.Peers.Peers(); len(l) != 1 || l[0].Node != other || l[0].Directory != [16]byte{byte(other)} {
			t.Errorf("%+v", l)
		}
		if s := n.Stats(); s.Peers != 1 {
			t.Errorf("%+v", s)
		}
	}
	b.stop(t)
	if e := <-a.events; e != "2 false" {
		t.Error(e)
	}
	if _, ok := a.Heard(7); a.Up(2) || ok || len(a.Peers.Peers()) != 0 {
		t.Error("still there")
	}
	c.add(2, nil)
	if e := <-a.events; e != "2 true" {
		t.Error(e)
	}
}

// answering is a replica that also answers heartbeats at once, and hears of deaths.
type answering struct {
	safeEcho
	yes  atomic.Bool
	asks atomic.Int64
	gone chan replication.NodeID
}

func (a *answering) Heartbeat(_ raft.ServerID, term uint64) (uint64, bool) {
	a.asks.Add(1)
	return 77, a.yes.Load()
}

func (a *answering) Gone(n replication.NodeID) { a.gone <- n }

// received counts the requests that reached the replica itself.
func (e *safeEcho) counting() (received func() int) {
	n := 0
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = func(rpc raft.RPC) {
		n++
		req := rpc.Command.(*raft.AppendEntriesRequest)
		rpc.Respond(&raft.AppendEntriesResponse{Term: req.Term, Success: true}, nil)
	}
	return func() int {
		e.mu.Lock()
		defer e.mu.Unlock()
		return n
	}
}

// While a pipeline lives, a heartbeat stands: it is sent again and again, and what Raft learns, it learns from the pipeline.
func TestHeartbeatsStand(t *testing.T) { synctest.Test(t, heartbeatsStand) }

func heartbeatsStand(t *testing.T) {
	c := newCluster(t)
	c.pipes = newPipes()
	n1, n2 := c.add(1, nil), c.add(2, nil)
	a, b := &safeEcho{}, &answering{}
	b.yes.Store(true)
	received := b.counting()
	end := attach(t, n1, "g", "1.1", a)
	attach(t, n2, "g", "2.1", b)
	p, err := end.AppendEntriesPipeline("2.1", "2.1")
	if err != nil {
		t.Fatal(err)
	}
	beat := func() (*raft.AppendEntriesResponse, error) {
		resp := &raft.AppendEntriesResponse{}
		return resp, end.AppendEntries("2.1", "2.1", &raft.AppendEntriesRequest{Term: 3}, resp)
	}
	// Not before it is known whose pipeline it is.
	if resp, err := beat(); err != nil || !resp.Success || resp.LastLog != 77 {
		t.Fatalf("%+v, %v", resp, err)
	}
	said := &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 5, PrevLogTerm: 2, LeaderCommitIndex: 4}
	again := func() {
		t.Helper()
		r := *said
		if _, err := p.AppendEntries(&r, &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
		for f := range p.Consumer() {
			if f.Request() == &r {
				if !f.Response().Success {
					t.Error("no success")
				}
				return
			}
		}
	}
	again()
	returned := make(chan error, 1)
	var last *raft.AppendEntriesResponse
	go func() {
		var err error
		last, err = beat()
		returned <- err
	}()
	for range 5 {
		if f := <-p.Consumer(); f.Request().Term != 3 || len(f.Request().Entries) > 0 || !f.Response().Success || f.Response().Term != 3 {
			t.Errorf("%+v %+v", f.Request(), f.Response())
		}
	}
	select {
	case err := <-returned:
		t.Errorf("the heartbeat returned: %v", err)
	default:
	}
	// What the follower knows already is not said again.
	before := received()
	for range 5 {
		again()
	}
	if n := received(); n != before {
		t.Errorf("%d requests for nothing", n-before)
	}
	said.LeaderCommitIndex = 5
	again()
	if n := received(); n != before+1 {
		t.Errorf("%d requests for one commit index", n-before)
	}
	// An answer that is not yes goes to Raft.
	b.mu.Lock()
	b.answer = func(rpc raft.RPC) { rpc.Respond(&raft.AppendEntriesResponse{Term: 9}, nil) }
	b.mu.Unlock()
	b.yes.Store(false)
	if err := <-returned; err != nil || last.Success || last.Term != 9 {
		t.Errorf("%+v, %v", last, err)
	}
	// And when the pipeline ends, it stands no longer.
	b.yes.Store(true)
	go func() {
		_, err := beat()
		returned <- err
	}()
	<-p.Consumer()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-returned; err != nil {
		t.Error(err)
	}
}

// A node that was killed while nothing was under way answers heartbeats when it is back. The pipeline to what ran there before has
// ended all the same: what its follower knew, the one that is there now does not.
func TestHeartbeatsDoNotOutliveTheConnection(t *testing.T) {
	c := newCluster(t)
	faster := func(o *PeersOptions) { o.Beat, o.Tick = 5*time.Millisecond, time.Millisecond }
	n1, n2 := c.add(1, faster), c.add(2, faster)
	a, b := &safeEcho{}, &answering{}
	b.yes.Store(true)
	b.counting()
	end := attach(t, n1, "g", "1.1", a)
	attach(t, n2, "g", "2.1", b)
	p, err := end.AppendEntriesPipeline("2.1", "2.1")
	if err != nil {
		t.Fatal(err)
	}
	said := raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 5, PrevLogTerm: 2, LeaderCommitIndex: 4}
	first := said
	if _, err := p.AppendEntries(&first, &raft.AppendEntriesResponse{}); err != nil {
		t.Fatal(err)
	}
	<-p.Consumer()
	n2.stop(t)
	wait(t, "the node to be down", func() bool { return !n1.Up(2) })
	b = &answering{}
	b.yes.Store(true)
	received := b.counting()
	attach(t, c.add(2, faster), "g", "2.1", b)
	returned := make(chan error, 1)
	go func() {
		returned <- end.AppendEntries("2.1", "2.1", &raft.AppendEntriesRequest{Term: 3}, &raft.AppendEntriesResponse{})
	}()
	select {
	case f := <-p.Consumer():
		t.Errorf("the pipeline tells of the heartbeat: %+v", f.Response())
	case err := <-returned:
		if err != nil {
			t.Error(err)
		}
	}
	again := said
	if _, err := p.AppendEntries(&again, &raft.AppendEntriesResponse{}); err == nil {
		t.Errorf("the pipeline goes on, and the replica got %d requests", received())
	}
	if m := a.confirmed(); len(m) != 2 || m[1] != 0 { // by the heartbeat
		t.Errorf("confirmed: %v", m)
	}
	_ = p.Close()
}

// The heartbeats of many groups go in few frames.
func TestHeartbeatsGoTogether(t *testing.T) {
	c := newCluster(t)
	n1, n2 := c.add(1, nil), c.add(2, nil)
	const groups = 200
	var wg sync.WaitGroup
	for g := range groups {
		b := &answering{}
		b.yes.Store(g%2 == 0) // the others are Raft's to answer
		attach(t, n2, fmt.Sprint(g), "2.1", b)
		end := attach(t, n1, fmt.Sprint(g), "1.1", &safeEcho{})
		wg.Go(func() {
			for range 3 {
				resp := &raft.AppendEntriesResponse{}
				if err := end.AppendEntries("2.1", "2.1", &raft.AppendEntriesRequest{Term: 1}, resp); err != nil || !resp.Success {
					t.Errorf("group %d: %+v, %v", g, resp, err)
				}
			}
		})
	}
	wg.Wait()
	if s := n1.Stats(); s.Beats != 3*groups || s.BeatFrames > groups {
		t.Errorf("%+v", s)
	}
}

// The replicas here hear that a node's process is gone, once.
func TestGone(t *testing.T) {
	c := newCluster(t)
	n1 := c.add(1, nil)
	c.add(2, nil)
	a := &answering{gone: make(chan replication.NodeID, 10)}
	attach(t, n1, "g", "1.1", a)
	n1.Keep([]replication.NodeID{2})
	for range 2 {
		wait(t, "the node to be up", func() bool { return n1.Up(2) })
		if _, err := n1.Call(t.Context(), 2, "echo", nil); err != nil {
			t.Fatal(err)
		}
		n2 := c.nodes[2]
		n2.stop(t)
		if n := <-a.gone; n != 2 {
			t.Errorf("node %d is gone", n)
		}
		c.add(2, nil)
	}
	if len(a.gone) > 0 {
		t.Error("it is gone twice")
	}
}
