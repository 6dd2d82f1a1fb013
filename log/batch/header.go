package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// The header of a RecordBatch v2 (KIP-98), big endian:
//
//	0        8      12     16 17   21   23        27         35         43        51    53     57     61
//	|base    |length|leader|m |CRC |attr|last     |base      |max       |producer |prod.|base  |number|records...
//	|offset  |      |epoch |2 |32C |    |off.delta|timestamp |timestamp |id       |epoch|seq.  |recs  |
//	|8       |4     |4     |1 |4   |2   |4        |8         |8         |8        |2    |4     |4     |
//	                           `--------------------- the CRC covers byte 21 to the end ---------------
//
// length counts from byte 12 on. Base offset and leader epoch lie outside the CRC, so that whoever stores the batch can
// stamp them in place.
const (
	posBaseOffset    = 0
	posLength        = 8
	posLeaderEpoch   = 12
	posMagic         = 16
	posCRC           = 17
	posAttributes    = 21
	posLastDelta     = 23
	posBaseTimestamp = 27
	posMaxTimestamp  = 35
	posProducerID    = 43
	posProducerEpoch = 51
	posBaseSequence  = 53
	posNumRecords    = 57

	// HeaderSize is the size of a batch without records, in bytes.
	HeaderSize = 61
	// Overhead is the part of a frame that its length field does not count, in bytes.
	Overhead = 12
	// Magic is the only message format that Quorlog reads and writes.
	Magic = 2

	// MinLength is the length field of a batch without records.
	MinLength = HeaderSize - Overhead
	// MaxLength bounds the length field, in bytes: no request, hence no batch, is larger than 100 MiB (the shared port tells
	// Kafka from other protocols by that cap). It guards every allocation that is made for a length read from a peer or disk.
	MaxLength = 100 << 20
)

// Bits of the attributes field.
const (
	AttrCodec         int16 = 0x07
	AttrLogAppendTime int16 = 1 << 3 // every record's time is MaxTimestamp
	AttrTransactional int16 = 1 << 4
	AttrControl       int16 = 1 << 5
	AttrDeleteHorizon int16 = 1 << 6 // BaseTimestamp is the time at which compaction may drop tombstones (KIP-534)
	AttrInternal      int16 = math.MinInt16
	// AttrClient are the bits that a client may set. AttrLogAppendTime is harmless: SetCreateTime and SetLogAppendTime decide it
	// anew for every batch that is stored.
	AttrClient = AttrCodec | AttrLogAppendTime | AttrTransactional
)

const (
	// NoProducerID is the producer id of a batch that is not idempotent.
	NoProducerID int64 = -1
	// NoProducerEpoch belongs to NoProducerID.
	NoProducerEpoch int16 = -1
	// NoSequence is the base sequence of batches outside a producer's numbering: without producer id, and control batches.
	NoSequence int32 = -1
	// NoTimestamp says that a record has no timestamp.
	NoTimestamp int64 = -1
)

// Header is a parsed batch header. It is a copy: changing it does not change the frame.
type Header struct {
	BaseOffset      Offset
	Length          int32 // bytes after the length field, MinLength..MaxLength
	LeaderEpoch     Epoch
	Magic           int8
	CRC             uint32
	Attributes      int16
	LastOffsetDelta int32 // LastOffset = BaseOffset + LastOffsetDelta; -1 for frames without offsets
	BaseTimestamp   int64 // milliseconds since 1970
	MaxTimestamp    int64
	ProducerID      int64
	ProducerEpoch   int16
	BaseSequence    int32
	NumRecords      int32
}

// ParseHeader reads the header at the start of b, which may hold more than the batch, or only its header. It checks magic
// and the bounds of the length, nothing else: ErrTruncated, ErrMagic, ErrLength.
func ParseHeader(b []byte) (Header, error) {
	// Message sets v0 and v1 have their magic in the same place and may be shorter than a header: tell them apart first.
	if len(b) > posMagic && b[posMagic] != Magic {
		return Header{}, fmt.Errorf("%w: %d", ErrMagic, int8(b[posMagic]))
	}
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes are less than a header", ErrTruncated, len(b))
	}
	h := decodeHeader((*[HeaderSize]byte)(b))
	if h.Length < MinLength || h.Length > MaxLength {
		return Header{}, fmt.Errorf("%w: length field says %d", ErrLength, h.Length)
	}
	return h, nil
}

