package batch

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Records are made of zigzag varints as in protocol buffers. Readers take an index and return the next one, or a negative one
// if there is no varint; given a negative index they fail again, so that a row of them needs one check at its end.

// varint64 reads a 64-bit field. The one-byte case, by far the most frequent, is inlined into the caller.
func varint64(b []byte, i int) (int64, int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		return int64(b[i]>>1) ^ -int64(b[i]&1), i + 1
	}
	return varintSlow(b, i, binary.MaxVarintLen64)
}

// varint32 reads a 32-bit field, whose value the caller gets as an int64 within the bounds of an int32.
func varint32(b []byte, i int) (int64, int) {
	if uint(i) < uint(len(b)) && b[i] < 0x80 {
		return int64(b[i]>>1) ^ -int64(b[i]&1), i + 1
	}
	return varintSlow(b, i, binary.MaxVarintLen32)
}

// varintSlow reads at most size bytes. A 32-bit field of more than five bytes, or with a larger value, is refused: Java's
// consumers refuse the one and misread the other.
func varintSlow(b []byte, i, size int) (int64, int) {
	if uint(i) >= uint(len(b)) {
		return 0, -1
	}
	if i+1 < len(b) && b[i+1] < 0x80 && b[i] >= 0x80 { // two bytes: what most lengths and later deltas take
		u := uint64(b[i]&0x7f) | uint64(b[i+1])<<7
		return int64(u>>1) ^ -int64(u&1), i + 2
	}
	u, n := binary.Uvarint(b[i:min(i+size, len(b))])
	if n <= 0 || size == binary.MaxVarintLen32 && u > math.MaxUint32 {
		return 0, -1
	}
	return int64(u>>1) ^ -int64(u&1), i + n
}

// varintLen is how many bytes a field with value v takes.
func varintLen(v int64) int {
	return (bits.Len64(zigzag(v)|1) + 6) / 7
}

func appendVarint(dst []byte, v int64) []byte { return binary.AppendUvarint(dst, zigzag(v)) }

func zigzag(v int64) uint64 { return uint64(v)<<1 ^ uint64(v>>63) }
