package log

import "encoding/binary"

// A slot is one entry of an .index: 32 bytes, so that no slot straddles a sector and a torn write tears between slots.
//
//	0          4      8                 12              16                      24      25     26      28         32
//	| position | size | relative offset | relative index | running max timestamp | flags | kind | check | head CRC |
//
// position and size tell where the frame lies. head CRC is the CRC32C of the frame's first 21 bytes, which the batch CRC
// does not cover. check is the lower half of the CRC32C of the slot's other 30 bytes: an index that was not fsynced may
// hold anything, and a slot counts as evidence only when it proves itself.
const (
	slotSize  = 32
	slotKind  = 25
	slotCheck = 26

	// flagFirst marks the first frame of one Append.
	flagFirst = 1
	// flagControl marks a control batch (transaction marker).
	flagControl = 2
)

type slot struct {
	pos      uint32
	size     uint32
	relOff   uint32
	relIndex uint32
	maxTS    int64
	headCRC  uint32
	flags    uint8
	kind     Kind
}

func (s slot) end() Position { return Position(s.pos) + Position(s.size) }

// put encodes the slot into b, which has slotSize bytes.
func (s slot) put(b []byte) {
	_ = b[slotSize-1]
	le := binary.LittleEndian
	le.PutUint32(b, s.pos)
	le.PutUint32(b[4:], s.size)
	le.PutUint32(b[8:], s.relOff)
	le.PutUint32(b[12:], s.relIndex)
	le.PutUint64(b[16:], uint64(s.maxTS))
	b[24], b[25] = s.flags, byte(s.kind)
	le.PutUint32(b[28:], s.headCRC)
	le.PutUint16(b[slotCheck:], slotSum(b))
}

// slotSum is the check of a slot. The complement keeps a slot of zeros, which is what a lost write leaves, from proving
// itself.
func slotSum(b []byte) uint16 {
	return ^uint16(crcUpdate(checksum(b[:slotCheck]), b[slotCheck+2:slotSize]))
}

// slotProves reports whether the 32 bytes are a slot that was once written whole.
func slotProves(b []byte) bool { return binary.LittleEndian.Uint16(b[slotCheck:]) == slotSum(b) }

func getSlot(b []byte) slot {
	_ = b[slotSize-1]
	le := binary.LittleEndian
	return slot{
		pos: le.Uint32(b), size: le.Uint32(b[4:]), relOff: le.Uint32(b[8:]), relIndex: le.Uint32(b[12:]),
		maxTS: int64(le.Uint64(b[16:])), headCRC: le.Uint32(b[28:]), flags: b[24], kind: Kind(b[25]),
	}
}

// chunkSlots is how many slots the heap part of an index grows by: 4 KiB, so that a thousand idle partitions cost 4 MiB.
const chunkSlots = 128

// table is a readable run of slots: a mapped or rebuilt one of a sealed segment (flat), or the active segment's in the
// heap (chunks). It is a value: a reader copies it under the lock and then reads without one, because slots below n are
// never written again. A truncation replaces the chunk that holds the cut.
type table struct {
	flat   []byte
	chunks [][]byte
	n      int
}

func (t *table) raw(i int) []byte {
	if t.flat != nil {
		return t.flat[i*slotSize : (i+1)*slotSize]
	}
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

// reserve returns room for slot number t.n+ahead, growing the heap by a chunk where needed.
func (s *slots) reserve(ahead int) []byte {
	i := s.n + ahead
	if i/chunkSlots == len(s.chunks) {
		s.chunks = append(s.chunks, make([]byte, chunkSlots*slotSize))
	}
	j := i % chunkSlots
	return s.chunks[i/chunkSlots][j*slotSize : (j+1)*slotSize]
}

// runs appends the memory of slots [from,to) to dst, for one vectored write.
func (s *slots) runs(dst [][]byte, from, to int) [][]byte {
	for from < to {
		j := from % chunkSlots
		n := min(chunkSlots-j, to-from)
		dst = append(dst, s.chunks[from/chunkSlots][j*slotSize:(j+n)*slotSize])
		from += n
	}
	return dst
}

// appendSlot writes one slot behind the others and counts it.
func (s *slots) appendSlot(v slot) {
	b := s.reserve(0)
	v.put(b)
	s.advance(b)
}

func (s *slots) advance(b []byte) {
	s.crc = crcUpdate(s.crc, b)
	s.n++
}

// cut returns a copy that ends before slot n. The chunk with the cut is copied: readers may still look at the old one.
func (s *slots) cut(n int) slots {
	c := slots{table: table{n: n}}
	for i := 0; i < n; i += chunkSlots {
		m := min(chunkSlots, n-i)
		b := s.chunks[i/chunkSlots]
		if m < chunkSlots {
			b = append(make([]byte, 0, chunkSlots*slotSize), b[:m*slotSize]...)[:chunkSlots*slotSize]
		}
		c.chunks = append(c.chunks, b)
		c.crc = crcUpdate(c.crc, b[:m*slotSize])
	}
	return c
}

// heapSlots copies the first n slots of any table into the heap, to go on appending to them.
func heapSlots(t *table, n int) slots {
	var s slots
	for i := 0; i < n; i++ {
		b := s.reserve(0)
		copy(b, t.raw(i))
		s.advance(b)
	}
	return s
}
