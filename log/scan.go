package log

import (
	"errors"
	"fmt"
	"math"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// chain is what the next frame must continue: the log end offset, the next Raft index, and the term below which no
// further entry may be.
type chain struct {
	offset Offset
	index  Index
	term   Epoch
	// loose: the last frame is a gap, or not known. Then the next one may begin further on than where the chain stands: see
	// clipGap.
	loose bool
}

// beginning is the chain in front of a segment's first frame.
func (s *segment) beginning(term Epoch) chain {
	return chain{offset: s.base, index: s.first, term: term, loose: s.first > 1}
}

// chainPoint is where one frame lies.
type chainPoint struct {
	pos    Position
	offset Offset
	index  Index
}

// step checks that a frame continues the chain and moves on behind it.
func (c *chain) step(p *parsed) error {
	if p.BaseOffset != c.offset && !(c.loose && p.BaseOffset > c.offset) && !mutation.On(mutation.OffsetsReused) {
		return fmt.Errorf("%w: base offset %d where %d must come", ErrGap, p.BaseOffset, c.offset)
	}
	if p.LeaderEpoch < c.term {
		return fmt.Errorf("%w: term %d after term %d", ErrGap, p.LeaderEpoch, c.term)
	}
	c.offset, c.index, c.term = p.NextOffset(), c.index+Index(p.indexes), p.LeaderEpoch
	c.loose = p.kind == KindGap
	return nil
}

// scanBuffer is how much a scan reads at once; a larger frame grows the buffer, after its size was checked against the
// bytes that are there.
const scanBuffer = 1 << 20

// scanner reads frames one after the other and checks each completely: form, CRC, chain.
type scanner struct {
	file  vfs.File
	seg   *segment
	pos   Position // of the next frame
	end   Position
	chain chain

	// The frame that next found.
	frame []byte // valid until the following next
	p     parsed
	at    chainPoint

	err    error // ErrCorrupt for a bad frame, ErrFormat, or the read's own
	bytes  int64 // read from the file
	buf    []byte
	bufPos Position
}

func newScanner(f vfs.File, s *segment, from, end Position, c chain) *scanner {
	return &scanner{file: f, seg: s, pos: from, end: end, chain: c, bufPos: from}
}

// next moves to the next frame; false at the end and at the first bad frame, which s.err tells apart.
func (s *scanner) next() bool {
	if s.err != nil || s.pos >= s.end {
		return false
	}
	frame, err := s.load()
	if err != nil {
		return s.fail(err)
	}
	if err := batch.CheckCRC(frame); err != nil {
		return s.fail(fmt.Errorf("%w: %w", ErrCorrupt, err))
	}
	p, err := parseFrame(frame)
	if err != nil {
		return s.fail(err)
	}
	at := chainPoint{pos: s.pos, offset: max(s.chain.offset, p.BaseOffset), index: s.chain.index}
	if s.pos > math.MaxUint32 || at.offset-s.seg.base > math.MaxUint32 || at.index-s.seg.first > math.MaxUint32 {
		return s.fail(fmt.Errorf("%w: no segment reaches that far", ErrCorrupt))
	}
	if err := s.chain.step(&p); err != nil {
		return s.fail(err)
	}
	s.frame, s.p, s.at = frame, p, at
	s.pos += Position(len(frame))
	return true
}

func (s *scanner) fail(err error) bool {
	if errors.Is(err, ErrFrame) || errors.Is(err, ErrGap) {
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	s.err = fmt.Errorf("frame at position %d, index %d: %w", s.pos, s.chain.index, err)
	return false
}

// load returns the bytes of the frame at s.pos.
func (s *scanner) load() ([]byte, error) {
	left := s.end - s.pos
	if left < batch.HeaderSize {
		return nil, fmt.Errorf("%w: %d bytes are no header", ErrCorrupt, left)
	}
	head, err := s.window(batch.HeaderSize)
	if err != nil {
		return nil, err
	}
	h, err := batch.ParseHeader(head)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if int64(h.Size()) > int64(left) {
		return nil, fmt.Errorf("%w: frame of %d bytes, %d are there", ErrCorrupt, h.Size(), left)
	}
	return s.window(h.Size())
}

// window returns n bytes at s.pos, reading on where the buffer ends.
func (s *scanner) window(n int) ([]byte, error) {
	off := int(s.pos - s.bufPos)
	if len(s.buf)-off >= n {
		return s.buf[off : off+n], nil
	}
	size := int(min(int64(max(n, scanBuffer)), int64(s.end-s.pos)))
	if cap(s.buf) < size {
		s.buf = make([]byte, size)
	}
	s.buf = s.buf[:size]
	if err := readFull(s.file, s.buf, int64(s.pos)); err != nil {
		s.buf = s.buf[:0]
		return nil, fmt.Errorf("read %d bytes: %w", size, err)
	}
	s.bytes += int64(size)
	s.bufPos = s.pos
	return s.buf[:n], nil
}

// checkFrame checks one frame that was read at a known place against its slot: head, CRC, form.
func checkFrame(frame []byte, v slot, base Offset) (parsed, error) {
	if len(frame) < headSize || checksum(frame[:headSize]) != v.headCRC {
		return parsed{}, fmt.Errorf("%w: frame head at position %d", ErrCorrupt, v.pos)
	}
	if err := batch.CheckCRC(frame); err != nil {
		return parsed{}, fmt.Errorf("%w: frame at position %d: %w", ErrCorrupt, v.pos, err)
	}
	p, err := parseFrame(frame)
	if err != nil {
		return parsed{}, fmt.Errorf("%w: frame at position %d: %w", ErrCorrupt, v.pos, err)
	}
	if p.BaseOffset != base+Offset(v.relOff) {
		return parsed{}, fmt.Errorf("%w: frame at position %d has base offset %d, the index %d", ErrCorrupt, v.pos, p.BaseOffset, base+Offset(v.relOff))
	}
	return p, nil
}
