package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, fsys FS, name, content string) File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	_, err = f.WriteAt([]byte(content), 0)
	must(t, err)
	return f
}

func read(t *testing.T, fsys FS, name string) string {
	t.Helper()
	data, err := ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	}
	must(t, err)
	return string(data)
}

// TestCrashKeepsOnlyWhatWasSynced is the contract of a disk whose power is cut.
func TestCrashKeepsOnlyWhatWasSynced(t *testing.T) {
	m := NewMem()
	f := create(t, m, "a", "durable")
	must(t, f.Sync())
	create(t, m, "unsynced-data", "x")
	must(t, m.SyncDir("/"))
	g := create(t, m, "unsynced-name", "y")
	must(t, g.Sync())
	_, err := f.WriteAt([]byte("LOST and longer"), 0)
	must(t, err)
	after := m.Crash(rand.New(rand.NewPCG(1, 1)), CrashOptions{Survive: 0})
	for name, want := range map[string]string{"a": "durable", "unsynced-data": "", "unsynced-name": "(none)"} {
		if got := read(t, after, name); got != want {
			t.Errorf("%s holds %q after the crash, want %q", name, got, want)
		}
	}
	if _, err := m.Open("a"); !errors.Is(err, ErrCrashed) {
		t.Errorf("the old file system answers %v", err)
	}
	if _, err := f.WriteAt([]byte("late"), 0); !errors.Is(err, ErrCrashed) {
		t.Errorf("an old file answers %v", err)
	}
}

func TestKillKeepsEverything(t *testing.T) {
	m := NewMem()
	create(t, m, "a", "written")
	after := m.Crash(rand.New(rand.NewPCG(1, 1)), CrashOptions{Kill: true})
	if got := read(t, after, "a"); got != "written" {
		t.Errorf("a holds %q", got)
	}
}

// TestCrashTearsBetweenSectors: with half of the sectors surviving, both old and new ones must turn up, each whole.
func TestCrashTearsBetweenSectors(t *testing.T) {
	const sectors = 64
	m := NewMem()
	f := create(t, m, "a", string(bytes.Repeat([]byte{'o'}, sectors*SectorSize)))
	must(t, f.Sync())
	must(t, m.SyncDir("/"))
	_, err := f.WriteAt(bytes.Repeat([]byte{'n'}, sectors*SectorSize), 0)
	must(t, err)
	after := read(t, m.Crash(rand.New(rand.NewPCG(7, 7)), CrashOptions{Survive: 50}), "a")
	old, replaced := 0, 0
	for s := range sectors {
		sector := after[s*SectorSize : (s+1)*SectorSize]
		switch sector {
		case string(bytes.Repeat([]byte{'o'}, SectorSize)):
			old++
		case string(bytes.Repeat([]byte{'n'}, SectorSize)):
			replaced++
		default:
			t.Fatalf("sector %d is torn inside", s)
		}
	}
	if old == 0 || replaced == 0 {
		t.Errorf("%d old sectors, %d new ones: want some of each", old, replaced)
	}
}

// TestRenameIsAtomic: whatever survives, one of the two names holds a whole file.
func TestRenameIsAtomic(t *testing.T) {
	for seed := range uint64(200) {
		m := NewMem()
		must(t, WriteFileAtomic(m, "dir-is-root", []byte("old")))
		f := create(t, m, "dir-is-root.tmp", "new")
		must(t, f.Sync())
		must(t, m.Rename("dir-is-root.tmp", "dir-is-root"))
		after := m.Crash(rand.New(rand.NewPCG(seed, 0)), CrashOptions{Survive: 50})
		if got := read(t, after, "dir-is-root"); got != "old" && got != "new" {
			t.Fatalf("seed %d: the file holds %q", seed, got)
		}
	}
}

// TestMemBehavesLikeOS runs the same random operations on both.
func TestMemBehavesLikeOS(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := filepath.Join(t.TempDir(), fmt.Sprint(rand.Uint64()))
		mem := NewMem()
		both := []FS{OS{}, mem}
		for _, fsys := range both {
			must(t, fsys.MkdirAll(dir))
		}
		names := rapid.SampledFrom([]string{"a", "b", "c"})
		rt.Repeat(map[string]func(*rapid.T){
			"": func(rt *rapid.T) { sameTrees(rt, dir, both) },
			"write": func(rt *rapid.T) {
				name, off := filepath.Join(dir, names.Draw(rt, "name")), rapid.Int64Range(0, 2000).Draw(rt, "off")
				data := rapid.SliceOfN(rapid.Byte(), 1, 800).Draw(rt, "data")
				for _, fsys := range both {
					f, err := fsys.Open(name)
					if errors.Is(err, fs.ErrNotExist) {
						f, err = fsys.Create(name)
					}
					must(t, err)
					must(t, f.WriteVec([][]byte{data[:len(data)/2], data[len(data)/2:]}, off))
					must(t, f.Sync())
					must(t, f.Close())
				}
			},
			"truncate": func(rt *rapid.T) {
				name, size := filepath.Join(dir, names.Draw(rt, "name")), rapid.Int64Range(0, 2000).Draw(rt, "size")
				for _, fsys := range both {
					if f, err := fsys.Open(name); err == nil {
						must(t, f.Truncate(size))
						must(t, f.Close())
					}
				}
			},
			"rename": func(rt *rapid.T) {
				from, to := filepath.Join(dir, names.Draw(rt, "from")), filepath.Join(dir, names.Draw(rt, "to"))
				if got, want := mem.Rename(from, to), (OS{}).Rename(from, to); (got == nil) != (want == nil) {
					rt.Fatalf("rename: memory %v, system %v", got, want)
				}
			},
			"remove": func(rt *rapid.T) {
				name := filepath.Join(dir, names.Draw(rt, "name"))
				if got, want := mem.Remove(name), (OS{}).Remove(name); (got == nil) != (want == nil) {
					rt.Fatalf("remove: memory %v, system %v", got, want)
				}
			},
		})
	})
}

