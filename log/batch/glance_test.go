package batch

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/quorlog/quorlog/internal/allocs"
)

// large is a batch whose records are partly larger than the window, and together than what a packer holds.
func large() []Record {
	rng := newRand()
	records := sample()
	for i := range 40 {
		records = append(records, Record{Timestamp: int64(i), Key: text(rng, i), Value: text(rng, 50_000)})
	}
	records = append(records,
		Record{Timestamp: 7, Key: text(rng, 3*windowSize), Value: noise(rng, 10), Headers: []RecordHeader{{Key: "h", Value: []byte{1}}, {Key: "null"}}},
		Record{Timestamp: -5, Key: bytes.Repeat([]byte("k"), 2*windowSize)},
		Record{Timestamp: 9, Value: make([]byte, 2*spillSize+1)},
		Record{Key: []byte{}, Value: []byte{}})
	for i := range 40 {
		records = append(records, Record{Key: text(rng, 9), Value: text(rng, 40_000), Timestamp: int64(i)})
	}
	return records
}

// Scan tells of each record what Iterate does.
func TestScan(t *testing.T) {
	for name, records := range map[string][]Record{"small": sample(), "large": large()} {
		t.Run(name, func(t *testing.T) {
			everyCodec(t, func(t *testing.T, c Codec) {
				frame := mustBuild(t, BuildOptions{Codec: c}, records...)
				Stamp(frame, 100, 1)
				for range 2 {
					i, want := 0, mustIterate(t, frame)
					err := ScanKeys(frame, func(g *Glance) error {
						r := want[i]
						if g.Offset != r.Offset || g.Timestamp != r.Timestamp || g.HasKey != (r.Key != nil) || g.HasValue != (r.Value != nil) {
							t.Errorf("record %d: %+v", i, g)
						}
						if g.HasKey && g.KeySum() != sha256.Sum256(r.Key) {
							t.Errorf("record %d: another key", i)
						}
						i++
						return nil
					})
					if err != nil || i != len(want) {
						t.Errorf("%d of %d records, %v", i, len(want), err)
					}
					SetLogAppendTime(frame, 5000)
				}
				enough := errors.New("enough")
				if err := Scan(frame, func(*Glance) error { return enough }); err != enough {
					t.Error(err)
				}
				if err := Scan(edit(frame, put32(posNumRecords, int32(len(records)+1))), func(*Glance) error { return nil }); !errors.Is(err, ErrCount) {
					t.Error(err)
				}
			})
		})
	}
}

// Batches that unpack to much are scanned, rebuilt and compressed anew in memory of their own size.
func TestMuchInAStream(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools drop what they hold")
	}
	const most = 32 << 20 // half of what they unpack to
	content := appendRecord(appendRecord(nil, Record{Value: make([]byte, 64<<20)}, 0, 0), Record{Key: []byte("small"), Value: []byte{1}}, 0, 1)
	for _, c := range allCodecs[1:] {
		frame := frameOf(c, 2, compressed(t, c, content))
		for name, run := range map[string]func() error{
			"scan": func() error { return ScanKeys(frame, func(*Glance) error { return nil }) },
			"rebuild": func() error {
				small, err := Rebuild(frame, func(place int) bool { return place == 1 }, -1, 0)
				if r := mustIterate(t, small); len(r) != 1 || string(r[0].Key) != "small" {
					t.Errorf("%v: %v", c, r)
				}
				return err
			},
			"rebuild, all": func() error {
				_, err := Rebuild(frame, func(int) bool { return true }, 5, 2*len(frame))
				return err
			},
			"rebuild, too large": func() error {
				if _, err := Rebuild(frame, func(int) bool { return true }, 5, len(frame)/2); !errors.Is(err, ErrTooLarge) {
					t.Errorf("%v: %v", c, err)
				}
				return nil
			},
			"other codec": func() error {
				out, err := Recompress(frame, allCodecs[1+int(c)%4], DefaultLevel, 0)
				if err == nil {
					_, err = Validate(out, Limits{}, nil)
				}
				return err
			},
			"none": func() error {
				if _, err := Recompress(frame, None, 0, 1<<20); !errors.Is(err, ErrTooLarge) {
					t.Errorf("%v: %v", c, err)
				}
				return nil
			},
		} {
			run := func() {
				if err := run(); err != nil {
					t.Errorf("%v, %s: %v", c, name, err)
				}
			}
			run() // fills the pools
			if got := allocs.Bytes(run); got > most+4*uint64(len(frame)) {
				t.Errorf("%v, %s: %d KiB of a batch made it allocate %d KiB", c, name, len(frame)>>10, got>>10)
			}
		}
	}
}

