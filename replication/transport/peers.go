package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/replication"
)

// Magic is the first byte that a peer sends. It can't begin a Kafka frame, HTTP or TLS.
const Magic = 0xF1

// Errors of Peers and Call.
var (
	// ErrUnanswered: a call may have been executed, but no answer came.
	ErrUnanswered = errors.New("transport: no answer came")
	// ErrRefused: the other side is no peer of ours, or does not take us for one.
	ErrRefused = errors.New("transport: refused")
	// ErrClosed: Peers was closed.
	ErrClosed = errors.New("transport: closed")
	// errPeer: the other side could not judge a request.
	errPeer = errors.New("transport: the peer failed")
)

// PeerInfo is what a connected node has proven or told about itself.
type PeerInfo struct {
	Node      replication.NodeID
	Directory [16]byte // names the node's data directory
	Cluster   string   // "" while it belongs to none
	Version   string
	Addr      string // of the connection's other end
}

// CallHandler answers a call of a peer. Its error reaches the caller as a *RemoteError; if it is one (errors.As), with its
// code. The context ends with the connection or when the caller waits no longer. The body is the handler's.
type CallHandler func(ctx context.Context, from PeerInfo, body []byte) ([]byte, error)

// RemoteError is an error that the handler on the other node returned.
type RemoteError struct {
	Code string // for programs; "" if the handler gave none
	Text string // for people
}

// Error implements error.
func (e *RemoteError) Error() string {
	if e.Code == "" {
		return e.Text
	}
	return e.Code + ": " + e.Text
}

// PeersOptions make Peers.
type PeersOptions struct {
	Node      replication.NodeID
	Directory [16]byte
	Version   string
	// Key is the cluster's key. Without one nothing is dialled and nothing accepted.
	Key []byte
	// Cluster is the id of the cluster, "" while this node belongs to none.
	Cluster func() string
	// Resolve finds a node's current address. It must not call Peers.
	Resolve func(replication.NodeID) (addr string, ok bool)
	// Admit judges a peer that has proven the key and belongs to the same cluster; nil admits all. An error closes the
	// connection, and its text goes to both logs. Connections for a single call are not judged: their handlers do that.
	Admit func(PeerInfo) error
	// OnPeer tells that a node's first connection is up, or its last one down, in order, on one goroutine. It must not block.
	OnPeer func(node replication.NodeID, up bool)
	// Dial opens a connection; nil dials TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Certified is the node whose certificate the other side of a connection has proven to have; NoNode if this connection needs
	// none; false if it lacks one. Nil where none does. A certificate alone makes nobody a peer: the key must be proven, too.
	Certified func(net.Conn) (replication.NodeID, bool)
	// Tick is how long heartbeats to a peer are collected that should have left already; by default DefaultTick.
	Tick time.Duration
	// Beat is the time between a group's heartbeats, by default DefaultBeat. Two must fit into the leader's lease.
	Beat   time.Duration
	Logger *slog.Logger
	Now    func() time.Time
}

// DefaultTick collects heartbeats: nothing of them is urgent, and one frame carries all.
const DefaultTick = 10 * time.Millisecond

