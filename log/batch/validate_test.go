package batch

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/quorlog/quorlog/internal/allocs"
)

func TestValidateInfo(t *testing.T) {
	everyCodec(t, func(t *testing.T, c Codec) {
		frame := mustBuild(t, BuildOptions{Codec: c, Producer: &Producer{5, 1, 0}, Transactional: true}, sample()...)
		info := mustValidate(t, frame)
		plain := mustBuild(t, BuildOptions{}, sample()...)
		if info.MinTimestamp != 900 || info.MaxTimestamp != 1500 || info.MaxTimestampDelta != 2 || !info.Keyless || info.NumRecords != 4 {
			t.Errorf("%+v", info)
		}
		if info.Decompressed != int64(len(plain)-HeaderSize) || info.Codec() != c || !info.IsTransactional() || info.ProducerID != 5 {
			t.Errorf("%+v", info)
		}
		keyed := append(sample()[:1], sample()[2:]...)
		if info := mustValidate(t, mustBuild(t, BuildOptions{Codec: c}, keyed...)); info.Keyless {
			t.Error("null values and empty keys are not missing keys")
		}
	})
}

// Clients that are not idempotent do not agree on what to write next to producer id -1, and sarama leaves MaxTimestamp at -1.
func TestValidateAcceptsWhatClientsSend(t *testing.T) {
	frame := mustBuild(t, BuildOptions{}, sample()...)
	for name, f := range map[string]func([]byte){
		"franz-go, Java, librdkafka": func(b []byte) { SetProducer(b, -1, -1, -1) },
		"kafkajs, sarama":            func(b []byte) { SetProducer(b, -1, 0, 0) },
		"sarama's max timestamp":     put64(posMaxTimestamp, -1),
		"log append time bit":        setAttr(AttrLogAppendTime),
		"base offset and epoch":      func(b []byte) { Stamp(b, 12345, 9) },
	} {
		info, err := Validate(edit(frame, f), Limits{}, nil)
		if err != nil || info.MaxTimestamp != 1500 {
			t.Errorf("%s: %v, %+v", name, err, info)
		}
	}
}

