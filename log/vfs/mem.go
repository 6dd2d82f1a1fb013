package vfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// sectorSize is what a disk writes as a whole: a torn write tears between sectors.
const sectorSize = 512

// ErrCrashed is what every call on a [Mem] answers after its Crash.
var ErrCrashed = errors.New("the file system has crashed")

// Mem is a file system in memory that knows what a power cut would leave. It keeps, for each file, the content as of its
// last Sync and the sectors written since; for each directory, the names as of its last SyncDir. A file's data and its
// name are two things, as on ext4 without a journal of data: a synced file whose directory was not synced may be gone.
//
// Mem is safe for concurrent use.
type Mem struct {
	mu struct {
		sync.Mutex
		root    *memNode
		crashed bool
		locks   map[string]bool
		free    uint64
	}
}

// memNode is a file or a directory.
type memNode struct {
	// A directory:
	children map[string]*memNode // as they are now
	durable  map[string]*memNode // as of the last SyncDir

	// A file:
	data   []byte
	synced []byte             // content as of the last Sync
	dirty  map[int64]struct{} // sectors written since
}

// memCapacity is what Free reports as the size of the disk.
const memCapacity = 1 << 40

// NewMem returns an empty file system.
func NewMem() *Mem { return newMem(newDir()) }

func newMem(root *memNode) *Mem {
	m := &Mem{}
	m.mu.root, m.mu.locks, m.mu.free = root, map[string]bool{}, memCapacity
	return m
}

func newDir() *memNode {
	return &memNode{children: map[string]*memNode{}, durable: map[string]*memNode{}}
}

func newFile() *memNode { return &memNode{dirty: map[int64]struct{}{}} }

func (n *memNode) isDir() bool { return n.children != nil }

// CrashOptions says what a crash leaves of what was not synced.
type CrashOptions struct {
	// Survive is the chance in percent that an unsynced sector, length or name survives, each on its own.
	// Negative picks 0, 50 or 100 at random for the whole crash.
	Survive int
	// Kill is a killed process instead of a power cut: everything written survives.
	Kill bool
}

// Crash ends this file system, as a power cut does, and returns what is found after the restart.
func (m *Mem) Crash(rng *rand.Rand, opt CrashOptions) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.crashed = true
	if opt.Kill {
		opt.Survive = 100
	}
	if opt.Survive < 0 {
		opt.Survive = []int{0, 50, 100}[rng.IntN(3)]
	}
	c := &crasher{rng: rng, survive: opt.Survive, done: map[*memNode]*memNode{}}
	after := newMem(c.node(m.mu.root))
	after.mu.free = m.mu.free
	return after
}

// crasher copies a tree as a crash leaves it. A file with two names at the time (a rename that half survived) stays one.
type crasher struct {
	rng     *rand.Rand
	survive int
	done    map[*memNode]*memNode
}

func (c *crasher) lucky() bool {
	return c.survive == 100 || c.survive > 0 && c.rng.IntN(100) < c.survive
}

func (c *crasher) node(n *memNode) *memNode {
	if out, ok := c.done[n]; ok {
		return out
	}
	if !n.isDir() {
		out := c.file(n)
		c.done[n] = out
		return out
	}
	out := newDir()
	c.done[n] = out
	for name, child := range c.names(n) {
		out.children[name] = c.node(child)
	}
	out.durable = maps.Clone(out.children)
	return out
}

// names decides which directory entries survive. A rename is atomic: the new name's appearance and the old one's going
// belong together, so a file that had a durable name keeps at least one.
func (c *crasher) names(n *memNode) map[string]*memNode {
	out := maps.Clone(n.durable)
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		now, before := n.children[name], n.durable[name]
		if now == before || !c.lucky() {
			continue
		}
		for _, old := range slices.Sorted(maps.Keys(n.durable)) {
			if n.durable[old] == now && n.children[old] != now {
				delete(out, old)
			}
		}
		out[name] = now
	}
	for _, name := range slices.Sorted(maps.Keys(n.durable)) {
		if _, still := n.children[name]; !still && !c.renamed(n, name) && c.lucky() {
			delete(out, name)
		}
	}
	return out
}

// renamed tells whether what was called name before has another name now.
func (c *crasher) renamed(n *memNode, name string) bool {
	for _, now := range n.children {
		if now == n.durable[name] {
			return true
		}
	}
	return false
}

