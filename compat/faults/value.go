package faults

import (
	"encoding/binary"
	"fmt"
)

// Value is one record that was sent: it exists once. A writer numbers its values per partition from 0.
type Value struct {
	Writer    int // from 1
	Partition int32
	Seq       int
}

// String is how violations name a value.
func (v Value) String() string { return fmt.Sprintf("w%d/p%d/#%d", v.Writer, v.Partition, v.Seq) }

// valueHeader is writer, partition and sequence number.
const valueHeader = 12

// ValueSize is the default size of a value on the wire.
const ValueSize = 200

// Encode makes a record's value of so many bytes: the numbers, then a pattern that shows damage.
func (v Value) Encode(size int) []byte {
	b := make([]byte, max(size, valueHeader))
	binary.BigEndian.PutUint32(b, uint32(v.Writer))
	binary.BigEndian.PutUint32(b[4:], uint32(v.Partition))
	binary.BigEndian.PutUint32(b[8:], uint32(v.Seq))
	for i := valueHeader; i < len(b); i++ {
		b[i] = v.pattern(i)
	}
	return b
}

func (v Value) pattern(i int) byte { return byte(v.Seq*31 + v.Writer*7 + i) }

// DecodeValue reads what Encode has made and refuses every other byte.
func DecodeValue(b []byte) (Value, error) {
	if len(b) < valueHeader {
		return Value{}, fmt.Errorf("a value of %d bytes", len(b))
	}
	v := Value{
		Writer:    int(binary.BigEndian.Uint32(b)),
		Partition: int32(binary.BigEndian.Uint32(b[4:])),
		Seq:       int(binary.BigEndian.Uint32(b[8:])),
	}
	for i := valueHeader; i < len(b); i++ {
		if b[i] != v.pattern(i) {
			return v, fmt.Errorf("byte %d of %v is damaged", i, v)
		}
	}
	return v, nil
}
