package leaders

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/quorlog/quorlog/replication"
)

// PushCall is the name under which a node's transport registers Table.HandlePush.
const PushCall = "leaders.push"

// Entry is what is known of a partition. Leader.Node is NoNode for one whose leader of that epoch has ceased to lead.
type Entry struct {
	ID     replication.PartitionID
	Leader replication.Leader
	ISR    []replication.NodeID // nodes with a replica in sync; not to be changed
}

// Options make a Table.
type Options struct {
	Node replication.NodeID
	// Call sends a request to a peer; nil for a node without peers.
	Call func(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error)
	// Now is the clock of NodeStatus.At and of Silent; nil means time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Table is one node's leadership table. It may be used by any number of goroutines.
type Table struct {
	node    replication.NodeID
	call    func(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error)
	now     func() time.Time
	logger  *slog.Logger
	session uint64 // random, of this life of the table: tells pushes of two lives apart
	created time.Time

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	pushers sync.WaitGroup

	mu struct {
		sync.RWMutex
		entries map[replication.PartitionID]*entry
		nodes   map[replication.NodeID]*node // but this one
		self    NodeStatus
		watch   map[*func([]replication.PartitionID)]struct{}
		closed  bool
	}
}

// entry is an Entry with what the table needs besides.
type entry struct {
	Entry
	// by is whose word it is: the node that leads Leader.Epoch, or has ceased to.
	by replication.NodeID
	// known tells that Keep found the partition to exist; since is when it was heard of first.
	known bool
	since time.Time
}

// New returns a table that knows nothing yet.
func New(o Options) *Table {
	t := &Table{node: o.Node, call: o.Call, now: o.Now, logger: o.Logger}
	if t.now == nil {
		t.now = time.Now
	}
	if t.logger == nil {
		t.logger = slog.New(slog.DiscardHandler)
	}
	var id [8]byte
	rand.Read(id[:]) // never fails (crypto/rand)
	t.session, t.created = binary.BigEndian.Uint64(id[:]), t.now()
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.mu.entries = make(map[replication.PartitionID]*entry)
	t.mu.nodes = make(map[replication.NodeID]*node)
	t.mu.watch = make(map[*func([]replication.PartitionID)]struct{})
	t.mu.self = NodeStatus{Node: o.Node}
	return t
}

// Close ends the pushes.
func (t *Table) Close() {
	t.mu.Lock()
	t.mu.closed = true
	t.mu.Unlock()
	t.cancel()
	t.pushers.Wait()
}

// Set tells what this node's replica of a partition knows of the leadership; it may be called with every change that the
// replica hears of. What this node leads is pushed to the peers, and also that it has ceased to (Leader.Node is NoNode). Of
// other leaders the table takes what is newer than what it knows. A nil ISR leaves the one that is known.
func (t *Table) Set(e Entry) {
	t.mu.Lock()
	changed := t.setLocked(e)
	t.mu.Unlock()
	if changed {
		t.notify([]replication.PartitionID{e.ID})
	}
}

func (t *Table) setLocked(e Entry) bool {
	cur := t.mu.entries[e.ID]
	switch {
	case e.Leader.Node == replication.NoNode:
		// A replica that does not hear its leader knows nothing; only the end of an own leadership is news.
		if cur == nil || cur.by != t.node || cur.Leader.Node != t.node {
			return false
		}
		cur.Leader.Node, cur.ISR = replication.NoNode, nil
		t.spreadLocked(e.ID)
		return true
	case e.Leader.Node == t.node:
		if cur != nil && cur.Leader.Epoch > e.Leader.Epoch {
			return false
		}
	case cur != nil && cur.Leader.Epoch >= e.Leader.Epoch:
		return false
	}
	if !t.putLocked(e, e.Leader.Node) {
		return false
	}
	if e.Leader.Node == t.node {
		t.spreadLocked(e.ID)
	}
	return true
}

// SetISR tells which nodes have a replica in sync of a partition that this node leads; else it does nothing.
func (t *Table) SetISR(id replication.PartitionID, isr []replication.NodeID) {
	t.mu.Lock()
	cur := t.mu.entries[id]
	changed := cur != nil && cur.Leader.Node == t.node && t.setLocked(Entry{ID: id, Leader: cur.Leader, ISR: isr})
	t.mu.Unlock()
	if changed {
		t.notify([]replication.PartitionID{id})
	}
}

// putLocked stores an entry as the word of a node and reports whether anything changed.
func (t *Table) putLocked(e Entry, by replication.NodeID) bool {
	cur := t.mu.entries[e.ID]
	if cur == nil {
		cur = &entry{since: t.now()}
		t.mu.entries[e.ID] = cur
	} else if cur.Leader == e.Leader && cur.by == by {
		if e.ISR == nil || slices.Equal(cur.ISR, e.ISR) {
			return false
		}
	}
	cur.Entry, cur.by = e, by
	return true
}

// Leader tells who leads a partition, and which nodes have a replica of it in sync. It is false if nobody is known to: no
// node has told yet, the last leader has ceased to lead, or is not alive as far as this node can tell (see Alive). The epoch
// is the newest known in any case, batch.NoEpoch if none is.
func (t *Table) Leader(id replication.PartitionID) (replication.Leader, []replication.NodeID, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.mu.entries[id]
	if e == nil {
		return replication.NoLeader, nil, false
	}
	if e.Leader.Node == replication.NoNode || !t.aliveLocked(e.Leader.Node) {
		return replication.Leader{Node: replication.NoNode, Epoch: e.Leader.Epoch}, e.ISR, false
	}
	return e.Leader, e.ISR, true
}

// strangerAge is how long the table keeps what it heard of a partition that this node's metadata does not have: the leader
// of a new partition is often known before the partition.
const strangerAge = 10 * time.Minute

// Keep drops the partitions that are gone. It is to be called when topics were deleted; exists must not call the table.
func (t *Table) Keep(exists func(replication.PartitionID) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for id, e := range t.mu.entries {
		switch {
		case exists(id):
			e.known = true
		case e.known || now.Sub(e.since) > strangerAge:
			delete(t.mu.entries, id)
		}
	}
}

// Watch calls fn with the partitions about which the table's answers changed, until cancel. fn must not block; it may call
// the table. Two changes at once may be told in any order: fn should look again rather than remember.
func (t *Table) Watch(fn func(changed []replication.PartitionID)) (cancel func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := &fn
	t.mu.watch[key] = struct{}{}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.mu.watch, key)
	}
}

func (t *Table) notify(changed []replication.PartitionID) {
	if len(changed) == 0 {
		return
	}
	t.mu.RLock()
	fns := make([]func([]replication.PartitionID), 0, len(t.mu.watch))
	for fn := range t.mu.watch {
		fns = append(fns, *fn)
	}
	t.mu.RUnlock()
	for _, fn := range fns {
		fn(changed)
	}
}
