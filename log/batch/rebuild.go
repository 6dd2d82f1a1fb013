package batch

import "slices"

// DeleteHorizon is the moment, in milliseconds, from which on compaction may drop the batch's tombstones or its marker
// (KIP-534); ok is false where none was set yet.
func (h Header) DeleteHorizon() (ms int64, ok bool) {
	return h.BaseTimestamp, h.Attributes&AttrDeleteHorizon != 0
}

// Rebuild returns the batch with only these of its records, in their order, as compaction leaves it: offsets, producer,
// sequence, epoch and attributes stay, so that it takes the same place in the log. The records are those that Iterate gave.
// A horizon of 0 or more is set as the batch's delete horizon: it takes the place of the base timestamp, from which the
// records' own are counted. Without records a header is left, which keeps a producer's sequence and the largest timestamp.
func Rebuild(frame []byte, records []Record, horizon int64) ([]byte, error) {
	h, err := parseFrame(frame)
	if err != nil {
		return nil, err
	}
	if horizon >= 0 {
		h.BaseTimestamp = horizon
		h.Attributes |= AttrDeleteHorizon
	}
	if len(records) == 0 {
		h.Attributes &^= AttrCodec
	} else if !h.IsLogAppendTime() {
		h.MaxTimestamp = NoTimestamp
	}
	h.NumRecords = int32(len(records))
	buf := make([]byte, HeaderSize, len(frame))
	for _, r := range records {
		if !h.IsLogAppendTime() {
			h.MaxTimestamp = max(h.MaxTimestamp, r.Timestamp)
		}
		buf = appendRecord(buf, r, r.Timestamp-h.BaseTimestamp, int32(r.Offset-h.BaseOffset))
	}
	if h.Codec() != None {
		buf, err = compress(make([]byte, HeaderSize, HeaderSize+len(buf)/2), h.Codec(), DefaultLevel, buf[HeaderSize:])
		if err != nil {
			return nil, err
		}
	}
	if err := checkSize(buf); err != nil {
		return nil, err
	}
	PutHeader(buf, h)
	Seal(buf)
	return slices.Clip(buf), nil
}
