package batch

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/quorlog/quorlog/internal/allocs"
)

// fuzzLimit is what a batch may decompress to under fuzzing, and fuzzBudget what reading it may allocate: the limit, twice for
// growing, and the decoders' own tables and windows. In bytes.
const (
	fuzzLimit  = 1 << 20
	fuzzBudget = 2*fuzzLimit + 2*zstdWindow + 16<<20
)

// seeds are valid batches of every codec and the frames of the tables of bad ones.
func seeds(f *testing.F) {
	f.Helper()
	for _, c := range allCodecs {
		f.Add(mustBuild(f, BuildOptions{Codec: c, Producer: &Producer{1, 2, 3}}, sample()...))
		for _, bad := range badRecords {
			f.Add(frameOf(c, 1, compressed(f, c, bad.content)))
		}
		if c == None {
			continue // large seeds only slow the fuzzer down, unless they are small on the outside
		}
		f.Add(mustBuild(f, BuildOptions{Codec: c}, Record{Value: text(newRand(), 2*windowSize)}))
		f.Add(frameOf(c, 1, compressed(f, c, appendRecord(nil, Record{Value: make([]byte, 4*fuzzLimit)}, 0, 0))))
	}
	f.Add(BuildControl(Control{}))
	f.Add([]byte{})
}

// resealed makes the fuzzer's bytes one batch, so that it need not guess length and CRC.
func resealed(b []byte) []byte {
	if len(b) < HeaderSize {
		return b
	}
	b = bytes.Clone(b)
	b[posMagic] = Magic
	Seal(b)
	return b
}

func checkBudget(t *testing.T, f func()) {
	t.Helper()
	if got := allocs.Bytes(f); got > fuzzBudget {
		t.Errorf("%d bytes allocated", got)
	}
}

func FuzzHeader(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Error(err)
			}
			return
		}
		again := make([]byte, HeaderSize)
		PutHeader(again, h)
		if !bytes.Equal(again, b[:HeaderSize]) {
			t.Errorf("%x became %x", b[:HeaderSize], again)
		}
		if h.Size() < HeaderSize || h.Size() > MaxLength+Overhead {
			t.Errorf("size %d", h.Size())
		}
		_ = CheckCRC(b)
	})
}

func FuzzSplit(f *testing.F) {
	seeds(f)
	one := mustBuild(f, BuildOptions{}, sample()...)
	f.Add(append(bytes.Clone(one), one...))
	f.Fuzz(func(t *testing.T, b []byte) {
		frames, err := Split(b)
		if err != nil {
			if frames != nil || !errors.Is(err, ErrInvalid) {
				t.Errorf("%d frames, %v", len(frames), err)
			}
			return
		}
		if got := bytes.Join(frames, nil); !bytes.Equal(got, b) {
			t.Errorf("%d bytes became %d", len(b), len(got))
		}
	})
}

// sums are what of a batch's records must stay as it is.
func sums(t *testing.T, frame []byte) (all []Glance) {
	t.Helper()
	err := ScanKeys(frame, func(g *Glance) error {
		sum := Glance{Offset: g.Offset, Timestamp: g.Timestamp, HasKey: g.HasKey, HasValue: g.HasValue}
		if g.HasKey {
			sum.sum = g.KeySum()
		}
		all = append(all, sum)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

// A batch that Validate accepts can be iterated, scanned, recompressed, and built again to the same.
func FuzzValidate(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, frame := range [][]byte{b, resealed(b)} {
			var info Info
			var err error
			checkBudget(t, func() { info, err = Validate(frame, Limits{MaxDecompressed: fuzzLimit}, nil) })
			if err != nil {
				if !errors.Is(err, ErrInvalid) {
					t.Error(err)
				}
				continue
			}
			if info.Codec() != None && info.Decompressed > fuzzLimit || info.MinTimestamp > info.MaxTimestamp || info.MaxTimestampDelta > info.LastOffsetDelta {
				t.Errorf("%+v", info)
			}
			var n int32
			err = iterate(frame, fuzzLimit, func(r Record) error {
				if r.Offset != info.BaseOffset+Offset(n) || r.Key == nil && !info.Keyless {
					t.Errorf("record %d at %d", n, r.Offset)
				}
				n++
				return nil
			})
			if err != nil || n != info.NumRecords {
				t.Errorf("%d of %d records, %v", n, info.NumRecords, err)
			}
			plain, err := Recompress(frame, None, 0, 0)
			if err != nil || int64(len(plain)-HeaderSize) != info.Decompressed {
				t.Errorf("%d bytes, expected %d, %v", len(plain)-HeaderSize, info.Decompressed, err)
			}
			again, err := Rebuild(frame, func(int) bool { return true }, -1, 0)
			if err != nil || !reflect.DeepEqual(sums(t, again), sums(t, frame)) {
				t.Errorf("rebuilt, it is another: %v", err)
			}
		}
	})
}

func FuzzIterate(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		frame := resealed(b)
		checkBudget(t, func() {
			var last Record
			err := iterate(frame, fuzzLimit, func(r Record) error {
				last = r
				return nil
			})
			if err != nil && !errors.Is(err, ErrInvalid) {
				t.Error(err)
			}
			_ = len(last.Key)
		})
		_, _ = ParseControl(frame)
	})
}
