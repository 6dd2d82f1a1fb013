package log

import (
	"encoding/binary"
	"fmt"

	"github.com/quorlog/quorlog/log/batch"
)

// An internal frame is a RecordBatch v2 header without records, attribute bit 15 set, followed by our own payload:
//
//	0            8        12            16      17    21           23               27            57           61     62        63
//	| baseOffset | length | leaderEpoch | magic | crc | attributes | lastOffsetDelta | ...   -1 s | numRecords | kind | version | payload
//	  LEO                   term          2             0x8000       -1 (gap: span-1)               0
//
// It takes no Kafka offset (a gap frame takes those of the records that it replaces), and a fetch cuts it out.

const (
	// Positions in a frame's header, for the few fields that are read without parsing it.
	posLeaderEpoch = 12
	posAttributes  = 21

	// headSize is the part of a header that the batch CRC does not cover, and the CRC itself: base offset, length, leader
	// epoch, magic, CRC. The index keeps a CRC of it.
	headSize = 21
	// internalHead is what every internal frame has: header, kind, payload version.
	internalHead    = batch.HeaderSize + 2
	internalVersion = 1
)

// InternalFrame builds an unstamped internal frame.
func InternalFrame(kind Kind, payload []byte) []byte {
	return internalFrame(kind, -1, payload)
}

func internalFrame(kind Kind, lastDelta int32, payload []byte) []byte {
	f := make([]byte, internalHead+len(payload))
	batch.PutHeader(f, batch.Header{
		BaseOffset: batch.Unstamped, LeaderEpoch: batch.NoEpoch, Magic: batch.Magic, Attributes: batch.AttrInternal,
		LastOffsetDelta: lastDelta, BaseTimestamp: batch.NoTimestamp, MaxTimestamp: batch.NoTimestamp,
		ProducerID: batch.NoProducerID, ProducerEpoch: batch.NoProducerEpoch, BaseSequence: batch.NoSequence,
	})
	f[batch.HeaderSize] = byte(kind)
	f[batch.HeaderSize+1] = internalVersion
	copy(f[internalHead:], payload)
	batch.Seal(f)
	return f
}

// ParseInternal takes an internal frame apart. The payload aliases the frame. It checks the form, not the CRC: frames that
// come out of Entry, recovery or Apply were checked already.
func ParseInternal(frame []byte) (Kind, []byte, error) {
	h, err := batch.ParseHeader(frame)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if !h.IsInternal() {
		return 0, nil, fmt.Errorf("%w: not an internal frame", ErrFrame)
	}
	if h.Size() != len(frame) || len(frame) < internalHead {
		return 0, nil, fmt.Errorf("%w: internal frame of %d bytes declares %d", ErrFrame, len(frame), h.Size())
	}
	kind := Kind(frame[batch.HeaderSize])
	if kind == KindBatch || kind >= kindCount {
		return 0, nil, fmt.Errorf("%w: internal frame of unknown kind %d", ErrFormat, kind)
	}
	if v := frame[batch.HeaderSize+1]; v != internalVersion {
		return 0, nil, fmt.Errorf("%w: %s frame has version %d; this build knows version %d", ErrFormat, kind, v, internalVersion)
	}
	if h.NumRecords != 0 || h.LastOffsetDelta < -1 || (kind != KindGap && h.LastOffsetDelta != -1) {
		return 0, nil, fmt.Errorf("%w: %s frame with %d records and last offset delta %d", ErrFrame, kind, h.NumRecords, h.LastOffsetDelta)
	}
	return kind, frame[internalHead:], nil
}

// KindOf tells a frame's kind without checking it; KindBatch for whatever is not internal.
func KindOf(frame []byte) Kind {
	if len(frame) < internalHead || frame[posAttributes]&0x80 == 0 {
		return KindBatch
	}
	return Kind(frame[batch.HeaderSize])
}

