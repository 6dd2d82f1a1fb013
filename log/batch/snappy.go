package batch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
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
	// snappyWide is from where on a block, which can't be decoded piece by piece, is large, in bytes (see wide).
	snappyWide = zstdWindow
)

type snappySource struct {
	rest   []byte
	framed bool
	wide   bool // wide is held
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
	if s.wide {
		s.wide = false
		wide.Unlock()
	}
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
		if n > snappyWide && !s.wide {
			s.wide = true
			wide.Lock()
		}
		dst = slices.Grow(dst, n)
		end := len(dst) + n
		// Strictly: the library's fast decoder also takes what S2 adds to the format, which other consumers cannot read.
		if _, err := snappy.DecodeStrict(dst[len(dst):end:end], block); err != nil {
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

// appendXerial appends src, compressed and framed.
func appendXerial(dst, src []byte) []byte {
	return appendXerialBlocks(append(dst, xerialHeader...), src)
}

func appendXerialBlocks(dst, src []byte) []byte {
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
