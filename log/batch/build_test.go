package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

func TestBuild(t *testing.T) {
	everyCodec(t, func(t *testing.T, c Codec) {
		b := NewBuilder(BuildOptions{Codec: c, Producer: &Producer{1, 2, 3}})
		for range 3 { // a builder is reusable
			for i, r := range sample() {
				b.Add(r)
				if b.Len() != i+1 {
					t.Errorf("%d records counted", b.Len())
				}
			}
			size := b.Size()
			frame, err := b.Build()
			if err != nil {
				t.Fatal(err)
			}
			if b.Len() != 0 || b.Size() != HeaderSize || c == None && size != len(frame) {
				t.Errorf("sizes: %d, %d, frame %d", size, b.Size(), len(frame))
			}
			info := mustValidate(t, frame)
			if info.BaseOffset != Unstamped || info.LeaderEpoch != NoEpoch || info.BaseTimestamp != 1000 || info.Header.MaxTimestamp != 1500 ||
				info.ProducerID != 1 || info.ProducerEpoch != 2 || info.BaseSequence != 3 || info.IsTransactional() || info.IsControl() {
				t.Errorf("%+v", info.Header)
			}
			equalRecords(t, mustIterate(t, frame), sample())
		}
	})
	if _, err := Build(BuildOptions{}); !errors.Is(err, ErrCount) {
		t.Error(err)
	}
	if _, err := Build(BuildOptions{Codec: 6}, sample()...); !errors.Is(err, ErrCodec) {
		t.Error(err)
	}
	if _, err := Build(BuildOptions{}, Record{Value: make([]byte, MaxLength)}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

// Frames that were built before must not change when the builder is used again.
func TestBuildGivesFramesAway(t *testing.T) {
	everyCodec(t, func(t *testing.T, c Codec) {
		b := NewBuilder(BuildOptions{Codec: c})
		b.Add(sample()[0])
		first, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		kept := bytes.Clone(first)
		b.Add(Record{Value: bytes.Repeat([]byte("x"), 500)})
		if _, err := b.Build(); err != nil || !bytes.Equal(first, kept) {
			t.Errorf("changed; %v", err)
		}
	})
}

func TestRecompress(t *testing.T) {
	opt := BuildOptions{Producer: &Producer{9, 8, 7}, Transactional: true}
	rng := newRand()
	records := append(sample(), Record{Timestamp: 1, Value: text(rng, 500_000)})
	for _, from := range allCodecs {
		for _, to := range allCodecs {
			opt.Codec = from
			frame := mustBuild(t, opt, records...)
			Stamp(frame, 50, 4)
			before := bytes.Clone(frame)
			got, err := Recompress(frame, to, DefaultLevel, 0)
			if err != nil {
				t.Fatalf("%v to %v: %v", from, to, err)
			}
			if !bytes.Equal(frame, before) {
				t.Fatalf("%v to %v changed its input", from, to)
			}
			if (&got[0] == &frame[0]) != (from == to) {
				t.Errorf("%v to %v: copied without need, or not where needed", from, to)
			}
			a, b := mustValidate(t, frame), mustValidate(t, got)
			if b.Codec() != to || b.Decompressed != a.Decompressed {
				t.Errorf("%v to %v: %+v", from, to, b)
			}
			a.Length, a.CRC, a.Attributes = b.Length, b.CRC, b.Attributes
			if a.Header != b.Header {
				t.Errorf("%v to %v: %+v, was %+v", from, to, b.Header, a.Header)
			}
			Stamp(got, Unstamped, NoEpoch)
			equalRecords(t, mustIterate(t, got), records)
		}
	}
}

func TestRecompressRefuses(t *testing.T) {
	frame := mustBuild(t, BuildOptions{Codec: Gzip}, sample()...)
	if _, err := Recompress(frame[:len(frame)-1], Zstd, 0, 0); !errors.Is(err, ErrTruncated) {
		t.Error(err)
	}
	if _, err := Recompress(frame, Codec(7), 0, 0); !errors.Is(err, ErrCodec) {
		t.Error(err)
	}
	if _, err := Recompress(frameOf(LZ4, 1, []byte("rubbish")), Zstd, 0, 0); !errors.Is(err, ErrCodec) {
		t.Error(err)
	}
	huge := frameOf(Zstd, 1, compressed(t, Zstd, make([]byte, MaxLength)))
	if _, err := Recompress(huge, None, 0, 0); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestControl(t *testing.T) {
	for _, c := range []Control{
		{Type: ControlCommit, ProducerID: 4000, ProducerEpoch: 5, CoordinatorEpoch: 6, Timestamp: 1234},
		{Type: ControlAbort, ProducerID: 0, ProducerEpoch: math.MaxInt16, CoordinatorEpoch: math.MaxInt32, Timestamp: 0},
	} {
		frame := BuildControl(c)
		got, err := ParseControl(frame)
		if err != nil || got != c {
			t.Errorf("%+v, %v, want %+v", got, err, c)
		}
		h, err := ParseHeader(frame)
		if err != nil || !h.IsControl() || !h.IsTransactional() || h.BaseSequence != NoSequence || h.NumRecords != 1 || h.LastSequence() != NoSequence {
			t.Errorf("%+v, %v", h, err)
		}
		r := mustIterate(t, frame)[0]
		if key := append([]byte{0, 0, 0}, byte(c.Type)); !bytes.Equal(r.Key, key) {
			t.Errorf("key %x, want %x", r.Key, key)
		}
		if value := binary.BigEndian.AppendUint32([]byte{0, 0}, uint32(c.CoordinatorEpoch)); !bytes.Equal(r.Value, value) {
			t.Errorf("value %x, want %x", r.Value, value)
		}
	}
}

func TestParseControlRefuses(t *testing.T) {
	control := BuildOptions{Control: true}
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"data":        {mustBuild(t, BuildOptions{}, sample()...), ErrRecord},
		"no key":      {mustBuild(t, control, Record{Value: make([]byte, 6)}), ErrRecord},
		"short value": {mustBuild(t, control, Record{Key: make([]byte, 4), Value: make([]byte, 5)}), ErrRecord},
		"cut off":     {BuildControl(Control{})[:70], ErrTruncated},
		"no records":  {edit(frameOf(None, 0, nil), setAttr(AttrControl)), ErrCount},
		"bad record":  {edit(frameOf(None, 1, []byte{1}), setAttr(AttrControl)), ErrRecord},
	} {
		if _, err := ParseControl(c.frame); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func TestIterate(t *testing.T) {
	frame := mustBuild(t, BuildOptions{Codec: Zstd}, sample()...)
	Stamp(frame, 100, 1)
	stop := errors.New("enough")
	var seen []Offset
	err := Iterate(frame, func(r Record) error {
		if seen = append(seen, r.Offset); len(seen) == 2 {
			return stop
		}
		return nil
	})
	if err != stop || len(seen) != 2 || seen[1] != 101 {
		t.Errorf("%v, %v", seen, err)
	}
	internal := frameOf(None, 0, []byte("a payload that is no record"))
	SetAttributes(internal, AttrInternal)
	if got := mustIterate(t, internal); got != nil {
		t.Errorf("internal frame: %v", got)
	}
	if got := mustIterate(t, frameOf(None, 0, nil)); got != nil {
		t.Errorf("what compaction leaves of a batch: %v", got)
	}
	// Compaction keeps the deltas of what it keeps.
	gaps := appendRecord(appendRecord(nil, Record{Key: []byte("a")}, 0, 3), Record{Key: []byte("b")}, 0, 9)
	compacted := edit(frameOf(None, 2, gaps), put32(posLastDelta, 11))
	Stamp(compacted, 1000, 1)
	if got := mustIterate(t, compacted); len(got) != 2 || got[0].Offset != 1003 || got[1].Offset != 1009 {
		t.Errorf("%+v", got)
	}
	if off, _, ok, err := FindTimestamp(compacted, 0); off != 1003 || !ok || err != nil {
		t.Errorf("%d, %t, %v", off, ok, err)
	}
}

// Records that Iterate has shown stay as they are when other batches are read.
func TestIteratedRecordsStayValid(t *testing.T) {
	rng := newRand()
	everyCodec(t, func(t *testing.T, c Codec) {
		for _, n := range []int{100, 100_000, maxScratch} {
			records := []Record{{Value: text(rng, n)}}
			got := mustIterate(t, mustBuild(t, BuildOptions{Codec: c}, records...))
			mustIterate(t, mustBuild(t, BuildOptions{Codec: c}, Record{Value: noise(rng, n+1000)}))
			equalRecords(t, got, records)
		}
	})
}

func TestVarints(t *testing.T) {
	for _, v := range []int64{0, 1, -1, 63, -64, 64, -65, 8191, 8192, math.MaxInt32, math.MinInt32, math.MaxInt32 + 1, math.MaxInt64, math.MinInt64} {
		b := appendVarint([]byte{0xff}, v)
		if len(b)-1 != varintLen(v) {
			t.Errorf("%d takes %d bytes, not %d", v, len(b)-1, varintLen(v))
		}
		if want := binary.AppendVarint(nil, v); !bytes.Equal(b[1:], want) {
			t.Errorf("%d is %x, want %x", v, b[1:], want)
		}
		if got, n := varint64(b, 1); got != v || n != len(b) {
			t.Errorf("%d read as %d, next %d", v, got, n)
		}
		got, n := varint32(b, 1)
		if fits := v == int64(int32(v)); fits != (n == len(b)) || fits && got != v {
			t.Errorf("%d read as 32 bit: %d, next %d", v, got, n)
		}
		for cut := 1; cut < len(b); cut++ {
			if _, n := varint64(b[:cut], 1); n >= 0 {
				t.Errorf("%d of %d bytes read", cut-1, len(b)-1)
			}
		}
	}
	if _, n := varint64([]byte{1}, -1); n >= 0 {
		t.Error("a failure must go on failing")
	}
	// not the shortest form, but within the five bytes that Java reads
	if v, n := varint32([]byte{0x82, 0x80, 0x00}, 0); v != 1 || n != 3 {
		t.Errorf("%d, %d", v, n)
	}
}