func (o PeersOptions) withDefaults() PeersOptions {
	if o.Cluster == nil {
		o.Cluster = func() string { return "" }
	}
	if o.Resolve == nil {
		o.Resolve = func(replication.NodeID) (string, bool) { return "", false }
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		}
	}
	if o.Tick <= 0 {
		o.Tick = DefaultTick
	}
	if o.Beat <= 0 {
		o.Beat = DefaultBeat
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Stats are counters since the start, and gauges.
type Stats struct {
	Peers      int   // nodes that are connected
	Dials      int64 // attempts to connect
	Refused    int64 // handshakes that failed, on either side
	BytesSent  int64
	BytesRead  int64
	BeatFrames int64 // frames of heartbeats that were sent
	Beats      int64 // heartbeats in them
}

// Peers is the network between nodes. It implements Network.
type Peers struct {
	o         PeersOptions
	started   time.Time
	key       []byte // for handshakes
	handlers  map[string]CallHandler
	ctx       context.Context
	cancel    context.CancelFunc
	running   sync.WaitGroup // all goroutines but Serve's callers
	greeting  greetings
	callConns atomic.Int64
	quiet     quiet
	stats     struct{ dials, refused, sentBytes, readBytes, beatFrames, beats atomic.Int64 }
	events    chan struct{} // has room for one: mu.events is not empty

	mu struct {
		sync.RWMutex
		closed bool
		peers  map[replication.NodeID]*peer
		links  map[replication.NodeID]*links
		in     map[inKey]*inConn
		ends   map[place]*netEnd
		events []peerEvent
	}
}

// links are the living connections with a node, in both directions.
type links struct {
	count int
	info  PeerInfo
}

type peerEvent struct {
	node replication.NodeID
	up   bool
}

// NewPeers makes the node's end of the network. It connects to the nodes that Keep names, to those that groups and calls
// want to reach, and back to those that connect here.
func NewPeers(o PeersOptions) *Peers {
	p := &Peers{o: o.withDefaults(), started: time.Now(), key: deriveKey(o.Key), handlers: make(map[string]CallHandler), events: make(chan struct{}, 1)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.quiet.logger, p.quiet.now = p.o.Logger, p.o.Now
	p.mu.peers = make(map[replication.NodeID]*peer)
	p.mu.links = make(map[replication.NodeID]*links)
	p.mu.in = make(map[inKey]*inConn)
	p.mu.ends = make(map[place]*netEnd)
	p.running.Go(p.tell)
	return p
}

// begin counts a goroutine in; false after Close. It ends with running.Done.
func (p *Peers) begin() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.mu.closed {
		return false
	}
	p.running.Add(1)
	return true
}

// Keep has this node connect to others and stay connected, without anything to send: that is how nodes know each other to be
// alive. It may be called again and again.
func (p *Peers) Keep(nodes []replication.NodeID) {
	for _, n := range nodes {
		if n != p.o.Node {
			_, _ = p.peer(n) // after Close there is nothing to keep
		}
	}
}

// peer finds or begins what this node has to do with another one.
func (p *Peers) peer(node replication.NodeID) (*peer, error) {
	p.mu.RLock()
	t := p.mu.peers[node]
	p.mu.RUnlock()
	if t != nil {
		return t, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if t = p.mu.peers[node]; t != nil {
		return t, nil
	}
	if p.mu.closed {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, ErrClosed)
	}
	t = newPeer(p, node)
	p.mu.peers[node] = t
	for _, d := range t.lanes {
		p.running.Go(func() { d.run(t.ctx) })
	}
	return t, nil
}

// forget drops a node that has no address any more; false if it is connected.
func (p *Peers) forget(t *peer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.links[t.node] != nil || p.mu.peers[t.node] != t {
		return false
	}
	delete(p.mu.peers, t.node)
	t.forgotten.Store(true)
	t.cancel()
	t.beats.stop(ErrUnreachable)
	return true
}

// up counts a connection.
func (p *Peers) up(t *peer, info PeerInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.mu.links[t.node]
	if l == nil {
		l = &links{}
		p.mu.links[t.node] = l
		p.eventLocked(peerEvent{t.node, true})
	}
	l.count++
	l.info = info
}

// down discounts a connection.
func (p *Peers) down(t *peer, _ PeerInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.mu.links[t.node]
	if l.count--; l.count == 0 {
		delete(p.mu.links, t.node)
		p.eventLocked(peerEvent{t.node, false})
	}
}

func (p *Peers) eventLocked(e peerEvent) {
	p.mu.events = append(p.mu.events, e)
	select {
	case p.events <- struct{}{}:
	default:
	}
}

// tell calls OnPeer.
func (p *Peers) tell() {
	for {
		select {
		case <-p.events:
		case <-p.ctx.Done():
			return
		}
		p.mu.Lock()
		events := p.mu.events
		p.mu.events = nil
		p.mu.Unlock()
		for _, e := range events {
			if e.up {
				p.o.Logger.Info("connected to a node", "node", int32(e.node))
			} else {
				p.o.Logger.Info("no connection to a node any more", "node", int32(e.node))
			}
			if p.o.OnPeer != nil {
				p.o.OnPeer(e.node, e.up)
			}
		}
	}
}

// gone tells the replicas here that a node's process is gone; false if a connection with it has not ended yet.
func (p *Peers) gone(t *peer) bool {
	var witnesses []Witness
	p.mu.RLock()
	connected := p.mu.links[t.node] != nil
	for _, e := range p.mu.ends {
		if w, ok := e.handler.(Witness); ok && !connected {
			witnesses = append(witnesses, w)
		}
	}
	p.mu.RUnlock()
	for _, w := range witnesses {
		w.Gone(t.node)
	}
	return !connected
}

// doppelganger refuses a peer while one with the same id and another data directory is connected.
func (p *Peers) doppelganger(info PeerInfo) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if l := p.mu.links[info.Node]; l != nil && l.info.Directory != info.Directory {
		return fmt.Errorf("%w: node %d at %s", errDirectory, info.Node, l.info.Addr)
	}
	return nil
}

