package leaders

//quorlog:bubble it is all run in the bubbles of the tests

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

var errCut = errors.New("no connection")

// network joins tables by calls that take a millisecond, can be cut, and can lose their answers.
type network struct {
	t      *testing.T
	mu     sync.Mutex
	tables map[replication.NodeID]*Table
	cut    map[[2]replication.NodeID]bool
	mute   map[replication.NodeID]int // answers of a node that get lost
	calls  int
	bytes  int
}

func newNetwork(t *testing.T, nodes ...replication.NodeID) *network {
	n := &network{
		t: t, tables: make(map[replication.NodeID]*Table), cut: make(map[[2]replication.NodeID]bool),
		mute: make(map[replication.NodeID]int),
	}
	for _, id := range nodes {
		n.start(id)
	}
	return n
}

// start begins a life of a node and connects it to the others.
func (n *network) start(id replication.NodeID) *Table {
	table := New(Options{Node: id, Call: func(ctx context.Context, to replication.NodeID, name string, body []byte) ([]byte, error) {
		return n.call(ctx, id, to, name, body)
	}})
	n.mu.Lock()
	others := make(map[replication.NodeID]*Table)
	for other, t := range n.tables {
		if other != id && !n.cut[pair(id, other)] {
			others[other] = t
		}
	}
	n.tables[id] = table
	n.mu.Unlock()
	for other, t := range others {
		t.PeerUp(id)
		table.PeerUp(other)
	}
	return table
}

// stop ends a node as a crash does.
func (n *network) stop(id replication.NodeID) {
	n.mu.Lock()
	gone := n.tables[id]
	delete(n.tables, id)
	var others []*Table
	for _, t := range n.tables {
		others = append(others, t)
	}
	n.mu.Unlock()
	gone.Close()
	for _, t := range others {
		t.PeerDown(id)
	}
}

func (n *network) close() {
	for _, t := range n.tables {
		t.Close()
	}
}

func pair(a, b replication.NodeID) [2]replication.NodeID {
	return [2]replication.NodeID{min(a, b), max(a, b)}
}

func (n *network) setCut(a, b replication.NodeID, cut bool) {
	n.mu.Lock()
	was := n.cut[pair(a, b)]
	n.cut[pair(a, b)] = cut
	ta, tb := n.tables[a], n.tables[b]
	n.mu.Unlock()
	if was == cut || ta == nil || tb == nil {
		return
	}
	if cut {
		ta.PeerDown(b)
		tb.PeerDown(a)
	} else {
		ta.PeerUp(b)
		tb.PeerUp(a)
	}
}

func (n *network) call(ctx context.Context, from, to replication.NodeID, name string, body []byte) ([]byte, error) {
	time.Sleep(time.Millisecond) // in a bubble: the way there
	n.mu.Lock()
	table, cut := n.tables[to], n.cut[pair(from, to)]
	lost := n.mute[to] > 0
	if lost {
		n.mute[to]--
	}
	n.calls++
	n.bytes += len(body)
	n.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case table == nil || cut:
		return nil, errCut
	case name != PushCall:
		n.t.Errorf("a call of %q", name)
	}
	answer, err := table.HandlePush(ctx, from, body)
	if lost {
		return nil, errCut
	}
	return answer, err
}

// called is how many calls have arrived, or were to.
func (n *network) called() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls
}

// settle waits until all that was told has arrived.
func settle() {
	time.Sleep(time.Second) // in a bubble
	synctest.Wait()
}

func part(i int32) replication.PartitionID {
	return replication.PartitionID{Topic: replication.TopicID{7}, Partition: i}
}

func led(i int32, node replication.NodeID, epoch batch.Epoch, isr ...replication.NodeID) Entry {
	return Entry{ID: part(i), Leader: replication.Leader{Node: node, Epoch: epoch}, ISR: isr}
}

// expect compares what all tables of the network say of a partition.
func (n *network) expect(i int32, node replication.NodeID, epoch batch.Epoch, isr ...replication.NodeID) {
	n.t.Helper()
	for id := range n.tables {
		n.expectOn(id, i, node, epoch, isr...)
	}
}

func (n *network) expectOn(on replication.NodeID, i int32, node replication.NodeID, epoch batch.Epoch, isr ...replication.NodeID) {
	n.t.Helper()
	l, gotISR, ok := n.tables[on].Leader(part(i))
	if l.Node != node || l.Epoch != epoch || ok != (node != replication.NoNode) {
		n.t.Errorf("node %d says of partition %d: %+v, %v; want leader %d in epoch %d", on, i, l, ok, node, epoch)
	}
	if isr != nil && !equalNodes(gotISR, isr) {
		n.t.Errorf("node %d says of partition %d: in sync are %v, want %v", on, i, gotISR, isr)
	}
}

func equalNodes(a, b []replication.NodeID) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
