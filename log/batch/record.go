package batch

import (
	"fmt"
	"iter"
	"slices"
	"sync"
)

// Record is one record of a batch.
type Record struct {
	Offset    Offset
	Timestamp int64 // milliseconds since 1970, or NoTimestamp
	Key       []byte
	Value     []byte // nil is a tombstone; empty is not
	// Headers are those of a record that is to be built. Of one that was read they stay as they are written: an empty one is two bytes
	// there, and 40 here. See NumHeaders and EachHeader.
	Headers []RecordHeader

	raw   []byte // the headers of a record that was read, verified
	count int    // of them
}

// NumHeaders is how many headers a record has that Iterate gave.
func (r *Record) NumHeaders() int { return r.count }

// EachHeader goes over the keys and values of the headers of a record that Iterate gave; they alias what it was read from.
func (r *Record) EachHeader() iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		for b, i := r.raw, 0; i < len(b); {
			n, from := varint32(b, i)
			i = from + int(n)
			key, value := b[from:i:i], []byte(nil)
			if n, i = varint32(b, i); n >= 0 {
				value = b[i : i+int(n) : i+int(n)]
				i += int(n)
			}
			if !yield(key, value) {
				return
			}
		}
	}
}

// RecordHeader is an entry of a record's headers. Keys may repeat, and their order counts.
type RecordHeader struct {
	Key   string
	Value []byte
}

// rawRecord is a record as it is written (all numbers are varints):
//
//	length | attributes 1 | timestamp delta | offset delta | key length, key | value length, value | count, headers
//	header: key length, key | value length, value                               length -1 is null, never for a header's key
type rawRecord struct {
	timestampDelta int64
	offsetDelta    int64 // fits an int32
	hasKey         bool
	hasValue       bool
	numHeaders     int

	// The rest is only filled in where the whole record lies in memory at once (not by scanner.large).
	key, value []byte
	headers    []byte // what follows the count, verified
}

// minHeader is the size of the smallest header: two lengths. minBody is that of the smallest record without its length.
const (
	minHeader = 2
	minBody   = 6
)

// The faults of a record. Texts, not errors: the scanner adds which record it is, once, when it gives up.
const (
	faultFields  = "cut off within its fields"
	faultKey     = "key length out of bounds"
	faultValue   = "value length out of bounds"
	faultHeaders = "headers out of bounds"
	faultMany    = "too many headers"
	faultLength  = "length out of bounds"
	faultRest    = "longer than its fields"
)

// parse reads a record without its length; b holds exactly that. It returns "" or a fault.
func (r *rawRecord) parse(b []byte) string {
	var keyLen, valueLen, count int64
	i := 1 // record attributes: none are defined, Kafka ignores them
	r.timestampDelta, i = varint64(b, i)
	r.offsetDelta, i = varint32(b, i)
	keyLen, i = varint32(b, i)
	if i < 0 {
		return faultFields
	}
	if keyLen < -1 || keyLen > int64(len(b)-i) {
		return faultKey
	}
	r.key = nil
	if r.hasKey = keyLen >= 0; r.hasKey {
		r.key = b[i : i+int(keyLen) : i+int(keyLen)]
		i += int(keyLen)
	}
	if valueLen, i = varint32(b, i); i < 0 {
		return faultFields
	}
	if valueLen < -1 || valueLen > int64(len(b)-i) {
		return faultValue
	}
	r.value = nil
	if r.hasValue = valueLen >= 0; r.hasValue {
		r.value = b[i : i+int(valueLen) : i+int(valueLen)]
		i += int(valueLen)
	}
	if count, i = varint32(b, i); i < 0 {
		return faultFields
	}
	r.headers, r.numHeaders = b[i:], int(count)
	if count == 0 && i == len(b) {
		return ""
	}
	return checkHeaders(r.headers, count)
}

// checkHeaders walks over count headers that must fill b.
func checkHeaders(b []byte, count int64) string {
	if count < 0 || count > int64(len(b)/minHeader) {
		return faultHeaders
	}
	i := 0
	for range count {
		var n int64
		if n, i = varint32(b, i); i < 0 || n < 0 || n > int64(len(b)-i) {
			return faultHeaders
		}
		i += int(n)
		if n, i = varint32(b, i); i < 0 || n < -1 || n > int64(len(b)-i) {
			return faultHeaders
		}
		i += int(max(n, 0))
	}
	if i != len(b) {
		return faultRest
	}
	return ""
}

