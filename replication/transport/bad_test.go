package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/replication"
)

// stranger is a node of its own, which nobody dials.
func (c *cluster) stranger(id replication.NodeID, change func(*PeersOptions)) *node {
	c.t.Helper()
	o, n := c.options(id)
	change(&o)
	n.Peers = NewPeers(o)
	c.t.Cleanup(func() {
		if err := n.Close(); err != nil {
			c.t.Error(err)
		}
	})
	return n
}

// Whoever is no peer is refused, both sides say why, once, and nothing changes.
func TestStrangersAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*PeersOptions)
		why    error
		log    string
	}{
		"wrong key":       {func(o *PeersOptions) { o.Key = []byte("another key of 16") }, ErrRefused, "cluster key differs"},
		"another cluster": {func(o *PeersOptions) { o.Cluster = func() string { return "elsewhere" } }, ErrRefused, "belongs to another cluster"},
		"our id":          {func(o *PeersOptions) { o.Node = 1; o.Directory = [16]byte{9} }, ErrRefused, "has this node's id"},
		"not admitted":    {func(o *PeersOptions) { o.Node = 6 }, ErrRefused, "six is not welcome"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			a := c.add(1, func(o *PeersOptions) {
				o.Admit = func(p PeerInfo) error {
					if p.Node == 6 {
						return errors.New("six is not welcome")
					}
					return nil
				}
			})
			s := c.stranger(5, test.change)
			addr := a.listener.Addr().String()
			for range 20 {
				_, _, err := s.dial(t.Context(), addr, laneControl, 1)
				if !errors.Is(err, test.why) {
					t.Fatalf("%v", err)
				}
			}
			wait(t, "the log", func() bool { return strings.Contains(a.log.String(), test.log) })
			if n := a.log.count("peer refused"); n != 1 {
				t.Errorf("%d lines in the log:\n%s", n, a.log)
			}
			if a.Up(5) || len(a.Peers.Peers()) != 0 || len(a.events) != 0 {
				t.Error("something changed")
			}
			if _, err := s.Call(t.Context(), 1, "echo", nil); !errors.Is(err, ErrUnreachable) && s.o.Node != 1 {
				t.Errorf("%v", err)
			}
		})
	}
}

// The side that dials checks as the other does: who answers must have the key, and be the node that was meant.
func TestDialingStrangers(t *testing.T) {
	c := newCluster(t)
	c.add(1, nil)
	c.add(2, func(o *PeersOptions) { o.Key = []byte("another key of 16") })
	c.add(3, nil)
	c.setAddr(4, c.nodes[3].listener.Addr().String())
	for to, why := range map[replication.NodeID]error{2: ErrRefused, 4: ErrRefused} {
		if _, err := c.nodes[1].Call(t.Context(), to, "echo", nil); !errors.Is(err, why) || !errors.Is(err, ErrUnreachable) {
			t.Errorf("node %d: %v", to, err)
		}
	}
	wait(t, "the log", func() bool { return strings.Contains(c.nodes[1].log.String(), "another node answers at this address") })

	// One that only pretends to have verified our proof.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = nc.Close() }()
		if _, _, err := readHello(nc); err != nil {
			return
		}
		h := hello{lane: laneControl, info: PeerInfo{Node: 7, Cluster: "the-cluster"}}
		_, _ = nc.Write(h.encode())
		proof := make([]byte, macLength)
		_, _ = io.ReadFull(nc, proof)
		_, _ = nc.Write(append([]byte{0}, proof...)) // our own proof, sent back
	}()
	if _, _, err := c.nodes[1].dial(t.Context(), l.Addr().String(), laneControl, 7); !errors.Is(err, errKey) {
		t.Error(err)
	}
}

