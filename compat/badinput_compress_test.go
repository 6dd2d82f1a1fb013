package compat

import (
	"bytes"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// The codecs by their attribute bits.
const (
	codecGzip = 1 + iota
	codecSnappy
	codecLZ4
	codecZstd
)

// xerialHeader begins the framing in which Java clients send snappy: magic, version and the oldest compatible version.
var xerialHeader = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1}

// zstdEncoder is used by EncodeAll only, which may be called from any number of goroutines.
var zstdEncoder, _ = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)) // fails for wrong options only

// compress compresses as a client does; the results of gzip, lz4 and zstd may be put behind one another.
func compress(codec int, content []byte) []byte {
	var out bytes.Buffer
	switch codec {
	case codecGzip:
		w := gzip.NewWriter(&out)
		_, _ = w.Write(content) // a buffer takes everything
		_ = w.Close()
	case codecSnappy:
		return s2.EncodeSnappy(nil, content)
	case codecLZ4:
		w := lz4.NewWriter(&out)
		_, _ = w.Write(content)
		_ = w.Close()
	case codecZstd:
		return zstdEncoder.EncodeAll(content, nil)
	}
	return out.Bytes()
}
