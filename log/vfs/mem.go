package vfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrCrashed is what every call on a [Mem] answers after its Crash.
var ErrCrashed = errors.New("the file system has crashed")

// Mem is a file system in memory that knows what a power cut would leave: see [Mem.Crash].
//
// A file's content and its name are two things. Sync of a file makes its content durable, SyncDir of its directory makes
// its name durable, and neither does the other's work: a synced file whose directory was not synced may be gone, and a
// synced name may stand for an empty file. The same holds for a directory and its name in its parent: what was synced
// inside a directory is gone with it if its own name was lost. Real file systems often promise more; code that is right
// here is right there.
//
// All paths start at the root, with or without a leading slash. The root exists and is durable. Times are zero. A
// directory can't be renamed into another one: nothing here does that, and what a crash leaves of it is hard to say.
// Mem is safe for concurrent use.
type Mem struct {
	mu struct {
		sync.RWMutex
		root     *memDir
		names    memNames
		crashed  bool
		locks    map[*memContent]bool
		capacity int64 // in bytes
		used     int64 // 0 <= used <= capacity, unless SetFree was called with less
	}
}

// memCapacity is the size of the disk, in bytes.
const memCapacity = 1 << 40

// NewMem returns an empty file system.
func NewMem() *Mem { return newMem(newDir()) }

func newMem(root *memDir) *Mem {
	m := &Mem{}
	m.mu.root, m.mu.locks, m.mu.capacity = root, map[*memContent]bool{}, memCapacity
	return m
}

// SetFree leaves room for so many more bytes. Writes that need more fail with ENOSPC, having written what fits.
func (m *Mem) SetFree(free uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.capacity = m.mu.used + int64(min(free, memCapacity))
}

func split(name string) []string {
	name = strings.Trim(filepath.ToSlash(filepath.Clean("/"+name)), "/")
	if name == "" {
		return nil
	}
	return strings.Split(name, "/")
}

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// lookupLocked finds what a path stands for.
func (m *Mem) lookupLocked(op, name string) (*memNode, error) {
	if m.mu.crashed {
		return nil, pathError(op, name, ErrCrashed)
	}
	n := &memNode{dir: m.mu.root}
	for _, part := range split(name) {
		if n.dir == nil {
			return nil, pathError(op, name, syscall.ENOTDIR)
		}
		if n = n.dir.now[part]; n == nil {
			return nil, pathError(op, name, syscall.ENOENT)
		}
	}
	return n, nil
}

func (m *Mem) lookupDirLocked(op, name string) (*memDir, error) {
	n, err := m.lookupLocked(op, name)
	if err != nil {
		return nil, err
	}
	if n.dir == nil {
		return nil, pathError(op, name, syscall.ENOTDIR)
	}
	return n.dir, nil
}

// slotLocked finds the place of a path's last name, whether or not there is something.
func (m *Mem) slotLocked(op, name string) (slot, error) {
	parts := split(name)
	if len(parts) == 0 {
		return slot{}, pathError(op, name, syscall.EBUSY) // the root has no place
	}
	dir, err := m.lookupDirLocked(op, strings.Join(parts[:len(parts)-1], "/"))
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			pe.Path = name
		}
		return slot{}, err
	}
	return slot{dir, parts[len(parts)-1]}, nil
}

// Open implements [FS].
func (m *Mem) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookupLocked("open", name)
	if err != nil {
		return nil, err
	}
	if n.dir != nil {
		return nil, pathError("open", name, syscall.EISDIR)
	}
	return m.openLocked(n.file, name), nil
}

func (m *Mem) openLocked(c *memContent, name string) *memFile {
	c.handles++
	return &memFile{m: m, c: c, name: name}
}

// Create implements [FS].
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.createLocked("create", name)
	if err != nil {
		return nil, err
	}
	return m.openLocked(c, name), nil
}

func (m *Mem) createLocked(op, name string) (*memContent, error) {
	at, err := m.slotLocked(op, name)
	if err != nil {
		return nil, err
	}
	if at.dir.now[at.name] != nil {
		return nil, pathError(op, name, syscall.EEXIST)
	}
	c := &memContent{names: 1}
	m.mu.names.apply(nameChange{{at, &memNode{file: c}}})
	return c, nil
}

// MkdirAll implements [FS].
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.crashed {
		return pathError("mkdir", name, ErrCrashed)
	}
	dir := m.mu.root
	for _, part := range split(name) {
		if dir.now[part] == nil {
			m.mu.names.apply(nameChange{{slot{dir, part}, &memNode{dir: newDir()}}})
		}
		if dir = dir.now[part].dir; dir == nil {
			return pathError("mkdir", name, syscall.ENOTDIR)
		}
	}
	return nil
}

// List implements [FS].
func (m *Mem) List(name string) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	dir, err := m.lookupDirLocked("list", name)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(dir.now)), nil
}

