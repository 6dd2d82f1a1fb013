package vfs

import (
	"io"
	"io/fs"
	"syscall"
)

// memFile is an open file. It stays usable after its name is removed, as on Unix.
type memFile struct {
	m      *Mem
	c      *memContent
	name   string
	closed bool // guarded by m.mu
}

func (f *memFile) checkLocked(op string) error {
	switch {
	case f.m.mu.crashed:
		return pathError(op, f.name, ErrCrashed)
	case f.closed:
		return pathError(op, f.name, fs.ErrClosed)
	}
	return nil
}

// ReadAt implements [io.ReaderAt].
func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	switch err := f.checkLocked("read"); {
	case err != nil:
		return 0, err
	case off < 0:
		return 0, pathError("read", f.name, syscall.EINVAL)
	case len(p) == 0:
		return 0, nil
	case off >= int64(len(f.c.data)):
		return 0, io.EOF
	}
	n := copy(p, f.c.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements [io.WriterAt].
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("write"); err != nil {
		return 0, err
	}
	return f.writeLocked(p, off)
}

func (f *memFile) writeLocked(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, pathError("write", f.name, syscall.EINVAL)
	}
	if len(p) == 0 {
		return 0, nil // not even the length changes
	}
	mu, size := &f.m.mu, int64(len(f.c.data))
	fits := min(int64(len(p)), max(0, size+max(0, mu.capacity-mu.used)-off))
	if fits > 0 {
		f.c.write(p[:fits], off)
		mu.used += int64(len(f.c.data)) - size
	}
	if fits < int64(len(p)) {
		return int(fits), pathError("write", f.name, syscall.ENOSPC)
	}
	return len(p), nil
}

// WriteVec implements [File].
func (f *memFile) WriteVec(buffers [][]byte, off int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("write"); err != nil {
		return err
	}
	for _, b := range buffers {
		n, err := f.writeLocked(b, off)
		if err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// Sync implements [File].
func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("sync"); err != nil {
		return err
	}
	f.c.sync()
	return nil
}

// forget is called instead of Sync where a Sync is to fail as the kernel's do.
func (f *memFile) forget() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.c.forget()
}

// Truncate implements [File].
func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("truncate"); err != nil {
		return err
	}
	if size < 0 {
		return pathError("truncate", f.name, syscall.EINVAL)
	}
	grow := size - int64(len(f.c.data))
	if grow > max(0, f.m.mu.capacity-f.m.mu.used) {
		return pathError("truncate", f.name, syscall.ENOSPC)
	}
	f.c.truncate(size)
	f.m.mu.used += grow
	return nil
}

// Size implements [File].
func (f *memFile) Size() (int64, error) {
	f.m.mu.RLock()
	defer f.m.mu.RUnlock()
	return int64(len(f.c.data)), f.checkLocked("stat")
}

// Fd implements [File].
func (f *memFile) Fd() (uintptr, bool) { return 0, false }

// Close implements [io.Closer]. It does not sync.
func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("close"); err != nil {
		return err
	}
	f.closed = true
	f.c.handles--
	f.m.releaseLocked(f.c)
	return nil
}
