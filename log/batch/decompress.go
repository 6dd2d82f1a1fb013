package batch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

const (
	// DefaultMaxDecompressed is what the records of a batch may decompress to where Limits says nothing, in bytes. The largest
	// ratio of real content is some 20:1 and the usual largest batch 1 MiB; six times that is room enough.
	DefaultMaxDecompressed = 128 << 20
	// MaxDecompressed is the largest limit that may be configured, in bytes: franz-go's consumers refuse more by default, so
	// such a batch could be produced but not consumed. Iterate and Recompress, which see validated batches, use it as theirs.
	MaxDecompressed = 1 << 30

	// zstdWindow is the largest window that is decoded as a stream, in bytes. A decoder keeps a buffer of that size, claimed
	// by a few bytes of header. All levels up to 19 fit.
	zstdWindow = 8 << 20
	// zstdWideWindow is the reference decoder's own limit (windowLog 27), which Kafka's Java clients reach with levels 20 to 22.
	// Such batches are decoded one at a time (see wide).
	zstdWideWindow = 128 << 20
	// zstdWhole is the declared content size up to which a frame is decoded in one go, in bytes: faster than the stream, and
	// small enough to keep in a pool.
	zstdWhole = 1 << 20

	// minRead is the least room that a stream decoder gets for one read, in bytes: a block of the Java client's LZ4 frames, so
	// that it is decoded in place.
	minRead = 64 << 10
)

// source yields the decompressed bytes of a batch piece by piece.
type source interface {
	// next appends at least one byte to dst, which it may reallocate, or returns io.EOF. room is how many bytes the caller still
	// accepts: a source that knows a larger size beforehand returns ErrTooLarge without allocating it; the others may
	// overshoot by what fits into the room that dst has.
	next(dst []byte, room int64) ([]byte, error)
	// close gives the decoder back to its pool.
	close()
}

// openSource starts to decompress. codec is not None.
func openSource(codec Codec, payload []byte, limit int64) (source, error) {
	switch codec {
	case Gzip:
		return openGzip(payload)
	case Snappy:
		return openSnappy(payload)
	case LZ4:
		return openLZ4(payload)
	case Zstd:
		return openZstd(payload, limit)
	}
	return nil, fmt.Errorf("%w: %v", ErrCodec, codec)
}

// decompress appends all that payload decompresses to, at most limit bytes. For None it returns payload itself.
func decompress(dst []byte, codec Codec, payload []byte, limit int64) ([]byte, error) {
	if codec == None {
		return payload, nil
	}
	src, err := openSource(codec, payload, limit)
	if err != nil {
		return nil, err
	}
	defer src.close()
	start := len(dst)
	for {
		dst, err = src.next(dst, limit-int64(len(dst)-start))
		switch {
		case err == io.EOF:
			return dst, nil
		case err != nil:
			return nil, err
		case int64(len(dst)-start) > limit:
			return nil, errExpands(limit)
		}
	}
}

func errExpands(limit int64) error {
	return fmt.Errorf("%w: it decompresses to more than %d bytes", ErrTooLarge, limit)
}

// errCodec keeps our own kinds and makes everything else, which is a decoder's complaint, an ErrCodec.
func errCodec(codec Codec, err error) error {
	if errors.Is(err, ErrInvalid) {
		return err
	}
	return fmt.Errorf("%w: %v: %v", ErrCodec, codec, err)
}

// pump reads from a stream decoder. The embedding source resets it.
type pump struct {
	codec Codec
	r     io.Reader
	err   error // met together with data: returned by the next call
}

