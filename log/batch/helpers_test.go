package batch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

var allCodecs = []Codec{None, Gzip, Snappy, LZ4, Zstd}

// everyCodec runs f as a subtest per codec.
func everyCodec(t *testing.T, f func(t *testing.T, c Codec)) {
	t.Helper()
	for _, c := range allCodecs {
		t.Run(c.String(), func(t *testing.T) { f(t, c) })
	}
}

func mustBuild(t testing.TB, opt BuildOptions, records ...Record) []byte {
	t.Helper()
	frame, err := Build(opt, records...)
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func mustValidate(t testing.TB, frame []byte) Info {
	t.Helper()
	info, err := Validate(frame, Limits{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func mustIterate(t testing.TB, frame []byte) []Record {
	t.Helper()
	var out []Record
	err := Iterate(frame, func(r Record) error {
		built := Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value}
		for key, value := range r.EachHeader() {
			built.Headers = append(built.Headers, RecordHeader{string(key), value})
		}
		if len(built.Headers) != r.NumHeaders() {
			t.Errorf("%d headers, %d told", len(built.Headers), r.NumHeaders())
		}
		out = append(out, built)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sample is a small batch with everything that a record can have.
func sample() []Record {
	return []Record{
		{Timestamp: 1000, Key: []byte("k0"), Value: []byte("v0")},
		{Timestamp: 900, Value: []byte("no key, older")},
		{Timestamp: 1500, Key: []byte("tombstone")},
		{Timestamp: 1500, Key: []byte{}, Value: []byte{}, Headers: []RecordHeader{
			{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "", Value: []byte{}},
		}},
	}
}

// frameOf seals any content behind a header that promises count records.
func frameOf(codec Codec, count int32, content []byte) []byte {
	h := Header{
		BaseOffset: Unstamped, LeaderEpoch: NoEpoch, Magic: Magic, Attributes: int16(codec), LastOffsetDelta: count - 1, NumRecords: count,
		ProducerID: NoProducerID, ProducerEpoch: NoProducerEpoch, BaseSequence: NoSequence,
	}
	frame := append(make([]byte, HeaderSize), content...)
	PutHeader(frame, h)
	Seal(frame)
	return frame
}

// compressed is content, compressed by our own encoder.
func compressed(t testing.TB, codec Codec, content []byte) []byte {
	t.Helper()
	out, err := compress(nil, codec, DefaultLevel, content)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// edit changes a copy of the frame and reseals it.
func edit(frame []byte, f func(b []byte)) []byte {
	b := bytes.Clone(frame)
	f(b)
	Reseal(b)
	return b
}

func put32(pos int, v int32) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint32(b[pos:], uint32(v)) }
}

func put64(pos int, v int64) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint64(b[pos:], uint64(v)) }
}

func setAttr(bits int16) func([]byte) {
	return func(b []byte) { SetAttributes(b, int16(binary.BigEndian.Uint16(b[posAttributes:]))|bits) }
}

// noise is n bytes that do not compress.
func noise(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// text is n bytes that compress about as well as JSON lines do.
func text(rng *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+80)
	for len(b) < n {
		b = fmt.Appendf(b, `{"user":%d,"event":"page_view","path":"/item/%d","ms":%d},`, rng.IntN(100000), rng.IntN(5000), rng.IntN(1000))
	}
	return b[:n]
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// equalRecords compares contents and times, with nil and empty told apart; offsets are those that Build gives.
func equalRecords(t testing.TB, got, want []Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
	for i, g := range got {
		w := want[i]
		ok := g.Offset == Unstamped+Offset(i) && g.Timestamp == w.Timestamp && same(g.Key, w.Key) && same(g.Value, w.Value) &&
			len(g.Headers) == len(w.Headers)
		for k := 0; ok && k < len(g.Headers); k++ {
			ok = g.Headers[k].Key == w.Headers[k].Key && same(g.Headers[k].Value, w.Headers[k].Value)
		}
		if !ok {
			t.Fatalf("record %d differs: %d/%d key %d value %d headers %d, want %d key %d value %d headers %d", i, g.Offset, g.Timestamp,
				len(g.Key), len(g.Value), len(g.Headers), w.Timestamp, len(w.Key), len(w.Value), len(w.Headers))
		}
	}
}
