package batch

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sync"
)

// spillSize is what a packer holds before it begins to stream, in bytes: half of what pools keep, because buffers double.
const spillSize = maxScratch / 2

// packer compresses the records of a batch that are appended to held: in one go if they are few, which is fast, else as a stream, so
// that what they are without compression is never in memory as a whole.
type packer struct {
	codec Codec
	level int
	wide  bool // see encoderOf
	out   sink // room for the header, and what is compressed
	held  *scratch

	streams bool          // some is in out already
	enc     streamEncoder // nil for codecs that are done block by block
	pool    *sync.Pool    // of enc
}

// newPacker begins a frame of at most limit bytes, of records that come from one of size bytes. release must follow.
func newPacker(codec Codec, level, limit, size int) *packer {
	p := &packer{codec: codec, level: nearestLevel(codec, level), out: sink{limit: limit}, held: scratches.Get().(*scratch)}
	p.held.b = slices.Grow(p.held.b[:0], min(size, spillSize))
	return p
}

// spill compresses what is held if it is much. It is to be called after each addition that may be so.
func (p *packer) spill() error {
	if len(p.held.b) < spillSize {
		return nil
	}
	if !p.streams {
		p.streams = true
		p.out.b = make([]byte, HeaderSize, HeaderSize+windowSize)
		switch p.codec {
		case None:
		case Snappy:
			p.out.b = append(p.out.b, xerialHeader...)
		default:
			var err error
			if p.enc, p.pool, err = encoderOf(p.codec, p.level, p.wide); err != nil {
				return err
			}
			p.enc.Reset(&p.out)
		}
	}
	return p.flush()
}

// flush hands on what is held to the stream.
func (p *packer) flush() (err error) {
	switch {
	case p.enc != nil:
		_, err = p.enc.Write(p.held.b)
	case p.codec == Snappy:
		p.out.b = appendXerialBlocks(p.out.b, p.held.b)
	default:
		_, err = p.out.Write(p.held.b)
	}
	p.held.b = p.held.b[:0]
	return p.judge(err)
}

// judge turns a write's error into what it means.
func (p *packer) judge(err error) error {
	switch {
	case p.out.full, len(p.out.b) > p.out.limit:
		return fmt.Errorf("%w: with %v more than %d bytes", ErrTooLarge, p.codec, p.out.limit)
	case err != nil:
		return fmt.Errorf("compressing with %v: %w", p.codec, err)
	}
	return nil
}

// finish returns the frame, without its header.
func (p *packer) finish() (_ []byte, err error) {
	if !p.streams {
		room := len(p.held.b)
		if p.codec != None {
			room /= 2 // a guess; the encoder grows it where content does not compress
		}
		p.out.b = make([]byte, HeaderSize, HeaderSize+room)
		if p.wide {
			p.out.b, err = runEncoder(p.codec, p.level, true, p.out.b, p.held.b)
		} else {
			p.out.b, err = compress(p.out.b, p.codec, p.level, p.held.b)
		}
		if err != nil {
			return nil, err
		}
		return p.out.b, p.judge(nil)
	}
	if err := p.flush(); err != nil {
		return nil, err
	}
	if p.enc != nil {
		if err := p.judge(p.enc.Close()); err != nil {
			return nil, err
		}
		p.enc.Reset(io.Discard) // drops out
		p.pool.Put(p.enc)
	}
	return p.out.b, nil
}

// repack compresses what another codec has compressed, and finishes.
func (p *packer) repack(from Codec, payload []byte) ([]byte, error) {
	if from == None {
		out, err := compress(make([]byte, HeaderSize, HeaderSize+len(payload)/2), p.codec, p.level, payload)
		p.out.b = out
		return out, cmp.Or(err, p.judge(nil))
	}
	src, err := openSource(from, payload, MaxDecompressed)
	if err != nil {
		return nil, err
	}
	defer src.close()
	for total := int64(0); ; {
		n := len(p.held.b)
		p.held.b, err = src.next(p.held.b, MaxDecompressed-total)
		if total += int64(len(p.held.b) - n); total > MaxDecompressed {
			return nil, errExpands(MaxDecompressed)
		}
		if err == io.EOF {
			return p.finish()
		}
		if err == nil {
			err = p.spill()
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *packer) release() { p.held.release() }