func TestValidateRefusesHeader(t *testing.T) {
	frame := mustBuild(t, BuildOptions{Producer: &Producer{5, 1, 10}}, sample()...)
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"one byte short":            {frame[:len(frame)-1], ErrTruncated},
		"one byte more":             {append(bytes.Clone(frame), 0), ErrLength},
		"message set":               {edit(frame, func(b []byte) { b[posMagic] = 1 }), ErrMagic},
		"control":                   {edit(frame, setAttr(AttrControl)), ErrReserved},
		"delete horizon":            {edit(frame, setAttr(AttrDeleteHorizon)), ErrReserved},
		"internal":                  {edit(frame, setAttr(AttrInternal)), ErrReserved},
		"codec 5":                   {edit(frame, setAttr(5)), ErrCodec},
		"codec 7":                   {edit(frame, setAttr(7)), ErrCodec},
		"no records":                {edit(frame, put32(posNumRecords, 0)), ErrCount},
		"negative count":            {edit(frame, put32(posNumRecords, -1)), ErrCount},
		"count without delta":       {edit(frame, put32(posNumRecords, 3)), ErrCount},
		"delta under-declared":      {edit(frame, put32(posLastDelta, 0)), ErrCount},
		"delta over-declared":       {edit(frame, put32(posLastDelta, 100)), ErrCount},
		"delta overflows":           {edit(frame, func(b []byte) { put32(posLastDelta, math.MaxInt32)(b); put32(posNumRecords, math.MinInt32)(b) }), ErrCount},
		"both one less":             {edit(frame, func(b []byte) { put32(posLastDelta, 2)(b); put32(posNumRecords, 3)(b) }), ErrCount},
		"both one more":             {edit(frame, func(b []byte) { put32(posLastDelta, 4)(b); put32(posNumRecords, 5)(b) }), ErrCount},
		"producer id -2":            {edit(frame, func(b []byte) { SetProducer(b, -2, -1, -1) }), ErrSequence},
		"producer without epoch":    {edit(frame, func(b []byte) { SetProducer(b, 5, -1, 0) }), ErrSequence},
		"producer without sequence": {edit(frame, func(b []byte) { SetProducer(b, 5, 0, -1) }), ErrSequence},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Validate(c.b, Limits{}, nil); !errors.Is(err, c.want) || !errors.Is(err, ErrInvalid) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	for bit := 6; bit < 15; bit++ {
		if _, err := Validate(edit(frame, setAttr(1<<bit)), Limits{}, nil); !errors.Is(err, ErrReserved) {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
	if _, err := Validate(frame, Limits{MaxMessageBytes: len(frame) - 1}, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("above max.message.bytes: %v", err)
	}
	if _, err := Validate(frame, Limits{MaxMessageBytes: len(frame)}, nil); err != nil {
		t.Errorf("exactly max.message.bytes: %v", err)
	}
}

// badRecords are contents of one record each, written out with its length.
var badRecords = map[string]struct {
	content []byte
	want    error
}{
	"empty content":              {nil, ErrCount},
	"length 0":                   {[]byte{0}, ErrRecord},
	"negative length":            {[]byte{1}, ErrRecord},
	"length of 6 bytes":          {[]byte{0x8c, 0x80, 0x80, 0x80, 0x80, 0x00, 0, 0, 0, 1, 1, 0}, ErrRecord},
	"length beyond the content":  {[]byte{14, 0, 0, 0, 1, 1, 0}, ErrRecord},
	"huge length":                {[]byte{0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 1, 1, 0}, ErrRecord},
	"body too short":             {[]byte{10, 0, 0, 0, 1, 1}, ErrRecord},
	"byte behind the headers":    {[]byte{14, 0, 0, 0, 1, 1, 0, 0}, ErrRecord},
	"byte behind the record":     {[]byte{12, 0, 0, 0, 1, 1, 0, 0}, ErrCount},
	"offset delta 1":             {[]byte{12, 0, 0, 2, 1, 1, 0}, ErrDelta},
	"offset delta -1":            {[]byte{12, 0, 0, 1, 1, 1, 0}, ErrDelta},
	"offset delta beyond 32 bit": {[]byte{20, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 1, 1, 0}, ErrRecord},
	"key beyond the record":      {[]byte{12, 0, 0, 0, 8, 1, 0}, ErrRecord},
	"key length -2":              {[]byte{12, 0, 0, 0, 3, 1, 0}, ErrRecord},
	"value beyond the record":    {[]byte{12, 0, 0, 0, 1, 8, 0}, ErrRecord},
	"value length -2":            {[]byte{12, 0, 0, 0, 1, 3, 0}, ErrRecord},
	"negative header count":      {[]byte{12, 0, 0, 0, 1, 1, 1}, ErrRecord},
	"header count without any":   {[]byte{12, 0, 0, 0, 1, 1, 2}, ErrRecord},
	"huge header count":          {[]byte{20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f}, ErrRecord},
	"null header key":            {[]byte{16, 0, 0, 0, 1, 1, 2, 1, 1}, ErrRecord},
	"header key beyond":          {[]byte{16, 0, 0, 0, 1, 1, 2, 8, 1}, ErrRecord},
	"header value beyond":        {[]byte{16, 0, 0, 0, 1, 1, 2, 0, 8}, ErrRecord},
	"header value length -2":     {[]byte{16, 0, 0, 0, 1, 1, 2, 0, 3}, ErrRecord},
	"no value length":            {[]byte{12, 0, 0, 0, 4, 'k', 'k'}, ErrRecord},
	"timestamp of 11 bytes": {append([]byte{32, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		0, 1, 1, 0), ErrRecord},
}

func TestValidateRefusesRecords(t *testing.T) {
	everyCodec(t, func(t *testing.T, c Codec) {
		for name, bad := range badRecords {
			frame := frameOf(c, 1, compressed(t, c, bad.content))
			if _, err := Validate(frame, Limits{}, nil); !errors.Is(err, bad.want) {
				t.Errorf("%s: got %v, want %v", name, err, bad.want)
			}
			if err := Iterate(frame, func(Record) error { return nil }); bad.want != ErrDelta && !errors.Is(err, bad.want) {
				t.Errorf("%s: iterate says %v, want %v", name, err, bad.want)
			}
		}
		if _, err := Validate(frameOf(c, 1, compressed(t, c, []byte{12, 0, 0, 0, 1, 1, 0})), Limits{}, nil); err != nil {
			t.Errorf("the smallest record: %v", err)
		}
	})
}

func TestValidateTimestampOverflow(t *testing.T) {
	for _, c := range []struct{ base, delta int64 }{{math.MaxInt64, 1}, {math.MinInt64, -1}, {1, math.MaxInt64}, {-2, math.MinInt64}} {
		content := appendRecord(nil, Record{}, c.delta, 0)
		frame := edit(frameOf(None, 1, content), put64(posBaseTimestamp, c.base))
		if _, err := Validate(frame, Limits{}, nil); !errors.Is(err, ErrTimestamp) {
			t.Errorf("%d%+d: %v", c.base, c.delta, err)
		}
	}
	frame := edit(frameOf(None, 1, appendRecord(nil, Record{}, math.MinInt64, 0)), put64(posBaseTimestamp, 0))
	if info, err := Validate(frame, Limits{}, nil); err != nil || info.MaxTimestamp != math.MinInt64 {
		t.Errorf("the smallest timestamp: %+v, %v", info, err)
	}
}

// Records around the size of the window, and far beyond, take different ways through the scanner.
func TestValidateRecordSizes(t *testing.T) {
	rng := newRand()
	var records []Record
	for _, n := range []int{0, 1, 63, 64, 8191, 8192, maxWhole - 100, maxWhole - 10, maxWhole, maxWhole + 1, windowSize - 8, windowSize, 3 * windowSize} {
		records = append(records,
			Record{Timestamp: 1, Key: text(rng, n)},
			Record{Timestamp: 2, Value: text(rng, n), Headers: []RecordHeader{{Key: "h", Value: text(rng, 10)}}},
			Record{Timestamp: 3, Key: noise(rng, n/2), Value: noise(rng, n), Headers: []RecordHeader{{Key: string(text(rng, n)), Value: text(rng, n)}, {Key: "x"}}})
	}
	everyCodec(t, func(t *testing.T, c Codec) {
		frame := mustBuild(t, BuildOptions{Codec: c}, records...)
		info := mustValidate(t, frame)
		if !info.Keyless || info.MaxTimestamp != 3 || info.MaxTimestampDelta != 2 {
			t.Errorf("%+v", info)
		}
		equalRecords(t, mustIterate(t, frame), records)
	})
}

// What is wrong in a record larger than the window is found too.
func TestValidateRefusesLargeRecords(t *testing.T) {
	big := Record{Key: make([]byte, windowSize), Value: make([]byte, windowSize), Headers: []RecordHeader{{Key: "h", Value: []byte("v")}}}
	good := appendRecord(nil, big, 0, 0)
	at := func(i int, v byte) []byte {
		b := bytes.Clone(good)
		b[i] = v
		return b
	}
	// length 4 bytes (the sizes here need three 7-bit groups), attributes, two deltas, key length, key, value length, value, headers
	lengthSize := varintLen(int64(len(good)))
	keyLen := lengthSize + 3
	valueLen := keyLen + varintLen(windowSize) + windowSize
	headers := valueLen + varintLen(windowSize) + windowSize
	for name, c := range map[string]struct {
		content []byte
		want    error
	}{
		"cut off":                   {good[:len(good)-1], ErrRecord},
		"cut off in the key":        {good[:windowSize/2], ErrRecord},
		"offset delta":              {at(lengthSize+2, 2), ErrDelta},
		"key longer than record":    {at(keyLen+varintLen(windowSize)-1, 0x7f), ErrRecord},
		"value longer than record":  {at(valueLen+varintLen(windowSize)-1, 0x7f), ErrRecord},
		"value length -2":           {at(valueLen, 3), ErrRecord},
		"header count":              {at(headers, 0x7e), ErrRecord},
		"negative header count":     {at(headers, 1), ErrRecord},
		"too few headers":           {at(headers, 0), ErrRecord},
		"null header key":           {at(headers+1, 1), ErrRecord},
		"header value beyond":       {at(headers+3, 0x7e), ErrRecord},
		"header value shorter":      {at(headers+3, 0), ErrRecord},
		"more behind":               {append(bytes.Clone(good), 0), ErrCount},
		"length beyond the content": {at(lengthSize-1, good[lengthSize-1]+1), ErrRecord},
	} {
		t.Run(name, func(t *testing.T) {
			everyCodec(t, func(t *testing.T, codec Codec) {
				_, err := Validate(frameOf(codec, 1, compressed(t, codec, c.content)), Limits{}, nil)
				if !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			})
		})
	}
}

func TestCorruptionIsFound(t *testing.T) {
	everyCodec(t, func(t *testing.T, c Codec) {
		frame := mustBuild(t, BuildOptions{Codec: c}, sample()...)
		v := GetValidator()
		defer PutValidator(v)
		for i := posCRC; i < len(frame); i++ {
			for _, flip := range []byte{0x01, 0x80, 0xff} {
				b := bytes.Clone(frame)
				b[i] ^= flip
				if _, err := v.Validate(b, Limits{}); !errors.Is(err, ErrCRC) {
					t.Fatalf("byte %d ^ %#x: %v", i, flip, err)
				}
			}
		}
		for n := range frame {
			if _, err := v.Validate(frame[:n], Limits{}); !errors.Is(err, ErrTruncated) {
				t.Fatalf("%d of %d bytes: %v", n, len(frame), err)
			}
		}
		if _, err := v.Validate(frame, Limits{}); err != nil {
			t.Errorf("the validator has kept something: %v", err)
		}
	})
}

// Behind a valid CRC, a damaged compressed stream must give an error or the same records, never a crash or a different count.
func TestResealedCorruption(t *testing.T) {
	records := sample()
	for i := range 50 {
		records = append(records, Record{Timestamp: int64(i), Key: fmt.Appendf(nil, "key-%d", i), Value: text(newRand(), 200)})
	}
	everyCodec(t, func(t *testing.T, c Codec) {
		frame := mustBuild(t, BuildOptions{Codec: c}, records...)
		for i := HeaderSize; i < len(frame); i++ {
			b := edit(frame, func(b []byte) { b[i] ^= byte(1 + i%255) })
			if _, err := Validate(b, Limits{}, nil); err != nil && !errors.Is(err, ErrInvalid) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
		for n := HeaderSize; n < len(frame); n++ {
			b := bytes.Clone(frame[:n])
			Seal(b)
			if _, err := Validate(b, Limits{}, nil); !errors.Is(err, ErrInvalid) {
				t.Fatalf("%d of %d bytes, resealed: %v", n, len(frame), err)
			}
		}
	})
}

// A bomb is refused when the limit is met, without being unpacked.
func TestBombs(t *testing.T) {
	const size = 64 << 20
	content := appendRecord(nil, Record{Value: make([]byte, size)}, 0, 0)
	lim := Limits{MaxDecompressed: 1 << 20}
	for _, c := range []Codec{Gzip, Snappy, LZ4, Zstd} {
		t.Run(c.String(), func(t *testing.T) {
			frame := frameOf(c, 1, compressed(t, c, content))
			if _, err := Validate(frame, lim, nil); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%d bytes: %v", len(frame), err)
			}
			if err := iterate(frame, lim.MaxDecompressed, func(Record) error { return nil }); !errors.Is(err, ErrTooLarge) {
				t.Errorf("iterate: %v", err)
			}
			if _, err := Validate(frame, Limits{MaxDecompressed: int64(len(content))}, nil); err != nil {
				t.Errorf("exactly at the limit: %v", err)
			}
			if _, err := Validate(frame, Limits{MaxDecompressed: int64(len(content)) - 1}, nil); !errors.Is(err, ErrTooLarge) {
				t.Errorf("one byte below: %v", err)
			}
			if got := allocs.Bytes(func() { _, _ = Validate(frame, lim, nil) }); got > 8<<20 {
				t.Errorf("%d bytes allocated for a limit of %d", got, lim.MaxDecompressed)
			}
		})
	}
}

func TestAllowControl(t *testing.T) {
	frame := BuildControl(Control{Type: ControlCommit, ProducerID: 7, ProducerEpoch: 2, CoordinatorEpoch: 3, Timestamp: 99})
	if _, err := Validate(frame, Limits{}, nil); !errors.Is(err, ErrReserved) {
		t.Errorf("from a client: %v", err)
	}
	if info, err := Validate(frame, Limits{AllowControl: true}, nil); err != nil || info.MaxTimestamp != 99 {
		t.Errorf("from a coordinator: %+v, %v", info, err)
	}
}

func TestFindTimestamp(t *testing.T) {
	records := []Record{{Timestamp: 10}, {Timestamp: 30}, {Timestamp: 20}, {Timestamp: 40}, {Timestamp: 40}}
	everyCodec(t, func(t *testing.T, c Codec) {
		frame := mustBuild(t, BuildOptions{Codec: c}, records...)
		Stamp(frame, 100, 1)
		for ts, want := range map[int64]Offset{-1: 100, 10: 100, 11: 101, 30: 101, 31: 103, 40: 103} {
			off, got, ok, err := FindTimestamp(frame, ts)
			if off != want || got != records[want-100].Timestamp || !ok || err != nil {
				t.Errorf("%d: %d at %d, %t, %v", ts, got, off, ok, err)
			}
		}
		if _, _, ok, err := FindTimestamp(frame, 41); ok || err != nil {
			t.Errorf("beyond the last: %t, %v", ok, err)
		}
		if off, ts, ok, err := FindMaxTimestamp(frame); off != 103 || ts != 40 || !ok || err != nil {
			t.Errorf("max: %d at %d, %t, %v", ts, off, ok, err)
		}
		SetLogAppendTime(frame, 5000)
		if off, ts, ok, err := FindTimestamp(frame, 41); off != 100 || ts != 5000 || !ok || err != nil {
			t.Errorf("log append time: %d at %d, %t, %v", ts, off, ok, err)
		}
	})
	internal := frameOf(None, 0, []byte("payload"))
	SetAttributes(internal, AttrInternal)
	if _, _, ok, err := FindMaxTimestamp(internal); ok || err != nil {
		t.Errorf("internal: %t, %v", ok, err)
	}
	if _, _, _, err := FindTimestamp(frameOf(Gzip, 1, []byte("rubbish")), 0); !errors.Is(err, ErrCodec) {
		t.Error(err)
	}
}

func TestValidateAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools drop what they hold")
	}
	rng := newRand()
	var records []Record
	for range 200 {
		records = append(records, Record{Key: noise(rng, 8), Value: text(rng, 500), Headers: []RecordHeader{{Key: "h"}}})
	}
	everyCodec(t, func(t *testing.T, c Codec) {
		frame := mustBuild(t, BuildOptions{Codec: c}, records...)
		v := GetValidator()
		defer PutValidator(v)
		n := testing.AllocsPerRun(50, func() {
			if _, err := v.Validate(frame, Limits{}); err != nil {
				t.Fatal(err)
			}
		})
		// Decoders may allocate per block or stream, never per record.
		if limit := 12.0; n > limit || c == None && n > 0 || c == Snappy && n > 0 {
			t.Errorf("%v allocations for %d records", n, len(records))
		}
		t.Logf("%v allocations", n)
	})
}

func TestLimits(t *testing.T) {
	for in, want := range map[int64]int64{0: DefaultMaxDecompressed, -5: DefaultMaxDecompressed, 10: 10, math.MaxInt64: MaxDecompressed} {
		if got := (Limits{MaxDecompressed: in}).decompressed(); got != want {
			t.Errorf("%d: %d, want %d", in, got, want)
		}
	}
}

// A validator must give the same verdict whatever it has seen before.
func TestValidatorReuse(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	type sampleFrame struct {
		frame []byte
		ok    bool
	}
	var frames []sampleFrame
	for _, c := range allCodecs {
		for _, n := range []int{1, 1000, 300_000, 2_000_000} {
			f := mustBuild(t, BuildOptions{Codec: c}, Record{Value: text(rng, n)}, Record{Value: noise(rng, n/10)})
			frames = append(frames, sampleFrame{f, true},
				sampleFrame{edit(f, put32(posNumRecords, 1)), false},
				sampleFrame{edit(f, func(b []byte) { b[HeaderSize] ^= 0xff }), false})
		}
	}
	v := new(Validator)
	for range 600 {
		f := frames[rng.IntN(len(frames))]
		if _, err := v.Validate(f.frame, Limits{}); (err == nil) != f.ok {
			t.Fatalf("got %v, want ok=%t", err, f.ok)
		}
	}
}
