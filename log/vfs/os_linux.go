package vfs

import (
	"errors"
	"io"
	"io/fs"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// maxVectors is the kernel's IOV_MAX: the buffers that one pwritev takes.
const maxVectors = 1024

// WriteVec implements [File]. pwritev writes less than it was given when the total passes 2 GiB, or when the disk fills up
// half-way: the loop goes on until all is written or a call says why not.
func (o *osFile) WriteVec(buffers [][]byte, off int64) error {
	rest := slices.Clone(buffers) // a short write moves the first buffer; the caller's slice must not change
	for len(rest) > 0 {
		n, err := unix.Pwritev(int(o.f.Fd()), rest[:min(len(rest), maxVectors)], off)
		runtime.KeepAlive(o.f)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil {
			off += int64(n)
			rest, err = advance(rest, n)
		}
		if err != nil {
			return &fs.PathError{Op: "pwritev", Path: o.f.Name(), Err: err}
		}
	}
	return nil
}

// advance drops the first n bytes of the buffers. A write that made no progress is an error: it would go on for ever.
func advance(buffers [][]byte, n int) ([][]byte, error) {
	before := len(buffers)
	moved := n > 0
	for len(buffers) > 0 && n >= len(buffers[0]) {
		n -= len(buffers[0])
		buffers = buffers[1:]
	}
	if n > 0 {
		buffers[0] = buffers[0][n:]
	}
	if !moved && len(buffers) == before {
		return nil, io.ErrShortWrite
	}
	return buffers, nil
}

// Sync implements [File] with fdatasync, which flushes the length too, but not the times.
func (o *osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(o.f.Fd()))
		runtime.KeepAlive(o.f)
		if errors.Is(err, unix.EINTR) {
			continue // a signal came before anything was flushed: this is no retry of a failed flush
		}
		if err != nil {
			return &fs.PathError{Op: "fdatasync", Path: o.f.Name(), Err: err}
		}
		return nil
	}
}
