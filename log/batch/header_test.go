package batch

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"
)

// golden is a batch written out by hand after KIP-98.
var golden = strings.Join([]string{
	"0000000000000929", // base offset 2345
	"0000004a",         // length 74
	"00000007",         // leader epoch
	"02",               // magic
	"c1c8831b",         // CRC
	"0010",             // attributes: transactional
	"00000001",         // last offset delta
	"0000018bcfe56800", // base timestamp 1700000000000
	"0000018bcfe56805", // max timestamp +5
	"0000000000001001", // producer id 4097
	"0003",             // producer epoch
	"0000002a",         // base sequence 42
	"00000002",         // records
	// length 12: attributes 0, timestamp +0, offset +0, key "k", value "v1", one header h=null
	"18" + "00" + "00" + "00" + "02" + "6b" + "04" + "7631" + "02" + "02" + "68" + "01",
	// length 11: attributes 0, timestamp +5, offset +1, key null, value "value", no headers
	"16" + "00" + "0a" + "02" + "01" + "0a" + "76616c7565" + "00",
}, "")

func goldenFrame(t *testing.T) []byte {
	t.Helper()
	b, err := hex.DecodeString(golden)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// slowCRC is CRC32C from its definition, independent of the tables of the standard library.
func slowCRC(b []byte) uint32 {
	crc := ^uint32(0)
	for _, c := range b {
		crc ^= uint32(c)
		for range 8 {
			crc = crc>>1 ^ (crc&1)*0x82f63b78
		}
	}
	return ^crc
}

func TestGoldenHeader(t *testing.T) {
	frame := goldenFrame(t)
	h, err := ParseHeader(frame)
	if err != nil {
		t.Fatal(err)
	}
	want := Header{
		BaseOffset: 2345, Length: 74, LeaderEpoch: 7, Magic: 2, CRC: slowCRC(frame[21:]), Attributes: 0x10, LastOffsetDelta: 1,
		BaseTimestamp: 1700000000000, MaxTimestamp: 1700000000005, ProducerID: 4097, ProducerEpoch: 3, BaseSequence: 42, NumRecords: 2,
	}
	if h != want {
		t.Errorf("parsed %+v\nwant   %+v", h, want)
	}
	if c := slowCRC([]byte("123456789")); c != 0xe3069283 { // the check value that is published for CRC-32C
		t.Errorf("slowCRC is wrong: %08x", c)
	}
	again := bytes.Clone(frame)
	clear(again[:HeaderSize])
	PutHeader(again, h)
	if !bytes.Equal(again, frame) {
		t.Errorf("written %x\nwant    %x", again, frame)
	}
	if err := CheckCRC(frame); err != nil {
		t.Error(err)
	}
	if h.Size() != len(frame) || h.LastOffset() != 2346 || h.NextOffset() != 2347 || h.LastSequence() != 43 || h.Codec() != None ||
		!h.IsTransactional() || h.IsControl() || h.IsInternal() || h.IsLogAppendTime() || !h.HasProducer() {
		t.Errorf("accessors of %+v", h)
	}
}

// The builder must produce the golden frame, byte for byte.
func TestGoldenBuild(t *testing.T) {
	frame := mustBuild(t, BuildOptions{Producer: &Producer{4097, 3, 42}, Transactional: true},
		Record{Timestamp: 1700000000000, Key: []byte("k"), Value: []byte("v1"), Headers: []RecordHeader{{Key: "h"}}},
		Record{Timestamp: 1700000000005, Value: []byte("value")})
	Stamp(frame, 2345, 7)
	if want := goldenFrame(t); !bytes.Equal(frame, want) {
		t.Errorf("built %x\nwant  %x", frame, want)
	}
	if err := CheckCRC(frame); err != nil {
		t.Errorf("stamping lies outside the CRC: %v", err)
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	frame := goldenFrame(t)
	set := func(f func([]byte)) []byte {
		b := bytes.Clone(frame)
		f(b)
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"empty":           {nil, ErrTruncated},
		"before magic":    {frame[:16], ErrTruncated},
		"before the end":  {frame[:60], ErrTruncated},
		"message set v0":  {set(func(b []byte) { b[posMagic] = 0 })[:26], ErrMagic},
		"message set v1":  {set(func(b []byte) { b[posMagic] = 1 }), ErrMagic},
		"future magic":    {set(func(b []byte) { b[posMagic] = 3 }), ErrMagic},
		"short length":    {set(put32(posLength, MinLength-1)), ErrLength},
		"negative length": {set(put32(posLength, -1)), ErrLength},
		"long length":     {set(put32(posLength, MaxLength+1)), ErrLength},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseHeader(c.b)
			if !errors.Is(err, c.want) || !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	for _, length := range []int32{MinLength, MaxLength} {
		if _, err := ParseHeader(set(put32(posLength, length))); err != nil {
			t.Errorf("length %d: %v", length, err)
		}
	}
}

func TestAttributeBits(t *testing.T) {
	for bit, is := range map[int16]func(Header) bool{
		1 << 3: Header.IsLogAppendTime, 1 << 4: Header.IsTransactional, 1 << 5: Header.IsControl, math.MinInt16: Header.IsInternal,
	} {
		if !is(Header{Attributes: bit}) || is(Header{Attributes: ^bit}) {
			t.Errorf("bit %#04x is mixed up", uint16(bit))
		}
	}
	if c := (Header{Attributes: 0x7ffc}).Codec(); c != Zstd {
		t.Errorf("codec %v", c)
	}
}

func TestSequenceWraps(t *testing.T) {
	for _, c := range []struct{ base, delta, last int32 }{
		{0, 0, 0}, {5, 4, 9}, {math.MaxInt32, 0, math.MaxInt32}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 1, 5, 3},
		{math.MaxInt32, math.MaxInt32, math.MaxInt32 - 1}, {NoSequence, 3, NoSequence},
	} {
		if got := (Header{BaseSequence: c.base, LastOffsetDelta: c.delta}).LastSequence(); got != c.last {
			t.Errorf("%d and %d more: %d, want %d", c.base, c.delta, got, c.last)
		}
	}
}

func TestTimestampsOfTheBroker(t *testing.T) {
	frame := mustBuild(t, BuildOptions{Codec: Snappy}, sample()...)
	if SetCreateTime(frame, 1500) {
		t.Error("nothing was to change")
	}
	SetLogAppendTime(frame, 7777)
	info := mustValidate(t, frame)
	if !info.IsLogAppendTime() || info.Header.MaxTimestamp != 7777 || info.MaxTimestamp != 1500 || info.Codec() != Snappy {
		t.Errorf("after SetLogAppendTime: %+v", info)
	}
	for _, r := range mustIterate(t, frame) {
		if r.Timestamp != 7777 {
			t.Errorf("record at %d has time %d", r.Offset, r.Timestamp)
		}
	}
	if !SetCreateTime(frame, 1500) {
		t.Error("no change reported")
	}
	if info := mustValidate(t, frame); info.IsLogAppendTime() || info.Header.MaxTimestamp != 1500 {
		t.Errorf("after SetCreateTime: %+v", info)
	}
}

func TestSetProducer(t *testing.T) {
	frame := mustBuild(t, BuildOptions{}, sample()...)
	SetProducer(frame, 9, 2, 100)
	if err := CheckCRC(frame); !errors.Is(err, ErrCRC) {
		t.Errorf("changed without reseal: %v", err)
	}
	Reseal(frame)
	if info := mustValidate(t, frame); info.ProducerID != 9 || info.ProducerEpoch != 2 || info.LastSequence() != 103 {
		t.Errorf("%+v", info.Header)
	}
}

func TestCheckCRCOfTooLittle(t *testing.T) {
	if err := CheckCRC(make([]byte, HeaderSize-1)); !errors.Is(err, ErrTruncated) {
		t.Error(err)
	}
}

func TestSplit(t *testing.T) {
	a, b := mustBuild(t, BuildOptions{}, sample()...), mustBuild(t, BuildOptions{Codec: Gzip}, sample()[:1]...)
	frames, err := Split(append(append(bytes.Clone(a), b...), a...))
	if err != nil || len(frames) != 3 || !bytes.Equal(frames[0], a) || !bytes.Equal(frames[1], b) || !bytes.Equal(frames[2], a) {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	if cap(frames[0]) != len(frames[0]) {
		t.Error("appending to a frame would overwrite the next")
	}
	if frames, err := Split(nil); frames != nil || err != nil {
		t.Errorf("of nothing: %v, %v", frames, err)
	}
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"one byte short":  {append(bytes.Clone(a), b[:len(b)-1]...), ErrTruncated},
		"one byte more":   {append(bytes.Clone(a), 0), ErrTruncated},
		"garbage between": {append(append(bytes.Clone(a), make([]byte, 70)...), b...), ErrMagic},
		"header only":     {a[:HeaderSize], ErrTruncated},
	} {
		if frames, err := Split(c.b); !errors.Is(err, c.want) || frames != nil {
			t.Errorf("%s: %d frames, %v", name, len(frames), err)
		}
	}
}

func TestHeaderAllocatesNothing(t *testing.T) {
	frame := goldenFrame(t)
	var total int
	if n := testing.AllocsPerRun(100, func() {
		h, err := ParseHeader(frame)
		if err != nil || CheckCRC(frame) != nil {
			t.Fatal("not valid")
		}
		Stamp(frame, h.BaseOffset+1, h.LeaderEpoch)
		SetLogAppendTime(frame, int64(total))
		total += h.Size()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
