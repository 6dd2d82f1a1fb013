package fetch

import (
	"sync"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// fakeRecords is a piece of a fake partition; it counts its releases.
type fakeRecords struct {
	data     []byte
	released *int
}

func (r *fakeRecords) Len() int                            { return len(r.data) }
func (r *fakeRecords) AppendTo(dst []byte) ([]byte, error) { return append(dst, r.data...), nil }
func (r *fakeRecords) Release()                            { *r.released++ }
func (r *fakeRecords) Pieces() ([]Piece, bool)             { return nil, false }

// fakePartition is a partition in memory: batch i holds one offset and sizes[i] bytes.
type fakePartition struct {
	mu       sync.Mutex
	sizes    []int
	logStart batch.Offset
	stable   batch.Offset // -1: the high watermark
	leader   replication.Leader
	err      error
	diverge  *Diverging
	watchers map[chan<- struct{}]bool

	reads    int
	handed   int
	released int
	served   []int // bytes, of each Fetch
}

func newFake(sizes ...int) *fakePartition {
	return &fakePartition{
		sizes: sizes, stable: -1, leader: replication.Leader{Node: 1, Epoch: 3},
		watchers: make(map[chan<- struct{}]bool),
	}
}

func (p *fakePartition) offsetsLocked() partition.Offsets {
	hw := batch.Offset(len(p.sizes))
	o := partition.Offsets{LogStart: p.logStart, LastStable: hw, HighWatermark: hw, LogEnd: hw}
	if p.stable >= 0 {
		o.LastStable = p.stable
	}
	return o
}

func (p *fakePartition) fenceLocked(current batch.Epoch) error {
	switch {
	case p.err != nil:
		return p.err
	case current != batch.NoEpoch && current < p.leader.Epoch:
		return replication.ErrFencedLeaderEpoch
	case current > p.leader.Epoch:
		return replication.ErrUnknownLeaderEpoch
	}
	return nil
}

func (p *fakePartition) Read(r partition.ReadRequest) (Read, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reads++
	if err := p.fenceLocked(r.CurrentEpoch); err != nil {
		return Read{}, err
	}
	o := p.offsetsLocked()
	if p.diverge != nil {
		return Read{Offsets: o, Diverging: p.diverge}, nil
	}
	if r.Offset < o.LogStart || r.Offset > o.HighWatermark {
		return Read{}, replication.ErrOffsetOutOfRange
	}
	end := o.HighWatermark
	if r.ReadCommitted {
		end = o.LastStable
	}
	var data []byte
	for off := r.Offset; off < end; off++ {
		n := p.sizes[off]
		if len(data)+n > r.MaxBytes && (len(data) > 0 || !r.AtLeastOne) {
			break
		}
		data = append(data, make([]byte, n)...)
	}
	p.handed++
	return Read{Records: &fakeRecords{data: data, released: &p.released}, Offsets: o}, nil
}

func (p *fakePartition) Offsets(current batch.Epoch) (partition.Offsets, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsetsLocked(), p.fenceLocked(current)
}

func (p *fakePartition) Watch(w chan<- struct{}) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watchers[w] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.watchers, w)
	}
}

func (p *fakePartition) Served(bytes int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.served = append(p.served, bytes)
}

func (p *fakePartition) Leader() replication.Leader {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.leader
}

// change does something to the partition and wakes who watches it.
func (p *fakePartition) change(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
	for w := range p.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func (p *fakePartition) append(sizes ...int) {
	p.change(func() { p.sizes = append(p.sizes, sizes...) })
}

func (p *fakePartition) OffsetForTimestamp(ts int64, below batch.Offset, _ batch.Epoch) (Found, error) {
	if ts >= int64(below) {
		return nothing, nil
	}
	return Found{Offset: batch.Offset(ts), Timestamp: ts, Epoch: p.leader.Epoch}, nil
}

func (p *fakePartition) MaxTimestamp(below batch.Offset, _ batch.Epoch) (Found, error) {
	return Found{Offset: below - 1, Timestamp: int64(below) - 1, Epoch: p.leader.Epoch}, nil
}

func (p *fakePartition) EndOffsetForEpoch(e, current batch.Epoch) (Diverging, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.fenceLocked(current); err != nil {
		return Diverging{}, err
	}
	return Diverging{Epoch: e, End: p.offsetsLocked().LogEnd}, nil
}

func (p *fakePartition) EpochOf(batch.Offset) batch.Epoch { return p.leader.Epoch }

// fakeCluster is a set of partitions; "elsewhere" is a topic that another node hosts.
type fakeCluster struct {
	byName map[string][]*fakePartition
	ids    map[replication.TopicID]string
}

const elsewhere = "elsewhere"

func (c *fakeCluster) Lookup(topic string, p int32) (Partition, error) {
	if topic == elsewhere {
		return nil, replication.ErrNotLeader
	}
	parts := c.byName[topic]
	if int(p) >= len(parts) || p < 0 {
		return nil, replication.ErrUnknownPartition
	}
	return parts[p], nil
}

func (c *fakeCluster) LookupID(id replication.TopicID, p int32) (Partition, error) {
	name, ok := c.ids[id]
	if !ok {
		return nil, replication.ErrUnknownTopicID
	}
	return c.Lookup(name, p)
}

// balance checks that every piece that the partitions handed out was given back once.
func (c *fakeCluster) unreleased() int {
	n := 0
	for _, parts := range c.byName {
		for _, p := range parts {
			n += p.handed - p.released
		}
	}
	return n
}

func one(topic string, parts ...*fakePartition) *fakeCluster {
	return &fakeCluster{
		byName: map[string][]*fakePartition{topic: parts},
		ids:    map[replication.TopicID]string{{1}: topic},
	}
}

func want(topic string, p int32, offset batch.Offset) Params {
	return Params{
		Key:    Key{Topic: topic, Partition: p},
		Offset: offset, MaxBytes: 1 << 20, CurrentEpoch: batch.NoEpoch, LastEpoch: batch.NoEpoch,
	}
}