// Stat implements [FS].
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.lookupLocked("stat", name)
	if err != nil {
		return nil, err
	}
	info := memInfo{name: filepath.Base(name), dir: n.dir != nil}
	if n.file != nil {
		info.size = int64(len(n.file.data))
	}
	return info, nil
}

// Rename implements [FS].
func (m *Mem) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, err := m.slotLocked("rename", oldname)
	if err != nil {
		return err
	}
	to, err := m.slotLocked("rename", newname)
	if err != nil {
		return err
	}
	n := from.dir.now[from.name]
	if n == nil {
		return pathError("rename", oldname, syscall.ENOENT)
	}
	over := to.dir.now[to.name]
	switch {
	case over != nil && over.dir != nil:
		return pathError("rename", newname, syscall.EEXIST) // package os says so even of a directory onto itself
	case from == to:
		return nil
	case over != nil && n.dir != nil:
		return pathError("rename", newname, syscall.ENOTDIR)
	case n.dir != nil && from.dir != to.dir:
		return pathError("rename", newname, errors.ErrUnsupported)
	}
	m.mu.names.apply(nameChange{{from, nil}, {to, n}})
	m.unlinkLocked(over)
	return nil
}

// unlinkLocked notes that a node has lost its name.
func (m *Mem) unlinkLocked(n *memNode) {
	if n != nil && n.file != nil {
		n.file.names--
		m.releaseLocked(n.file)
	}
}

// releaseLocked frees the room of a file that nobody can reach. (A crash may bring it back: newMem counts anew.)
func (m *Mem) releaseLocked(c *memContent) {
	if c.names == 0 && c.handles == 0 {
		m.mu.used -= int64(len(c.data))
	}
}

// Remove implements [FS].
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, err := m.slotLocked("remove", name)
	if err != nil {
		return err
	}
	n := at.dir.now[at.name]
	if n == nil {
		return pathError("remove", name, syscall.ENOENT)
	}
	if n.dir != nil && len(n.dir.now) > 0 {
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	m.removeLocked(at)
	return nil
}

// removeLocked removes a tree, leaves first, each name a change of its own.
func (m *Mem) removeLocked(at slot) {
	n := at.dir.now[at.name]
	if n.dir != nil {
		for _, name := range slices.Sorted(maps.Keys(n.dir.now)) {
			m.removeLocked(slot{n.dir, name})
		}
	}
	m.mu.names.apply(nameChange{{at, nil}})
	m.unlinkLocked(n)
}

// RemoveAll implements [FS].
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, err := m.slotLocked("removeall", name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if at.dir.now[at.name] != nil {
		m.removeLocked(at)
	}
	return nil
}

// SyncDir implements [FS].
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, err := m.lookupDirLocked("syncdir", name)
	if err != nil {
		return err
	}
	var wereDirs bool
	for name, n := range dir.durable {
		wereDirs = wereDirs || n.dir != nil && dir.now[name] != n
	}
	m.mu.names.sync(dir)
	if wereDirs {
		m.mu.names.forgetUnreachable(m.mu.root)
	}
	return nil
}

// Free implements [FS].
func (m *Mem) Free(dir string) (free, total uint64, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if _, err := m.lookupLocked("statfs", dir); err != nil {
		return 0, 0, err
	}
	return uint64(max(0, m.mu.capacity-m.mu.used)), memCapacity, nil
}

// Map implements [FS]. The mapping is a copy of what the file holds now; it does not follow later writes.
func (m *Mem) Map(name string, size int64) (Mapping, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.lookupLocked("map", name)
	if err != nil {
		return nil, err
	}
	if n.dir != nil {
		return nil, pathError("map", name, syscall.EISDIR)
	}
	if int64(len(n.file.data)) < size {
		return nil, pathError("map", name, io.ErrUnexpectedEOF)
	}
	return memMapping(slices.Clone(n.file.data[:size])), nil
}

type memMapping []byte

func (m memMapping) Bytes() []byte { return m }
func (m memMapping) Close() error  { return nil }

// Lock implements [FS]. A crash ends the process, and with it every lock.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var c *memContent
	n, err := m.lookupLocked("lock", name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if c, err = m.createLocked("lock", name); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case n.dir != nil:
		return nil, pathError("lock", name, syscall.EISDIR)
	default:
		c = n.file
	}
	if m.mu.locks[c] {
		return nil, pathError("lock", name, ErrLocked)
	}
	m.mu.locks[c] = true
	return &memLock{m, c}, nil
}

type memLock struct {
	m *Mem
	c *memContent
}

func (l *memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.c == nil {
		return fs.ErrClosed
	}
	delete(l.m.mu.locks, l.c)
	l.c = nil
	return nil
}

type memInfo struct {
	name string
	size int64
	dir  bool
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) Sys() any           { return nil }

func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | dirPerm
	}
	return filePerm
}