// A node without a cluster may join, and nothing else; a node without a key speaks to nobody.
func TestNodesWithoutClusterOrKey(t *testing.T) {
	c := newCluster(t)
	a := c.add(1, nil)
	fresh := c.add(2, func(o *PeersOptions) { o.Cluster = func() string { return "" } })
	if out, err := fresh.Call(t.Context(), 1, "join.echo", []byte("me")); err != nil || string(out) != `1 from 2 of "": me` {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := fresh.Call(t.Context(), 1, "echo", nil); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	var remote *RemoteError
	if info, _, err := fresh.CallAddr(t.Context(), a.listener.Addr().String(), "echo", nil); !errors.As(err, &remote) || remote.Code != CodeNotMember || info.Node != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := a.Call(t.Context(), 2, "echo", nil); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	if out, err := a.Call(t.Context(), 2, "join.echo", nil); err != nil || string(out) != `2 from 1 of "the-cluster": ` {
		t.Errorf("%q, %v", out, err)
	}
	if a.Up(2) || fresh.Up(1) {
		t.Error("they are connected")
	}
	mute := c.add(3, func(o *PeersOptions) { o.Key = nil })
	if _, err := mute.Call(t.Context(), 1, "echo", nil); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	if _, err := a.Call(t.Context(), 3, "echo", nil); !errors.Is(err, ErrUnreachable) {
		t.Error(err)
	}
	if !strings.Contains(mute.log.String(), "no cluster key") {
		t.Error(mute.log)
	}
}

// Two nodes of one id but other directories: the one that is connected stays.
func TestDoppelganger(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(1, nil), c.add(2, nil)
	if _, err := a.Call(t.Context(), 2, "echo", nil); err != nil {
		t.Fatal(err)
	}
	s := c.stranger(2, func(o *PeersOptions) { o.Directory = [16]byte{22} })
	if _, _, err := s.dial(t.Context(), a.listener.Addr().String(), laneControl, 1); !errors.Is(err, ErrRefused) {
		t.Error(err)
	}
	wait(t, "the log", func() bool { return strings.Contains(a.log.String(), "another data directory is connected") })
	if a.Peers.Peers()[0].Directory != [16]byte{2} {
		t.Error(a.log)
	}
	b.stop(t)
	wait(t, "the node to be down", func() bool { return !a.Up(2) })
	nc, _, err := s.dial(t.Context(), a.listener.Addr().String(), laneControl, 1)
	if err != nil {
		t.Fatal(err)
	}
	nc.fail(ErrClosed)
}

// tap passes connections on and remembers what the dialling side sent.
func tap(t *testing.T, to string) (addr string, sent func() []byte) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var buf bytes.Buffer
	var wg sync.WaitGroup
	wg.Go(func() {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		wg.Go(func() {
			_, _ = io.Copy(in, out)
			_ = in.Close()
		})
		b := make([]byte, 1<<10)
		for {
			n, err := in.Read(b)
			mu.Lock()
			buf.Write(b[:n])
			mu.Unlock()
			if _, err2 := out.Write(b[:n]); err != nil || err2 != nil {
				_ = out.Close()
				return
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String(), func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return bytes.Clone(buf.Bytes())
	}
}

// What a peer once sent opens no door a second time.
func TestReplayedHandshake(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(1, nil), c.add(2, nil)
	addr, sent := tap(t, b.listener.Addr().String())
	if _, _, err := a.CallAddr(t.Context(), addr, "echo", []byte("once")); err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", b.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	if _, err := nc.Write(sent()); err != nil {
		t.Fatal(err)
	}
	all, _ := io.ReadAll(nc) // ends by a reset or not
	_, hello, err := readHello(bytes.NewReader(all))
	if err != nil {
		t.Fatal(err)
	}
	h := len(hello)
	if len(all) <= h || all[h] != 1 || !bytes.Contains(all, []byte("cluster key differs")) {
		t.Errorf("%q", all)
	}
	wait(t, "the log", func() bool { return strings.Contains(b.log.String(), "cluster key differs") })
}

// What is no handshake is closed at once, or when its time is over.
func TestGarbageInsteadOfAHandshake(t *testing.T) {
	c := newCluster(t)
	a := c.add(1, nil)
	hi := hello{lane: laneControl, wanted: 1, info: PeerInfo{Node: 2, Cluster: "the-cluster"}}
	good := hi.encode()
	for name, b := range map[string][]byte{
		"http":       []byte("GET / HTTP/1.1\r\n\r\n" + strings.Repeat("x", 100)),
		"version":    append([]byte{Magic, 'Q', 'P', 99}, good[4:]...),
		"length":     append([]byte{Magic, 'Q', 'P', 1, 0xff, 0xff}, good[6:]...),
		"lane":       append(append(bytes.Clone(good[:6]), 77), good[7:]...),
		"short":      {Magic, 'Q', 'P', 1, 0, 3, 0, 0, 0},
		"zero proof": append(bytes.Clone(good), make([]byte, macLength)...),
	} {
		nc, err := net.Dial("tcp", a.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Write(b); err != nil {
			t.Error(err)
		}
		if out, _ := io.ReadAll(nc); len(out) > 2*maxHello {
			t.Errorf("%s: %d bytes came back", name, len(out))
		}
		_ = nc.Close()
	}
	wait(t, "the log", func() bool { return a.log.count("peer refused") == 1 })
	if a.Up(2) {
		t.Error("somebody is connected")
	}
}

// Connections that say nothing keep nobody out.
func TestSlowStrangersKeepNobodyOut(t *testing.T) {
	c := newCluster(t)
	a, b := c.add(1, nil), c.add(2, nil)
	var slow []net.Conn
	for range 3 * maxGreeting {
		nc, err := net.Dial("tcp", a.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		if _, err := nc.Write([]byte{Magic}); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, nc)
	}
	// Its own greeting may be the one that has to go; it comes again.
	wait(t, "a call", func() bool {
		_, err := b.Call(t.Context(), 1, "echo", nil)
		return err == nil
	})
	a.greeting.mu.Lock()
	n := len(a.greeting.order)
	a.greeting.mu.Unlock()
	if n > maxGreeting {
		t.Errorf("%d of %d strangers are kept", n, len(slow))
	}
}

// A peer that has proven itself and then sends nonsense loses its connection, and nothing else happens.
func TestNonsenseOfAPeer(t *testing.T) {
	good := simple(kindPing)
	torn := bytes.Clone(good.head)
	torn[4] ^= 1
	open := func(n uint64, from, to string) frame {
		f := frame{head: appendBlob(appendBlob(appendBlob(appendNums(newHead(kindOpen), n), "g"), from), to)}
		f.seal()
		return f
	}
	many := frame{head: append(appendNums(newHead(kindBeats), 1, 1<<40), 0, 0)}
	many.seal()
	entries := frame{head: appendNums(newHead(kindAppend), 1, 0, 1, 1, 1, 1, 1, 1<<50)}
	entries.seal()
	for name, test := range map[string]struct {
		lane lane
		send []byte
	}{
		"checksum":         {laneControl, torn},
		"length 0":         {laneControl, make([]byte, 8)},
		"length":           {laneControl, []byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}},
		"kind":             {laneControl, simple(99).head},
		"answer":           {laneControl, simple(kindAnswer, 1, 2, 3, 4).head},
		"no channel":       {laneControl, simple(kindVote, 1, 0, 1, 1, 1, 1).head},
		"channel number":   {laneControl, open(7, "2.1", "1.1").head},
		"another's":        {laneControl, open(0, "3.1", "1.1").head},
		"to another":       {laneControl, open(0, "2.1", "3.1").head},
		"no replica":       {laneControl, open(0, "two", "1.1").head},
		"entries there":    {laneControl, simple(kindAppend, 1).head},
		"votes here":       {laneBulk, simple(kindVote, 1, 0, 1, 1, 1, 1).head},
		"many beats":       {laneControl, many.head},
		"many entries":     {laneBulk, entries.head},
		"trailing":         {laneControl, simple(kindCancel, 1, 2).head},
		"snapshot version": {laneBulk, simple(kindSnapshot, 1, 0, 1, 9, 1, 1, 1, 0).head},
		"call's lane":      {laneCall, simple(kindVote, 1, 0, 1, 1, 1, 1).head},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			a := c.add(1, nil)
			attach(t, a, "g", "1.1", &safeEcho{})
			s := c.stranger(2, func(*PeersOptions) {})
			st, _, err := s.dial(t.Context(), a.listener.Addr().String(), test.lane, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer st.fail(ErrClosed)
			if _, err := st.nc.Write(test.send); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(st.in.r); errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			wait(t, "the node to be down", func() bool { return !a.Up(2) })
			wait(t, "the log", func() bool { return test.lane == laneCall || a.log.count("no message") == 1 })
		})
	}
}

// A peer that neither sends nor reads is given up, on both sides.
func TestSilentPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accepted := make(chan net.Conn, 16)
		o := PeersOptions{
			Node: 1, Key: testKey, Cluster: func() string { return "c" }, Resolve: func(replication.NodeID) (string, bool) { return "x", true },
			Dial: func(context.Context, string) (net.Conn, error) {
				us, them := net.Pipe()
				accepted <- them
				return us, nil
			},
		}
		p := NewPeers(o)
		o.Node, o.Directory, o.Dial = 2, [16]byte{2}, func(context.Context, string) (net.Conn, error) { return nil, net.ErrClosed }
		other := NewPeers(o)
		go func() { // answers the handshakes, and is silent from then on
			for nc := range accepted {
				_, _, _ = other.receive(nc, bufio.NewReader(nc)) // the last one is cut off by Close
				go func() { _, _ = io.Copy(io.Discard, nc) }()
			}
		}()
		began := time.Now()
		p.Keep([]replication.NodeID{2})
		synctest.Wait()
		if !p.Up(2) {
			t.Error("not connected")
		}
		_, err := p.Call(t.Context(), 2, "echo", nil)
		if !errors.Is(err, ErrUnanswered) {
			t.Error(err)
		}
		if _, silence := laneControl.quiet(); time.Since(began) != silence {
			t.Errorf("given up after %v", time.Since(began))
		}
		if err := errors.Join(p.Close(), other.Close()); err != nil {
			t.Error(err)
		}
		close(accepted)
	})
}