func (p *pump) next(dst []byte, room int64) ([]byte, error) {
	if p.err != nil {
		return dst, p.err
	}
	if cap(dst)-len(dst) < minRead {
		// Doubles, so that the cost of growing stays linear, but not beyond what the caller takes.
		dst = slices.Grow(dst, max(minRead, int(min(int64(len(dst)), room))))
	}
	for range 100 { // bufio's bound on fruitless reads
		n, err := p.r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if err != nil && err != io.EOF {
			err = errCodec(p.codec, err)
		}
		if n > 0 {
			p.err = err
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
	return dst, errCodec(p.codec, io.ErrNoProgress)
}

type gzipSource struct {
	pump
	src bytes.Reader
	zr  gzip.Reader
}

var gzipSources = sync.Pool{New: func() any { return new(gzipSource) }}

func openGzip(payload []byte) (source, error) {
	s := gzipSources.Get().(*gzipSource)
	s.src.Reset(payload)
	if err := s.zr.Reset(&s.src); err != nil {
		s.close()
		return nil, errCodec(Gzip, err)
	}
	s.pump = pump{codec: Gzip, r: &s.zr}
	return s, nil
}

func (s *gzipSource) close() {
	s.src.Reset(nil)
	s.pump = pump{}
	gzipSources.Put(s)
}

type lz4Source struct {
	pump
	src bytes.Reader
	zr  *lz4.Reader
}

var lz4Sources = sync.Pool{New: func() any { return &lz4Source{zr: lz4.NewReader(nil)} }}

// lz4Magic starts an LZ4 frame, little endian.
var lz4Magic = []byte{0x04, 0x22, 0x4d, 0x18}

// openLZ4 accepts what Kafka's own decoder accepts: a frame of independent blocks. The Go library also reads legacy, skippable
// and block-linked frames, which would be stored and then stop every Java consumer.
func openLZ4(payload []byte) (source, error) {
	const (
		flagsVersion     = 0xc0
		version1         = 0x40
		flagsIndependent = 0x20
	)
	if len(payload) < 7 || !bytes.HasPrefix(payload, lz4Magic) {
		return nil, fmt.Errorf("%w: not an LZ4 frame", ErrCodec)
	}
	if f := payload[4]; f&flagsVersion != version1 || f&flagsIndependent == 0 {
		return nil, fmt.Errorf("%w: LZ4 frame of version %d, independent blocks %t", ErrCodec, f>>6, f&flagsIndependent != 0)
	}
	s := lz4Sources.Get().(*lz4Source)
	s.src.Reset(payload)
	s.zr.Reset(&s.src)
	s.pump = pump{codec: LZ4, r: s.zr}
	return s, nil
}

func (s *lz4Source) close() {
	s.src.Reset(nil)
	s.zr.Reset(nil) // gives its block buffers back
	s.pump = pump{}
	lz4Sources.Put(s)
}

// zstdSource decodes as a stream, or in one go where the frame declares a small content.
type zstdSource struct {
	pump
	src     bytes.Reader
	zr      *zstd.Decoder
	payload []byte
	whole   int // declared size to decode in one go; 0: stream
}

var zstdSources = sync.Pool{New: func() any {
	// Concurrency 1 decodes on the calling goroutine, so a pooled decoder needs no Close.
	zr, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderMaxMemory(MaxDecompressed), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return err // the options are constants; openZstd passes it on
	}
	return &zstdSource{zr: zr}
}}

func openZstd(payload []byte, limit int64) (source, error) {
	var h zstd.Header
	if err := h.Decode(payload); err != nil {
		return nil, errCodec(Zstd, err)
	}
	if h.HasFCS && h.FrameContentSize > uint64(limit) {
		return nil, errExpands(limit)
	}
	window := h.WindowSize
	if h.SingleSegment {
		window = h.FrameContentSize // consumers keep all of it for a window, too
	}
	if window > zstdWindow {
		if window > zstdWideWindow {
			return nil, fmt.Errorf("%w: zstd window of %d bytes, above %d", ErrTooLarge, window, zstdWideWindow)
		}
		return openWideZstd(payload, &h)
	}
	switch s := zstdSources.Get().(type) {
	case *zstdSource:
		s.payload = payload
		if h.HasFCS && h.FrameContentSize > 0 && h.FrameContentSize <= zstdWhole {
			s.whole = int(h.FrameContentSize)
			return s, nil
		}
		return s, s.stream()
	case error:
		return nil, s
	}
	return nil, fmt.Errorf("%w: no decoder", ErrCodec)
}

func (s *zstdSource) stream() error {
	s.whole = 0
	s.src.Reset(s.payload)
	s.pump = pump{codec: Zstd, r: s.zr}
	if err := s.zr.Reset(&s.src); err != nil {
		s.close()
		return errCodec(Zstd, err)
	}
	return nil
}

func (s *zstdSource) next(dst []byte, room int64) ([]byte, error) {
	if s.whole == 0 {
		return s.pump.next(dst, room)
	}
	const overrun = 32 // lets the decoder copy in wide steps up to the end
	out, err := s.zr.DecodeAll(s.payload, slices.Grow(dst, s.whole+overrun))
	if err == nil {
		s.whole = 0
		s.pump = pump{codec: Zstd, err: io.EOF}
		return out, nil
	}
	if !errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return dst, errCodec(Zstd, err)
	}
	// More frames follow the first. Legal, never seen: decode all of it as a stream. dst has not changed length.
	if err := s.stream(); err != nil {
		return dst, err
	}
	return s.pump.next(dst, room)
}

