package transport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
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
// code. The context ends with the connection or when the caller waits no longer.
type CallHandler func(ctx context.Context, from PeerInfo, body []byte) ([]byte, error)

// RemoteError is an error that the handler on the other node returned.
type RemoteError struct {
	Code string // for programs; "" if the handler gave none
	Text string // for people
}

// Error implements error.
func (e *RemoteError) Error() string { return e.Text }

// PeersOptions make Peers.
type PeersOptions struct {
	Node      replication.NodeID
	Directory [16]byte
	Version   string
	// Key is the cluster's key. Without one nothing is dialled and nothing accepted.
	Key []byte
	// Cluster is the id of the cluster, "" while this node belongs to none.
	Cluster func() string
	// Resolve finds a node's current address.
	Resolve func(replication.NodeID) (addr string, ok bool)
	// Admit judges a peer that has proven the key; nil admits all. An error closes the connection, and its text goes to both
	// logs.
	Admit func(PeerInfo) error
	// OnPeer tells that a node's first connection is up, or its last one down, in order, on one goroutine. It must not block.
	OnPeer func(node replication.NodeID, up bool)
	// Dial opens a connection; nil dials TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// Tick is how long messages to a peer are collected; by default DefaultTick.
	Tick   time.Duration
	Logger *slog.Logger
	Now    func() time.Time
}

// DefaultTick collects heartbeats: nothing of them is urgent, and one frame carries all.
const DefaultTick = 10 * time.Millisecond

// Stats are counters since the start, and gauges.
type Stats struct {
	Peers int // nodes that are connected
}

// Peers is the network between nodes.
type Peers struct {
	o PeersOptions
}

// NewPeers makes the node's end of the network. It dials nobody before something is to be sent.
func NewPeers(o PeersOptions) *Peers { return &Peers{o: o} }

// Serve takes connections whose first byte is Magic, as portmux hands them over, until the listener or p is closed.
func (p *Peers) Serve(l net.Listener) error {
	for {
		nc, err := l.Accept()
		if err != nil {
			return fmt.Errorf("accept peers: %w", err)
		}
		_ = nc.Close()
	}
}

// Handle names the handler of a kind of calls. All handlers are named before Serve.
func (p *Peers) Handle(name string, h CallHandler) {}

// Call asks a node and waits for its answer. ErrUnreachable: the call was never delivered. ErrUnanswered: it may have been
// executed. *RemoteError: the handler's error.
func (p *Peers) Call(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error) {
	return nil, ErrUnreachable
}

// CallAddr asks whoever is at an address, over a connection of its own: for joining, before ids and clusters are known.
func (p *Peers) CallAddr(ctx context.Context, addr, name string, body []byte) (PeerInfo, []byte, error) {
	return PeerInfo{}, nil, ErrUnreachable
}

// Heard tells when something of a node was last received.
func (p *Peers) Heard(node replication.NodeID) (time.Time, bool) { return time.Time{}, false }

// Up tells whether a node is connected.
func (p *Peers) Up(node replication.NodeID) bool { return false }

// Peers lists the connected nodes.
func (p *Peers) Peers() []PeerInfo { return nil }

// Stats returns the counters.
func (p *Peers) Stats() Stats { return Stats{} }

// Close ends all connections and goroutines. Requests under way fail.
func (p *Peers) Close() error { return nil }

// Attach implements Network.
func (p *Peers) Attach(group string, self raft.ServerAddress, h Handler) (Endpoint, error) {
	return alone{}, nil
}
