package simtest

//quorlog:bubble a world lives in one

import (
	"bytes"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/transport"
)

// weather is what the network does to messages on the way. transport.Mem cuts links; this loses, repeats and delays.
type weather struct {
	net *transport.Mem
	mu  struct {
		sync.Mutex
		rng   *rand.Rand
		links map[route]climate
		lines map[route]*line
		ends  map[string]transport.Handler // by group and address: who is there now
	}
}

// route is a direction between two machines.
type route struct{ from, to replication.NodeID }

// climate is how a route is.
type climate struct {
	loss, twice   int // percent
	delay, jitter time.Duration
	appendsOnly   bool // the delay is for AppendEntries
	echo          bool // an InstallSnapshot comes once more, a second later
	refuse        bool // an error at once, as from a port that nobody listens on
}

// line delivers a route's delayed messages in order.
type line struct {
	waiting []delayed
	running bool
}

type delayed struct {
	at  time.Time
	end string
	rpc raft.RPC
}

func newWeather(seed uint64) *weather {
	w := &weather{net: transport.NewMem(0)}
	w.mu.rng = rand.New(rand.NewPCG(seed, 99))
	w.mu.links, w.mu.lines, w.mu.ends = make(map[route]climate), make(map[route]*line), make(map[string]transport.Handler)
	return w
}

// port is a machine's place in the network.
type port struct {
	w    *weather
	node replication.NodeID
}

// Attach implements transport.Network.
func (p port) Attach(group string, self raft.ServerAddress, h transport.Handler) (transport.Endpoint, error) {
	key := group + "/" + string(self)
	p.w.mu.Lock()
	p.w.mu.ends[key] = h
	p.w.mu.Unlock()
	return p.w.net.Attach(group, self, &receiver{h, p, key})
}

// receiver stands in front of a group's end.
type receiver struct {
	transport.Handler
	port port
	key  string
}

// Receive implements transport.Handler.
func (r *receiver) Receive(rpc raft.RPC) {
	w := r.port.w
	w.mu.Lock()
	rt := route{sender(rpc.Command), r.port.node}
	c, ok := w.mu.links[rt]
	if !ok {
		w.mu.Unlock()
		r.Handler.Receive(rpc)
		return
	}
	lost, twice := w.mu.rng.IntN(100) < c.loss, w.mu.rng.IntN(100) < c.twice
	delay := c.delay
	if c.jitter > 0 {
		delay += time.Duration(w.mu.rng.Int64N(int64(c.jitter)))
	}
	w.mu.Unlock()
	if c.echo && rpc.Reader != nil {
		rpc = w.repeat(rt, r.key, rpc)
	}
	_, appends := rpc.Command.(*raft.AppendEntriesRequest)
	switch {
	case c.refuse:
		rpc.Respond(nil, transport.ErrUnreachable)
	case lost: // its sender waits for the timeout
	case delay > 0 && (appends || !c.appendsOnly):
		w.hold(rt, delayed{time.Now().Add(delay), r.key, rpc})
	default:
		r.Handler.Receive(rpc)
		if twice && rpc.Reader == nil {
			rpc.RespChan = make(chan raft.RPCResponse, 1)
			r.Handler.Receive(rpc)
		}
	}
}

// Heartbeat implements transport.Beater: where the weather is fair, heartbeats are answered without waking Raft, and followers are
// calm. Elsewhere they are messages like others.
func (r *receiver) Heartbeat(leader raft.ServerID, term uint64) (uint64, bool) {
	w := r.port.w
	w.mu.Lock()
	_, foul := w.mu.links[route{nodeOf([]byte(leader)), r.port.node}]
	w.mu.Unlock()
	if foul {
		return 0, false
	}
	return r.Handler.(transport.Beater).Heartbeat(leader, term)
}

// news tells a machine that the process of another is gone, true or not.
func (w *weather) news(to, gone replication.NodeID) {
	var hear []transport.Witness
	w.mu.Lock()
	for _, key := range slices.Sorted(maps.Keys(w.mu.ends)) {
		if _, addr, _ := strings.Cut(key, "/"); nodeOf([]byte(addr)) == to {
			hear = append(hear, w.mu.ends[key].(transport.Witness))
		}
	}
	w.mu.Unlock()
	for _, h := range hear {
		h.Gone(gone)
	}
}

// repeat sends a message with data a second time, later, and returns the first.
func (w *weather) repeat(rt route, end string, rpc raft.RPC) raft.RPC {
	data, err := io.ReadAll(rpc.Reader)
	if err != nil {
		return rpc
	}
	again := rpc
	rpc.Reader, again.Reader = bytes.NewReader(data), bytes.NewReader(data)
	again.RespChan = make(chan raft.RPCResponse, 1)
	w.hold(rt, delayed{time.Now().Add(time.Second), end, again})
	return rpc
}

func (w *weather) hold(rt route, d delayed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.mu.lines[rt]
	if l == nil {
		l = &line{}
		w.mu.lines[rt] = l
	}
	l.waiting = append(l.waiting, d)
	if !l.running {
		l.running = true
		go w.deliver(l)
	}
}

// deliver hands a line's messages over, each when it is due, to whoever is at the place by then.
func (w *weather) deliver(l *line) {
	for {
		w.mu.Lock()
		if len(l.waiting) == 0 {
			l.running = false
			w.mu.Unlock()
			return
		}
		d := l.waiting[0]
		l.waiting = l.waiting[1:]
		h := w.mu.ends[d.end]
		w.mu.Unlock()
		if wait := time.Until(d.at); wait > 0 {
			time.Sleep(wait)
			w.mu.Lock()
			h = w.mu.ends[d.end]
			w.mu.Unlock()
		}
		h.Receive(d.rpc)
	}
}

// idle reports whether nothing is on its way late.
func (w *weather) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.mu.lines {
		if l.running {
			return false
		}
	}
	return true
}

// set makes a route's climate; the zero value is fair.
func (w *weather) set(from, to replication.NodeID, c climate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c == (climate{}) {
		delete(w.mu.links, route{from, to})
		return
	}
	w.mu.links[route{from, to}] = c
}

// clear makes all routes fair.
func (w *weather) clear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.mu.links)
}

// sender is the node that a request comes from.
func sender(command any) replication.NodeID {
	c, ok := command.(raft.WithRPCHeader)
	if !ok {
		return replication.NoNode
	}
	return nodeOf(c.GetRPCHeader().ID)
}

// nodeOf is the node of a replica.
func nodeOf(replica []byte) replication.NodeID {
	node, _, _ := strings.Cut(string(replica), ".")
	n, err := strconv.ParseInt(node, 10, 32)
	if err != nil {
		return replication.NoNode
	}
	return replication.NodeID(n)
}
