package txn

import (
	"encoding/binary"
	"fmt"
)

// guard walks a value before kmsg decodes it. kmsg believes counts: an array of n members costs their size before the first
// is read, and a count of tags is a loop of that many turns. A value that passes has all that it announces.
func guard(b []byte) error {
	if len(b) < 2 {
		return fmt.Errorf("%w: its value has %d bytes", errBadRecord, len(b))
	}
	version := int16(binary.BigEndian.Uint16(b))
	if version < 0 || version > maxValueVersion {
		return fmt.Errorf("%w: its value has version %d", errBadRecord, version)
	}
	w := walker{b: b[2:], flexible: version >= 1}
	w.skip(8 + 2 + 4 + 1) // producer id, epoch, timeout, state
	for n := w.count(leastTopic); n > 0 && !w.bad; n-- {
		w.string()
		w.skip(4 * w.count(4))
		w.tags()
	}
	w.skip(8 + 8) // updated, started
	w.tags()
	if w.bad {
		return fmt.Errorf("%w: its value ends before it should", errBadRecord)
	}
	return nil
}

const (
	leastTopic = 2  // an empty name and no partitions
	maxTags    = 64 // of one structure; Kafka has four so far
)

// walker moves over a value; the first thing that does not fit makes it bad for good.
type walker struct {
	b        []byte
	flexible bool
	bad      bool
}

func (w *walker) skip(n int) {
	if n < 0 || n > len(w.b) {
		w.bad, w.b = true, nil
		return
	}
	w.b = w.b[n:]
}

func (w *walker) uvarint() int {
	n, size := binary.Uvarint(w.b)
	if size <= 0 || n > 1<<31-1 {
		w.bad, w.b = true, nil
		return 0
	}
	w.b = w.b[size:]
	return int(n)
}

// number reads n bytes as a signed number.
func (w *walker) number(n int) int {
	if len(w.b) < n {
		w.bad, w.b = true, nil
		return 0
	}
	v := int64(int8(w.b[0]))
	for _, c := range w.b[1:n] {
		v = v<<8 | int64(c)
	}
	w.b = w.b[n:]
	return int(v)
}

func (w *walker) string() {
	if w.flexible {
		w.skip(max(w.uvarint()-1, 0))
		return
	}
	w.skip(max(w.number(2), 0))
}

// count reads the length of an array whose elements take least bytes each at the least.
func (w *walker) count(least int) int {
	n := 0
	if w.flexible {
		n = w.uvarint() - 1
	} else {
		n = w.number(4)
	}
	if n > 0 && n > len(w.b)/least {
		w.bad, w.b = true, nil
		return 0
	}
	return max(n, 0)
}

func (w *walker) tags() {
	if !w.flexible {
		return
	}
	n := w.uvarint()
	if n > maxTags {
		w.bad, w.b = true, nil
	}
	for ; n > 0 && !w.bad; n-- {
		w.uvarint()
		w.skip(w.uvarint())
	}
}