// The handshake of a side that dribbles ends in time.
func TestSlowHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPeers(PeersOptions{Node: 1, Key: testKey, Cluster: func() string { return "c" }})
		us, them := net.Pipe()
		done := make(chan struct{})
		began := time.Now()
		go func() {
			defer close(done)
			p.accepted(us)
		}()
		h := hello{info: PeerInfo{Node: 2, Cluster: "c"}}
		var dribbling sync.WaitGroup
		dribbling.Go(func() {
			for _, b := range h.encode() {
				if _, err := them.Write([]byte{b}); err != nil {
					return
				}
				<-time.After(time.Second)
			}
		})
		<-done
		if d := time.Since(began); d != handshakeTime {
			t.Errorf("it took %v", d)
		}
		if err := errors.Join(them.Close(), p.Close()); err != nil {
			t.Error(err)
		}
		dribbling.Wait()
	})
}

// The log keeps silent about what it has just said, and remembers a bounded number of matters.
func TestQuiet(t *testing.T) {
	l := &lines{}
	now := time.Unix(1000, 0)
	q := &quiet{now: func() time.Time { return now }}
	q.logger = slog.New(slog.NewTextHandler(l, nil))
	for range 5 {
		q.log("a", "about a")
		q.log("b", "about b")
	}
	now = now.Add(quietTime)
	q.log("a", "about a")
	if l.count("about a") != 2 || l.count("about b") != 1 || l.count("suppressed=4") != 1 {
		t.Error(l)
	}
	for i := range 10 * maxMatters {
		q.log(fmt.Sprint(i), "x")
	}
	if len(q.mu.matters) > maxMatters {
		t.Errorf("%d matters", len(q.mu.matters))
	}
}

