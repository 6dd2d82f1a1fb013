package batch

import (
	"fmt"
	"testing"
)

// benchFrames are batches of about 1 MiB. noise does not compress, text does about as JSON lines do.
func benchFrame(b *testing.B, codec Codec, recordSize int, noisy bool) []byte {
	b.Helper()
	rng := newRand()
	builder := NewBuilder(BuildOptions{Codec: codec})
	for i := 0; builder.Size() < 1<<20; i++ {
		value := text(rng, recordSize)
		if noisy {
			value = noise(rng, recordSize)
		}
		builder.Add(Record{Timestamp: 1_700_000_000_000 + int64(i), Key: fmt.Appendf(nil, "%08d", i), Value: value})
	}
	frame, err := builder.Build()
	if err != nil {
		b.Fatal(err)
	}
	return frame
}

func BenchmarkCRC(b *testing.B) {
	frame := benchFrame(b, None, 1024, true)
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		if err := CheckCRC(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseHeader(b *testing.B) {
	frame := benchFrame(b, None, 1024, true)
	for b.Loop() {
		if _, err := ParseHeader(frame); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRecords is validation apart from the CRC.
func BenchmarkRecords(b *testing.B) {
	for _, size := range []int{100, 1024, 10240} {
		b.Run(fmt.Sprintf("record=%d", size), func(b *testing.B) {
			frame := benchFrame(b, None, size, true)
			h, err := ParseHeader(frame)
			if err != nil {
				b.Fatal(err)
			}
			var v Validator
			b.SetBytes(int64(len(frame)))
			for b.Loop() {
				info := Info{Header: h}
				v.scan.index, v.scan.count = 0, h.NumRecords
				if err := v.scan.win.open(h, frame, DefaultMaxDecompressed); err != nil {
					b.Fatal(err)
				}
				if err := v.scan.collect(&info); err != nil {
					b.Fatal(err)
				}
				v.scan.win.close()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(h.NumRecords), "ns/record")
		})
	}
}

// BenchmarkValidate counts decompressed bytes: what a producer's application sees.
func BenchmarkValidate(b *testing.B) {
	for _, kind := range []string{"noise", "text"} {
		for _, c := range allCodecs {
			b.Run(fmt.Sprintf("%s/%v", kind, c), func(b *testing.B) {
				frame := benchFrame(b, c, 1024, kind == "noise")
				v := GetValidator()
				defer PutValidator(v)
				info, err := v.Validate(frame, Limits{})
				if err != nil {
					b.Fatal(err)
				}
				b.SetBytes(info.Decompressed)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := v.Validate(frame, Limits{}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(info.Decompressed)/float64(len(frame)), "ratio")
			})
		}
	}
}

func BenchmarkRecompress(b *testing.B) {
	frame := benchFrame(b, None, 1024, false)
	for _, c := range allCodecs[1:] {
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Recompress(frame, c, DefaultLevel, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkIterate(b *testing.B) {
	frame := benchFrame(b, None, 1024, true)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Iterate(frame, func(Record) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	value := noise(newRand(), 1024)
	builder := NewBuilder(BuildOptions{})
	b.ReportAllocs()
	for b.Loop() {
		for range 100 {
			builder.Add(Record{Timestamp: 1, Value: value})
		}
		frame, err := builder.Build()
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(frame)))
	}
}

// BenchmarkClean is what compaction does to a batch of which half stays.
func BenchmarkClean(b *testing.B) {
	for _, c := range allCodecs {
		b.Run(c.String(), func(b *testing.B) {
			frame := benchFrame(b, c, 1024, false)
			b.SetBytes(int64(mustValidate(b, frame).Decompressed))
			b.ReportAllocs()
			for b.Loop() {
				err := ScanKeys(frame, func(g *Glance) error {
					_ = g.KeySum()
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := Rebuild(frame, func(place int) bool { return place%2 == 0 }, -1, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
