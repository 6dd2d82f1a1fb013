package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"
	"testing"
)

// everywhere runs a test on real files and in memory.
func everywhere(t *testing.T, test func(t *testing.T, fsys FS, dir string)) {
	for name, fsys := range map[string]FS{"os": OS{}, "mem": NewMem()} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, fsys.MkdirAll(dir))
			test(t, fsys, dir)
		})
	}
}

// TestWriteVec: more buffers than one system call takes, some of them empty, none of them changed.
func TestWriteVec(t *testing.T) {
	everywhere(t, func(t *testing.T, fsys FS, dir string) {
		f := create(t, fsys, filepath.Join(dir, "f"), "head")
		var buffers [][]byte
		want := []byte("head")
		for i := range 2600 {
			b := bytes.Repeat([]byte{byte(i)}, i%7)
			buffers = append(buffers, b)
			want = append(want, b...)
		}
		must(t, f.WriteVec(buffers, 4))
		must(t, f.WriteVec(nil, 1<<20))
		must(t, f.WriteVec([][]byte{nil, {}}, 1<<20))
		for i, b := range buffers {
			if len(b) != i%7 {
				t.Fatalf("buffer %d has %d bytes after the write", i, len(b))
			}
		}
		if got := read(t, fsys, filepath.Join(dir, "f")); got != string(want) {
			t.Errorf("the file holds %d bytes, want %d, or other ones", len(got), len(want))
		}
		must(t, f.Sync())
		must(t, f.Close())
		if err := f.WriteVec(buffers, 0); err == nil {
			t.Error("a closed file was written")
		}
	})
}

// TestErrnosAreKept: what the callers decide by must survive the wrapping.
func TestErrnosAreKept(t *testing.T) {
	full, err := OS{}.Open("/dev/full")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this system has no /dev/full")
	}
	must(t, err)
	defer full.Close()
	if err := full.WriteVec([][]byte{[]byte("x")}, 0); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write to a full disk answers %v", err)
	}
	var pe *fs.PathError
	if err := full.Sync(); !errors.As(err, &pe) || pe.Path != "/dev/full" {
		t.Errorf("the sync of what can't be synced answers %v", err)
	}
}

func TestLock(t *testing.T) {
	everywhere(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "lock")
		lock, err := fsys.Lock(name)
		must(t, err)
		if _, err := fsys.Lock(name); !errors.Is(err, ErrLocked) {
			t.Errorf("a second lock answers %v", err)
		}
		must(t, lock.Close())
		again, err := fsys.Lock(name)
		must(t, err)
		must(t, again.Close())
	})
}

func TestMap(t *testing.T) {
	everywhere(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "f")
		must(t, WriteFileAtomic(fsys, name, []byte("mapped")))
		for size, want := range []string{"", "m", "ma"} {
			m, err := fsys.Map(name, int64(size))
			must(t, err)
			if string(m.Bytes()) != want {
				t.Errorf("mapped %q, want %q", m.Bytes(), want)
			}
			must(t, m.Close())
		}
		if _, err := fsys.Map(name, 7); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a mapping beyond the end answers %v", err)
		}
		if _, err := fsys.Map(name+"?", 0); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a mapping of nothing answers %v", err)
		}
	})
}

func TestFree(t *testing.T) {
	everywhere(t, func(t *testing.T, fsys FS, dir string) {
		free, total, err := fsys.Free(dir)
		must(t, err)
		if free == 0 || free > total {
			t.Errorf("%d of %d bytes are free", free, total)
		}
		if _, _, err := fsys.Free(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the room of nothing is %v", err)
		}
	})
}

func TestWriteFileAtomic(t *testing.T) {
	everywhere(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "f")
		create(t, fsys, name+".tmp", "left over from a crash, and longer than the new one").Close()
		must(t, WriteFileAtomic(fsys, name, []byte("one")))
		must(t, WriteFileAtomic(fsys, name, []byte("two")))
		if got := read(t, fsys, name); got != "two" {
			t.Errorf("the file holds %q", got)
		}
		names, err := fsys.List(dir)
		must(t, err)
		if len(names) != 1 {
			t.Errorf("left over: %q", names)
		}
	})
}

