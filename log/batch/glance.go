package batch

import (
	"crypto/sha256"
	"errors"
)

// Glance is what Scan tells of a record.
type Glance struct {
	Offset    Offset
	Timestamp int64 // as in Record
	HasKey    bool
	HasValue  bool // false: a tombstone

	key []byte            // nil where it does not fit the window
	sum [sha256.Size]byte // of such a key
}

// KeySum is the SHA-256 of the record's key. Only ScanKeys has it.
func (g *Glance) KeySum() [sha256.Size]byte {
	if g.key == nil {
		return g.sum
	}
	return sha256.Sum256(g.key)
}

// Scan calls fn for each record of a frame, in order, until fn returns an error, which it passes on. It checks what Iterate checks, but
// decompresses in a bounded stream, whatever the batch becomes. What fn gets is valid until it returns.
func Scan(frame []byte, fn func(*Glance) error) error { return scan(frame, false, fn) }

// ScanKeys is Scan for those who need KeySum.
func ScanKeys(frame []byte, fn func(*Glance) error) error { return scan(frame, true, fn) }

func scan(frame []byte, keys bool, fn func(*Glance) error) error {
	h, err := parseFrame(frame)
	if err != nil || h.IsInternal() {
		return err
	}
	v := GetValidator()
	defer PutValidator(v)
	s := &v.scan
	s.index, s.count = 0, h.NumRecords
	defer s.close()
	if err := s.win.open(h, frame, MaxDecompressed); err != nil {
		return err
	}
	if keys {
		s.keys = sha256.New()
	}
	var g Glance
	for s.more() {
		if err := s.next(); err != nil {
			return err
		}
		g.Offset, g.Timestamp = h.BaseOffset+Offset(s.rec.offsetDelta), h.BaseTimestamp+s.rec.timestampDelta
		if h.IsLogAppendTime() {
			g.Timestamp = h.MaxTimestamp
		}
		g.HasKey, g.HasValue, g.key = s.rec.hasKey, s.rec.hasValue, s.rec.key
		if keys && g.HasKey && g.key == nil {
			s.keys.Sum(g.sum[:0])
		}
		if err := fn(&g); err != nil {
			return err
		}
	}
	return s.end()
}

// errFound ends a scan.
var errFound = errors.New("found")

// FindTimestamp returns offset and time of the first record whose timestamp is at least timestamp. It decompresses in a bounded stream, but
// only as far as that record.
func FindTimestamp(frame []byte, timestamp int64) (off Offset, found int64, ok bool, err error) {
	err = Scan(frame, func(g *Glance) error {
		if g.Timestamp < timestamp {
			return nil
		}
		off, found, ok = g.Offset, g.Timestamp, true
		return errFound
	})
	if err == errFound {
		err = nil
	}
	return off, found, ok, err
}

// FindMaxTimestamp returns offset and time of the first record with the largest timestamp; false if the batch has no records.
func FindMaxTimestamp(frame []byte) (off Offset, found int64, ok bool, err error) {
	err = Scan(frame, func(g *Glance) error {
		if !ok || g.Timestamp > found {
			off, found, ok = g.Offset, g.Timestamp, true
		}
		return nil
	})
	return off, found, ok, err
}
