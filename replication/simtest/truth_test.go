package simtest

import (
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// The checks. Each has a planted bug that makes it fail (plants_test.go).
const (
	oneLeader        = "one leader per epoch"
	epochsRise       = "epochs never go back on a replica"
	watermarkRises   = "watermarks never go back on a replica"
	watermarkOrder   = "log start <= last stable <= high watermark <= log end"
	servedRises      = "a new leader knows what earlier ones served"
	committedStays   = "committed data never changes"
	noHoles          = "offsets have no holes"
	ackedStays       = "what was acknowledged is there, where it was said to be"
	noDuplicates     = "no record is stored twice"
	orderStays       = "a producer's records are in its order"
	refusedIsNowhere = "what was refused is not stored"
	majorityHolds    = "a majority holds durably what is committed"
	replicasAgree    = "replicas agree in the end"
	becomesWhole     = "a healed cluster works"
	leaseEnds        = "a leader without a majority ceases to lead"
	storageHolds     = "storage fails only where a fault was planted"
)

// violation is a check that failed.
type violation struct{ check, detail string }

// book keeps what is counted and what was found, over all rounds.
type book struct {
	mu         sync.Mutex
	seed       uint64
	violations []violation
	counts     map[string]int
	checks     map[string]int // how often each was looked at
}

func newBook() *book { return &book{counts: make(map[string]int), checks: make(map[string]int)} }

func (b *book) violate(check, format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.violations = append(b.violations, violation{check, fmt.Sprintf("seed %d: ", b.seed) + fmt.Sprintf(format, args...)})
}

func (b *book) broken() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.violations) > 0
}

func (b *book) count(what string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[what] += n
}

func (b *book) of(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts[what]
}

// checked notes that a check was made, n times.
func (b *book) checked(check string, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.checks[check] += n
}

// truth is what is known for sure of a partition: what was seen committed, acknowledged and served.
type truth struct {
	book *book
	id   replication.PartitionID
	n    int // its number in the world

	mu      sync.Mutex
	frames  map[batch.Offset]uint64 // hash of the committed frame at its base offset, bytes and epoch and all
	values  map[batch.Offset]string
	where   map[string]batch.Offset
	acked   map[string]batch.Offset
	refused map[string]bool
	served  map[batch.Epoch]batch.Offset       // highest watermark that a leader of the epoch served
	leaders map[batch.Epoch]replication.NodeID // who led in an epoch
	newest  batch.Epoch                        // of leaders
	started batch.Offset                       // the highest log start seen
}

func newTruth(b *book, n int) *truth {
	return &truth{
		book: b, n: n, id: replication.PartitionID{Topic: replication.TopicID{7}, Partition: int32(n)},
		frames: make(map[batch.Offset]uint64), values: make(map[batch.Offset]string), where: make(map[string]batch.Offset),
		acked: make(map[string]batch.Offset), refused: make(map[string]bool),
		served: make(map[batch.Epoch]batch.Offset), leaders: make(map[batch.Epoch]replication.NodeID), newest: batch.NoEpoch,
	}
}

var hashSeed = maphash.MakeSeed()

func hashOf(frame []byte) uint64 { return maphash.Bytes(hashSeed, frame) }

// learn takes a committed frame, as a node gave it.
func (t *truth) learn(node replication.NodeID, h batch.Header, frame []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.book.checked(committedStays, 1)
	sum := hashOf(frame)
	if was, ok := t.frames[h.BaseOffset]; ok {
		if was != sum {
			t.book.violate(committedStays, "partition %d, node %d: offset %d holds something else than before: %q instead of %q", t.n, node, h.BaseOffset, first(frame), t.values[h.BaseOffset])
		}
		return
	}
	t.frames[h.BaseOffset] = sum
	at := h.BaseOffset
	err := batch.Iterate(frame, func(r batch.Record) error {
		t.learnRecordLocked(node, at, string(r.Value))
		at++
		return nil
	})
	if err != nil {
		t.book.violate(committedStays, "partition %d, node %d: offset %d: %v", t.n, node, h.BaseOffset, err)
	}
}

