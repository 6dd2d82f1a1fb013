package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/quorlog/quorlog/internal/allocs"
)

func TestCodecNames(t *testing.T) {
	for name, want := range map[string]Codec{"none": None, "uncompressed": None, "gzip": Gzip, "snappy": Snappy, "lz4": LZ4, "zstd": Zstd} {
		if c, err := ParseCodec(name); c != want || err != nil {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	for _, name := range []string{"", "producer", "GZIP", "codec(5)"} {
		if _, err := ParseCodec(name); err == nil {
			t.Errorf("%q is no codec", name)
		}
	}
	if s := Codec(5).String(); s != "codec(5)" || Codec(5).Valid() {
		t.Error(s)
	}
	if lo, hi, d := Gzip.Levels(); lo != 1 || hi != 9 || d != -1 {
		t.Error(lo, hi, d)
	}
	if lo, hi, d := Codec(7).Levels(); lo != 0 || hi != 0 || d != 0 {
		t.Error(lo, hi, d)
	}
}

// Any level of Kafka's ranges works, and those beyond are moved into them.
func TestCompressionLevels(t *testing.T) {
	content := text(newRand(), 100_000)
	for _, c := range allCodecs {
		sizes := map[int]int{}
		for _, level := range []int{-1 << 20, -5, -1, 0, 1, 3, 6, 9, 12, 17, 19, 22, 1 << 20} {
			out, err := compress(nil, c, level, content)
			if err != nil {
				t.Fatalf("%v level %d: %v", c, level, err)
			}
			back, err := decompress(nil, c, out, int64(len(content)))
			if err != nil || !bytes.Equal(back, content) {
				t.Fatalf("%v level %d does not come back: %v", c, level, err)
			}
			sizes[level] = len(out)
		}
		if c != None && c != Snappy && (sizes[22] >= sizes[1] || sizes[0] != sizes[-1]) {
			t.Errorf("%v: %v", c, sizes)
		}
	}
	if _, err := compress(nil, Codec(6), 0, content); !errors.Is(err, ErrCodec) {
		t.Error(err)
	}
	if _, err := decompress(nil, Codec(6), content, 100); !errors.Is(err, ErrCodec) {
		t.Error(err)
	}
}

func TestDecompressLimit(t *testing.T) {
	content := text(newRand(), 300_000)
	for _, c := range []Codec{Gzip, Snappy, LZ4, Zstd} {
		packed := compressed(t, c, content)
		prefix := []byte("prefix")
		got, err := decompress(bytes.Clone(prefix), c, packed, int64(len(content)))
		if err != nil || !bytes.Equal(got, append(prefix, content...)) {
			t.Errorf("%v: %d bytes, %v", c, len(got), err)
		}
		if _, err := decompress(nil, c, packed, int64(len(content))-1); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// accept says whether a payload that holds two small records is taken.
func accept(t *testing.T, codec Codec, pack func(content []byte) []byte) error {
	t.Helper()
	records := sample()[:2]
	plain := mustBuild(t, BuildOptions{}, records...)
	frame := frameOf(codec, 2, pack(plain[HeaderSize:]))
	_, err := Validate(frame, Limits{}, nil)
	if err == nil {
		var n int
		if err := Iterate(frame, func(Record) error { n++; return nil }); err != nil || n != 2 {
			t.Errorf("validated, but Iterate saw %d records: %v", n, err)
		}
	}
	return err
}

func xerial(blocks ...[]byte) []byte {
	out := bytes.Clone(xerialHeader)
	for _, b := range blocks {
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(b))), b...)
	}
	return out
}

func TestSnappyForms(t *testing.T) {
	enc := func(b []byte) []byte { return s2.EncodeSnappy(nil, b) }
	for name, c := range map[string]struct {
		pack func(content []byte) []byte
		want error
	}{
		"bare block":         {enc, nil},
		"one framed block":   {func(b []byte) []byte { return xerial(enc(b)) }, nil},
		"many framed blocks": {func(b []byte) []byte { return xerial(enc(b[:5]), enc(nil), enc(b[5:9]), enc(b[9:]), enc(nil)) }, nil},
		"newer framing": {func(b []byte) []byte {
			x := xerial(enc(b))
			x[11] = 2
			return x
		}, nil},
		"framing version 0": {func(b []byte) []byte {
			x := xerial(enc(b))
			x[11] = 0
			return x
		}, ErrCodec},
		"framing without blocks":  {func([]byte) []byte { return xerial() }, ErrCount},
		"half a framing header":   {func([]byte) []byte { return xerialHeader[:12] }, ErrCodec},
		"half a block size":       {func(b []byte) []byte { return append(xerial(enc(b)), 0, 0) }, ErrCodec},
		"block beyond the end":    {func(b []byte) []byte { x := xerial(enc(b)); return x[:len(x)-1] }, ErrCodec},
		"negative block size":     {func([]byte) []byte { return append(xerial(), 0xff, 0xff, 0xff, 0xff, 0) }, ErrCodec},
		"lying block length":      {func([]byte) []byte { return []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0} }, ErrCodec},
		"no block length":         {func([]byte) []byte { return []byte{0xff, 0xff} }, ErrCodec},
		"empty payload":           {func([]byte) []byte { return nil }, ErrCount},
		"S2's repeated offset":    {s2Repeat, ErrCodec},
		"literal length cut off":  {func([]byte) []byte { return []byte{10, 63 << 2, 1} }, ErrCodec},
		"literal beyond the end":  {func([]byte) []byte { return []byte{10, 62 << 2, 0xff, 0xff, 0xff} }, ErrCodec},
		"copy offset 0, 1 byte":   {func([]byte) []byte { return []byte{12, 3 << 2, 'a', 'b', 'c', 'd', 4<<2 | 1, 0} }, ErrCodec},
		"copy offset 0, 2 bytes":  {func([]byte) []byte { return []byte{12, 3 << 2, 'a', 'b', 'c', 'd', 7<<2 | 2, 0, 0} }, ErrCodec},
		"copy offset 0, 4 bytes":  {func([]byte) []byte { return []byte{12, 3 << 2, 'a', 'b', 'c', 'd', 7<<2 | 3, 0, 0, 0, 0} }, ErrCodec},
		"stream framing of S2":    {func(b []byte) []byte { return s2Stream(b) }, ErrCodec},
		"rubbish":                 {func([]byte) []byte { return []byte("rubbish, not snappy at all") }, ErrCodec},
		"content behind the last": {func(b []byte) []byte { return xerial(enc(b), enc([]byte{1})) }, ErrCount},
	} {
		t.Run(name, func(t *testing.T) {
			if err := accept(t, Snappy, c.pack); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// s2Repeat encodes the content and more behind it with S2's own extension, which the library's fast decoder would read.
func s2Repeat(content []byte) []byte {
	content = append(bytes.Clone(content), appendRecord(nil, Record{Value: text(newRand(), 20_000)}, 0, 2)...)
	return s2.Encode(nil, content)
}

func s2Stream(b []byte) []byte {
	var out bytes.Buffer
	w := s2.NewWriter(&out, s2.WriterSnappyCompat())
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

// Whatever the Snappy encoders write comes back.
func TestSnappyEncoders(t *testing.T) {
	rng := newRand()
	for _, n := range []int{0, 1, 59, 60, 61, 255, 256, 257, 65535, 65536, 65537, 1 << 20} {
		for _, content := range [][]byte{noise(rng, n), text(rng, n), make([]byte, n)} {
			for _, block := range [][]byte{s2.EncodeSnappy(nil, content), s2.EncodeSnappyBetter(nil, content), s2.EncodeSnappyBest(nil, content)} {
				if got, err := decompress(nil, Snappy, block, int64(n)); err != nil || !bytes.Equal(got, content) {
					t.Fatalf("a block of %d bytes: %v", n, err)
				}
			}
		}
	}
	// a 5-byte literal length, as an encoder of gigabytes would write it
	long := append([]byte{4, 63 << 2, 3, 0, 0, 0}, "abcd"...)
	if got, err := decompress(nil, Snappy, long, 4); err != nil || string(got) != "abcd" {
		t.Errorf("%q, %v", got, err)
	}
}

func lz4Frame(t *testing.T, content []byte, options ...lz4.Option) []byte {
	t.Helper()
	var out bytes.Buffer
	w := lz4.NewWriter(&out)
	if err := w.Apply(options...); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestLZ4Forms(t *testing.T) {
	skippable := []byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'}
	for name, c := range map[string]struct {
		pack func(content []byte) []byte
		want error
	}{
		"as Java writes it":     {func(b []byte) []byte { return compressed(t, LZ4, b) }, nil},
		"4 MiB blocks, checks":  {func(b []byte) []byte { return lz4Frame(t, b, lz4.BlockChecksumOption(true)) }, nil},
		"content size declared": {func(b []byte) []byte { return lz4Frame(t, b, lz4.SizeOption(uint64(len(b)))) }, nil},
		"two frames": {func(b []byte) []byte {
			return append(lz4Frame(t, b[:7]), lz4Frame(t, b[7:])...)
		}, nil},
		"legacy frame": {func(b []byte) []byte { return lz4Frame(t, b, lz4.LegacyOption(true)) }, ErrCodec},
		"skippable":    {func(b []byte) []byte { return append(bytes.Clone(skippable), lz4Frame(t, b)...) }, ErrCodec},
		"linked blocks": {func(b []byte) []byte {
			f := lz4Frame(t, b)
			f[4] &^= 0x20
			return f
		}, ErrCodec},
		"version 2": {func(b []byte) []byte {
			f := lz4Frame(t, b)
			f[4] ^= 0xc0
			return f
		}, ErrCodec},
		"header checksum": {func(b []byte) []byte {
			f := lz4Frame(t, b)
			f[6] ^= 1
			return f
		}, ErrCodec},
		"content checksum": {func(b []byte) []byte {
			f := lz4Frame(t, b)
			f[len(f)-1] ^= 1
			return f
		}, ErrCodec},
		"no end mark": {func(b []byte) []byte { f := lz4Frame(t, b); return f[:len(f)-8] }, ErrCodec},
		"rubbish behind": {func(b []byte) []byte {
			return append(lz4Frame(t, b), "rubbish"...)
		}, ErrCodec},
		"empty payload": {func([]byte) []byte { return nil }, ErrCodec},
		"empty frame":   {func([]byte) []byte { return lz4Frame(t, nil) }, ErrCount},
	} {
		t.Run(name, func(t *testing.T) {
			if err := accept(t, LZ4, c.pack); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestGzipForms(t *testing.T) {
	gz := func(b []byte) []byte { return compressed(t, Gzip, b) }
	for name, c := range map[string]struct {
		pack func(content []byte) []byte
		want error
	}{
		"two members":    {func(b []byte) []byte { return append(gz(b[:7]), gz(b[7:])...) }, nil},
		"checksum":       {func(b []byte) []byte { f := gz(b); f[len(f)-5] ^= 1; return f }, ErrCodec},
		"cut off":        {func(b []byte) []byte { f := gz(b); return f[:len(f)-1] }, ErrCodec},
		"rubbish behind": {func(b []byte) []byte { return append(gz(b), "rubbish"...) }, ErrCodec},
		"not gzip":       {func(b []byte) []byte { return b }, ErrCodec},
		"empty payload":  {func([]byte) []byte { return nil }, ErrCodec},
	} {
		t.Run(name, func(t *testing.T) {
			if err := accept(t, Gzip, c.pack); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func zstdFrame(t *testing.T, content []byte, stream bool, options ...zstd.EOption) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, append([]zstd.EOption{zstd.WithEncoderConcurrency(1), zstd.WithZeroFrames(true)}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	if !stream {
		return w.EncodeAll(content, nil)
	}
	for part := range slices.Chunk(content, 50_000) { // several writes, or the encoder would see the whole and declare its size
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestZstdForms(t *testing.T) {
	skippable := []byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 'x'}
	for name, c := range map[string]struct {
		pack func(content []byte) []byte
		want error
	}{
		"declared size":        {func(b []byte) []byte { return zstdFrame(t, b, false) }, nil},
		"as a stream":          {func(b []byte) []byte { return zstdFrame(t, b, true) }, nil},
		"level 22 of Java":     {func(b []byte) []byte { return zstdFrame(t, b, true, zstd.WithWindowSize(128<<20)) }, nil},
		"window of 256 MiB":    {func(b []byte) []byte { return zstdFrame(t, b, true, zstd.WithWindowSize(256<<20)) }, ErrTooLarge},
		"two frames, declared": {func(b []byte) []byte { return append(zstdFrame(t, b[:7], false), zstdFrame(t, b[7:], false)...) }, nil},
		"two frames, streamed": {func(b []byte) []byte { return append(zstdFrame(t, b[:7], true), zstdFrame(t, b[7:], true)...) }, nil},
		"skippable first":      {func(b []byte) []byte { return append(bytes.Clone(skippable), zstdFrame(t, b, false)...) }, nil},
		"wide, cut off":        {func(b []byte) []byte { f := zstdFrame(t, b, true, zstd.WithWindowSize(64<<20)); return f[:len(f)-6] }, ErrCodec},
		"checksum":             {func(b []byte) []byte { f := zstdFrame(t, b, false); f[len(f)-1] ^= 1; return f }, ErrCodec},
		"cut off":              {func(b []byte) []byte { f := zstdFrame(t, b, true); return f[:len(f)-6] }, ErrCodec},
		"rubbish behind":       {func(b []byte) []byte { return append(zstdFrame(t, b, false), "rubbish"...) }, ErrCodec},
		"not zstd":             {func(b []byte) []byte { return b }, ErrCodec},
		"empty payload":        {func([]byte) []byte { return nil }, ErrCodec},
		"unknown dictionary": {func(b []byte) []byte {
			return zstdFrame(t, b, false, zstd.WithEncoderDictRaw(77, text(newRand(), 1000)))
		}, ErrCodec},
	} {
		t.Run(name, func(t *testing.T) {
			if err := accept(t, Zstd, c.pack); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// A wide window whose content is large really uses the window; and the window alone must not cost its size.
func TestWideZstd(t *testing.T) {
	rng := newRand()
	block := noise(rng, 12<<20)
	content := appendRecord(nil, Record{Value: append(bytes.Clone(block), block...)}, 0, 0)
	packed := zstdFrame(t, content, true, zstd.WithWindowSize(32<<20), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if len(packed) > len(content)*2/3 {
		t.Fatalf("the repetition was not found: %d of %d bytes", len(packed), len(content))
	}
	frame := frameOf(Zstd, 1, packed)
	if info := mustValidate(t, frame); info.Decompressed != int64(len(content)) {
		t.Errorf("%d of %d bytes", info.Decompressed, len(content))
	}
	if _, err := Validate(frame, Limits{MaxDecompressed: int64(len(content)) - 1}, nil); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	// A frame of a single segment, whose content is its window, that says that it has more than any consumer takes for one.
	const singleSegment, size4 = 1 << 5, 2 << 6
	large := binary.LittleEndian.AppendUint32([]byte{0x28, 0xb5, 0x2f, 0xfd, singleSegment | size4}, 128<<20+1)
	large = append(large, 1, 0, 0) // the last block, with nothing in it
	var err error
	if got := allocs.Bytes(func() { _, err = Validate(frameOf(Zstd, 1, large), Limits{MaxDecompressed: MaxDecompressed}, nil) }); !errors.Is(err, ErrTooLarge) || got > 1<<20 {
		t.Errorf("a single segment of more than 128 MiB: %v; %d bytes were allocated", err, got)
	}
	small := frameOf(Zstd, 1, zstdFrame(t, appendRecord(nil, Record{Value: text(rng, 1000)}, 0, 0), true, zstd.WithWindowSize(128<<20)))
	mustValidate(t, small)
	if got := allocs.Bytes(func() { mustValidate(t, small) }); got > 4<<20 {
		t.Errorf("a batch of %d bytes made it allocate %d", len(small), got)
	}
}

// Concatenated frames that are larger than what the first declares, in a batch whose scan is in the middle of a record.
func TestZstdManyFrames(t *testing.T) {
	content := appendRecord(nil, Record{Value: text(newRand(), 2<<20)}, 0, 0)
	var packed []byte
	for part := range slices.Chunk(content, 700_000) {
		packed = append(packed, zstdFrame(t, part, false)...)
	}
	frame := frameOf(Zstd, 1, packed)
	if info := mustValidate(t, frame); info.Decompressed != int64(len(content)) {
		t.Errorf("%d of %d bytes", info.Decompressed, len(content))
	}
	mustIterate(t, frame)
}