func decodeHeader(b *[HeaderSize]byte) Header {
	return Header{
		BaseOffset:      Offset(binary.BigEndian.Uint64(b[posBaseOffset:])),
		Length:          int32(binary.BigEndian.Uint32(b[posLength:])),
		LeaderEpoch:     Epoch(binary.BigEndian.Uint32(b[posLeaderEpoch:])),
		Magic:           int8(b[posMagic]),
		CRC:             binary.BigEndian.Uint32(b[posCRC:]),
		Attributes:      int16(binary.BigEndian.Uint16(b[posAttributes:])),
		LastOffsetDelta: int32(binary.BigEndian.Uint32(b[posLastDelta:])),
		BaseTimestamp:   int64(binary.BigEndian.Uint64(b[posBaseTimestamp:])),
		MaxTimestamp:    int64(binary.BigEndian.Uint64(b[posMaxTimestamp:])),
		ProducerID:      int64(binary.BigEndian.Uint64(b[posProducerID:])),
		ProducerEpoch:   int16(binary.BigEndian.Uint16(b[posProducerEpoch:])),
		BaseSequence:    int32(binary.BigEndian.Uint32(b[posBaseSequence:])),
		NumRecords:      int32(binary.BigEndian.Uint32(b[posNumRecords:])),
	}
}

// PutHeader writes all fields of h as they are, CRC and length included, to the first HeaderSize bytes of frame. Follow it
// with Seal, unless h is known to match what comes after.
func PutHeader(frame []byte, h Header) {
	b := (*[HeaderSize]byte)(frame)
	binary.BigEndian.PutUint64(b[posBaseOffset:], uint64(h.BaseOffset))
	binary.BigEndian.PutUint32(b[posLength:], uint32(h.Length))
	binary.BigEndian.PutUint32(b[posLeaderEpoch:], uint32(h.LeaderEpoch))
	b[posMagic] = byte(h.Magic)
	binary.BigEndian.PutUint32(b[posCRC:], h.CRC)
	binary.BigEndian.PutUint16(b[posAttributes:], uint16(h.Attributes))
	binary.BigEndian.PutUint32(b[posLastDelta:], uint32(h.LastOffsetDelta))
	binary.BigEndian.PutUint64(b[posBaseTimestamp:], uint64(h.BaseTimestamp))
	binary.BigEndian.PutUint64(b[posMaxTimestamp:], uint64(h.MaxTimestamp))
	binary.BigEndian.PutUint64(b[posProducerID:], uint64(h.ProducerID))
	binary.BigEndian.PutUint16(b[posProducerEpoch:], uint16(h.ProducerEpoch))
	binary.BigEndian.PutUint32(b[posBaseSequence:], uint32(h.BaseSequence))
	binary.BigEndian.PutUint32(b[posNumRecords:], uint32(h.NumRecords))
}

// Size is the size of the whole frame in bytes.
func (h Header) Size() int { return Overhead + int(h.Length) }

// LastOffset is the offset of the last record that the batch was made with; compaction may have removed that record.
func (h Header) LastOffset() Offset { return h.BaseOffset + Offset(h.LastOffsetDelta) }

// NextOffset is the base offset of the batch that follows.
func (h Header) NextOffset() Offset { return h.LastOffset() + 1 }

// Codec tells how the records are compressed. The value may be one that is not known (see Codec.Valid).
func (h Header) Codec() Codec { return Codec(h.Attributes & AttrCodec) }

// IsLogAppendTime tells whether the broker's clock stamped the batch (message.timestamp.type).
func (h Header) IsLogAppendTime() bool { return h.Attributes&AttrLogAppendTime != 0 }

// IsTransactional tells whether the batch, or the marker, belongs to a transaction.
func (h Header) IsTransactional() bool { return h.Attributes&AttrTransactional != 0 }

// IsControl tells whether the batch holds a control record instead of data.
func (h Header) IsControl() bool { return h.Attributes&AttrControl != 0 }

// IsInternal tells whether the frame is Quorlog's own, without records or offsets, and never shown to clients.
func (h Header) IsInternal() bool { return h.Attributes&AttrInternal != 0 }

// HasProducer tells whether the batch carries a producer id. Only then do ProducerEpoch and BaseSequence mean anything:
// clients that are not idempotent fill them with -1 (Java, librdkafka, franz-go) or 0 (sarama, kafkajs).
func (h Header) HasProducer() bool { return h.ProducerID >= 0 }

// LastSequence is the sequence number of the last record; NoSequence if the batch has none.
func (h Header) LastSequence() int32 {
	if h.BaseSequence < 0 {
		return NoSequence
	}
	return AddSequence(h.BaseSequence, h.LastOffsetDelta)
}

// AddSequence moves a sequence number forward by n >= 0; after the largest int32 comes 0 (KIP-98).
func AddSequence(seq, n int32) int32 {
	return int32((int64(seq) + int64(n)) & math.MaxInt32)
}

