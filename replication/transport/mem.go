package transport

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// DefaultTimeout is how long a request in memory waits for its answer.
const DefaultTimeout = 500 * time.Millisecond

// snapshotPatience is how many timeouts an InstallSnapshot may take: the receiver restarts its group meanwhile.
const snapshotPatience = 20

// Mem is a network in memory. Every message is copied on the way, so that the two ends share no memory, as on a wire.
// Links between replicas can be cut, in one direction or both: a message over a cut link is lost, and its sender waits for
// the timeout. It is safe for concurrent use, and works within a testing/synctest bubble.
type Mem struct {
	timeout time.Duration
	mu      struct {
		sync.Mutex
		ends map[place]*memEnd
		cut  map[link]bool
	}
}

// place is where a replica is reached.
type place struct {
	group string
	addr  raft.ServerAddress
}

// link is a direction between two replicas, whatever the group.
type link struct{ from, to raft.ServerAddress }

// NewMem makes a network; 0 is DefaultTimeout.
func NewMem(timeout time.Duration) *Mem {
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	m := &Mem{timeout: timeout}
	m.mu.ends = make(map[place]*memEnd)
	m.mu.cut = make(map[link]bool)
	return m
}

// Attach implements Network. Who attaches for a place takes it over.
func (m *Mem) Attach(group string, self raft.ServerAddress, h Handler) (Endpoint, error) {
	e := &memEnd{net: m, place: place{group, self}, handler: h, gone: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.ends[e.place] = e
	return e, nil
}

// Cut loses what from sends to to.
func (m *Mem) Cut(from, to raft.ServerAddress) { m.set(from, to, true) }

// Join undoes Cut.
func (m *Mem) Join(from, to raft.ServerAddress) { m.set(from, to, false) }

func (m *Mem) set(from, to raft.ServerAddress, cut bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if cut {
		m.mu.cut[link{from, to}] = true
	} else {
		delete(m.mu.cut, link{from, to})
	}
}

// Heal undoes all cuts.
func (m *Mem) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.mu.cut)
}

// Isolate cuts a replica off from some others, in both directions.
func (m *Mem) Isolate(one raft.ServerAddress, others ...raft.ServerAddress) {
	for _, o := range others {
		if o != one {
			m.Cut(one, o)
			m.Cut(o, one)
		}
	}
}

// route finds the receiver; nil if the message is lost.
func (m *Mem) route(from place, to raft.ServerAddress) *memEnd {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.cut[link{from.addr, to}] {
		return nil
	}
	return m.mu.ends[place{from.group, to}]
}

func (m *Mem) isCut(from, to raft.ServerAddress) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.cut[link{from, to}]
}

// memEnd is a replica's end of the network.
type memEnd struct {
	net     *Mem
	place   place
	handler Handler
	gone    chan struct{}
	once    sync.Once
}

// Interrupt implements Endpoint. Nothing waits longer than the timeout here.
func (e *memEnd) Interrupt() {}

// Detach implements Endpoint.
func (e *memEnd) Detach() {
	e.once.Do(func() { close(e.gone) })
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.net.mu.ends[e.place] == e {
		delete(e.net.mu.ends, e.place)
	}
}

// start hands a copy of a request over. The answer comes on the channel, or never. A heartbeat goes to Beater first, as with
// Peers.
func (e *memEnd) start(to raft.ServerAddress, command any, data []byte) <-chan raft.RPCResponse {
	answer := make(chan raft.RPCResponse, 1)
	if peer := e.net.route(e.place, to); peer != nil {
		if req, ok := command.(*raft.AppendEntriesRequest); ok && isHeartbeat(req) {
			if b, ok := peer.handler.(Beater); ok {
				if last, ok := b.Heartbeat(raft.ServerID(req.ID), req.Term); ok {
					answer <- raft.RPCResponse{Response: &raft.AppendEntriesResponse{RPCHeader: header(string(to)), Term: req.Term, LastLog: last, Success: true}}
					return answer
				}
			}
		}
		rpc := raft.RPC{Command: command, RespChan: answer}
		if data != nil {
			rpc.Reader = bytes.NewReader(bytes.Clone(data))
		}
		peer.handler.Receive(rpc)
	}
	return answer
}

// await waits for the answer to what was sent to to.
func (e *memEnd) await(to raft.ServerAddress, answer <-chan raft.RPCResponse, timeout time.Duration) (any, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case r := <-answer:
		if e.net.isCut(to, e.place.addr) {
			return e.lost(timer)
		}
		return r.Response, r.Error
	case <-timer.C:
		return nil, ErrUnreachable
	case <-e.gone:
		return nil, ErrDetached
	}
}

// lost waits as one does whose answer was lost.
func (e *memEnd) lost(timer *time.Timer) (any, error) {
	select {
	case <-timer.C:
		return nil, ErrUnreachable
	case <-e.gone:
		return nil, ErrDetached
	}
}

// call sends a request and waits for its answer.
func call[T any](e *memEnd, to raft.ServerAddress, command any, data []byte, timeout time.Duration, resp *T) error {
	out, err := e.await(to, e.start(to, command, data), timeout)
	if err != nil {
		return err
	}
	*resp = *out.(*T)
	return nil
}

// AppendEntries implements Endpoint.
func (e *memEnd) AppendEntries(id raft.ServerID, to raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	req, err := fill(e.handler, args)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if err := call(e, to, CopyAppend(req), nil, e.net.timeout, resp); err != nil {
		return err
	}
	if resp.Success {
		e.handler.Matched(id, Confirmed(args))
	}
	return nil
}

// RequestVote implements Endpoint.
func (e *memEnd) RequestVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	c := *args
	return call(e, to, &c, nil, e.net.timeout, resp)
}

// RequestPreVote implements Endpoint.
func (e *memEnd) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	c := *args
	return call(e, to, &c, nil, e.net.timeout, resp)
}

// InstallSnapshot implements Endpoint.
func (e *memEnd) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data []byte) error {
	c := *args
	return call(e, to, &c, data, snapshotPatience*e.net.timeout, resp)
}

// TimeoutNow implements Endpoint.
func (e *memEnd) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	c := *args
	return call(e, to, &c, nil, e.net.timeout, resp)
}

// CopyAppend copies a request down to the entries' data.
func CopyAppend(req *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	c := *req
	c.Entries = make([]*raft.Log, len(req.Entries))
	size := 0
	for _, e := range req.Entries {
		size += len(e.Data)
	}
	logs, data := make([]raft.Log, len(req.Entries)), make([]byte, 0, size)
	for i, e := range req.Entries {
		from := len(data)
		data = append(data, e.Data...)
		logs[i] = raft.Log{Index: e.Index, Term: e.Term, Type: e.Type, Data: data[from:len(data):len(data)]}
		c.Entries[i] = &logs[i]
	}
	return &c
}
