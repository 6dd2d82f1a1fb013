package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

// pair is the same tree on the system's files and in memory, driven in step.
type pair struct {
	t    *rapid.T
	dir  string
	fsys [2]FS
	open map[int][2]File // handles that outlive single steps
	next int
}

// errorKinds are the errors that callers may tell apart.
var errorKinds = []error{
	fs.ErrNotExist, fs.ErrExist, fs.ErrClosed, syscall.ENOTDIR, syscall.EISDIR, syscall.ENOTEMPTY, syscall.EINVAL, io.EOF,
	io.ErrUnexpectedEOF, ErrLocked,
}

func kind(err error) string {
	for _, k := range errorKinds {
		if errors.Is(err, k) {
			return k.Error()
		}
	}
	if err != nil {
		return "other"
	}
	return "none"
}

// both runs one step on both sides. Its results and the kinds of its errors must be the same.
func both[T any](p *pair, what string, equal func(a, b T) bool, step func(side int, fsys FS) (T, error)) (out [2]T, ok bool) {
	p.t.Helper()
	var errs [2]error
	for side, fsys := range p.fsys {
		out[side], errs[side] = step(side, fsys)
	}
	if kind(errs[0]) != kind(errs[1]) || !equal(out[0], out[1]) {
		p.t.Fatalf("%s: the system answers %v, %v; memory answers %v, %v", what, out[0], errs[0], out[1], errs[1])
	}
	return out, errs[0] == nil
}

func anyEqual[T any](T, T) bool { return true }

func (p *pair) do(what string, step func(side int, fsys FS) error) bool {
	p.t.Helper()
	_, ok := both(p, what, anyEqual[struct{}], func(side int, fsys FS) (struct{}, error) { return struct{}{}, step(side, fsys) })
	return ok
}

// name draws a path in a small tree, so that names often meet: files, directories, and paths through files.
func (p *pair) name(t *rapid.T) string {
	parts := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3).Draw(t, "path")
	return filepath.Join(append([]string{p.dir}, parts...)...)
}

func (p *pair) handle(t *rapid.T) ([2]File, bool) {
	if len(p.open) == 0 {
		return [2]File{}, false
	}
	keys := make([]int, 0, len(p.open))
	for k := range p.open {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return p.open[rapid.SampledFrom(keys).Draw(t, "handle")], true
}

func (p *pair) names(t *rapid.T) {
	p.t = t
	name := p.name(t)
	switch rapid.SampledFrom([]string{"mkdir", "rename", "remove", "removeall", "list", "stat", "syncdir", "map", "lock", "atomic"}).Draw(t, "step") {
	case "mkdir":
		p.do("mkdir", func(_ int, fsys FS) error { return fsys.MkdirAll(name) })
	case "rename":
		to := p.name(t)
		if info, err := p.fsys[1].Stat(name); err == nil && info.IsDir() && filepath.Dir(to) != filepath.Dir(name) {
			return // the one thing that memory refuses
		}
		p.do("rename "+name+" "+to, func(_ int, fsys FS) error { return fsys.Rename(name, to) })
	case "remove":
		p.do("remove", func(_ int, fsys FS) error { return fsys.Remove(name) })
	case "removeall":
		p.do("removeall", func(_ int, fsys FS) error { return fsys.RemoveAll(name) })
	case "list":
		both(p, "list", slices.Equal[[]string], func(_ int, fsys FS) ([]string, error) { return fsys.List(name) })
	case "stat":
		both(p, "stat", func(a, b string) bool { return a == b }, func(_ int, fsys FS) (string, error) {
			info, err := fsys.Stat(name)
			if err != nil {
				return "", err
			}
			size := info.Size()
			if info.IsDir() {
				size = 0 // means nothing portable
			}
			return fmt.Sprint(info.Name(), info.IsDir(), size), nil
		})
	case "syncdir":
		if info, err := p.fsys[1].Stat(name); err == nil && !info.IsDir() {
			return // the system takes it for an fsync of the file
		}
		p.do("syncdir", func(_ int, fsys FS) error { return fsys.SyncDir(name) })
	case "map":
		size := rapid.Int64Range(0, 100).Draw(t, "size")
		if info, err := p.fsys[1].Stat(name); err == nil && info.IsDir() {
			return // the system maps no directory either, with an error that differs between file systems
		}
		both(p, "map", bytes.Equal, func(_ int, fsys FS) ([]byte, error) {
			m, err := fsys.Map(name, size)
			if err != nil {
				return nil, err
			}
			defer m.Close()
			return bytes.Clone(m.Bytes()), nil
		})
	case "lock":
		locks, ok := both(p, "lock", anyEqual[io.Closer], func(_ int, fsys FS) (io.Closer, error) { return fsys.Lock(name) })
		if ok {
			p.do("second lock", func(_ int, fsys FS) error { _, err := fsys.Lock(name); return err })
			p.do("unlock", func(side int, _ FS) error { return locks[side].Close() })
			p.do("second unlock", func(side int, _ FS) error { return locks[side].Close() })
		}
	case "atomic":
		data := rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "data")
		p.do("atomic", func(_ int, fsys FS) error { return WriteFileAtomic(fsys, name, data) })
	}
}