// parsed is a frame whose form was checked.
type parsed struct {
	batch.Header
	kind    Kind
	payload []byte // of an internal frame; aliases it
	indexes uint32 // Raft indexes that the frame stands for: 1, or a gap's count
	// coordinator is the coordinator's epoch in a marker; -1 where there is none.
	coordinator int32
}

// parseFrame checks a frame's form: everything but CRC and chain. The frame must be exactly one batch.
func parseFrame(frame []byte) (parsed, error) {
	h, err := batch.ParseHeader(frame)
	if err != nil {
		return parsed{}, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if h.Size() != len(frame) {
		return parsed{}, fmt.Errorf("%w: frame of %d bytes declares %d", ErrFrame, len(frame), h.Size())
	}
	p := parsed{Header: h, indexes: 1, coordinator: -1}
	if !h.IsInternal() {
		if h.LastOffsetDelta < 0 || h.NumRecords < 0 {
			return parsed{}, fmt.Errorf("%w: batch with last offset delta %d", ErrFrame, h.LastOffsetDelta)
		}
		if h.IsControl() {
			if c, err := batch.ParseControl(frame); err == nil { // what is no marker is for its reader to ignore
				p.coordinator = c.CoordinatorEpoch
			}
		}
		return p, nil
	}
	if p.kind, p.payload, err = ParseInternal(frame); err != nil {
		return parsed{}, err
	}
	if p.kind == KindGap {
		if p.indexes, err = decodeGap(p.payload); err != nil {
			return parsed{}, err
		}
	}
	return p, nil
}

// EncodeLogStart is the payload of a KindLogStart frame: records below start are gone for good once it is applied.
func EncodeLogStart(start Offset) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(start))
}

// DecodeLogStart reads what EncodeLogStart wrote.
func DecodeLogStart(b []byte) (Offset, error) {
	if len(b) != 8 {
		return 0, fmt.Errorf("%w: logstart payload of %d bytes", ErrFrame, len(b))
	}
	start := Offset(binary.BigEndian.Uint64(b))
	if start < 0 {
		return 0, fmt.Errorf("%w: negative log start %d", ErrFrame, start)
	}
	return start, nil
}

// Reason says why a batch was refused when it was to be stored. The values are part of the file format.
type Reason uint8

// The reasons.
const (
	RefusedTerm            Reason = iota + 1 // checked in another term than it was to be stored in
	RefusedSequence                          // a gap in the producer's sequence
	RefusedProducerEpoch                     // an older producer epoch than the log has
	RefusedDuplicate                         // stored before, at Base..Last
	RefusedUnknownProducer                   // an unknown producer that does not begin with sequence 0
	RefusedForgotten                         // in frames of before version 0.1: RefusedSequence
	RefusedInTransaction                     // a plain batch of a producer whose transaction is open
	RefusedCoordinator                       // a marker of a coordinator that has been replaced
)

var reasonNames = [...]string{"?", "term", "sequence", "producer epoch", "duplicate", "unknown producer", "forgotten duplicate",
	"open transaction", "replaced coordinator"}

// String names the reason as Dump prints it.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Refusal is the payload of a KindRefused frame.
type Refusal struct {
	Reason    Reason
	Base      Offset // of the stored batch, for RefusedDuplicate
	Last      Offset
	Timestamp int64 // the stored batch's maximum timestamp
}

// EncodeRefused is the payload of a KindRefused frame.
func EncodeRefused(r Refusal) []byte {
	b := make([]byte, 0, 25)
	b = append(b, byte(r.Reason))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Base))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Last))
	return binary.BigEndian.AppendUint64(b, uint64(r.Timestamp))
}

// DecodeRefused reads what EncodeRefused wrote.
func DecodeRefused(b []byte) (Refusal, error) {
	if len(b) != 25 {
		return Refusal{}, fmt.Errorf("%w: refused payload of %d bytes", ErrFrame, len(b))
	}
	be := binary.BigEndian
	return Refusal{
		Reason: Reason(b[0]), Base: Offset(be.Uint64(b[1:])), Last: Offset(be.Uint64(b[9:])), Timestamp: int64(be.Uint64(b[17:])),
	}, nil
}
