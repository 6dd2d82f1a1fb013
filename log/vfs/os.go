package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/tysonmote/gommap"
	"golang.org/x/sys/unix"
)

// ErrLocked means that another process holds the lock.
var ErrLocked = errors.New("locked by another process")

// OS is the operating system's file system.
type OS struct{}

const (
	filePerm = 0o644
	dirPerm  = 0o755
)

// Open implements [FS].
func (OS) Open(name string) (File, error) { return openOS(name, os.O_RDWR) }

// Create implements [FS].
func (OS) Create(name string) (File, error) { return openOS(name, os.O_RDWR|os.O_CREATE|os.O_EXCL) }

func openOS(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, filePerm)
	if err != nil {
		return nil, err
	}
	return &osFile{f}, nil
}

// MkdirAll implements [FS].
func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, dirPerm) }

// List implements [FS].
func (OS) List(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// Stat implements [FS].
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// Rename implements [FS].
func (OS) Rename(oldname, newname string) error { return os.Rename(oldname, newname) }

// Remove implements [FS].
func (OS) Remove(name string) error { return os.Remove(name) }

// RemoveAll implements [FS].
func (OS) RemoveAll(name string) error { return os.RemoveAll(name) }

// SyncDir implements [FS].
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Free implements [FS].
func (OS) Free(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	size := uint64(st.Bsize)
	return st.Bavail * size, st.Blocks * size, nil
}

// Map implements [FS].
func (OS) Map(name string, size int64) (Mapping, error) {
	if size == 0 {
		return emptyMapping{}, nil // a mapping of no bytes is an error to the kernel
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the mapping outlives the descriptor
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < size {
		// Reading a mapped page beyond the end of the file is a SIGBUS.
		return nil, &fs.PathError{Op: "map", Path: name, Err: io.ErrUnexpectedEOF}
	}
	m, err := gommap.MapRegion(f.Fd(), 0, size, gommap.PROT_READ, gommap.MAP_SHARED)
	if err != nil {
		return nil, &fs.PathError{Op: "map", Path: name, Err: err}
	}
	return osMapping(m), nil
}

// Lock implements [FS].
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}

type osMapping gommap.MMap

func (m osMapping) Bytes() []byte { return m }
func (m osMapping) Close() error  { return gommap.MMap(m).UnsafeUnmap() }

type emptyMapping struct{}

func (emptyMapping) Bytes() []byte { return nil }
func (emptyMapping) Close() error  { return nil }

type osFile struct{ f *os.File }

func (o *osFile) ReadAt(p []byte, off int64) (int, error)  { return o.f.ReadAt(p, off) }
func (o *osFile) WriteAt(p []byte, off int64) (int, error) { return o.f.WriteAt(p, off) }
func (o *osFile) Close() error                             { return o.f.Close() }
func (o *osFile) Truncate(size int64) error                { return o.f.Truncate(size) }
func (o *osFile) Fd() (uintptr, bool)                      { return o.f.Fd(), true }

func (o *osFile) Size() (int64, error) {
	info, err := o.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// maxVectors is the kernel's IOV_MAX: the buffers that one pwritev takes.
const maxVectors = 1024

func (o *osFile) WriteVec(buffers [][]byte, off int64) error {
	rest := slices.Clone(buffers) // a short write moves the first buffer; the caller's slice must not change
	for len(rest) > 0 {
		n, err := unix.Pwritev(int(o.f.Fd()), rest[:min(len(rest), maxVectors)], off)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "pwritev", Path: o.f.Name(), Err: err}
		}
		off += int64(n)
		if rest, err = advance(rest, n); err != nil {
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

func (o *osFile) Sync() error {
	for {
		err := unix.Fdatasync(int(o.f.Fd()))
		if errors.Is(err, unix.EINTR) {
			continue // the call did not happen: this is no retry of a failed one
		}
		if err != nil {
			return &fs.PathError{Op: "fdatasync", Path: o.f.Name(), Err: err}
		}
		return nil
	}
}

// WriteFileAtomic makes name hold data: after a crash it holds either what it held before or all of data.
func WriteFileAtomic(fsys FS, name string, data []byte) error {
	temp := name + ".tmp"
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := fsys.Rename(temp, name); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(name))
}

// ReadFile reads a whole file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if errors.Is(err, io.EOF) && int64(n) == size {
		err = nil
	}
	return data[:n], err
}
