package group

import (
	"encoding/binary"
	"fmt"
)

// The guard walks a value before kmsg decodes it. kmsg believes counts: an array of n members costs 150 bytes each before
// the first is read, and a count of tags is a loop of that many turns. A value that passes has all that it announces.

const (
	maxOffsetVersion   = 4
	maxMetadataVersion = 4
	maxTags            = 64 // of one structure; Kafka has one so far
)

// walker moves over a value; the first thing that does not fit makes it bad for good.
type walker struct {
	b        []byte
	flexible bool
	bad      bool
}

func newWalker(b []byte, maxVersion int16) (walker, int16, error) {
	if len(b) < 2 {
		return walker{}, 0, fmt.Errorf("%w: its value has %d bytes", errBadRecord, len(b))
	}
	version := int16(binary.BigEndian.Uint16(b))
	if version < 0 || version > maxVersion {
		return walker{}, 0, fmt.Errorf("%w: its value has version %d", errBadRecord, version)
	}
	return walker{b: b[2:], flexible: version >= 4}, version, nil
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

func (w *walker) int32() int {
	if len(w.b) < 4 {
		w.bad, w.b = true, nil
		return 0
	}
	n := int32(binary.BigEndian.Uint32(w.b))
	w.b = w.b[4:]
	return int(n)
}

// string skips a string, null or not.
func (w *walker) string() {
	switch {
	case w.flexible:
		w.skip(max(w.uvarint()-1, 0))
	case len(w.b) < 2:
		w.bad, w.b = true, nil
	default:
		n := int16(binary.BigEndian.Uint16(w.b))
		w.skip(2 + max(int(n), 0))
	}
}

func (w *walker) bytes() {
	if w.flexible {
		w.skip(max(w.uvarint()-1, 0))
		return
	}
	w.skip(max(w.int32(), 0))
}

// count reads the length of an array whose elements take least bytes each at the least.
func (w *walker) count(least int) int {
	n := 0
	if w.flexible {
		n = w.uvarint() - 1
	} else {
		n = w.int32()
	}
	if n > 0 && n > len(w.b)/least {
		w.bad, w.b = true, nil
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

func (w *walker) err(what string) error {
	if w.bad {
		return fmt.Errorf("%w: %s ends before it should", errBadRecord, what)
	}
	return nil
}

func guardOffset(b []byte) error {
	w, version, err := newWalker(b, maxOffsetVersion)
	if err != nil {
		return err
	}
	w.skip(8)
	if version >= 3 {
		w.skip(4)
	}
	w.string()
	w.skip(8)
	if version == 1 {
		w.skip(8)
	}
	w.tags()
	return w.err("the value of an offset")
}

// leastMember is the shortest member of a flexible value: six empty strings or byte arrays, two numbers, no tags.
const leastMember = 6 + 4 + 1

func guardMetadata(b []byte) error {
	w, version, err := newWalker(b, maxMetadataVersion)
	if err != nil {
		return err
	}
	w.string() // protocol type
	w.skip(4)  // generation
	w.string() // protocol
	w.string() // leader
	if version >= 2 {
		w.skip(8) // state since
	}
	for n := w.count(leastMember); n > 0 && !w.bad; n-- {
		w.string() // id
		if version >= 3 {
			w.string() // instance
		}
		w.string() // client id
		w.string() // client host
		if version >= 1 {
			w.skip(4) // rebalance timeout
		}
		w.skip(4) // session timeout
		w.bytes() // subscription
		w.bytes() // assignment
		w.tags()
	}
	w.tags()
	return w.err("the value of a group")
}