// Heard tells when something of a node was last received.
func (p *Peers) Heard(node replication.NodeID) (time.Time, bool) {
	p.mu.RLock()
	t := p.mu.peers[node]
	p.mu.RUnlock()
	if t == nil || t.heard.Load() == 0 {
		return time.Time{}, false
	}
	return time.Unix(0, t.heard.Load()), true
}

// Up tells whether a node is connected.
func (p *Peers) Up(node replication.NodeID) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.mu.links[node] != nil
}

// Peers lists the connected nodes, by id.
func (p *Peers) Peers() []PeerInfo {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := make([]PeerInfo, 0, len(p.mu.links))
	for _, l := range p.mu.links {
		out = append(out, l.info)
	}
	slices.SortFunc(out, func(a, b PeerInfo) int { return int(a.Node) - int(b.Node) })
	return out
}

// Stats returns the counters.
func (p *Peers) Stats() Stats {
	p.mu.RLock()
	n := len(p.mu.links)
	p.mu.RUnlock()
	s := &p.stats
	return Stats{
		Peers: n, Dials: s.dials.Load(), Refused: s.refused.Load(), BytesSent: s.sentBytes.Load(), BytesRead: s.readBytes.Load(),
		BeatFrames: s.beatFrames.Load(), Beats: s.beats.Load(),
	}
}

// Close ends all connections and goroutines. Requests under way fail. The listener is the caller's to close.
func (p *Peers) Close() error {
	p.mu.Lock()
	p.mu.closed = true
	peers := make([]*peer, 0, len(p.mu.peers))
	for _, t := range p.mu.peers {
		peers = append(peers, t)
	}
	p.mu.Unlock()
	p.cancel()
	for _, t := range peers {
		t.beats.stop(ErrClosed)
	}
	p.running.Wait()
	return nil
}

// Attach implements Network. Who attaches for a place takes it over.
func (p *Peers) Attach(group string, self raft.ServerAddress, h Handler) (Endpoint, error) {
	node, err := nodeOf(string(self))
	if err != nil {
		return nil, err
	}
	if node != p.o.Node || len(group) > maxName {
		return nil, fmt.Errorf("transport: group %.40q: replica %s is not of node %d", group, self, p.o.Node)
	}
	e := newNetEnd(p, place{group, self}, h)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.ends[e.place] = e
	return e, nil
}

func (p *Peers) detach(e *netEnd) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.ends[e.place] == e {
		delete(p.mu.ends, e.place)
	}
}

// end finds a replica of this node, nil if there is none.
func (p *Peers) end(at place) *netEnd {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.mu.ends[at]
}
