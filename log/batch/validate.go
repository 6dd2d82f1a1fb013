package batch

import (
	"fmt"
	"math"
	"sync"
)

// MaxHeaders is how many headers a record of a client may have. An empty one is two bytes, and next to nothing where it is compressed; a
// consumer makes dozens of it.
const MaxHeaders = 100_000

// Limits say what a batch may be. The zero value is that of a client's batch of any size.
type Limits struct {
	// MaxMessageBytes bounds the frame as it is sent, in bytes (max.message.bytes); 0 is no bound but MaxLength.
	MaxMessageBytes int
	// MaxDecompressed bounds what compressed records may become, in bytes; 0 is DefaultMaxDecompressed, and more than
	// MaxDecompressed is that.
	MaxDecompressed int64
	// AllowControl accepts control batches: for the markers of our own coordinators, never for clients.
	AllowControl bool
}

// Info is what Validate learnt about a batch. Header is as the client wrote it; the fields below shadow the claims in it.
type Info struct {
	Header
	// MinTimestamp and MaxTimestamp are taken from the records' own timestamps. Where Header.MaxTimestamp differs, or the
	// LogAppendTime bit is set, the frame needs SetCreateTime or SetLogAppendTime before it is stored.
	MinTimestamp, MaxTimestamp int64
	// MaxTimestampDelta is the offset delta of the first record with MaxTimestamp.
	MaxTimestampDelta int32
	// Keyless tells that at least one record has no key: not allowed in compacted topics.
	Keyless bool
	// Decompressed is the size of the records without compression, in bytes.
	Decompressed int64
}

// Validator validates batches. It keeps buffers between calls and must not be used by two goroutines at a time.
type Validator struct {
	scan scanner
}

var validators = sync.Pool{New: func() any { return new(Validator) }}

// GetValidator takes a Validator from the common pool.
func GetValidator() *Validator { return validators.Get().(*Validator) }

// PutValidator gives it back.
func PutValidator(v *Validator) { validators.Put(v) }

// Validate is v.Validate; a nil v is taken from the pool for the call.
func Validate(frame []byte, lim Limits, v *Validator) (Info, error) {
	if v == nil {
		v = GetValidator()
		defer PutValidator(v)
	}
	return v.Validate(frame, lim)
}

// Validate checks that frame is exactly one batch as a client may send it, and that every consumer will be able to read it:
// size, magic, CRC, attributes, counts, producer fields, and each record to its last header, decompressing in a bounded stream. All errors
// wrap ErrInvalid. The CRC is judged before anything that it covers, so that damage on the way is not mistaken for a client's
// mistake. Base offset and leader epoch are not looked at: they are the broker's. Whether timestamps are too old or too new is for the
// caller to judge, by Info.
func (v *Validator) Validate(frame []byte, lim Limits) (Info, error) {
	h, err := parseFrame(frame)
	if err != nil {
		return Info{}, err
	}
	if lim.MaxMessageBytes > 0 && len(frame) > lim.MaxMessageBytes {
		return Info{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, len(frame), lim.MaxMessageBytes)
	}
	if err := CheckCRC(frame); err != nil {
		return Info{}, err
	}
	if err := checkHeader(h, lim); err != nil {
		return Info{}, err
	}
	info := Info{Header: h, MinTimestamp: math.MaxInt64, MaxTimestamp: math.MinInt64}
	s := &v.scan
	s.index, s.count, s.client = 0, h.NumRecords, true
	defer s.close()
	err = s.win.open(h, frame, lim.decompressed())
	if err == nil {
		err = s.collect(&info)
	}
	if err != nil {
		return Info{}, err
	}
	info.Decompressed = s.win.total
	if s.win.src == nil {
		info.Decompressed = int64(len(frame) - HeaderSize)
	}
	return info, nil
}

func (l Limits) decompressed() int64 {
	if l.MaxDecompressed <= 0 {
		return DefaultMaxDecompressed
	}
	return min(l.MaxDecompressed, MaxDecompressed)
}

// checkHeader judges the fields that need no look at the records.
func checkHeader(h Header, lim Limits) error {
	allowed := AttrClient
	if lim.AllowControl {
		allowed |= AttrControl
	}
	if extra := h.Attributes &^ allowed; extra != 0 {
		return fmt.Errorf("%w: %#04x", ErrReserved, uint16(extra))
	}
	if !h.Codec().Valid() {
		return fmt.Errorf("%w: unknown %v", ErrCodec, h.Codec())
	}
	if h.NumRecords <= 0 || int64(h.NumRecords) != int64(h.LastOffsetDelta)+1 {
		return fmt.Errorf("%w: %d records, last offset delta %d", ErrCount, h.NumRecords, h.LastOffsetDelta)
	}
	if h.ProducerID < NoProducerID {
		return fmt.Errorf("%w: producer id %d", ErrSequence, h.ProducerID)
	}
	if h.HasProducer() && (h.ProducerEpoch < 0 || h.BaseSequence < 0 && !h.IsControl()) {
		return fmt.Errorf("%w: producer id %d, epoch %d, sequence %d", ErrSequence, h.ProducerID, h.ProducerEpoch, h.BaseSequence)
	}
	return nil
}

// collect reads all records, checks what lies between them, and fills in info.
func (s *scanner) collect(info *Info) error {
	for s.more() {
		i := s.index
		if err := s.next(); err != nil {
			return err
		}
		if s.rec.numHeaders > MaxHeaders {
			return fmt.Errorf("%w: record %d: %s", ErrRecord, i, faultMany)
		}
		if s.rec.offsetDelta != int64(i) {
			return fmt.Errorf("%w: record %d has %d", ErrDelta, i, s.rec.offsetDelta)
		}
		timestamp := info.BaseTimestamp + s.rec.timestampDelta
		if (timestamp > info.BaseTimestamp) != (s.rec.timestampDelta > 0) {
			return fmt.Errorf("%w: record %d: %d%+d", ErrTimestamp, i, info.BaseTimestamp, s.rec.timestampDelta)
		}
		if timestamp > info.MaxTimestamp || i == 0 {
			info.MaxTimestamp, info.MaxTimestampDelta = timestamp, i
		}
		info.MinTimestamp = min(info.MinTimestamp, timestamp)
		info.Keyless = info.Keyless || !s.rec.hasKey
	}
	return s.end()
}