func (p *pair) openOrCreate(t *rapid.T) {
	p.t = t
	name, create := p.name(t), rapid.Bool().Draw(t, "create")
	files, ok := both(p, "open", anyEqual[File], func(_ int, fsys FS) (File, error) {
		if create {
			return fsys.Create(name)
		}
		return fsys.Open(name)
	})
	if ok {
		p.open[p.next] = files
		p.next++
	}
}

func (p *pair) write(t *rapid.T) {
	p.t = t
	files, ok := p.handle(t)
	if !ok {
		return
	}
	off := rapid.Int64Range(0, 3000).Draw(t, "off")
	buffers := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 700), 0, 4).Draw(t, "buffers")
	if rapid.Bool().Draw(t, "vec") {
		p.do("writevec", func(side int, _ FS) error { return files[side].WriteVec(buffers, off) })
		return
	}
	data := slices.Concat(buffers...)
	both(p, "write", func(a, b int) bool { return a == b }, func(side int, _ FS) (int, error) {
		return files[side].WriteAt(data, off)
	})
}

func (p *pair) rest(t *rapid.T) {
	p.t = t
	files, ok := p.handle(t)
	if !ok {
		return
	}
	switch rapid.SampledFrom([]string{"read", "truncate", "sync", "close"}).Draw(t, "step") {
	case "read":
		off, n := rapid.Int64Range(0, 3000).Draw(t, "off"), rapid.IntRange(0, 3000).Draw(t, "n")
		both(p, "read", bytes.Equal, func(side int, _ FS) ([]byte, error) {
			b := make([]byte, n)
			n, err := files[side].ReadAt(b, off)
			return b[:n], err
		})
	case "truncate":
		size := rapid.Int64Range(-1, 3000).Draw(t, "size")
		p.do("truncate", func(side int, _ FS) error { return files[side].Truncate(size) })
	case "sync":
		p.do("sync", func(side int, _ FS) error { return files[side].Sync() })
	case "close":
		for k, f := range p.open {
			if f == files {
				delete(p.open, k)
			}
		}
		p.do("close", func(side int, _ FS) error { return files[side].Close() })
		p.do("second close", func(side int, _ FS) error { return files[side].Close() })
		p.do("write to a closed file", func(side int, _ FS) error { _, err := files[side].WriteAt([]byte("x"), 0); return err })
	}
}

// same compares the whole trees and what is read through open handles, also of removed files.
func (p *pair) same(t *rapid.T) {
	p.t = t
	p.sameTree(p.dir)
	for _, files := range p.open {
		both(p, "size", func(a, b int64) bool { return a == b }, func(side int, _ FS) (int64, error) { return files[side].Size() })
		both(p, "content", bytes.Equal, func(side int, _ FS) ([]byte, error) {
			b := make([]byte, 8000)
			n, err := files[side].ReadAt(b, 0)
			return b[:n], err
		})
	}
}

func (p *pair) sameTree(name string) {
	isDir, ok := both(p, "stat "+name, func(a, b bool) bool { return a == b }, func(_ int, fsys FS) (bool, error) {
		info, err := fsys.Stat(name)
		return err == nil && info.IsDir(), err
	})
	if !ok {
		return
	}
	if !isDir[0] {
		both(p, "read "+name, bytes.Equal, func(_ int, fsys FS) ([]byte, error) { return ReadFile(fsys, name) })
		return
	}
	names, _ := both(p, "list "+name, slices.Equal[[]string], func(_ int, fsys FS) ([]string, error) { return fsys.List(name) })
	for _, child := range names[0] {
		p.sameTree(filepath.Join(name, child))
	}
}

// TestMemBehavesLikeOS runs the same random steps on real files and in memory.
func TestMemBehavesLikeOS(t *testing.T) {
	base := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		p := &pair{t: rt, dir: filepath.Join(base, fmt.Sprint(run)), fsys: [2]FS{OS{}, NewMem()}, open: map[int][2]File{}}
		for _, fsys := range p.fsys {
			must(t, fsys.MkdirAll(p.dir))
		}
		defer func() {
			for _, files := range p.open {
				files[0].Close()
			}
			must(t, OS{}.RemoveAll(p.dir))
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"": p.same, "open": p.openOrCreate, "write": p.write, "file": p.rest, "names": p.names,
		})
	})
}
