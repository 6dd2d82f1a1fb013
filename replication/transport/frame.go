package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A frame on the wire, after the handshake:
//
//	length of the message 4 | CRC32C of the message 4 | message: kind 1, then what the kind says (messages.go)
//
// Numbers within messages are unsigned varints, texts and blobs have their length before them.
const (
	frameHead = 8
	// maxControlFrame bounds a message on a control or call connection, in bytes: the largest is a call or its answer.
	maxControlFrame = MaxCall + 4<<10
	// maxBulkFrame bounds a message on a bulk connection: one batch of the 100 MiB that a Kafka frame may have, or a snapshot.
	maxBulkFrame = 128 << 20
	// trustedLength is how much is allocated because a length field says so. More grows with the bytes that come.
	trustedLength = 8 << 20
	// scratchLength is how long a message may be to be read into a buffer that is used again.
	scratchLength = 64 << 10
)

// errFrame: what came is no frame, or no message.
var errFrame = errors.New("transport: malformed message")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is a message on its way out. Its tail is sent from where it lies.
type frame struct {
	head []byte // begins with the frame's head
	tail [][]byte
	size int
	call *pending // whose request it is; nil for none
	pool bool     // head goes back to the pool
}

// seal fills in a frame's head.
func (f *frame) seal() {
	n, sum := len(f.head)-frameHead, crc32.Update(0, castagnoli, f.head[frameHead:])
	for _, t := range f.tail {
		n += len(t)
		sum = crc32.Update(sum, castagnoli, t)
	}
	f.size = n + frameHead
	binary.BigEndian.PutUint32(f.head, uint32(n))
	binary.BigEndian.PutUint32(f.head[4:], sum)
}

// frameReader reads frames. Its errors end the connection.
type frameReader struct {
	r       *bufio.Reader
	limit   int
	scratch []byte
}

// next reads a message. One that is kept is the caller's; another is valid until the next call. started is called when its
// head is there.
func (f *frameReader) next(started func(size int)) (message []byte, kept bool, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return nil, false, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || uint64(n) > uint64(f.limit) {
		return nil, false, fmt.Errorf("%w: length %d, at most %d is allowed", errFrame, n, f.limit)
	}
	started(int(n))
	kind, err := f.r.Peek(1)
	if err != nil {
		return nil, false, err
	}
	kept = kind[0] == kindAppend || kind[0] == kindSnapshot || int(n) > scratchLength
	if message, err = f.body(int(n), kept); err != nil {
		return nil, false, err
	}
	if crc32.Checksum(message, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, false, fmt.Errorf("%w: checksum", errFrame)
	}
	return message, kept, nil
}

// body reads n bytes, into memory of their own or into the scratch buffer.
func (f *frameReader) body(n int, own bool) ([]byte, error) {
	var b []byte
	if own {
		b = make([]byte, min(n, trustedLength))
	} else {
		if cap(f.scratch) < n {
			f.scratch = make([]byte, n)
		}
		b = f.scratch[:n]
	}
	for got := 0; ; {
		m, err := io.ReadFull(f.r, b[got:])
		if err != nil {
			return nil, err
		}
		if got += m; got == n {
			return b, nil
		}
		grown := make([]byte, min(n, 2*got))
		copy(grown, b)
		b = grown
	}
}

// parser takes a message apart. After the first thing that is not there, everything is zero and bad is set.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) fail() { p.b, p.bad = nil, true }

func (p *parser) byte() byte {
	if len(p.b) == 0 {
		p.fail()
		return 0
	}
	c := p.b[0]
	p.b = p.b[1:]
	return c
}

func (p *parser) num() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.fail()
		return 0
	}
	p.b = p.b[n:]
	return v
}

// count reads how many of something follow, each of which takes at least size bytes.
func (p *parser) count(size int) int {
	n := p.num()
	if n > uint64(len(p.b)/size) {
		p.fail()
		return 0
	}
	return int(n)
}

// take returns the next n bytes where they lie.
func (p *parser) take(n uint64) []byte {
	if n > uint64(len(p.b)) {
		p.fail()
		return nil
	}
	b := p.b[:n:n]
	p.b = p.b[n:]
	return b
}

func (p *parser) blob() []byte { return p.take(p.num()) }

func (p *parser) text(most int) string {
	b := p.blob()
	if len(b) > most {
		p.fail()
		return ""
	}
	return string(b)
}

// rest is everything that is left.
func (p *parser) rest() []byte {
	b := p.b
	p.b = nil
	return b
}

// end is the error of a message that was too short or has bytes left.
func (p *parser) end(kind byte) error {
	if p.bad || len(p.b) > 0 {
		return fmt.Errorf("%w: of kind %d", errFrame, kind)
	}
	return nil
}

func appendBlob[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

func appendNums(b []byte, values ...uint64) []byte {
	for _, v := range values {
		b = binary.AppendUvarint(b, v)
	}
	return b
}
