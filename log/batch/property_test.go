package batch

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// nullable draws bytes, null among them. Sizes are small, or near the bounds of the window.
func nullable(t *rapid.T, label string) []byte {
	switch rapid.IntRange(0, 9).Draw(t, label+" kind") {
	case 0:
		return nil
	case 1:
		n := rapid.SampledFrom([]int{63, 64, 8191, 8192, maxWhole - 9, maxWhole, maxWhole + 1, windowSize}).Draw(t, label+" size")
		return bytes.Repeat([]byte{byte(n)}, n)
	}
	return rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, label)
}

func drawRecord(t *rapid.T) Record {
	r := Record{Timestamp: rapid.Int64Range(-1, 1<<42).Draw(t, "timestamp"), Key: nullable(t, "key"), Value: nullable(t, "value")}
	for range rapid.IntRange(0, 3).Draw(t, "headers") {
		r.Headers = append(r.Headers, RecordHeader{Key: rapid.StringN(0, 10, 40).Draw(t, "header"), Value: nullable(t, "header value")})
	}
	return r
}

func drawOptions(t *rapid.T) BuildOptions {
	opt := BuildOptions{
		Codec: rapid.SampledFrom(allCodecs).Draw(t, "codec"), Level: rapid.IntRange(-2, 10).Draw(t, "level"),
		Transactional: rapid.Bool().Draw(t, "transactional"),
	}
	if rapid.Bool().Draw(t, "idempotent") {
		opt.Producer = &Producer{rapid.Int64Range(0, 1<<62).Draw(t, "id"), int16(rapid.IntRange(0, 1<<15-1).Draw(t, "epoch")),
			int32(rapid.IntRange(0, 1<<31-1).Draw(t, "sequence"))}
	}
	return opt
}

// build -> stamp -> split -> validate -> iterate gives back what went in; and no single changed byte, nor a missing tail, passes.
func TestPropertyRoundTrip(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		opt := drawOptions(r)
		records := rapid.SliceOfN(rapid.Custom(drawRecord), 1, 20).Draw(r, "records")
		frame := mustBuild(t, opt, records...)
		Stamp(frame, Offset(rapid.Int64Range(0, 1<<50).Draw(r, "base")), 3)
		frames, err := Split(append(bytes.Clone(frame), frame...))
		if err != nil || len(frames) != 2 {
			r.Fatalf("split: %d, %v", len(frames), err)
		}
		info := mustValidate(t, frames[1])
		minTS, maxTS, keyless := records[0].Timestamp, records[0].Timestamp, false
		for _, rec := range records {
			minTS, maxTS, keyless = min(minTS, rec.Timestamp), max(maxTS, rec.Timestamp), keyless || rec.Key == nil
		}
		if info.MinTimestamp != minTS || info.MaxTimestamp != maxTS || info.Header.MaxTimestamp != maxTS || info.Keyless != keyless ||
			int(info.NumRecords) != len(records) || info.IsTransactional() != opt.Transactional || info.HasProducer() != (opt.Producer != nil) {
			r.Fatalf("%+v", info)
		}
		if first := records[info.MaxTimestampDelta]; first.Timestamp != maxTS {
			r.Fatalf("record %d is not the latest", info.MaxTimestampDelta)
		}
		Stamp(frame, Unstamped, NoEpoch)
		equalRecords(t, mustIterate(t, frame), records)

		at := rapid.IntRange(posCRC, len(frame)-1).Draw(r, "damaged byte")
		damaged := bytes.Clone(frame)
		damaged[at] ^= byte(rapid.IntRange(1, 255).Draw(r, "flip"))
		if _, err := Validate(damaged, Limits{}, nil); !errors.Is(err, ErrCRC) {
			r.Fatalf("byte %d: %v", at, err)
		}
		if _, err := Validate(frame[:rapid.IntRange(0, len(frame)-1).Draw(r, "cut")], Limits{}, nil); !errors.Is(err, ErrTruncated) {
			r.Fatalf("cut off: %v", err)
		}
	})
}

// Recompressing in any order keeps the records.
func TestPropertyRecompress(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(drawRecord), 1, 10).Draw(r, "records")
		frame := mustBuild(t, drawOptions(r), records...)
		for _, c := range rapid.SliceOfN(rapid.SampledFrom(allCodecs), 1, 4).Draw(r, "codecs") {
			var err error
			if frame, err = Recompress(frame, c, DefaultLevel, 0); err != nil {
				r.Fatal(err)
			}
			mustValidate(t, frame)
		}
		equalRecords(t, mustIterate(t, frame), records)
	})
}
