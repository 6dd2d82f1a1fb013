package batch

import (
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"slices"
)

const (
	// windowSize is what a window for decompressed records starts with, in bytes: it fits the second-level cache.
	windowSize = 256 << 10
	// maxWhole is the largest record that is brought into the window as a whole, in bytes. What is left over when the window is filled
	// is less, so that half of the window is free for the decoder.
	maxWhole = windowSize / 2
)

// window is the part of a batch's records that is in memory. For an uncompressed batch that is all, and src is nil.
type window struct {
	data  []byte // not yet read
	buf   []byte // what data lies in, if src is set; kept for reuse
	src   source
	limit int64 // of total
	total int64 // bytes that src has yielded
}

// fill adds at least one byte to data, or returns io.EOF. Earlier slices of data become invalid.
func (w *window) fill() error {
	if w.src == nil {
		return io.EOF
	}
	n := copy(w.buf[:cap(w.buf)], w.data)
	out, err := w.src.next(w.buf[:n], w.limit-w.total)
	w.data, w.buf = out, out[:0]
	if err != nil {
		return err
	}
	if w.total += int64(len(out) - n); w.total > w.limit {
		return errExpands(w.limit)
	}
	return nil
}

// need fills until data holds n bytes or the records end.
func (w *window) need(n int) error {
	for len(w.data) < n {
		if err := w.fill(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// skip discards n bytes; io.ErrUnexpectedEOF if the records end before.
func (w *window) skip(n int64) error {
	for n > int64(len(w.data)) {
		n -= int64(len(w.data))
		w.data = w.data[len(w.data):]
		if err := w.fill(); err == io.EOF {
			return io.ErrUnexpectedEOF
		} else if err != nil {
			return err
		}
	}
	w.data = w.data[n:]
	return nil
}

// copy is skip, but hands on what it passes over.
func (w *window) copy(to io.Writer, n int64) error {
	for n > 0 {
		if len(w.data) == 0 {
			if err := w.fill(); err == io.EOF {
				return io.ErrUnexpectedEOF
			} else if err != nil {
				return err
			}
		}
		k := min(n, int64(len(w.data)))
		if _, err := to.Write(w.data[:k]); err != nil {
			return err
		}
		w.data = w.data[k:]
		n -= k
	}
	return nil
}

// scanner reads the records of a batch one by one.
type scanner struct {
	win   window
	count int32 // records that the header promises
	index int32 // records read
	rec   rawRecord
	keys  hash.Hash // is given the key of a record that does not fit the window, if not nil
	// client: it is a client's batch, of which the headers are not read of a record that has too many.
	client bool
}

// close lets go of the frame.
func (s *scanner) close() {
	s.win.close()
	s.rec, s.keys, s.client = rawRecord{}, nil, false
}

func (s *scanner) more() bool { return s.index < s.count }

// next reads a record into rec.
func (s *scanner) next() error {
	w := &s.win
	size, i := varint32(w.data, 0)
	if i < 0 {
		if err := w.need(binary.MaxVarintLen32); err != nil {
			return err
		}
		if len(w.data) == 0 {
			return fmt.Errorf("%w: header says %d records, content has %d", ErrCount, s.count, s.index)
		}
		if size, i = varint32(w.data, 0); i < 0 {
			return s.fail(faultFields)
		}
	}
	if size < minBody {
		return s.fail(faultLength)
	}
	w.data = w.data[i:]
	if size > int64(len(w.data)) {
		if w.src != nil && size > maxWhole {
			return s.large(size)
		}
		if err := w.need(int(size)); err != nil {
			return err
		}
		if size > int64(len(w.data)) {
			return s.fail(faultLength)
		}
	}
	body := w.data[:size:size]
	w.data = w.data[size:]
	if fault := s.rec.parse(body); fault != "" {
		return s.fail(fault)
	}
	s.index++
	return nil
}

// end checks that nothing follows the last record.
func (s *scanner) end() error {
	if err := s.win.need(1); err != nil {
		return err
	}
	if len(s.win.data) > 0 {
		return fmt.Errorf("%w: more content than the %d records of the header", ErrCount, s.count)
	}
	return nil
}

func (s *scanner) fail(fault string) error {
	return fmt.Errorf("%w: record %d: %s", ErrRecord, s.index, fault)
}

// large reads a record that does not fit the window: lengths are looked at, contents skipped as they are decompressed. It checks
// what rawRecord.parse checks.
func (s *scanner) large(size int64) error {
	f := fields{win: &s.win, left: size}
	f.skip(1) // record attributes
	s.rec = rawRecord{}
	s.rec.timestampDelta = f.varint(binary.MaxVarintLen64)
	s.rec.offsetDelta = f.varint(binary.MaxVarintLen32)
	if s.keys != nil {
		s.keys.Reset()
		f.to = s.keys
	}
	s.rec.hasKey = f.bytes(-1, faultKey)
	f.to = nil
	s.rec.hasValue = f.bytes(-1, faultValue)
	count := f.varint(binary.MaxVarintLen32)
	s.rec.numHeaders = int(count)
	if s.client && f.ok() && count > MaxHeaders {
		f.fault = faultMany
	}
	if f.ok() && (count < 0 || count > f.left/minHeader) {
		f.fault = faultHeaders
	}
	for ; count > 0 && f.ok(); count-- {
		f.bytes(0, faultHeaders)
		f.bytes(-1, faultHeaders)
	}
	if f.ok() && f.left > 0 {
		f.fault = faultRest
	}
	switch {
	case f.err == io.ErrUnexpectedEOF:
		return s.fail(faultLength)
	case f.err != nil:
		return f.err
	case f.fault != "":
		return s.fail(f.fault)
	}
	s.index++
	return nil
}

// fields reads a record from a window piece by piece. After the first fault or error its methods do nothing.
type fields struct {
	win   *window
	left  int64     // bytes of the record still to come
	to    io.Writer // where the bytes of a key or value go that is passed over, if not nil
	fault string
	err   error
}

func (f *fields) ok() bool { return f.fault == "" && f.err == nil }

// skip passes over n <= left bytes.
func (f *fields) skip(n int64) {
	if f.ok() {
		f.left -= n
		f.err = f.win.skip(n)
	}
}

// copy is skip, but hands on what it passes over.
func (f *fields) copy(to io.Writer, n int64) {
	if f.ok() {
		f.left -= n
		f.err = f.win.copy(to, n)
	}
}

func (f *fields) varint(size int) int64 {
	if !f.ok() {
		return 0
	}
	if f.err = f.win.need(size); f.err != nil {
		return 0
	}
	v, n := varintSlow(f.win.data[:min(int64(len(f.win.data)), f.left)], 0, size)
	if n < 0 {
		f.fault = faultFields
		return 0
	}
	f.skip(int64(n))
	return v
}

// bytes passes over a length of at least lowest and that many bytes, and tells whether they are not null.
func (f *fields) bytes(lowest int64, fault string) bool {
	n := f.varint(binary.MaxVarintLen32)
	if f.ok() && (n < lowest || n > f.left) {
		f.fault = fault
	}
	if f.to == nil {
		f.skip(max(n, 0))
	} else {
		f.copy(f.to, max(n, 0))
	}
	return n >= 0
}

// open points the window at the records of a frame. close must follow.
func (w *window) open(h Header, frame []byte, limit int64) error {
	payload := frame[HeaderSize:]
	w.limit, w.total = limit, 0
	if h.Codec() == None {
		w.data, w.src = payload, nil
		return nil
	}
	if cap(w.buf) < windowSize {
		w.buf = slices.Grow(w.buf[:0], windowSize)
	}
	w.data = w.buf[:0]
	src, err := openSource(h.Codec(), payload, limit)
	if err != nil {
		return err
	}
	w.src = src
	return nil
}

func (w *window) close() {
	if w.src != nil {
		w.src.close()
	}
	w.src, w.data = nil, nil
	if cap(w.buf) > maxScratch {
		w.buf = nil
	}
}