// Frames, hellos and messages of any content end a connection at worst.
func FuzzMessages(f *testing.F) {
	req := request()
	for _, s := range []frame{
		simple(kindPing), simple(kindVote, 1, 0, 1, 1, 1, 1), encodeAppend(1, 0, req), encodeSnapshot(1, 0, &raft.InstallSnapshotRequest{}, []byte("x")),
		encodeCall(1, 5, "echo", []byte("hi")), simple(kindBeats, 1, 1, 0, 3), simple(kindCampaign, 1, 0), simple(kindCancel, 1),
		simple(kindAnswer, 1, 1, 1, 1), encodeFailure(1, 1, "no"), simple(kindBeatsSeen, 1, 1, 0, 1, 1, 1), encodeCallAnswer(1, nil), encodeCallError(1, "c", "t"), simple(kindPong),
	} {
		b := bytes.Clone(s.head[frameHead:])
		for _, t := range s.tail {
			b = append(b, t...)
		}
		f.Add(b)
	}
	p := NewPeers(PeersOptions{Node: 1, Key: testKey, Cluster: func() string { return "c" }})
	f.Cleanup(func() { _ = p.Close() })
	p.Handle("echo", func(_ context.Context, _ PeerInfo, b []byte) ([]byte, error) { return b, nil })
	if _, err := p.Attach("g", "1.1", &safeEcho{}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		if len(message) == 0 {
			return
		}
		for _, l := range []lane{laneControl, laneBulk, laneCall} {
			us, them := net.Pipe()
			in := newInConn(p, us, bufio.NewReader(us), l, PeerInfo{Node: 2, Cluster: "c"})
			in.channels = append(in.channels, &inRoute{from: "2.1", to: place{"g", "1.1"}})
			_ = in.handle(message)
			in.fail(ErrClosed)
			in.cancel()
			in.working.Wait()
			out := newOutConn(newStream(p, us, bufio.NewReader(us), l), PeerInfo{Node: 2})
			_ = out.handle(message)
			_ = them.Close()
		}
		_, _, _ = readHello(bytes.NewReader(message))
		r := frameReader{r: bufio.NewReader(bytes.NewReader(message)), limit: maxControlFrame}
		for {
			if _, _, err := r.next(func(int) {}); err != nil {
				break
			}
		}
		if id, channel, req, err := parseAppend(message); err == nil && message[0] == kindAppend {
			again := encodeAppend(id, channel, req)
			b := bytes.Clone(again.head[frameHead:])
			for _, t := range again.tail {
				b = append(b, t...)
			}
			id2, channel2, req2, err := parseAppend(b)
			if err != nil || id != id2 || channel != channel2 || len(req.Entries) != len(req2.Entries) || req.PrevLogEntry != req2.PrevLogEntry {
				t.Errorf("%v", err)
			}
			for i, e := range req.Entries {
				if g := req2.Entries[i]; !bytes.Equal(e.Data, g.Data) || e.Index != g.Index || e.Term != g.Term || e.Type != g.Type {
					t.Errorf("entry %d: %+v, %+v", i, e, g)
				}
			}
		}
	})
}
