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
