package log

import (
	"encoding/binary"

	"github.com/quorlog/quorlog/log/batch"
)

// keyMap tells the newest offset of each key of the part of a log that is being cleaned. It never grows: its memory is
// claimed when it is made. A key is known by the first half of its SHA-256, so two keys count as one neither by chance nor
// because somebody looked for such a pair; that would lose a record.
type keyMap struct {
	slots []keySlot // open addressing; a slot without place is free
	n     int
	most  int // keys that it takes
}

// keyID is what a key is known by.
type keyID [16]byte

// idOf returns that of a record's key.
func idOf(r *batch.Glance) keyID {
	sum := r.KeySum()
	return keyID(sum[:16])
}

// keySlot is a key and the place of its newest record.
type keySlot struct {
	key   keyID
	place Offset // one past the offset, so that zero is none
}

const (
	keySlotSize = int64(24)
	// leastKeys is what a map takes however little memory it is given: fewer would mean too many passes.
	leastKeys = 1 << 10
	// keyLoad is how many of 16 slots may be taken: beyond, searches grow long.
	keyLoad = 14
)

// newKeyMap makes a map of at most so many bytes, and no larger than so many keys need.
func newKeyMap(bytes, keys int64) *keyMap {
	n := max(bytes/keySlotSize, leastKeys)
	n = max(min(n, keys*16/keyLoad+1), 16)
	return &keyMap{slots: make([]keySlot, n), most: int(n * keyLoad / 16)}
}

// find returns the slot of a key, or the free one where it would lie.
func (m *keyMap) find(id keyID) *keySlot {
	i := binary.LittleEndian.Uint64(id[:]) % uint64(len(m.slots))
	for m.slots[i].place != 0 && m.slots[i].key != id {
		if i++; i == uint64(len(m.slots)) {
			i = 0
		}
	}
	return &m.slots[i]
}

// put notes a key's newest offset; false where the key is new and there is no room.
func (m *keyMap) put(id keyID, o Offset) bool {
	s := m.find(id)
	if s.place == 0 {
		if m.n == m.most {
			return false
		}
		m.n++
		s.key = id
	}
	s.place = max(s.place, o+1)
	return true
}

// newest returns the newest offset noted for a key, -1 for none.
func (m *keyMap) newest(id keyID) Offset {
	return m.find(id).place - 1
}