func sameTrees(t *rapid.T, dir string, both []FS) {
	var lists [2][]string
	for i, fsys := range both {
		var err error
		if lists[i], err = fsys.List(dir); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(lists[0], lists[1]) {
		t.Fatalf("system has %v, memory has %v", lists[0], lists[1])
	}
	for _, name := range lists[0] {
		a, errA := ReadFile(both[0], filepath.Join(dir, name))
		b, errB := ReadFile(both[1], filepath.Join(dir, name))
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Fatalf("%s differs: %d and %d bytes (%v, %v)", name, len(a), len(b), errA, errB)
		}
	}
}

func TestInjectedFaults(t *testing.T) {
	in := Inject(NewMem(), Rule{Op: OpSync, Path: "a", Nth: 2, Err: syscall.EIO}, Rule{Op: OpWrite, Path: "b", Err: syscall.ENOSPC, Last: -1})
	a, b := create(t, in, "a", "1"), File(nil)
	must(t, a.Sync())
	if err := a.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the second sync answers %v", err)
	}
	must(t, a.Sync())
	b, err := in.Create("b")
	must(t, err)
	for range 3 {
		if _, err := b.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a write on a full disk answers %v", err)
		}
	}
	want := []string{"create a", "write a", "sync a", "sync a: sync a: input/output error", "sync a", "create b",
		"write b: write b: no space left on device", "write b: write b: no space left on device", "write b: write b: no space left on device"}
	if got := in.Trace(); !slices.Equal(got, want) {
		t.Errorf("trace %q", got)
	}
}

// TestLyingFsync: the caller is told that all is well, the power cut shows otherwise.
func TestLyingFsync(t *testing.T) {
	m := NewMem()
	in := Inject(m, Rule{Op: OpSync, Lie: true, Last: -1})
	f := create(t, in, "a", "gone")
	must(t, in.SyncDir("/"))
	must(t, f.Sync())
	if got := read(t, m.Crash(rand.New(rand.NewPCG(1, 1)), CrashOptions{}), "a"); got != "" {
		t.Errorf("a holds %q", got)
	}
}

func TestWatchdogSeesAHungSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hung := make(chan string, 2)
		fsys := Watch(Inject(NewMem(), Rule{Op: OpSync, Nth: 2, Hang: release}), DefaultHangLimit, func(op, path string, _ time.Time) {
			hung <- op + " " + path
		})
		f := create(t, fsys, "a", "1")
		must(t, f.Sync())
		done := make(chan error)
		go func() { done <- f.Sync() }()
		if got := <-hung; got != "sync a" {
			t.Errorf("the watchdog saw %q", got)
		}
		close(release)
		must(t, <-done)
	})
}

func TestCount(t *testing.T) {
	fsys, c := Count(NewMem())
	f := create(t, fsys, "x.log", "12345")
	must(t, f.Sync())
	must(t, fsys.SyncDir("/"))
	if c.LogSyncs() != 1 || c.Of(OpSyncDir) != 1 || c.BytesWritten() != 5 {
		t.Errorf("%d log syncs, %d directory syncs, %d bytes", c.LogSyncs(), c.Of(OpSyncDir), c.BytesWritten())
	}
}

func TestLockAndMap(t *testing.T) {
	for name, fsys := range map[string]FS{"os": OS{}, "mem": NewMem()} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, fsys.MkdirAll(dir))
			lock, err := fsys.Lock(filepath.Join(dir, "lock"))
			must(t, err)
			if _, err := fsys.Lock(filepath.Join(dir, "lock")); !errors.Is(err, ErrLocked) {
				t.Errorf("a second lock answers %v", err)
			}
			must(t, lock.Close())
			must(t, WriteFileAtomic(fsys, filepath.Join(dir, "f"), []byte("mapped")))
			m, err := fsys.Map(filepath.Join(dir, "f"), 3)
			must(t, err)
			if string(m.Bytes()) != "map" {
				t.Errorf("mapped %q", m.Bytes())
			}
			must(t, m.Close())
			if _, err := fsys.Map(filepath.Join(dir, "f"), 7); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("a mapping beyond the end answers %v", err)
			}
		})
	}
}
