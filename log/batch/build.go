package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Producer is the identity of an idempotent batch.
type Producer struct {
	ID       int64
	Epoch    int16
	Sequence int32 // of the first record
}

// BuildOptions describe a batch apart from its records. The zero value is a plain uncompressed batch.
type BuildOptions struct {
	Codec         Codec
	Level         int       // 0 and DefaultLevel are the codec's default
	Producer      *Producer // nil: not idempotent
	Transactional bool
	Control       bool
}

// Builder collects records and makes a batch of them. It is not safe for concurrent use.
type Builder struct {
	opt   BuildOptions
	buf   []byte // room for the header, then the encoded records
	room  int    // size of the buffer that was given away last
	count int32
	base  int64 // timestamp of the first record
	max   int64
}

// NewBuilder returns an empty builder.
func NewBuilder(opt BuildOptions) *Builder { return &Builder{opt: opt} }

// Add appends a record. Its Offset is ignored: records are numbered in order.
func (b *Builder) Add(r Record) {
	if b.count == 0 {
		b.base, b.max = r.Timestamp, r.Timestamp
		b.buf = append(slices.Grow(b.buf[:0], max(b.room, HeaderSize)), make([]byte, HeaderSize)...)
	}
	b.max = max(b.max, r.Timestamp)
	b.buf = appendRecord(b.buf, r, r.Timestamp-b.base, b.count)
	b.count++
}

// Len is the number of records added.
func (b *Builder) Len() int { return int(b.count) }

// Size is what the batch would take without compression, in bytes.
func (b *Builder) Size() int { return max(len(b.buf), HeaderSize) }

// Build returns the frame, unstamped and sealed, and empties the builder. ErrCount without records, ErrTooLarge above MaxLength.
func (b *Builder) Build() ([]byte, error) {
	if b.count == 0 {
		return nil, fmt.Errorf("%w: no records", ErrCount)
	}
	frame := b.buf
	if b.opt.Codec != None {
		var err error
		// Half the size is a guess; the encoder grows it where content does not compress.
		frame, err = compress(make([]byte, HeaderSize, HeaderSize+len(b.buf)/2), b.opt.Codec, b.opt.Level, b.buf[HeaderSize:])
		if err != nil {
			return nil, err
		}
	} else {
		b.room, b.buf = len(b.buf), nil // the caller's now
	}
	h := b.header()
	b.buf, b.count = b.buf[:0], 0
	if err := checkSize(frame); err != nil {
		return nil, err
	}
	PutHeader(frame, h)
	Seal(frame)
	return frame, nil
}

func (b *Builder) header() Header {
	h := Header{
		BaseOffset:      Unstamped,
		LeaderEpoch:     NoEpoch,
		Magic:           Magic,
		Attributes:      int16(b.opt.Codec),
		LastOffsetDelta: b.count - 1,
		BaseTimestamp:   b.base,
		MaxTimestamp:    b.max,
		ProducerID:      NoProducerID,
		ProducerEpoch:   NoProducerEpoch,
		BaseSequence:    NoSequence,
		NumRecords:      b.count,
	}
	if p := b.opt.Producer; p != nil {
		h.ProducerID, h.ProducerEpoch, h.BaseSequence = p.ID, p.Epoch, p.Sequence
	}
	if b.opt.Transactional {
		h.Attributes |= AttrTransactional
	}
	if b.opt.Control {
		h.Attributes |= AttrControl
	}
	return h
}

func checkSize(frame []byte) error {
	if len(frame)-Overhead > MaxLength {
		return fmt.Errorf("%w: %d bytes, at most %d are possible", ErrTooLarge, len(frame), MaxLength+Overhead)
	}
	return nil
}

// Build makes a batch of records, at least one.
func Build(opt BuildOptions, records ...Record) ([]byte, error) {
	b := NewBuilder(opt)
	for _, r := range records {
		b.Add(r)
	}
	return b.Build()
}

// Recompress returns the batch with its records compressed by another codec, everything else unchanged and the CRC new. A frame that has
// the codec already is returned as it is. ErrTooLarge if it would have more than limit bytes; 0 is no limit but MaxLength. What the records
// are without compression is never in memory as a whole. They are not parsed: validate the frame first.
func Recompress(frame []byte, to Codec, level, limit int) ([]byte, error) {
	h, err := parseFrame(frame)
	if err != nil {
		return nil, err
	}
	if h.Codec() == to {
		return frame, nil
	}
	if limit <= 0 || limit > MaxLength+Overhead {
		limit = MaxLength + Overhead
	}
	p := newPacker(to, level, limit, 0)
	defer p.release()
	out, err := p.repack(h.Codec(), frame[HeaderSize:])
	if err != nil {
		return nil, err
	}
	h.Attributes = h.Attributes&^AttrCodec | int16(to)
	PutHeader(out, h)
	Seal(out)
	return slices.Clip(out), nil
}

// ControlType is the kind of a control record.
type ControlType int16

// The end of a transaction (KIP-98).
const (
	ControlAbort  ControlType = 0
	ControlCommit ControlType = 1
)

// Control is the content of a control batch that ends a producer's transaction.
type Control struct {
	Type             ControlType
	ProducerID       int64
	ProducerEpoch    int16
	CoordinatorEpoch int32
	Timestamp        int64
}

// Sizes of a marker's key (version, type) and value (version, coordinator epoch), in bytes. Newer versions may append fields.
const (
	controlKeySize   = 4
	controlValueSize = 6
	// maxControl bounds what a compressed control batch may become, in bytes. Nobody compresses 10 bytes.
	maxControl = 4 << 10
)

// BuildControl makes the marker batch: one record, outside the producer's sequence.
func BuildControl(c Control) []byte {
	key := binary.BigEndian.AppendUint16(make([]byte, 2, controlKeySize), uint16(c.Type))
	value := binary.BigEndian.AppendUint32(make([]byte, 2, controlValueSize), uint32(c.CoordinatorEpoch))
	b := NewBuilder(BuildOptions{Producer: &Producer{c.ProducerID, c.ProducerEpoch, NoSequence}, Transactional: true, Control: true})
	b.Add(Record{Timestamp: c.Timestamp, Key: key, Value: value})
	frame, _ := b.Build() // one small record, uncompressed: neither error is possible
	return frame
}

// ParseControl reads a marker batch. ErrRecord if it is none; a Type that is neither commit nor abort is for the caller to ignore.
func ParseControl(frame []byte) (Control, error) {
	h, err := parseFrame(frame)
	if err != nil {
		return Control{}, err
	}
	if !h.IsControl() {
		return Control{}, fmt.Errorf("%w: not a control batch", ErrRecord)
	}
	c := Control{ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch}
	done := errors.New("first record read")
	err = iterate(frame, maxControl, func(r Record) error {
		if len(r.Key) < controlKeySize || len(r.Value) < controlValueSize {
			return fmt.Errorf("%w: control record with a key of %d and a value of %d bytes", ErrRecord, len(r.Key), len(r.Value))
		}
		c.Type = ControlType(binary.BigEndian.Uint16(r.Key[2:]))
		c.CoordinatorEpoch = int32(binary.BigEndian.Uint32(r.Value[2:]))
		c.Timestamp = r.Timestamp
		return done
	})
	switch err {
	case done:
		return c, nil
	case nil:
		return Control{}, fmt.Errorf("%w: control batch without a record", ErrCount)
	}
	return Control{}, err
}
