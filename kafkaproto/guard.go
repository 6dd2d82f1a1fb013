package kafkaproto

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Errors of bodies. All wrap ErrBody.
var (
	// ErrBody is the kind of all errors of Guard and Decode.
	ErrBody = errors.New("invalid request body")
	// ErrUnknownRequest means a key or version that the guard has no schema for.
	ErrUnknownRequest = fmt.Errorf("%w: no schema for this key and version", ErrBody)
	// ErrTruncated means that the body ends inside a field.
	ErrTruncated = fmt.Errorf("%w: truncated", ErrBody)
	// ErrTrailing means bytes behind the last field.
	ErrTrailing = fmt.Errorf("%w: trailing bytes", ErrBody)
	// ErrCount means a count that the rest of the body can't hold, or that is above the field's own bound.
	ErrCount = fmt.Errorf("%w: count out of bounds", ErrBody)
	// ErrNull means a null where none is allowed, or a negative length other than null's.
	ErrNull = fmt.Errorf("%w: null or negative length", ErrBody)
	// ErrTags means tagged fields that are too many, out of order, or not as long as they say.
	ErrTags = fmt.Errorf("%w: tagged fields", ErrBody)
	// ErrVarint means a variable-length number that does not end or is above 32 bits.
	ErrVarint = fmt.Errorf("%w: variable-length number", ErrBody)
	// ErrBudget means that decoding would take far more memory than the body does.
	ErrBudget = fmt.Errorf("%w: would take too much memory", ErrBody)
)

const (
	// maxTags is the most tagged fields of one structure. Kafka's own messages have fewer than ten.
	maxTags = 64
	// budgetBase and budgetFactor bound what decoding may allocate: base + factor * bytes of the body. Honest requests
	// stay below 5 times their size; a body made of empty strings and tags would reach 50 times.
	budgetBase   = 64 << 10
	budgetFactor = 8
)

// Guard walks the body of a request along its schema and fails unless kmsg can decode it completely, in time linear in
// the body and with memory bounded by its size. It allocates nothing unless it fails.
func Guard(key Key, version int16, body []byte) error {
	if !key.Known() || schemas[key] == nil || !schemas[key].versions.Contains(version) {
		return fmt.Errorf("%w: %s version %d", ErrUnknownRequest, key, version)
	}
	s := schemas[key]
	w := walker{
		rest:     body,
		version:  version,
		flexible: version >= s.flexible,
		budget:   budgetBase + budgetFactor*len(body),
	}
	if w.structure(&s.root) && len(w.rest) > 0 {
		w.fail(ErrTrailing)
	}
	if w.err != nil {
		return fmt.Errorf("%s version %d, field %q, %d bytes before the end: %w", key, version, w.at, len(w.rest), w.err)
	}
	return nil
}

// Decode checks a body with Guard and decodes it. Byte fields alias the body; strings do not, so that keeping one keeps
// no frame alive.
func Decode(h RequestHeader, body []byte) (kmsg.Request, error) {
	if err := Guard(h.Key, h.Version, body); err != nil {
		return nil, err
	}
	req := kmsg.RequestForKey(int16(h.Key))
	req.SetVersion(h.Version)
	if err := req.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("%w: %s version %d: %w", ErrBody, h.Key, h.Version, err)
	}
	return req, nil
}

// walker steps through a body. Its methods return false once something is wrong; err says what, at says where.
type walker struct {
	rest     []byte
	version  int16
	flexible bool
	budget   int
	at       string
	err      error
}

func (w *walker) fail(err error) bool {
	if w.err == nil {
		w.err = err
	}
	return false
}

// spend takes memory from the budget.
func (w *walker) spend(n int) bool {
	if w.budget -= n; w.budget < 0 {
		return w.fail(ErrBudget)
	}
	return true
}

func (w *walker) skip(n int) bool {
	if n > len(w.rest) {
		return w.fail(ErrTruncated)
	}
	w.rest = w.rest[n:]
	return true
}

func (w *walker) structure(s *structure) bool {
	for i := range s.fields {
		f := &s.fields[i]
		if f.versions.Contains(w.version) && !w.field(f) {
			if w.at == "" {
				w.at = f.name
			}
			return false
		}
	}
	if !w.flexible {
		return true
	}
	return w.tags(s.tagged)
}

func (w *walker) field(f *field) bool {
	null := w.version >= f.nullable
	switch f.kind {
	case kindFixed:
		return w.skip(f.size)
	case kindString:
		n, ok := w.length(2, null)
		if null && n >= 0 {
			ok = ok && w.spend(stringMemory) // behind a pointer
		}
		n = max(n, 0)
		return ok && w.spend(n) && w.skip(n)
	case kindBytes:
		n, ok := w.length(4, null)
		return ok && w.skip(max(n, 0))
	case kindArray:
		return w.array(f, null)
	default:
		return w.nested(f, null)
	}
}

