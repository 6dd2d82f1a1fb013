package batch

import (
	"fmt"
	"io"
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
	if level == 0 {
		level = DefaultLevel
	}
	if codec.Valid() && level != DefaultLevel {
		level = max(codecs[codec].min, min(level, codecs[codec].max))
	}
	switch codec {
	case None:
		return append(dst, src...), nil
	case Gzip:
		return compressGzip(dst, level, src)
	case Snappy:
		return appendXerial(dst, src), nil
	case LZ4:
		return compressLZ4(dst, level, src)
	case Zstd:
		return compressZstd(dst, level, src)
	}
	return nil, fmt.Errorf("%w: %v", ErrCodec, codec)
}

// sink is an io.Writer that appends.
type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

// streamEncoder is what gzip and LZ4 writers have in common.
type streamEncoder interface {
	io.WriteCloser
	Reset(io.Writer)
}

// runEncoder compresses with a pooled writer and gives it back.
func runEncoder(pool *sync.Pool, w streamEncoder, codec Codec, dst, src []byte) ([]byte, error) {
	out := sink{dst}
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

// gzipWriters has a pool per level, the codec's default at 0.
var gzipWriters [gzip.BestCompression + 1]sync.Pool

func compressGzip(dst []byte, level int, src []byte) ([]byte, error) {
	pool := &gzipWriters[max(level, 0)]
	w, ok := pool.Get().(*gzip.Writer)
	if !ok {
		var err error
		if w, err = gzip.NewWriterLevel(nil, level); err != nil {
			return nil, fmt.Errorf("gzip level %d: %w", level, err)
		}
	}
	return runEncoder(pool, w, Gzip, dst, src)
}

// lz4Levels are the library's levels. Kafka's default, 9, means the fast compressor there as here; every other level the slow
// one, of which the library knows nine grades.
var lz4Levels = [...]lz4.CompressionLevel{lz4.Fast, lz4.Level1, lz4.Level2, lz4.Level3, lz4.Level4, lz4.Level5, lz4.Level6,
	lz4.Level7, lz4.Level8, lz4.Level9}

// lz4Writers has a pool for each of lz4Levels.
var lz4Writers [len(lz4Levels)]sync.Pool

func compressLZ4(dst []byte, level int, src []byte) ([]byte, error) {
	grade := 0
	if level != DefaultLevel && level != codecs[LZ4].deflt {
		grade = min(level, len(lz4Levels)-1)
	}
	pool := &lz4Writers[grade]
	w, ok := pool.Get().(*lz4.Writer)
	if !ok {
		w = lz4.NewWriter(nil)
		// Blocks and flags as Java's: 64 KiB, independent; no checksum, for the batch has its own.
		err := w.Apply(lz4.CompressionLevelOption(lz4Levels[grade]), lz4.BlockSizeOption(lz4.Block64Kb),
			lz4.ChecksumOption(false), lz4.ConcurrencyOption(1))
		if err != nil {
			return nil, fmt.Errorf("lz4 level %d: %w", level, err)
		}
	}
	return runEncoder(pool, w, LZ4, dst, src)
}

// zstdWriters has a pool for each of the library's encoder levels.
var zstdWriters [zstd.SpeedBestCompression + 1]sync.Pool

func compressZstd(dst []byte, level int, src []byte) ([]byte, error) {
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
			return nil, fmt.Errorf("zstd level %d: %w", level, err)
		}
	}
	out := w.EncodeAll(src, dst)
	pool.Put(w)
	return out, nil
}