func (t *truth) learnRecordLocked(node replication.NodeID, at batch.Offset, v string) {
	t.book.checked(noDuplicates, 1)
	if was, ok := t.values[at]; ok {
		t.book.violate(committedStays, "partition %d, node %d: offset %d holds %q, and held %q", t.n, node, at, v, was)
		return
	}
	t.values[at] = v
	if was, ok := t.where[v]; ok {
		t.book.violate(noDuplicates, "partition %d, node %d: %q is at %d and at %d", t.n, node, v, was, at)
		return
	}
	t.where[v] = at
	if a, ok := t.acked[v]; ok && a != at {
		t.book.violate(ackedStays, "partition %d, node %d: %q was acknowledged at %d and is at %d", t.n, node, v, a, at)
	}
	if t.refused[v] {
		t.book.violate(refusedIsNowhere, "partition %d, node %d: %q was refused and is at %d", t.n, node, v, at)
	}
}

func first(frame []byte) (v string) {
	_ = batch.Iterate(frame, func(r batch.Record) error {
		if v == "" {
			v = string(r.Value)
		}
		return nil
	})
	return v
}

// ack takes an acknowledgement.
func (t *truth) ack(values []string, base batch.Offset, epoch batch.Epoch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.book.checked(ackedStays, len(values))
	for i, v := range values {
		at := base + batch.Offset(i)
		if was, ok := t.acked[v]; ok && was != at {
			t.book.violate(ackedStays, "partition %d: %q was acknowledged at %d and at %d", t.n, v, was, at)
		}
		t.acked[v] = at
		if was, ok := t.where[v]; ok && was != at {
			t.book.violate(ackedStays, "partition %d: %q is at %d and was acknowledged at %d", t.n, v, was, at)
		}
		if was, ok := t.values[at]; ok && was != v {
			t.book.violate(ackedStays, "partition %d: %q was acknowledged at %d, where %q is", t.n, v, at, was)
		}
	}
	if end := base + batch.Offset(len(values)); end > t.served[epoch] && epoch > batch.NoEpoch {
		t.served[epoch] = end
	}
}

// refuse takes a definite refusal.
func (t *truth) refuse(values []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.book.checked(refusedIsNowhere, len(values))
	for _, v := range values {
		t.refused[v] = true
		if at, ok := t.where[v]; ok {
			t.book.violate(refusedIsNowhere, "partition %d: %q was refused and is at %d", t.n, v, at)
		}
	}
}

// lead takes a node's claim that somebody leads in an epoch.
func (t *truth) lead(node replication.NodeID, e batch.Epoch, local bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.book.checked(oneLeader, 1)
	was, known := t.leaders[e]
	if known && was != node {
		t.book.violate(oneLeader, "partition %d: epoch %d is led by %d and by %d", t.n, e, was, node)
	}
	if !known && local {
		if before, any := t.leaders[t.newest]; any && e > t.newest {
			t.book.count("elections", 1)
			if before != node {
				t.book.count("fail-overs", 1)
			}
		}
		t.leaders[e], t.newest = node, max(t.newest, e)
	}
}

// floor is what a leader of an epoch must know to be committed: all that earlier ones served. Read it before the leader's
// own watermark.
func (t *truth) floor(e batch.Epoch) (o batch.Offset) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for epoch, served := range t.served {
		if epoch < e {
			o = max(o, served)
		}
	}
	return o
}

// serve takes a leader's watermark.
func (t *truth) serve(e batch.Epoch, high, start batch.Offset) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.served[e] = max(t.served[e], high)
	t.started = max(t.started, start)
}

// high is the highest watermark that any leader served.
func (t *truth) high() (o batch.Offset) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, served := range t.served {
		o = max(o, served)
	}
	return o
}

// finish checks what can be checked of a whole partition, after its replicas agreed on start and end and were read.
func (t *truth) finish(start, end batch.Offset) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := make(map[string]string) // by producer: its values sort as they were sent
	for at := batch.Offset(0); at < end; at++ {
		v, ok := t.values[at]
		if !ok {
			if at >= start {
				t.book.violate(noHoles, "partition %d: nothing is at %d, within %d..%d", t.n, at, start, end)
			}
			continue
		}
		t.book.checked(orderStays, 1)
		producer := v[:3]
		if v <= last[producer] {
			t.book.violate(orderStays, "partition %d: %q at %d follows %q", t.n, v, at, last[producer])
		}
		last[producer] = v
	}
	for v, at := range t.acked {
		if at < start {
			continue
		}
		if where, ok := t.where[v]; !ok || where != at {
			t.book.violate(ackedStays, "partition %d: %q, acknowledged at %d, is not there; %d..%d are", t.n, v, at, start, end)
		}
	}
	t.book.count("acknowledged records", len(t.acked))
	t.book.count("committed records seen", len(t.values))
}
