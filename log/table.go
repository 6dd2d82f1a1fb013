package log

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/quorlog/quorlog/log/vfs"
)

// chunkSlots is how many slots the heap part of an index grows by: 4 KiB, so that a thousand idle partitions cost 4 MiB.
const chunkSlots = 128

// defaultMapSlots is how many slots of the active segment may pile up in the heap: 32 KiB. At the next checkpoint, when
// they are durable, the mapped file takes their place.
const defaultMapSlots = 8 * chunkSlots

// mapping is a mapped index of the active segment, which is replaced as the index grows. The log holds one reference, and
// so does every reader that copied the table.
type mapping struct {
	refs atomic.Int32
	m    vfs.Mapping
}

func (m *mapping) acquire() {
	if m != nil {
		m.refs.Add(1)
	}
}

func (m *mapping) release() {
	if m != nil && m.refs.Add(-1) == 0 {
		m.m.Close()
	}
}

// table is a readable run of slots: first those in a flat piece of memory (a mapped index, or one made anew), then those
// in chunks in the heap. It is a value: a reader copies it under the lock and then reads without one, because slots below n
// are never written again. A truncation replaces the chunk that holds the cut.
type table struct {
	flat   []byte
	nflat  int // slots in flat
	chunks [][]byte
	n      int
	mapped *mapping // what flat lies in, for the active segment
}

func flatTable(b []byte, n int) table { return table{flat: b, nflat: n, n: n} }

func (t *table) raw(i int) []byte {
	if i < t.nflat {
		return t.flat[i*slotSize : (i+1)*slotSize]
	}
	i -= t.nflat
	j := i % chunkSlots
	return t.chunks[i/chunkSlots][j*slotSize : (j+1)*slotSize]
}

func (t *table) at(i int) slot { return getSlot(t.raw(i)) }

func (t *table) relOff(i int) uint32   { return binary.LittleEndian.Uint32(t.raw(i)[8:]) }
func (t *table) relIndex(i int) uint32 { return binary.LittleEndian.Uint32(t.raw(i)[12:]) }
func (t *table) maxTS(i int) int64     { return int64(binary.LittleEndian.Uint64(t.raw(i)[16:])) }

// search returns the first slot of [0,n) for which f holds, else n.
func (t *table) search(f func(i int) bool) int {
	lo, hi := 0, t.n
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); f(mid) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// findIndex returns the slot that holds the relative Raft index, -1 where none does. Without gap frames slot and relative
// index are the same number; a gap stands for several indexes and shifts what follows it down.
func (t *table) findIndex(rel uint32) int {
	if int64(rel) < int64(t.n) && t.relIndex(int(rel)) == rel {
		return int(rel)
	}
	return t.search(func(i int) bool { return t.relIndex(i) > rel }) - 1
}

// findOffset returns the last slot whose relative base offset is at or below rel, -1 where none is.
func (t *table) findOffset(rel uint32) int {
	return t.search(func(i int) bool { return t.relOff(i) > rel }) - 1
}

// slots is the writer's end of the active table.
type slots struct {
	table
	crc uint32 // CRC32C of all slots, running
}

// room returns the memory of the next slot, growing the heap by a chunk where needed.
func (s *slots) room() []byte {
	i := s.n - s.nflat
	if i/chunkSlots == len(s.chunks) {
		s.chunks = append(s.chunks, make([]byte, chunkSlots*slotSize))
	}
	j := i % chunkSlots
	return s.chunks[i/chunkSlots][j*slotSize : (j+1)*slotSize]
}

// runs appends the memory of slots [from,to) to dst, for one vectored write.
func (s *slots) runs(dst [][]byte, from, to int) [][]byte {
	if from < s.nflat {
		n := min(to, s.nflat)
		dst = append(dst, s.flat[from*slotSize:n*slotSize])
		from = n
	}
	for from < to {
		i := from - s.nflat
		j := i % chunkSlots
		n := min(chunkSlots-j, to-from)
		dst = append(dst, s.chunks[i/chunkSlots][j*slotSize:(j+n)*slotSize])
		from += n
	}
	return dst
}

// appendSlot writes one slot behind the others and counts it.
func (s *slots) appendSlot(v slot) {
	b := s.room()
	v.put(b)
	s.advance(b)
}

func (s *slots) advance(b []byte) {
	s.crc = crcUpdate(s.crc, b)
	s.n++
}

// cut returns a copy that ends before slot n. The chunk with the cut is copied: readers may still look at the old one. A
// cut within the mapped part leaves nothing mapped, because the file will no longer hold what is.
func (s *slots) cut(n int) slots {
	if n < s.nflat {
		return heapSlots(&s.table, n)
	}
	c := slots{table: table{flat: s.flat, nflat: s.nflat, mapped: s.mapped, n: n}}
	for i := 0; i < n-s.nflat; i += chunkSlots {
		m := min(chunkSlots, n-s.nflat-i)
		b := s.chunks[i/chunkSlots]
		if m < chunkSlots {
			b = append(make([]byte, 0, chunkSlots*slotSize), b[:m*slotSize]...)[:chunkSlots*slotSize]
		}
		c.chunks = append(c.chunks, b)
	}
	for _, run := range c.runs(nil, 0, n) {
		c.crc = crcUpdate(c.crc, run)
	}
	return c
}

// heapSlots copies the first n slots of any table into the heap, to go on appending to them.
func heapSlots(t *table, n int) slots {
	var s slots
	for i := range n {
		b := s.room()
		copy(b, t.raw(i))
		s.advance(b)
	}
	return s
}

// mapActiveLocked replaces the active segment's slots in the heap by a mapping of its index, once enough of them are
// durable. What cannot be mapped stays in the heap. w is held.
func (l *Log) mapActiveLocked(s *segment) {
	t := &l.w.slots.table
	if t.n-t.nflat < l.o.mapSlots {
		return
	}
	m, err := l.o.FS.Map(s.path(indexSuffix), indexHeadSize+int64(t.n)*slotSize)
	if err != nil {
		l.o.Logger.Warn("index stays in memory", "segment", s.name(), "error", err)
		return
	}
	old := t.mapped
	*t = flatTable(m.Bytes()[indexHeadSize:], t.n)
	t.mapped = &mapping{m: m}
	t.mapped.acquire()
	l.mu.Lock()
	l.mu.active = *t
	l.mu.Unlock()
	old.release()
}
