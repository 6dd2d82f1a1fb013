package log

import (
	"bytes"
	"errors"
	"testing"

	"github.com/quorlog/quorlog/log/batch"
)

// FuzzRecover opens a segment of arbitrary bytes. It may be refused with a typed error; what opens must be sound, stay the
// same when it is opened again, and accept an append.
func FuzzRecover(f *testing.F) {
	g := golden(f)
	files := snapshot(f, g.fs)
	name := segmentName(0, 1)
	f.Add(files[name+logSuffix], files[name+indexSuffix], true)
	f.Add(files[name+logSuffix][:200], files[name+indexSuffix][:200], false)
	f.Add([]byte(nil), []byte(nil), false)
	gap := GapFrame(3, 4)
	batch.Stamp(gap, 0, 1)
	f.Add(gap, []byte("QLOGINDX"), true)
	f.Fuzz(func(t *testing.T, log, index []byte, whole bool) {
		if whole {
			log, index = sealFrames(log), sealSlots(index)
		}
		h := newFixture(t, restore(t, map[string][]byte{
			name + logSuffix: log, name + indexSuffix: index, name + stateSuffix: (&State{}).Encode(),
		}))
		l, err := Open(h.o)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrDataLoss) && !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			if now := snapshot(t, h.fs); !bytes.Equal(now[name+logSuffix], log) {
				t.Fatal("a refused log was changed")
			}
			return
		}
		h.log = l
		last := l.LastIndex()
		for i := Index(1); i <= min(last, 1000); i++ {
			if _, err := l.Entry(i); err != nil {
				t.Fatal(i, err)
			}
		}
		r, err := l.Read(0, l.Offsets().LogEnd, 1<<20, true)
		mustBe(t, err, nil)
		_, err = r.AppendTo(nil)
		mustBe(t, err, nil)
		r.Release()
		h.verify()
		h.reopen()
		equal(t, h.log.LastIndex(), last, "last")
		term, err := h.log.Term(last)
		if err == nil || last == 0 {
			h.append(term, plain(t, 1, term))
		}
		h.verify()
		mustBe(t, h.log.Close(), nil)
	})
}

// FuzzIndex maps arbitrary bytes as a sealed index: it is refused, or every slot can be read.
func FuzzIndex(f *testing.F) {
	g := golden(f)
	files := snapshot(f, g.fs)
	name := segmentName(0, 1)
	f.Add(files[name+indexSuffix])
	f.Add([]byte(nil))
	log := files[name+logSuffix]
	next := segmentEnd{offset: g.log.mu.segments[1].base, index: g.log.mu.segments[1].first}
	f.Fuzz(func(t *testing.T, index []byte) {
		fs := restore(t, map[string][]byte{name + logSuffix: log, name + indexSuffix: index})
		s := newSegment(fs, testDir, 0, 1)
		s.size.Store(int64(len(log)))
		s.verified.unknown()
		p := part{seg: s, next: next, end: Position(len(log))}
		defer s.release()
		if err := p.load(); err != nil {
			mustBe(t, err, ErrFormat)
			return
		}
		for i := range p.table.n {
			if _, _, err := p.frame(i, nil); err != nil {
				mustBe(t, err, ErrCorrupt)
			}
		}
		readSlots(fs, s.path(indexSuffix))
	})
}

// FuzzState decodes arbitrary bytes; what decodes encodes to the same bytes.
func FuzzState(f *testing.F) {
	for name, b := range snapshot(f, golden(f).fs) {
		if bytes.HasSuffix([]byte(name), []byte(stateSuffix)) {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		seal(b)
		s, err := DecodeState(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(s.Encode(), b) {
			t.Fatal("encodes to other bytes")
		}
	})
}

// FuzzCheckpoint is the same for a checkpoint.
func FuzzCheckpoint(f *testing.F) {
	f.Add(snapshot(f, golden(f).fs)[checkpointName])
	f.Fuzz(func(t *testing.T, b []byte) {
		seal(b)
		c, err := decodeCheckpoint(checkpointName, b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(c.encode(), b) {
			t.Fatal("encodes to other bytes")
		}
	})
}

// sealFrames gives every frame the CRC that it should have, so that the fuzzer gets behind it.
func sealFrames(log []byte) []byte {
	log = bytes.Clone(log)
	for rest := log; ; {
		h, err := batch.ParseHeader(rest)
		if err != nil || h.Size() > len(rest) {
			return log
		}
		batch.Reseal(rest[:h.Size()])
		rest = rest[h.Size():]
	}
}

// sealSlots does the same for slots.
func sealSlots(index []byte) []byte {
	index = bytes.Clone(index)
	for i := indexHeadSize; i+slotSize <= len(index); i += slotSize {
		getSlot(index[i:]).put(index[i:])
	}
	return index
}

// seal gives the bytes a right CRC, so that the fuzzer gets behind it.
func seal(b []byte) {
	if len(b) >= envelopeBytes {
		var e encoder
		e.u32(checksum(b[:len(b)-4]))
		copy(b[len(b)-4:], e.b)
	}
}