func (c *crasher) file(n *memNode) *memNode {
	out := newFile()
	size := len(n.synced)
	if len(n.data) != len(n.synced) && c.lucky() {
		size = len(n.data)
	}
	out.data = make([]byte, size)
	copy(out.data, n.synced)
	for _, sector := range slices.Sorted(maps.Keys(n.dirty)) {
		from := sector * sectorSize
		to := min(from+sectorSize, int64(len(n.data)), int64(size))
		if from < to && c.lucky() {
			copy(out.data[from:to], n.data[from:to])
		}
	}
	out.synced = slices.Clone(out.data)
	return out
}

func clean(name string) []string {
	name = strings.Trim(filepath.ToSlash(filepath.Clean(name)), "/")
	if name == "" || name == "." {
		return nil
	}
	return strings.Split(name, "/")
}

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// lookupLocked finds a node.
func (m *Mem) lookupLocked(op, name string) (*memNode, error) {
	if m.mu.crashed {
		return nil, pathError(op, name, ErrCrashed)
	}
	n := m.mu.root
	for _, part := range clean(name) {
		if !n.isDir() || n.children[part] == nil {
			return nil, pathError(op, name, fs.ErrNotExist)
		}
		n = n.children[part]
	}
	return n, nil
}

// parentLocked finds the directory that holds name.
func (m *Mem) parentLocked(op, name string) (*memNode, string, error) {
	parts := clean(name)
	if len(parts) == 0 {
		return nil, "", pathError(op, name, fs.ErrInvalid)
	}
	dir, err := m.lookupLocked(op, strings.Join(parts[:len(parts)-1], "/"))
	if err != nil {
		return nil, "", err
	}
	if !dir.isDir() {
		return nil, "", pathError(op, name, fs.ErrNotExist)
	}
	return dir, parts[len(parts)-1], nil
}

// Open implements [FS].
func (m *Mem) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookupLocked("open", name)
	if err != nil {
		return nil, err
	}
	if n.isDir() {
		return nil, pathError("open", name, fs.ErrInvalid)
	}
	return &memFile{m: m, n: n, name: name}, nil
}

// Create implements [FS].
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked("create", name)
	if err != nil {
		return nil, err
	}
	if dir.children[base] != nil {
		return nil, pathError("create", name, fs.ErrExist)
	}
	n := newFile()
	dir.children[base] = n
	return &memFile{m: m, n: n, name: name}, nil
}

// MkdirAll implements [FS].
func (m *Mem) MkdirAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.crashed {
		return pathError("mkdir", name, ErrCrashed)
	}
	n := m.mu.root
	for _, part := range clean(name) {
		if n.children[part] == nil {
			n.children[part] = newDir()
		}
		if n = n.children[part]; !n.isDir() {
			return pathError("mkdir", name, fs.ErrExist)
		}
	}
	return nil
}

// List implements [FS].
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookupLocked("list", dir)
	if err != nil {
		return nil, err
	}
	if !n.isDir() {
		return nil, pathError("list", dir, fs.ErrInvalid)
	}
	return slices.Sorted(maps.Keys(n.children)), nil
}

// Stat implements [FS].
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookupLocked("stat", name)
	if err != nil {
		return nil, err
	}
	return memInfo{filepath.Base(name), int64(len(n.data)), n.isDir()}, nil
}

// Rename implements [FS].
func (m *Mem) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldBase, err := m.parentLocked("rename", oldname)
	if err != nil {
		return err
	}
	to, newBase, err := m.parentLocked("rename", newname)
	if err != nil {
		return err
	}
	n := from.children[oldBase]
	if n == nil {
		return pathError("rename", oldname, fs.ErrNotExist)
	}
	delete(from.children, oldBase)
	to.children[newBase] = n
	return nil
}

// Remove implements [FS].
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked("remove", name)
	if err != nil {
		return err
	}
	n := dir.children[base]
	if n == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if n.isDir() && len(n.children) > 0 {
		return pathError("remove", name, errors.New("directory not empty"))
	}
	delete(dir.children, base)
	return nil
}

// RemoveAll implements [FS].
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked("removeall", name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	delete(dir.children, base)
	return nil
}

