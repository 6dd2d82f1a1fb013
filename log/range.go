package log

import (
	"fmt"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// Piece is a run of bytes of an open file, by its descriptor.
type Piece struct {
	Fd     uintptr
	Offset int64
	Len    int
}

// Pieces tells where the bytes lie, in order, for sendfile. The descriptors are good until Release. ok is false where there is
// none: a file in memory, as tests use.
func (r *Range) Pieces() (pieces []Piece, ok bool) {
	pieces = make([]Piece, len(r.chunks))
	for i, c := range r.chunks {
		fd, ok := c.File.Fd()
		if !ok {
			return nil, false
		}
		pieces[i] = Piece{Fd: fd, Offset: c.Pos, Len: c.Len}
	}
	return pieces, true
}

// Headers calls fn with the header of each batch, and with the position in the range at which the batch begins, until it returns
// false. Records are not read. Bytes that are no batch are ErrCorrupt.
func (r *Range) Headers(fn func(h batch.Header, at int) bool) error {
	at := 0
	for _, c := range r.chunks {
		w := headerWindow{file: c.File, begin: c.Pos, left: c.Len}
		for pos := 0; pos < c.Len; {
			h, err := w.header(pos)
			if err != nil {
				return err
			}
			if !fn(h, at+pos) {
				return nil
			}
			pos += h.Size()
		}
		at += c.Len
	}
	return nil
}

// headerWindow reads headers: where batches are small, many at a time.
type headerWindow struct {
	file  vfs.File
	begin int64 // of the chunk
	left  int   // its length
	buf   []byte
	from  int // position of buf in the chunk
}

// windowSize holds some fifty batches of one small record, and costs no more to read than a single header.
const windowSize = 4 << 10

func (w *headerWindow) header(pos int) (batch.Header, error) {
	if w.left-pos < batch.HeaderSize {
		return batch.Header{}, fmt.Errorf("%w: %d bytes behind the last batch of a range", ErrCorrupt, w.left-pos)
	}
	if pos+batch.HeaderSize > w.from+len(w.buf) {
		if w.buf == nil {
			w.buf = make([]byte, windowSize)
		}
		w.buf, w.from = w.buf[:min(cap(w.buf), w.left-pos)], pos
		if err := readFull(w.file, w.buf, w.begin+int64(pos)); err != nil {
			return batch.Header{}, fmt.Errorf("read headers: %w", err)
		}
	}
	h, err := batch.ParseHeader(w.buf[pos-w.from:])
	if err == nil && h.Size() > w.left-pos {
		err = batch.ErrTruncated
	}
	if err != nil {
		return h, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return h, nil
}

// Cut leaves the bytes [from, to) of a range, where batches begin (see Headers). It keeps the files, and Next.
func (r *Range) Cut(from, to int) {
	at := 0
	var kept []Chunk
	r.size = 0
	for _, c := range r.chunks {
		first, end := max(from-at, 0), min(to-at, c.Len)
		at += c.Len
		if first < end {
			kept = append(kept, Chunk{File: c.File, Pos: c.Pos + int64(first), Len: end - first})
			r.size += end - first
		}
	}
	r.chunks = kept
}
