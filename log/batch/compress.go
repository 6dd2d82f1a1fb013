package batch

import (
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// zstdEncoderWindow is the window of what we compress, in bytes: the reference encoder's at level 3. Larger ones cost every
// consumer the memory.
const zstdEncoderWindow = 2 << 20

// compress appends src, compressed, to dst. Level 0 is the default too, and one outside the codec's range is moved to its
// nearest end.
func compress(dst []byte, codec Codec, level int, src []byte) ([]byte, error) {
	level = nearestLevel(codec, level)
	switch codec {
	case None:
		return append(dst, src...), nil
	case Snappy:
		return appendXerial(dst, src), nil
	case Zstd:
		return compressZstd(dst, level, src)
	}
	return runEncoder(codec, level, false, dst, src)
}

func nearestLevel(codec Codec, level int) int {
	if level == 0 || level == DefaultLevel || !codec.Valid() {
		return DefaultLevel
	}
	return max(codecs[codec].min, min(level, codecs[codec].max))
}

// sink is an io.Writer that appends, up to a limit.
type sink struct {
	b     []byte
	limit int // of b, in bytes
	full  bool
}

var errFull = errors.New("no more room")

func (s *sink) Write(p []byte) (int, error) {
	if s.full = s.full || len(p) > s.limit-len(s.b); s.full {
		return 0, errFull
	}
	s.b = append(s.b, p...)
	return len(p), nil
}

// streamEncoder is what the writers of gzip, LZ4 and Zstandard have in common.
type streamEncoder interface {
	io.WriteCloser
	Reset(io.Writer)
}

// runEncoder compresses with a pooled writer and gives it back.
func runEncoder(codec Codec, level int, wide bool, dst, src []byte) ([]byte, error) {
	w, pool, err := encoderOf(codec, level, wide)
	if err != nil {
		return nil, err
	}
	out := sink{b: dst, limit: math.MaxInt}
	w.Reset(&out)
	if _, err := w.Write(src); err != nil {
		return nil, fmt.Errorf("compressing with %v: %w", codec, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compressing with %v: %w", codec, err)
	}
	w.Reset(io.Discard) // drops dst
	pool.Put(w)
	return out.b, nil
}

// encoderOf takes a writer from the pool that it is to be given back to. Wide is LZ4 in large blocks; others have no such thing.
func encoderOf(codec Codec, level int, wide bool) (streamEncoder, *sync.Pool, error) {
	switch codec {
	case Gzip:
		return gzipWriter(level)
	case LZ4:
		return lz4Writer(level, wide)
	case Zstd:
		return zstdWriter(level)
	}
	return nil, nil, fmt.Errorf("%w: %v", ErrCodec, codec)
}

// gzipWriters has a pool per level, the codec's default at 0.
var gzipWriters [gzip.BestCompression + 1]sync.Pool

func gzipWriter(level int) (streamEncoder, *sync.Pool, error) {
	pool := &gzipWriters[max(level, 0)]
	w, ok := pool.Get().(*gzip.Writer)
	if !ok {
		var err error
		if w, err = gzip.NewWriterLevel(nil, level); err != nil {
			return nil, nil, fmt.Errorf("gzip level %d: %w", level, err)
		}
	}
	return w, pool, nil
}

// lz4Levels are the library's levels. Kafka's default, 9, means the fast compressor there as here; every other level the slow
// one, of which the library knows nine grades.
var lz4Levels = [...]lz4.CompressionLevel{lz4.Fast, lz4.Level1, lz4.Level2, lz4.Level3, lz4.Level4, lz4.Level5, lz4.Level6,
	lz4.Level7, lz4.Level8, lz4.Level9}

// lz4Blocks are the sizes of the blocks that we write: Java's, and the largest. Within a block, which has to be in memory as a whole, the
// encoder finds what is alike.
var lz4Blocks = [...]lz4.BlockSize{lz4.Block64Kb, lz4.Block4Mb}

// lz4Writers has a pool for each of lz4Levels in blocks of each of lz4Blocks.
var lz4Writers [len(lz4Levels)][len(lz4Blocks)]sync.Pool

// lz4Wide tells whether an LZ4 frame has larger blocks than Java's.
func lz4Wide(payload []byte) bool {
	const posBlocks, java = 5, 4
	return len(payload) > posBlocks && payload[posBlocks]>>4&7 > java
}

func lz4Writer(level int, wide bool) (streamEncoder, *sync.Pool, error) {
	grade := 0
	if level != DefaultLevel && level != codecs[LZ4].deflt {
		grade = min(level, len(lz4Levels)-1)
	}
	size := 0
	if wide {
		size = 1
	}
	pool := &lz4Writers[grade][size]
	w, ok := pool.Get().(*lz4.Writer)
	if !ok {
		w = lz4.NewWriter(nil)
		// Flags as Java's: independent blocks; no checksum, for the batch has its own.
		err := w.Apply(lz4.CompressionLevelOption(lz4Levels[grade]), lz4.BlockSizeOption(lz4Blocks[size]),
			lz4.ChecksumOption(false), lz4.ConcurrencyOption(1))
		if err != nil {
			return nil, nil, fmt.Errorf("lz4 level %d: %w", level, err)
		}
	}
	return w, pool, nil
}

// zstdWriters has a pool for each of the library's encoder levels.
var zstdWriters [zstd.SpeedBestCompression + 1]sync.Pool

func zstdWriter(level int) (*zstd.Encoder, *sync.Pool, error) {
	if level == DefaultLevel {
		level = codecs[Zstd].deflt
	}
	grade := zstd.EncoderLevelFromZstd(level)
	pool := &zstdWriters[grade]
	w, ok := pool.Get().(*zstd.Encoder)
	if !ok {
		var err error
		w, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(grade), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(zstdEncoderWindow), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true))
		if err != nil {
			return nil, nil, fmt.Errorf("zstd level %d: %w", level, err)
		}
	}
	return w, pool, nil
}

// compressZstd compresses in one go, so that the frame tells what it decompresses to.
func compressZstd(dst []byte, level int, src []byte) ([]byte, error) {
	w, pool, err := zstdWriter(level)
	if err != nil {
		return nil, err
	}
	out := w.EncodeAll(src, dst)
	pool.Put(w)
	return out, nil
}
