package log

import (
	"fmt"
	"sync"

	"github.com/quorlog/quorlog/log/vfs"
)

// Chunk is a run of bytes of one file, to be sent or copied as it is.
type Chunk struct {
	File vfs.File
	Pos  int64
	Len  int
}

// Range is a run of whole client batches, as bytes of the files that hold them. It keeps those files open until Release,
// also after retention has removed them.
type Range struct {
	// Next is the offset behind the last batch: where the next read begins.
	Next     Offset
	chunks   []Chunk
	segments []*segment
	size     int
	once     sync.Once
}

// Len is the number of bytes.
func (r *Range) Len() int { return r.size }

// AppendTo copies the bytes behind dst.
func (r *Range) AppendTo(dst []byte) ([]byte, error) {
	for _, c := range r.chunks {
		n := len(dst)
		dst = append(dst, make([]byte, c.Len)...)
		if err := readFull(c.File, dst[n:], c.Pos); err != nil {
			return dst[:n], fmt.Errorf("read range: %w", err)
		}
	}
	return dst, nil
}

// Release gives the files back; further calls do nothing.
func (r *Range) Release() {
	r.once.Do(func() {
		for _, s := range r.segments {
			s.release()
		}
		r.chunks, r.segments = nil, nil
	})
}

// add puts a frame behind the range. A frame that follows the last one in its file makes the chunk longer.
func (r *Range) add(f vfs.File, v slot) {
	r.size += int(v.size)
	if n := len(r.chunks); n > 0 {
		c := &r.chunks[n-1]
		if c.File == f && c.Pos+int64(c.Len) == int64(v.pos) {
			c.Len += int(v.size)
			return
		}
	}
	r.chunks = append(r.chunks, Chunk{File: f, Pos: int64(v.pos), Len: int(v.size)})
}

// Read returns whole batches from the one that contains from, as many as end at or before below and fit maxBytes; the first
// one also if it is larger, with atLeastOne. Internal frames are left out. The range is empty where nothing qualifies, and
// must be released. Bytes whose CRCs nobody checked since the process started are checked first: damage is ErrCorrupt.
// A from outside of [log start, log end] is ErrOffsetOutOfRange.
func (l *Log) Read(from, below Offset, maxBytes int, atLeastOne bool) (*Range, error) {
	return again(l, func() (*Range, error) { return l.read(from, below, maxBytes, atLeastOne) })
}

func (l *Log) read(from, below Offset, maxBytes int, atLeastOne bool) (*Range, error) {
	o := l.Offsets()
	if from < o.LogStart || from > o.LogEnd {
		return nil, fmt.Errorf("%w: %d is not within %d..%d", ErrOffsetOutOfRange, from, o.LogStart, o.LogEnd)
	}
	r := &Range{Next: from}
	q := query{below: min(below, o.LogEnd), left: maxBytes, force: atLeastOne}
	for r.Next < q.below && !q.full {
		p, err := l.partOfOffset(r.Next)
		if err != nil {
			r.Release()
			return nil, err
		}
		before := r.Next
		if err := r.collect(&p, &q); err != nil {
			r.Release()
			return nil, err
		}
		if r.Next == before {
			break // a torn view: the segment went while we looked
		}
	}
	return r, nil
}

// partOfOffset returns the part that holds an offset, without slots if it is sealed.
func (l *Log) partOfOffset(o Offset) (part, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.mu.segments) == 0 {
		return part{}, ErrClosed
	}
	k := segmentOfOffset(l.mu.segments, o)
	if k < 0 {
		return part{}, fmt.Errorf("%w: %d is not stored", ErrOffsetOutOfRange, o)
	}
	return l.partLocked(k), nil
}

// query is what is left to collect.
type query struct {
	below Offset
	left  int
	force bool // the first batch comes whatever its size
	full  bool
}

// collect takes what one segment has for the range, and gives the part back.
func (r *Range) collect(p *part, q *query) error {
	defer p.release()
	if err := p.load(); err != nil {
		return err
	}
	file, err := p.seg.log()
	if err != nil {
		return err
	}
	p.seg.acquire()
	r.segments = append(r.segments, p.seg)
	t := &p.table
	for i := max(t.findOffset(uint32(r.Next-p.seg.base)), 0); i < t.n; i++ {
		v := t.at(i)
		next := p.nextOffset(i)
		if v.kind != KindBatch {
			r.Next = max(r.Next, next)
			continue
		}
		if next > q.below || (int(v.size) > q.left && !q.force) {
			q.full = true
			return nil
		}
		if !p.seg.verified.has(i, t.n) {
			if err := p.verify(i); err != nil {
				return err
			}
		}
		r.add(file, v)
		q.left -= int(v.size)
		q.force = false
		r.Next = next
	}
	r.Next = max(r.Next, p.next.offset)
	return nil
}

// maxPooled is the largest buffer that is kept for later checks.
const maxPooled = 1 << 20

var frameBuffers = sync.Pool{New: func() any { return new([]byte) }}

// verify checks the frame of slot i.
func (p *part) verify(i int) error {
	b := frameBuffers.Get().(*[]byte)
	frame, _, err := p.frame(i, *b)
	if cap(frame) <= maxPooled && frame != nil {
		*b = frame
	}
	frameBuffers.Put(b)
	return err
}