func (s *zstdSource) close() {
	_ = s.zr.Reset(nil) // drops its references; cannot fail on an open decoder
	s.src.Reset(nil)
	s.pump, s.payload, s.whole = pump{}, nil, 0
	zstdSources.Put(s)
}

// wide is held by whoever decodes what takes much memory, from its open to its close: one batch of a node at a time. Nobody who holds it
// may open another source.
var wide sync.Mutex

// wideSource decodes frames of wide windows. Those of little content are decoded in one go, as the window's buffer would be the larger
// part; the others as a stream, as the content would be.
type wideSource struct {
	pump
	src     bytes.Reader
	zr      *zstd.Decoder
	content []byte // not yet handed on
}

const (
	// wideWhole is how much content is decoded in one go, in bytes, and wideRatio how many times the payload's size is reserved for it
	// where the frame does not tell.
	wideWhole = zstdWindow
	wideRatio = 32
)

func openWideZstd(payload []byte, h *zstd.Header) (source, error) {
	whole := int64(max(wideRatio*len(payload), minRead))
	if h.HasFCS {
		whole = int64(h.FrameContentSize) // at most the caller's limit
	}
	wide.Lock()
	zr, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderMaxWindow(zstdWideWindow), zstd.WithDecoderMaxMemory(MaxDecompressed))
	if err != nil {
		wide.Unlock()
		return nil, errCodec(Zstd, err)
	}
	s := &wideSource{zr: zr}
	s.pump = pump{codec: Zstd, err: io.EOF}
	large := h.HasFCS && whole > wideWhole
	if !large {
		s.content, err = zr.DecodeAll(payload, make([]byte, 0, min(whole, wideWhole)))
		large = err != nil // too little room has many names; if it is anything else the stream will meet it too
	}
	if large {
		s.content = nil
		s.src.Reset(payload)
		s.pump = pump{codec: Zstd, r: zr}
		err = zr.Reset(&s.src)
	}
	if err != nil {
		s.close()
		return nil, errCodec(Zstd, err)
	}
	return s, nil
}

func (s *wideSource) next(dst []byte, room int64) ([]byte, error) {
	switch {
	case len(s.content) == 0:
		return s.pump.next(dst, room)
	case len(dst) == 0:
		dst, s.content = s.content, nil // no copy needed; the caller takes the buffer over
	default:
		dst, s.content = append(dst, s.content...), nil
	}
	return dst, nil
}

func (s *wideSource) close() {
	s.zr.Close()
	wide.Unlock()
}