// SyncDir implements [FS].
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookupLocked("syncdir", dir)
	if err != nil {
		return err
	}
	if !n.isDir() {
		return pathError("syncdir", dir, fs.ErrInvalid)
	}
	n.durable = maps.Clone(n.children)
	return nil
}

// SetFree sets what Free answers.
func (m *Mem) SetFree(free uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.free = free
}

// Free implements [FS].
func (m *Mem) Free(string) (free, total uint64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.crashed {
		return 0, 0, ErrCrashed
	}
	return m.mu.free, memCapacity, nil
}

// Map implements [FS]. The mapping is a copy: what is mapped here is never written again.
func (m *Mem) Map(name string, size int64) (Mapping, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.lookupLocked("map", name)
	if err != nil {
		return nil, err
	}
	if int64(len(n.data)) < size {
		return nil, pathError("map", name, io.ErrUnexpectedEOF)
	}
	return memMapping(slices.Clone(n.data[:size])), nil
}

type memMapping []byte

func (m memMapping) Bytes() []byte { return m }
func (m memMapping) Close() error  { return nil }

// Lock implements [FS].
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.crashed {
		return nil, pathError("lock", name, ErrCrashed)
	}
	if m.mu.locks[name] {
		return nil, pathError("lock", name, ErrLocked)
	}
	m.mu.locks[name] = true
	return memLock{m, name}, nil
}

type memLock struct {
	m    *Mem
	name string
}

func (l memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.mu.locks, l.name)
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

// memFile is an open file. It stays usable after its name is removed, as on Unix.
type memFile struct {
	m    *Mem
	n    *memNode
	name string
}

func (f *memFile) do(op string, fn func() error) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.m.mu.crashed {
		return pathError(op, f.name, ErrCrashed)
	}
	return fn()
}

func (f *memFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.do("read", func() error {
		if off >= int64(len(f.n.data)) {
			return io.EOF
		}
		if n = copy(p, f.n.data[off:]); n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.do("write", func() error { f.writeLocked(p, off); return nil })
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *memFile) writeLocked(p []byte, off int64) {
	end := off + int64(len(p))
	if end > int64(len(f.n.data)) {
		f.n.resize(end)
	}
	copy(f.n.data[off:end], p)
	f.n.markDirty(off, end)
}

func (n *memNode) markDirty(from, to int64) {
	for s := from / sectorSize; s*sectorSize < to; s++ {
		n.dirty[s] = struct{}{}
	}
}

// resize changes the length. New bytes are zero, as in a hole.
func (n *memNode) resize(size int64) {
	if size <= int64(len(n.data)) {
		n.data = n.data[:size]
		return
	}
	if size > int64(cap(n.data)) {
		n.data = slices.Grow(n.data, int(size)-len(n.data))
	}
	old := len(n.data)
	n.data = n.data[:size]
	clear(n.data[old:])
}

func (f *memFile) WriteVec(buffers [][]byte, off int64) error {
	return f.do("writevec", func() error {
		for _, b := range buffers {
			f.writeLocked(b, off)
			off += int64(len(b))
		}
		return nil
	})
}

func (f *memFile) Sync() error {
	return f.do("sync", func() error {
		// Only what changed is copied: a log that grows by small synced writes would be quadratic otherwise.
		old := len(f.n.synced)
		size := len(f.n.data)
		if size <= old {
			f.n.synced = f.n.synced[:size]
		} else {
			f.n.synced = append(f.n.synced, f.n.data[old:]...)
		}
		for s := range f.n.dirty {
			from := min(s*sectorSize, int64(size))
			to := min(from+sectorSize, int64(size))
			copy(f.n.synced[from:to], f.n.data[from:to])
		}
		clear(f.n.dirty)
		return nil
	})
}

func (f *memFile) Truncate(size int64) error {
	return f.do("truncate", func() error {
		old := int64(len(f.n.data))
		f.n.resize(size)
		if size < old {
			// What is written there later is new; the zeros in between are too.
			f.n.markDirty(size, old)
		}
		return nil
	})
}

func (f *memFile) Size() (size int64, err error) {
	err = f.do("size", func() error { size = int64(len(f.n.data)); return nil })
	return size, err
}

func (f *memFile) Fd() (uintptr, bool) { return 0, false }
func (f *memFile) Close() error        { return nil }
