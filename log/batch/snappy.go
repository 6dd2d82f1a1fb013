package batch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
)

// Snappy has no stream format of its own in Kafka. Java writes snappy-java's framing ("xerial"): a 16-byte header, then blocks
// that are each preceded by their size; franz-go and librdkafka write one bare block. Both are read, the framing is written,
// because a consumer can decode it piece by piece.
//
//	82 'S' 'N' 'A' 'P' 'P' 'Y' 0 | version 4 | compatible version 4 | { size 4 | block }...      (big endian)

// xerialHeader is the framing's header with version and compatible version 1.
var xerialHeader = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1}

const (
	xerialMagic = 8 // leading bytes of the header that identify the framing
	// xerialBlock is how much goes into one block, in bytes; snappy-java's default.
	xerialBlock = 32 << 10
	// snappyRatio bounds what a block can expand to: its densest element makes 64 bytes of 3. A larger claim is a lie that
	// would be allocated.
	snappyRatio = 22
)

type snappySource struct {
	rest   []byte
	framed bool
}

var snappySources = sync.Pool{New: func() any { return new(snappySource) }}

func openSnappy(payload []byte) (source, error) {
	s := snappySources.Get().(*snappySource)
	s.rest, s.framed = payload, false
	if bytes.HasPrefix(payload, xerialHeader[:xerialMagic]) {
		if len(payload) < len(xerialHeader) || binary.BigEndian.Uint32(payload[xerialMagic:]) < 1 {
			s.close()
			return nil, fmt.Errorf("%w: malformed snappy framing", ErrCodec)
		}
		s.rest, s.framed = payload[len(xerialHeader):], true
	}
	return s, nil
}

func (s *snappySource) close() {
	s.rest = nil
	snappySources.Put(s)
}

func (s *snappySource) next(dst []byte, room int64) ([]byte, error) {
	for len(s.rest) > 0 {
		block := s.rest
		if s.framed {
			if len(s.rest) < 4 {
				return dst, fmt.Errorf("%w: snappy block size cut off", ErrCodec)
			}
			size := binary.BigEndian.Uint32(s.rest)
			if int64(size) > int64(len(s.rest)-4) {
				return dst, fmt.Errorf("%w: snappy block of %d bytes in %d", ErrCodec, size, len(s.rest)-4)
			}
			block = s.rest[4 : 4+size]
		}
		n, err := s2.DecodedLen(block)
		if err != nil {
			return dst, errCodec(Snappy, err)
		}
		if int64(n) > int64(len(block))*snappyRatio {
			return dst, fmt.Errorf("%w: snappy block of %d bytes claims to hold %d", ErrCodec, len(block), n)
		}
		if int64(n) > room {
			return dst, errExpands(room)
		}
		if !plainSnappy(block) {
			return dst, fmt.Errorf("%w: not a snappy block", ErrCodec)
		}
		dst = slices.Grow(dst, n)
		end := len(dst) + n
		if _, err := s2.Decode(dst[len(dst):end:end], block); err != nil {
			return dst, errCodec(Snappy, err)
		}
		dst = dst[:end]
		if s.framed {
			s.rest = s.rest[4+len(block):]
		} else {
			s.rest = nil
		}
		if n > 0 {
			return dst, nil
		}
	}
	return dst, io.EOF
}

// plainSnappy walks over a block's elements and tells whether they are Snappy's own. The S2 decoder, far faster than a strict one,
// also takes S2's extension "copy from the last offset" (written as offset 0), which other consumers cannot read. Elements that run over
// the block's end are left for the decoder to find.
func plainSnappy(block []byte) bool {
	_, i := binary.Uvarint(block)
	for i < len(block) {
		tag := block[i]
		switch tag & 3 {
		case 0: // literal: length-1 in the tag, or in the 1 to 4 bytes behind it
			n := int(tag >> 2)
			if n >= 60 {
				extra := n - 59
				if i+1+extra > len(block) {
					return true
				}
				n = 0
				for k := extra; k > 0; k-- {
					n = n<<8 | int(block[i+k])
				}
				if n >= len(block) {
					return true
				}
				i += extra
			}
			i += 1 + n + 1
		case 1: // copy, 11-bit offset
			if i+1 < len(block) && tag&0xe0 == 0 && block[i+1] == 0 {
				return false
			}
			i += 2
		case 2: // copy, 16-bit offset
			if i+2 < len(block) && block[i+1]|block[i+2] == 0 {
				return false
			}
			i += 3
		case 3: // copy, 32-bit offset
			if i+4 < len(block) && block[i+1]|block[i+2]|block[i+3]|block[i+4] == 0 {
				return false
			}
			i += 5
		}
	}
	return true
}

// appendXerial appends src, compressed and framed.
func appendXerial(dst, src []byte) []byte {
	dst = append(dst, xerialHeader...)
	for len(src) > 0 {
		n := min(len(src), xerialBlock)
		most := s2.MaxEncodedLen(n)
		dst = slices.Grow(dst, 4+most)
		at := len(dst)
		block := s2.EncodeSnappy(dst[at+4:at+4+most], src[:n]) // in place: it has the room
		binary.BigEndian.PutUint32(dst[at:at+4], uint32(len(block)))
		dst = dst[:at+4+len(block)]
		src = src[n:]
	}
	return dst
}