// appendRecord encodes a record of a batch.
func appendRecord(dst []byte, r Record, timestampDelta int64, offsetDelta int32) []byte {
	count := int64(r.count + len(r.Headers))
	size := 1 + varintLen(timestampDelta) + varintLen(int64(offsetDelta)) + bytesLen(r.Key) + bytesLen(r.Value) +
		varintLen(count) + len(r.raw)
	for _, h := range r.Headers {
		size += varintLen(int64(len(h.Key))) + len(h.Key) + bytesLen(h.Value)
	}
	dst = slices.Grow(dst, size+varintLen(int64(size)))
	dst = appendVarint(dst, int64(size))
	dst = append(dst, 0)
	dst = appendVarint(dst, timestampDelta)
	dst = appendVarint(dst, int64(offsetDelta))
	dst = appendBytes(dst, r.Key)
	dst = appendBytes(dst, r.Value)
	dst = append(appendVarint(dst, count), r.raw...)
	for _, h := range r.Headers {
		dst = appendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendBytes(dst, h.Value)
	}
	return dst
}

func bytesLen(b []byte) int {
	if b == nil {
		return 1
	}
	return varintLen(int64(len(b))) + len(b)
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return appendVarint(dst, -1)
	}
	return append(appendVarint(dst, int64(len(b))), b...)
}

// scratch is a pooled buffer for content that is needed only for a moment.
type scratch struct{ b []byte }

// maxScratch is the largest buffer that a pool keeps, in bytes: the records of a large client batch. The rare larger ones are left to
// the collector, or one of them would pin its size for each processor.
const maxScratch = 4 << 20

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func (s *scratch) release() {
	if cap(s.b) <= maxScratch {
		scratches.Put(s)
	}
}

// Iterate calls fn for each record of a frame, in order, until fn returns an error, which it passes on. It checks what it reads, but
// neither CRC nor the order of the deltas, which compaction leaves with gaps. Keys, values and headers stay valid: they alias the
// frame or, if it is compressed, memory made for this call, which is all that the batch decompresses to. Where that may be too much,
// IterateUpTo or Scan is to be used. Internal frames have no records.
func Iterate(frame []byte, fn func(Record) error) error {
	return iterate(frame, MaxDecompressed, fn)
}

// IterateUpTo is Iterate with a bound of its own on what the records may decompress to, in bytes: ErrTooLarge above it.
func IterateUpTo(frame []byte, limit int64, fn func(Record) error) error {
	return iterate(frame, min(limit, MaxDecompressed), fn)
}

func iterate(frame []byte, limit int64, fn func(Record) error) error {
	h, err := parseFrame(frame)
	if err != nil || h.IsInternal() {
		return err
	}
	content, err := content(h, frame, limit)
	if err != nil {
		return err
	}
	s := scanner{win: window{data: content}, count: h.NumRecords}
	for s.more() {
		if err := s.next(); err != nil {
			return err
		}
		r := Record{
			Offset:    h.BaseOffset + Offset(s.rec.offsetDelta),
			Timestamp: h.BaseTimestamp + s.rec.timestampDelta,
			Key:       s.rec.key,
			Value:     s.rec.value,
			raw:       s.rec.headers,
			count:     s.rec.numHeaders,
		}
		if h.IsLogAppendTime() {
			r.Timestamp = h.MaxTimestamp
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return s.end()
}

// parseFrame reads the header of exactly one batch.
func parseFrame(frame []byte) (Header, error) {
	h, err := ParseHeader(frame)
	switch {
	case err != nil:
		return Header{}, err
	case h.Size() > len(frame):
		return Header{}, fmt.Errorf("%w: %d bytes of %d", ErrTruncated, len(frame), h.Size())
	case h.Size() < len(frame):
		return Header{}, fmt.Errorf("%w: length field says %d, frame has %d bytes more", ErrLength, h.Length, len(frame)-h.Size())
	}
	return h, nil
}

// content returns the decompressed records: part of the frame, or a slice of its own.
func content(h Header, frame []byte, limit int64) ([]byte, error) {
	if h.Codec() == None {
		return frame[HeaderSize:], nil
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	out, err := decompress(s.b[:0], h.Codec(), frame[HeaderSize:], limit)
	if err != nil {
		return nil, err
	}
	if cap(out) > maxScratch {
		return out, nil // the pool would not take it: no need to copy
	}
	s.b = out[:0]
	return slices.Clone(out), nil
}
