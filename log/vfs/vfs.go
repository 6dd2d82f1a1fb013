// Package vfs is the only door between Quorlog's durable data and the operating system.
//
// Everything that must survive a crash goes through [FS] and [File], so that several implementations can stand behind the
// same code: the operating system ([OS]), a memory file system that knows what was fsynced and can be "crashed" ([Mem]),
// and wrappers that inject faults by rule ([Inject]), count ([Count]) and notice calls that hang ([Watch]). Wrappers may be
// stacked in any order. Segments and indexes are never written through a mapping: a store to a mapped page of a full disk
// is a SIGBUS, not an error (docs/decisions/0001).
//
// # Goroutines
//
//   - watch timer: owned by a [Watchdog]; runs for a moment at each tick, eight in each limit, while a watched call is
//     under way; armed by the first such call; not armed again when a tick finds none, or after [Watchdog.Stop].
package vfs

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
)

// ErrLocked means that somebody else holds the lock: another process, or another part of this one.
var ErrLocked = errors.New("locked by another process")

// IsExhausted tells errors of a process or machine that has run out of descriptors, mappings or memory. They say nothing of the file:
// the same call may work in a moment.
func IsExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// FS is a file system. Paths are slash-separated and may be absolute. Every error wraps the operating system's errno, so
// errors.Is(err, fs.ErrNotExist), syscall.ENOSPC and the like work on all implementations.
type FS interface {
	// Open opens an existing file for reading and writing; it fails with fs.ErrNotExist where there is none.
	Open(name string) (File, error)
	// Create makes a new, empty file; it fails with fs.ErrExist where one stands. The name is durable only after SyncDir of
	// its directory.
	Create(name string) (File, error)
	// MkdirAll makes a directory and its missing parents. Each new name is durable only after SyncDir of its parent.
	MkdirAll(dir string) error
	// List returns the names in a directory, sorted.
	List(dir string) ([]string, error)
	// Stat tells of a name; fs.ErrNotExist where there is none.
	Stat(name string) (fs.FileInfo, error)
	// Rename replaces newname atomically. It is durable only after SyncDir of the directory.
	Rename(oldname, newname string) error
	// Remove deletes a file or an empty directory. It is durable only after SyncDir of the directory.
	Remove(name string) error
	// RemoveAll deletes a tree; nil where there is none.
	RemoveAll(name string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Free returns the bytes that an unprivileged writer may still use on the file system of dir, and its size.
	Free(dir string) (free, total uint64, err error)
	// Map maps the first size bytes of a file for reading. The file must not shrink below size while the mapping lives.
	Map(name string, size int64) (Mapping, error)
	// Lock takes an exclusive lock, held until Close or the end of the process. It fails with ErrLocked when another
	// process holds it.
	Lock(name string) (io.Closer, error)
}

// File is an open file. ReadAt and WriteAt may be called at the same time as each other; the rest only by the owner.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// WriteVec writes the buffers one after the other at off, in as few system calls as the platform allows (pwritev).
	// A short write is an error. It must not keep or change the buffers.
	WriteVec(buffers [][]byte, off int64) error
	// Sync makes the file's data and length durable (fdatasync). After an error the state of unsynced data is unknown:
	// the caller must stop (fail-stop), never sync again.
	Sync() error
	// Truncate sets the length. It is durable only after Sync.
	Truncate(size int64) error
	// Size returns the length in bytes.
	Size() (int64, error)
	// Fd returns the descriptor for sendfile; ok is false where there is none.
	Fd() (fd uintptr, ok bool)
}

// Mapping is a read-only view of a file.
type Mapping interface {
	// Bytes is valid until Close.
	Bytes() []byte
	io.Closer
}