// nested walks a structure that stands alone. A nullable one begins with a byte: -1 for null, 1 otherwise.
func (w *walker) nested(f *field, null bool) bool {
	if null {
		if len(w.rest) == 0 {
			return w.fail(ErrTruncated)
		}
		present := int8(w.rest[0])
		w.rest = w.rest[1:]
		switch present {
		case -1:
			return true
		case 1:
		default:
			return w.fail(ErrNull)
		}
	}
	return w.spend(f.memory) && w.structure(f.body)
}

func (w *walker) array(f *field, null bool) bool {
	n, ok := w.length(4, null)
	if !ok || n <= 0 {
		return ok
	}
	if n > f.max || n > len(w.rest)/f.least[w.version] {
		return w.fail(ErrCount)
	}
	if !w.spend(n * f.elem.memory) {
		return false
	}
	switch f.elem.kind {
	case kindFixed:
		return w.skip(n * f.elem.size)
	case kindStruct:
		for range n {
			if !w.structure(f.elem.body) {
				return false
			}
		}
		return true
	}
	for range n {
		if !w.field(f.elem) {
			return false
		}
	}
	return true
}

// length reads the length of a string, byte field or array, whose classic form is a signed number of the given size. It
// returns -1 for an allowed null.
func (w *walker) length(size int, null bool) (int, bool) {
	n := 0
	switch {
	case w.flexible:
		u, ok := w.uvarint()
		if !ok {
			return 0, false
		}
		n = int(u) - 1
	case len(w.rest) < size:
		return 0, w.fail(ErrTruncated)
	case size == 2:
		n = int(int16(binary.BigEndian.Uint16(w.rest)))
		w.rest = w.rest[2:]
	default:
		n = int(int32(binary.BigEndian.Uint32(w.rest)))
		w.rest = w.rest[4:]
	}
	if n < -1 || n == -1 && !null {
		return 0, w.fail(ErrNull)
	}
	return n, true
}

// uvarint reads an unsigned number of at most 32 bits.
func (w *walker) uvarint() (uint32, bool) {
	const bytes, topBits = 5, 0x0f // the fifth byte holds the top four bits
	var v uint32
	for i := range bytes {
		if i >= len(w.rest) {
			return 0, w.fail(ErrTruncated)
		}
		b := w.rest[i]
		if i == bytes-1 && b > topBits {
			break
		}
		v |= uint32(b&0x7f) << (7 * i)
		if b < 0x80 {
			w.rest = w.rest[i+1:]
			return v, true
		}
	}
	return 0, w.fail(ErrVarint)
}

// tags walks the tagged fields at the end of a structure: known ones by their schema, others by their length.
func (w *walker) tags(known []field) bool {
	count, ok := w.uvarint()
	if !ok {
		return false
	}
	if count > maxTags || int(count) > len(w.rest)/2 {
		return w.fail(ErrTags)
	}
	last, unknown := -1, 0
	for range count {
		tag, ok1 := w.uvarint()
		size, ok2 := w.uvarint()
		if !ok1 || !ok2 {
			return false
		}
		if int(tag) <= last || int(size) > len(w.rest) {
			return w.fail(ErrTags)
		}
		last = int(tag)
		f := find(known, tag)
		if f == nil {
			if unknown++; !w.spendTag(unknown) || !w.skip(int(size)) {
				return false
			}
			continue
		}
		if !w.taggedField(f, int(size)) {
			if w.at == "" {
				w.at = f.name
			}
			return false
		}
	}
	return true
}

// taggedField walks a known tagged field, which must be exactly as long as its size says.
func (w *walker) taggedField(f *field, size int) bool {
	behind := w.rest[size:]
	w.rest = w.rest[:size]
	if !w.field(f) {
		return false
	}
	if len(w.rest) > 0 {
		return w.fail(ErrTags)
	}
	w.rest = behind
	return true
}

// spendTag pays for the nth unknown tag of a structure.
func (w *walker) spendTag(n int) bool {
	if n == 1 {
		return w.spend(tagsMemory)
	}
	return w.spend(furtherTagMemory)
}

func find(known []field, tag uint32) *field {
	for i := range known {
		if known[i].tag == tag {
			return &known[i]
		}
	}
	return nil
}

// nullableString reads a string in the classic form, which request headers use in all versions. It is nil for null.
func (w *walker) nullableString() ([]byte, bool) {
	n, ok := w.length(2, true)
	if !ok || n < 0 {
		return nil, ok
	}
	s := w.rest
	if !w.skip(n) {
		return nil, false
	}
	return s[:n:n], true
}

// skipTags skips the tagged fields of a header, none of which is known.
func (w *walker) skipTags() bool { return w.tags(nil) }
