package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/tysonmote/gommap"
	"golang.org/x/sys/unix"
)

// OS is the operating system's file system. Its errors are those of package os: *fs.PathError and *os.LinkError.
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
	size := uint64(st.Bsize) // the field's type differs between systems
	return st.Bavail * size, st.Blocks * size, nil
}

// Map implements [FS].
func (OS) Map(name string, size int64) (Mapping, error) {
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
	if size == 0 {
		return emptyMapping{}, nil // a mapping of no bytes is an error to the kernel
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