// What takes much memory to decode is decoded one at a time, from its open to its close, and however it ends.
func TestOneWideSourceAtATime(t *testing.T) {
	free := func() bool {
		if !wide.TryLock() {
			return false
		}
		wide.Unlock()
		return true
	}
	content := appendRecord(nil, Record{Value: bytes.Repeat(text(newRand(), 1<<20), 20)}, 0, 0)
	for name, frame := range map[string][]byte{
		"zstd":          frameOf(Zstd, 1, zstdFrame(t, content, false, zstd.WithWindowSize(16<<20))),
		"zstd, unsized": frameOf(Zstd, 1, zstdFrame(t, content, true, zstd.WithWindowSize(16<<20))),
		"snappy":        frameOf(Snappy, 1, s2.EncodeSnappy(nil, content)),
	} {
		h, err := parseFrame(frame)
		if err != nil {
			t.Fatal(err)
		}
		src, err := openSource(h.Codec(), frame[HeaderSize:], MaxDecompressed)
		if err == nil {
			_, err = src.next(nil, MaxDecompressed)
		}
		if err != nil || free() {
			t.Errorf("%s: %v, free while it is decoded: %t", name, err, free())
		}
		src.close()
		for what, run := range map[string]func() error{
			"validate":             func() error { _, err := Validate(frame, Limits{}, nil); return err },
			"validate, with limit": func() error { _, err := Validate(frame, Limits{MaxDecompressed: 9 << 20}, nil); return err },
			"validate, cut off": func() error {
				b := bytes.Clone(frame[:len(frame)*2/3])
				Seal(b)
				_, err := Validate(b, Limits{}, nil)
				return err
			},
			"iterate":    func() error { return Iterate(frame, func(Record) error { return nil }) },
			"scan":       func() error { return Scan(frame, func(*Glance) error { return errFound }) },
			"rebuild":    func() error { _, err := Rebuild(frame, func(int) bool { return true }, 0, 0); return err },
			"recompress": func() error { _, err := Recompress(frame, Gzip, DefaultLevel, 1<<10); return err },
		} {
			err := run()
			if fine := what == "validate" || what == "iterate" || what == "rebuild"; (err == nil) != fine {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			if !free() {
				t.Fatalf("%s, %s: it is held afterwards", name, what)
			}
		}
	}
}

// A client's record has a bounded number of headers; what is stored is read whatever it has.
func TestMaxHeaders(t *testing.T) {
	for _, value := range [][]byte{nil, make([]byte, maxWhole)} {
		everyCodec(t, func(t *testing.T, c Codec) {
			for n, ok := range map[int]bool{MaxHeaders: true, MaxHeaders + 1: false} {
				frame := mustBuild(t, BuildOptions{Codec: c}, Record{Value: []byte("a")}, Record{Value: value, Headers: make([]RecordHeader, n)})
				if _, err := Validate(frame, Limits{}, nil); (err == nil) != ok || err != nil && !errors.Is(err, ErrRecord) {
					t.Errorf("%d headers: %v", n, err)
				}
				if got := mustIterate(t, frame); len(got) != 2 || len(got[1].Headers) != n {
					t.Errorf("%d records", len(got))
				}
				if err := Scan(frame, func(*Glance) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A record that was read can be added to another batch, with its headers.
func TestRecordsThatWereReadAreBuilt(t *testing.T) {
	b := NewBuilder(BuildOptions{})
	if err := Iterate(mustBuild(t, BuildOptions{Codec: Zstd}, sample()...), func(r Record) error { b.Add(r); return nil }); err != nil {
		t.Fatal(err)
	}
	frame, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	equalRecords(t, mustIterate(t, frame), sample())
}
