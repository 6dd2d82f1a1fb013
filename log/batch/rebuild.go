package batch

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// DeleteHorizon is the moment, in milliseconds, from which on compaction may drop the batch's tombstones or its marker
// (KIP-534); ok is false where none was set yet.
func (h Header) DeleteHorizon() (ms int64, ok bool) {
	return h.BaseTimestamp, h.Attributes&AttrDeleteHorizon != 0
}

// Rebuild returns the batch with only those of its records that keep wants, which is asked for each by its place among them, as compaction
// leaves it: offsets, producer, sequence, epoch and attributes stay, so that it takes the same place in the log. A horizon of 0 or more is
// set as the batch's delete horizon: it takes the place of the base timestamp, from which the records' own are counted. Without records, as
// with a nil keep, a header is left, which keeps a producer's sequence and the largest timestamp. ErrTooLarge if it would have more than
// limit bytes; 0 is no limit but MaxLength. What the records are without compression is never in memory as a whole. They must have been
// read before, by Scan or Validate.
func Rebuild(frame []byte, keep func(place int) bool, horizon int64, limit int) ([]byte, error) {
	h, err := parseFrame(frame)
	if err != nil {
		return nil, err
	}
	if limit <= 0 || limit > MaxLength+Overhead {
		limit = MaxLength + Overhead
	}
	was := h
	if horizon >= 0 {
		h.BaseTimestamp = horizon
		h.Attributes |= AttrDeleteHorizon
	}
	h.NumRecords = 0
	p := newPacker(h.Codec(), DefaultLevel, limit, len(frame))
	defer p.release()
	p.wide = p.codec == LZ4 && lz4Wide(frame[HeaderSize:]) // or what was small for being alike might grow
	if keep != nil {
		if err := p.pick(frame, &was, &h, keep); err != nil {
			return nil, err
		}
	}
	if h.NumRecords == 0 {
		h.Attributes &^= AttrCodec
		p.codec, p.wide = None, false
	}
	out, err := p.finish()
	if err != nil {
		return nil, err
	}
	PutHeader(out, h)
	Seal(out)
	return slices.Clip(out), nil
}

// pick adds the records that keep wants, and to h what is to be said of them.
func (p *packer) pick(frame []byte, was, h *Header, keep func(place int) bool) error {
	v := GetValidator()
	defer PutValidator(v)
	w := &v.scan.win
	defer w.close()
	if err := w.open(*was, frame, MaxDecompressed); err != nil {
		return err
	}
	for i := range int(was.NumRecords) {
		f := fields{win: w, left: binary.MaxVarintLen32}
		if f.left = f.varint(binary.MaxVarintLen32); f.ok() && f.left < minBody {
			f.fault = faultLength
		}
		f.skip(1) // record attributes
		timestamp := was.BaseTimestamp + f.varint(binary.MaxVarintLen64)
		delta := f.varint(binary.MaxVarintLen32)
		if !f.ok() {
			return cmp.Or(f.err, fmt.Errorf("%w: record %d: %s", ErrRecord, i, f.fault))
		}
		if !keep(i) {
			f.skip(f.left)
		} else {
			if was.IsLogAppendTime() {
				timestamp = was.MaxTimestamp
			} else if h.NumRecords == 0 || timestamp > h.MaxTimestamp {
				h.MaxTimestamp = timestamp
			}
			h.NumRecords++
			p.begin(timestamp-h.BaseTimestamp, delta, f.left)
			f.copy(p, f.left)
		}
		if f.err != nil {
			return f.err
		}
	}
	return nil
}

// begin adds a record but for its last rest bytes, which follow by Write: its key, value and headers.
func (p *packer) begin(timestampDelta, offsetDelta, rest int64) {
	p.held.b = appendVarint(p.held.b, int64(1+varintLen(timestampDelta)+varintLen(offsetDelta))+rest)
	p.held.b = append(p.held.b, 0)
	p.held.b = appendVarint(p.held.b, timestampDelta)
	p.held.b = appendVarint(p.held.b, offsetDelta)
}

// Write adds a part of a record.
func (p *packer) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		k := min(len(b), spillSize)
		p.held.b = append(p.held.b, b[:k]...)
		b = b[k:]
		if err := p.spill(); err != nil {
			return 0, err
		}
	}
	return n, nil
}