// TestWriteFileAtomicSurvives crashes at every call on the way: the file holds the old or the new content, and the new one
// from the moment when the caller was told so.
func TestWriteFileAtomicSurvives(t *testing.T) {
	for _, opt := range []CrashOptions{{}, {Survive: 50}, {Survive: 100}, {Survive: -1}, {Kill: true}} {
		for seed := range uint64(50) {
			for at := 1; ; at++ {
				m := NewMem()
				must(t, WriteFileAtomic(m, "f", []byte("old")))
				var after *Mem
				in := Inject(m, Rule{Nth: at, Do: func(Call) { after = m.Crash(seeded(seed), opt) }})
				err := WriteFileAtomic(in, "f", []byte("new"))
				done := err == nil
				if done {
					after = m.Crash(seeded(seed), opt)
				}
				if got := read(t, after, "f"); got != "new" && (done || got != "old") {
					t.Fatalf("crash at call %d with %+v, seed %d: the file holds %q (the call: %v)", at, opt, seed, got, err)
				}
				must(t, WriteFileAtomic(after, "f", []byte("next")))
				if done {
					break
				}
			}
		}
	}
}

func TestMkdirDurable(t *testing.T) {
	everywhere(t, func(t *testing.T, fsys FS, dir string) {
		must(t, MkdirDurable(fsys, filepath.Join(dir, "a/b/c")))
		must(t, MkdirDurable(fsys, filepath.Join(dir, "a/b/c")))
		create(t, fsys, filepath.Join(dir, "file"), "").Close()
		if err := MkdirDurable(fsys, filepath.Join(dir, "file", "x")); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("a directory below a file: %v", err)
		}
		if err := MkdirDurable(fsys, filepath.Join(dir, "file")); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("a directory where a file is: %v", err)
		}
	})
	m := NewMem()
	must(t, MkdirDurable(m, "/a/b/c"))
	must(t, MkdirDurable(Inject(m, Rule{Op: OpSyncDir, Err: syscall.EACCES}), "/a/b"))
	if err := MkdirDurable(Inject(m, Rule{Op: OpSyncDir, Err: syscall.EIO}), "/a/b"); !errors.Is(err, syscall.EIO) {
		t.Errorf("a disk that fails: %v", err)
	}
	if _, err := m.Crash(nil, CrashOptions{}).Stat("/a/b/c"); err != nil {
		t.Errorf("after a power cut: %v", err)
	}
}

// TestMemFullDisk: what fits is written, as by a real disk, and removing a file makes room once nobody holds it open.
func TestMemFullDisk(t *testing.T) {
	m := NewMem()
	m.SetFree(10)
	f := create(t, m, "f", "123456")
	if n, err := f.WriteAt([]byte("abcdef"), 6); n != 4 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d bytes written, error %v", n, err)
	}
	write(t, f, "overwriting needs no room"[:10], 0)
	if err := f.Truncate(11); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("growing answers %v", err)
	}
	if err := f.WriteVec([][]byte{[]byte("x"), []byte("y")}, 9); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a vector of which half fits: %v", err)
	}
	if _, err := f.WriteAt([]byte("x"), 100); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a write behind a hole: %v", err)
	}
	room := func(want uint64, when string) {
		t.Helper()
		if free, _, err := m.Free("/"); err != nil || free != want {
			t.Errorf("%s: %d bytes free, want %d (%v)", when, free, want, err)
		}
	}
	room(0, "full")
	must(t, f.Truncate(7))
	room(3, "after cutting")
	must(t, m.Remove("f"))
	room(3, "removed but open")
	must(t, f.Close())
	room(10, "removed and closed")
	create(t, m, "old", "1234").Close()
	create(t, m, "new", "12").Close()
	must(t, m.Rename("new", "old"))
	room(8, "replaced")
	after := m.Crash(nil, CrashOptions{Survive: 100})
	if free, _, err := after.Free("/"); err != nil || free != 8 {
		t.Errorf("after a crash: %d bytes free (%v)", free, err)
	}
}

func TestMemRefusesWhatItCannotJudge(t *testing.T) {
	m := NewMem()
	must(t, m.MkdirAll("a"))
	must(t, m.MkdirAll("b"))
	if err := m.Rename("a", "b/a"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a directory moves into another: %v", err)
	}
	if err := m.Remove("/"); err == nil {
		t.Error("the root was removed")
	}
}
