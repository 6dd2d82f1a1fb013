package share

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/partition"
)

// fakeLog is a partition in memory.
type fakeLog struct {
	mu       sync.Mutex
	frames   [][]byte
	next     batch.Offset
	start    batch.Offset
	stable   batch.Offset // -1: the end
	aborted  []partition.AbortedTxn
	leader   replication.Leader
	leading  bool
	watchers map[chan<- struct{}]int
	reading  func() // called by each Read
	open     int    // records that were not released
	served   atomic.Int64
}

// fakeRecords are batches in memory.
type fakeRecords struct {
	log    *fakeLog
	frames []byte
}

func (r *fakeRecords) Len() int { return len(r.frames) }

func (r *fakeRecords) Headers(fn func(h batch.Header, at int) bool) error {
	for at := 0; at < len(r.frames); {
		h, err := batch.ParseHeader(r.frames[at:])
		if err != nil || !fn(h, at) {
			return err
		}
		at += h.Size()
	}
	return nil
}

func (r *fakeRecords) Cut(from, to int)                    { r.frames = r.frames[from:to] }
func (r *fakeRecords) Pieces() ([]partition.Piece, bool)   { return nil, false }
func (r *fakeRecords) AppendTo(dst []byte) ([]byte, error) { return append(dst, r.frames...), nil }

func (r *fakeRecords) Release() {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.log.open--
}

func newFakeLog() *fakeLog {
	return &fakeLog{stable: -1, leading: true, leader: replication.Leader{Node: 1, Epoch: 3}, watchers: map[chan<- struct{}]int{}}
}

// produce appends a batch of n records.
func (l *fakeLog) produce(t *testing.T, n int, o batch.BuildOptions) {
	t.Helper()
	b := batch.NewBuilder(o)
	for range n {
		b.Add(batch.Record{Timestamp: int64(l.next), Value: []byte("v")})
	}
	frame, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	l.append(frame)
}

func (l *fakeLog) append(frame []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch.Stamp(frame, l.next, l.leader.Epoch)
	h, _ := batch.ParseHeader(frame)
	l.next = h.NextOffset()
	l.frames = append(l.frames, frame)
	l.notifyLocked()
}

func (l *fakeLog) notifyLocked() {
	for w := range l.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// lead changes the leadership.
func (l *fakeLog) lead(epoch batch.Epoch, here bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leader.Epoch, l.leading = epoch, here
	l.notifyLocked()
}

func (l *fakeLog) offsetsLocked() partition.Offsets {
	o := partition.Offsets{LogStart: l.start, LastStable: l.next, HighWatermark: l.next, LogEnd: l.next}
	if l.stable >= 0 {
		o.LastStable = l.stable
	}
	return o
}

func (l *fakeLog) Offsets(epoch batch.Epoch) (partition.Offsets, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.leading || epoch != l.leader.Epoch {
		return partition.Offsets{}, replication.ErrNotLeader
	}
	return l.offsetsLocked(), nil
}

func (l *fakeLog) Read(from batch.Offset, maxBytes int, readCommitted bool, epoch batch.Epoch) (Chunk, error) {
	if l.reading != nil {
		l.reading()
	}
	o, err := l.Offsets(epoch)
	if err != nil {
		return Chunk{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if from < l.start {
		return Chunk{}, replication.ErrOffsetOutOfRange
	}
	c, records := Chunk{Offsets: o}, &fakeRecords{log: l}
	if readCommitted {
		c.Aborted = l.aborted
	}
	for _, f := range l.frames {
		h, _ := batch.ParseHeader(f)
		if h.LastOffset() < from || readCommitted && h.BaseOffset >= o.LastStable {
			continue
		}
		if len(records.frames) > 0 && len(records.frames)+len(f) > maxBytes {
			break
		}
		records.frames = append(records.frames, f...)
	}
	c.Records = records
	l.open++
	return c, nil
}

func (l *fakeLog) OffsetForTimestamp(ts time.Time, epoch batch.Epoch) (batch.Offset, error) {
	return 2, nil
}

// Served counts what is sent.
func (l *fakeLog) Served(bytes int, _ error) { l.served.Add(int64(bytes)) }

func (l *fakeLog) Watch(w chan<- struct{}) (cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers[w]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.watchers[w]--; l.watchers[w] == 0 {
			delete(l.watchers, w)
		}
	}
}

func (l *fakeLog) Leader() replication.Leader {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leader
}

func (l *fakeLog) Leading() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leading
}

// fakeStore keeps states in memory, fencing as a keeper does.
type fakeStore struct {
	mu     sync.Mutex
	states map[Key]Durable
	leader map[Key]batch.Epoch
	fail   error                 // of the next write
	gate   chan struct{}         // if not nil, a write takes one token
	deaf   atomic.Bool           // reads wait until their context ends
	slow   map[Key]chan struct{} // reads of these wait until it is closed
	writes int
}

func newFakeStore() *fakeStore {
	return &fakeStore{states: map[Key]Durable{}, leader: map[Key]batch.Epoch{}}
}

func (s *fakeStore) Read(ctx context.Context, k Key, leader batch.Epoch) (*Durable, error) {
	if s.deaf.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if gate := s.slow[k]; gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if leader < s.leader[k] {
		return nil, replication.ErrFencedLeaderEpoch
	}
	s.leader[k] = leader
	d, known := s.states[k]
	if !known {
		d = Durable{Start: -1}
		s.states[k] = d
	}
	return &d, nil
}

func (s *fakeStore) Write(ctx context.Context, k Key, leader batch.Epoch, d *Durable) error {
	if s.gate != nil {
		select {
		case <-s.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.fail != nil {
		err := s.fail
		s.fail = nil
		return err
	}
	switch now := s.states[k]; {
	case leader < s.leader[k]:
		return replication.ErrFencedLeaderEpoch
	case d.StateEpoch != now.StateEpoch || d.Version != now.Version+1:
		return ErrFencedStateEpoch
	}
	s.states[k] = *d
	return nil
}

// set is what an administrator does.
func (s *fakeStore) set(k Key, start batch.Offset) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.states[k]
	s.states[k] = Durable{Version: d.Version + 1, StateEpoch: d.StateEpoch + 1, Start: start}
}

func (s *fakeStore) get(k Key) Durable {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.states[k]
}

// fakeNode finds two partitions, those of topic 1.
type fakeNode struct{ log, other *fakeLog }

var (
	theTopic  = replication.TopicID{1}
	thePart   = TopicPartition{Topic: theTopic}
	theKey    = Key{Group: "g", Topic: theTopic}
	otherPart = TopicPartition{Topic: theTopic, Partition: 1}
)

func (n fakeNode) Find(tp TopicPartition) (Log, error) {
	switch {
	case tp.Topic != theTopic:
		return nil, replication.ErrUnknownTopicID
	case tp == otherPart:
		return n.other, nil
	case tp.Partition != 0:
		return nil, replication.ErrUnknownPartition
	}
	return n.log, nil
}

func (n fakeNode) LeaderOf(TopicPartition) replication.Leader {
	return replication.Leader{Node: 9, Epoch: 4}
}
