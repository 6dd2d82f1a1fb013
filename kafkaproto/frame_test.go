package kafkaproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/quorlog/quorlog/internal/allocs"
)

func framed(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// readFrame reads one frame, as a server does, and returns what follows its length. It fails with io.EOF where the stream ends before the
// frame, and with io.ErrUnexpectedEOF where it ends inside.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	n, err := FrameLength(prefix, limit)
	if err != nil {
		return nil, err
	}
	frame, err := ReadBody(r, n, nil)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return frame, err
}

func TestReadFrame(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 100, frameStep - 1, frameStep, frameStep + 1, 3*frameStep + 17} {
		body := make([]byte, n)
		for i := range body {
			body[i] = byte(rng.Uint32())
		}
		for name, r := range map[string]io.Reader{
			"whole":    bytes.NewReader(framed(body)),
			"one byte": iotest.OneByteReader(bytes.NewReader(framed(body))),
			"halves":   iotest.HalfReader(bytes.NewReader(framed(body))),
		} {
			got, err := readFrame(r, n)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s, %d bytes: %v", name, n, err)
			}
			if cap(got) != n {
				t.Errorf("%s: a buffer of %d for a frame of %d", name, cap(got), n)
			}
		}
	}
}

func TestReadFrameErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		data []byte
		want error
	}{
		{"nothing", nil, io.EOF},
		{"half a length", []byte{0, 0}, io.ErrUnexpectedEOF},
		{"zero", []byte{0, 0, 0, 0}, ErrFrameLength},
		{"negative", []byte{0xff, 0xff, 0xff, 0xff}, ErrFrameLength},
		{"least", []byte{0x80, 0, 0, 0}, ErrFrameLength},
		{"above the limit", []byte{0, 0, 1, 1}, ErrFrameTooLarge},
		{"length only", []byte{0, 0, 0, 9}, io.ErrUnexpectedEOF},
		{"short", []byte{0, 0, 0, 9, 1, 2}, io.ErrUnexpectedEOF},
	} {
		if _, err := readFrame(bytes.NewReader(c.data), 256); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// A length alone must not make us allocate it.
func TestReadFrameAllocatesAsBytesArrive(t *testing.T) {
	const declared = 100 << 20
	data := append(binary.BigEndian.AppendUint32(nil, declared), make([]byte, frameStep-1)...)
	used := allocs.Bytes(func() {
		if _, err := readFrame(bytes.NewReader(data), declared); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	})
	if used > 2*frameStep {
		t.Errorf("%d bytes allocated", used)
	}
}

func TestReadBodyAsksBeforeLargeBuffers(t *testing.T) {
	refused := errors.New("no memory")
	asked := 0
	before := func(n int) error { asked = n; return refused }
	if _, err := ReadBody(bytes.NewReader(make([]byte, frameStep)), frameStep, before); err != nil || asked != 0 {
		t.Error(err, asked)
	}
	const large = frameStep + 1
	if _, err := ReadBody(bytes.NewReader(make([]byte, large)), large, before); !errors.Is(err, refused) || asked != large {
		t.Error(err, asked)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 5}, 10)
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 5}, 1<<20)
	f.Fuzz(func(t *testing.T, data []byte, limit int) {
		frame, err := readFrame(bytes.NewReader(data), limit)
		if err == nil && (len(frame) > limit || !bytes.Equal(framed(frame), data[:4+len(frame)])) {
			t.Errorf("%x from %x", frame, data)
		}
	})
}