// Stamp writes base offset and leader epoch in place. Both lie outside the CRC.
func Stamp(frame []byte, base Offset, epoch Epoch) {
	b := (*[HeaderSize]byte)(frame)
	binary.BigEndian.PutUint64(b[posBaseOffset:], uint64(base))
	binary.BigEndian.PutUint32(b[posLeaderEpoch:], uint32(epoch))
}

// SetAttributes changes the attributes field. The caller must Reseal the frame afterwards.
func SetAttributes(frame []byte, attributes int16) {
	binary.BigEndian.PutUint16((*[HeaderSize]byte)(frame)[posAttributes:], uint16(attributes))
}

// SetMaxTimestamp changes the maximum timestamp. The caller must Reseal the frame afterwards.
func SetMaxTimestamp(frame []byte, timestamp int64) {
	binary.BigEndian.PutUint64((*[HeaderSize]byte)(frame)[posMaxTimestamp:], uint64(timestamp))
}

// SetProducer changes producer id, epoch and base sequence. The caller must Reseal the frame afterwards.
func SetProducer(frame []byte, id int64, epoch int16, sequence int32) {
	b := (*[HeaderSize]byte)(frame)
	binary.BigEndian.PutUint64(b[posProducerID:], uint64(id))
	binary.BigEndian.PutUint16(b[posProducerEpoch:], uint16(epoch))
	binary.BigEndian.PutUint32(b[posBaseSequence:], uint32(sequence))
}

// SetLogAppendTime makes timestamp the time of every record of the batch and reseals it. The records are not touched.
func SetLogAppendTime(frame []byte, timestamp int64) {
	setTimes(frame, AttrLogAppendTime, timestamp)
}

// SetCreateTime makes the records' own timestamps count, of which maxTimestamp is the largest (Info.MaxTimestamp), and
// reseals the frame if that changed anything. sarama leaves the maximum at -1, and a client may have set the
// LogAppendTime bit; both would be believed by every consumer and by the time index.
func SetCreateTime(frame []byte, maxTimestamp int64) (changed bool) {
	return setTimes(frame, 0, maxTimestamp)
}

func setTimes(frame []byte, timestampType int16, maxTimestamp int64) bool {
	h := decodeHeader((*[HeaderSize]byte)(frame))
	attributes := h.Attributes&^AttrLogAppendTime | timestampType
	if attributes == h.Attributes && maxTimestamp == h.MaxTimestamp {
		return false
	}
	SetAttributes(frame, attributes)
	SetMaxTimestamp(frame, maxTimestamp)
	Reseal(frame)
	return true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum computes the CRC32C of a frame's bytes from the attributes on.
func Checksum(frame []byte) uint32 { return crc32.Checksum(frame[posAttributes:], castagnoli) }

// CheckCRC compares the frame, which must be exactly one batch, with its CRC: ErrCRC or ErrTruncated.
func CheckCRC(frame []byte) error {
	if len(frame) < HeaderSize {
		return fmt.Errorf("%w: %d bytes are less than a header", ErrTruncated, len(frame))
	}
	want := binary.BigEndian.Uint32(frame[posCRC:])
	if got := Checksum(frame); got != want {
		return fmt.Errorf("%w: header says %08x, content has %08x", ErrCRC, want, got)
	}
	return nil
}

// Reseal computes the CRC anew and writes it to the header. frame is exactly one batch.
func Reseal(frame []byte) { binary.BigEndian.PutUint32(frame[posCRC:], Checksum(frame)) }

// Seal makes frame, a header and what follows it, one batch: it writes length and CRC.
func Seal(frame []byte) {
	binary.BigEndian.PutUint32(frame[posLength:], uint32(len(frame)-Overhead))
	Reseal(frame)
}

// Cut takes the first of some batches, which stand one after the other; frame and rest alias them. Beyond the header nothing is checked.
func Cut(records []byte) (frame, rest []byte, err error) {
	h, err := ParseHeader(records)
	if err != nil {
		return nil, nil, err
	}
	if h.Size() > len(records) {
		return nil, nil, fmt.Errorf("%w: %d bytes of %d", ErrTruncated, len(records), h.Size())
	}
	return records[:h.Size():h.Size()], records[h.Size():], nil
}

// Split cuts the records field of a Produce request into its batches, which must fill it exactly; the frames alias it.
// Beyond the headers nothing is checked. An empty field has no batches, and no error.
func Split(records []byte) (frames [][]byte, err error) {
	for rest := records; len(rest) > 0; {
		frame, after, err := Cut(rest)
		if err != nil {
			return nil, fmt.Errorf("batch at byte %d: %w", len(records)-len(rest), err)
		}
		frames, rest = append(frames, frame), after
	}
	return frames, nil
}
