package log

import "sync"

// DefaultTailBudget is the memory that the tails of all logs of a node may pin together, where nobody says otherwise.
const DefaultTailBudget = 256 << 20

// TailBudget bounds the bytes that the in-memory tails of all logs of a node pin. It is shared by passing the same pointer
// in Options. A tail that goes over the budget takes room from the one that was appended to longest ago: an idle
// partition's followers have caught up, and its frames are still in the page cache.
type TailBudget struct {
	limit int64
	mu    struct {
		sync.Mutex
		used  int64
		clock uint64
		tails map[*tail]uint64 // when each was last pushed to
	}
}

// NewTailBudget makes a budget of limit bytes.
func NewTailBudget(limit int64) *TailBudget {
	b := &TailBudget{limit: limit}
	b.mu.tails = make(map[*tail]uint64)
	return b
}

// Limit returns the bytes that may be pinned.
func (b *TailBudget) Limit() int64 { return b.limit }

// Used returns the bytes pinned now.
func (b *TailBudget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.used
}

// add accounts for a tail that grew or shrank. It takes no other lock.
func (b *TailBudget) add(t *tail, n int64, pushed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.used += n
	if pushed {
		b.mu.clock++
		b.mu.tails[t] = b.mu.clock
	}
}

func (b *TailBudget) forget(t *tail) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.mu.tails, t)
}

// reclaim evicts until the budget is kept. Called without any lock.
func (b *TailBudget) reclaim() {
	for {
		victim := b.victim()
		if victim == nil {
			return
		}
		if !victim.evictHalf() {
			b.forget(victim)
		}
	}
}

// victim returns the tail pushed to longest ago, nil while the budget is kept.
func (b *TailBudget) victim() *tail {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.used <= b.limit {
		return nil
	}
	var oldest *tail
	for t, at := range b.mu.tails {
		if oldest == nil || at < b.mu.tails[oldest] {
			oldest = t
		}
	}
	return oldest
}

// tail holds a log's newest entries in memory, so that replication and apply do not read the disk. It aliases the frames
// that were appended.
type tail struct {
	budget *TailBudget
	limit  int64 // of this tail alone, bytes
	mu     struct {
		sync.RWMutex
		entries []Entry // a queue: the live ones are entries[head:]
		head    int
		bytes   int64
	}
}

// entryOverhead is what an Entry costs beside its frame.
const entryOverhead = 64

func pinned(e *Entry) int64 { return int64(cap(e.Frame)) + entryOverhead }

// push adds entries that continue the tail.
func (t *tail) push(entries []Entry) {
	t.mu.Lock()
	before := t.mu.bytes
	for i := range entries {
		t.mu.bytes += pinned(&entries[i])
	}
	t.mu.entries = append(t.mu.entries, entries...)
	t.evictLocked(t.limit)
	grown := t.mu.bytes - before
	t.mu.Unlock()
	t.budget.add(t, grown, true)
	t.budget.reclaim()
}

// evictLocked drops the oldest entries until at most limit bytes are left.
func (t *tail) evictLocked(limit int64) {
	m := &t.mu
	for m.bytes > limit && m.head < len(m.entries) {
		m.bytes -= pinned(&m.entries[m.head])
		m.entries[m.head] = Entry{}
		m.head++
	}
	// Moving the rest down once the dead half is the larger one costs O(1) per entry.
	if m.head > len(m.entries)/2 {
		n := copy(m.entries, m.entries[m.head:])
		clear(m.entries[n:])
		m.entries, m.head = m.entries[:n], 0
	}
}

// evictHalf gives up half of the bytes; false when there was nothing to give.
func (t *tail) evictHalf() bool {
	t.mu.Lock()
	before := t.mu.bytes
	t.evictLocked(before / 2)
	freed := before - t.mu.bytes
	t.mu.Unlock()
	t.budget.add(t, -freed, false)
	return freed > 0
}

// get returns an entry that is still held.
func (t *tail) get(i Index) (Entry, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	live := t.mu.entries[t.mu.head:]
	if len(live) == 0 || i < live[0].Index || i > live[len(live)-1].Index {
		return Entry{}, false
	}
	return live[i-live[0].Index], true
}

// truncate drops entries from index i on.
func (t *tail) truncate(i Index) {
	t.mu.Lock()
	m := &t.mu
	before := m.bytes
	n := len(m.entries)
	for n > m.head && m.entries[n-1].Index >= i {
		n--
		m.bytes -= pinned(&m.entries[n])
		m.entries[n] = Entry{}
	}
	m.entries = m.entries[:n]
	freed := before - m.bytes
	t.mu.Unlock()
	t.budget.add(t, -freed, false)
}

// drop gives everything back; at Close and Reset.
func (t *tail) drop() {
	t.truncate(0)
	t.budget.forget(t)
}
