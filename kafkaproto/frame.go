package kafkaproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// frameStep is the most memory that a declared length is trusted for before its bytes arrive.
const frameStep = 64 << 10

var firstSteps = sync.Pool{New: func() any { return new([frameStep]byte) }}

// Errors of frames. All wrap ErrFrame.
var (
	// ErrFrame is the kind of all framing errors: the stream can't be trusted from here on.
	ErrFrame = errors.New("invalid frame")
	// ErrFrameLength means a length that is zero or negative.
	ErrFrameLength = fmt.Errorf("%w: length is not positive", ErrFrame)
	// ErrFrameTooLarge means a length above the limit.
	ErrFrameTooLarge = fmt.Errorf("%w: length is above the limit", ErrFrame)
)

// FrameLength checks the four bytes in front of a frame and returns the length that they declare.
func FrameLength(prefix [4]byte, limit int) (int, error) {
	n := int32(binary.BigEndian.Uint32(prefix[:]))
	if n <= 0 {
		return 0, fmt.Errorf("%w: %d", ErrFrameLength, n)
	}
	if int(n) > limit {
		return 0, fmt.Errorf("%w: %d > %d", ErrFrameTooLarge, n, limit)
	}
	return int(n), nil
}

// ReadBody reads the n bytes of a frame into a buffer of exactly n bytes, which the caller owns: a Produce's records stay
// in it for as long as the log keeps them in memory. A buffer of more than 64 KiB is only made after the first 64 KiB have
// arrived; before is called in between with n, and an error of it ends the read. A nil before is not called.
func ReadBody(r io.Reader, n int, before func(n int) error) ([]byte, error) {
	if n <= frameStep {
		frame := make([]byte, n)
		_, err := io.ReadFull(r, frame)
		return frame, err
	}
	first := firstSteps.Get().(*[frameStep]byte)
	defer firstSteps.Put(first)
	if _, err := io.ReadFull(r, first[:]); err != nil {
		return nil, err
	}
	if before != nil {
		if err := before(n); err != nil {
			return nil, err
		}
	}
	frame := make([]byte, n)
	copy(frame, first[:])
	if _, err := io.ReadFull(r, frame[frameStep:]); err != nil {
		return nil, err
	}
	return frame, nil
}
