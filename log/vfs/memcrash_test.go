package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// outcomes are all the states that crashes with the chance survive find after script, over many seeds.
func outcomes(t *testing.T, opt CrashOptions, script func(m *Mem)) []string {
	t.Helper()
	m := NewMem()
	script(m)
	found := map[string]bool{}
	for seed := range uint64(3000) {
		found[tree(t, m.CrashClone(seeded(seed), opt))] = true
	}
	return slices.Sorted(maps.Keys(found))
}

// TestCrashOutcomes lists, for small histories, exactly what may be found after a power cut: every line must turn up, and
// nothing else may.
func TestCrashOutcomes(t *testing.T) {
	for _, c := range []struct {
		name   string
		script func(m *Mem)
		want   []string
	}{
		{"nothing unsynced", func(m *Mem) { durable(t, m, "a", "A") }, []string{"/a=A"}},
		{"a synced file with a new name", func(m *Mem) {
			must(t, create(t, m, "a", "A").Sync())
		}, []string{"", "/a=A"}},
		{"a synced name of an unsynced file: the length, the data, both, neither", func(m *Mem) {
			create(t, m, "a", "A")
			must(t, m.SyncDir("/"))
		}, []string{"/a=", "/a=.", "/a=A"}},
		{"two names are independent", func(m *Mem) {
			must(t, create(t, m, "a", "A").Sync())
			must(t, create(t, m, "b", "B").Sync())
		}, []string{"", "/a=A", "/a=A /b=B", "/b=B"}},
		{"rename: one name or the other, never none or both", func(m *Mem) {
			durable(t, m, "a", "A")
			must(t, m.Rename("a", "b"))
		}, []string{"/a=A", "/b=A"}},
		{"replacing through a temporary file", func(m *Mem) {
			durable(t, m, "a", "old")
			must(t, create(t, m, "a.tmp", "new").Sync())
			must(t, m.Rename("a.tmp", "a"))
		}, []string{"/a=new", "/a=old", "/a=old /a.tmp=new"}},
		{"replacing without the file's fsync: the name stands for anything", func(m *Mem) {
			durable(t, m, "a", "old")
			create(t, m, "a.tmp", "new")
			must(t, m.Rename("a.tmp", "a"))
			must(t, m.SyncDir("/"))
		}, []string{"/a=", "/a=...", "/a=new"}},
		{"renames in a chain survive in order", func(m *Mem) {
			durable(t, m, "a", "A")
			must(t, m.Rename("a", "b"))
			must(t, m.Rename("b", "c"))
		}, []string{"/a=A", "/b=A", "/c=A"}},
		{"what took a freed name does not survive without the rename that freed it", func(m *Mem) {
			durable(t, m, "a", "A")
			must(t, m.Rename("a", "b"))
			must(t, create(t, m, "a", "new").Sync())
		}, []string{"/a=A", "/a=new /b=A", "/b=A"}},
		{"removal", func(m *Mem) {
			durable(t, m, "a", "A")
			durable(t, m, "b", "B")
			must(t, m.Remove("a"))
		}, []string{"/a=A /b=B", "/b=B"}},
		{"a file in a directory whose own name was not synced", func(m *Mem) {
			must(t, m.MkdirAll("d"))
			must(t, create(t, m, "d/a", "A").Sync())
			must(t, m.SyncDir("d"))
		}, []string{"", "/d/a=A"}},
		{"a rename between directories is one change", func(m *Mem) {
			must(t, m.MkdirAll("d"))
			durable(t, m, "a", "A")
			must(t, m.Rename("a", "d/b"))
			must(t, create(t, m, "c", "C").Sync())
			must(t, m.SyncDir("d"))
		}, []string{"/c=C /d/b=A", "/d/b=A"}},
		{"a synced name takes along what it depends on", func(m *Mem) {
			must(t, m.MkdirAll("d"))
			must(t, m.MkdirAll("e"))
			must(t, m.SyncDir("/"))
			must(t, create(t, m, "d/x", "X").Sync())
			must(t, m.Rename("d/x", "e/x"))
			must(t, m.SyncDir("e"))
		}, []string{"/e/x=X"}},
		{"truncation: the length, and zeros where the cut sectors grew again", func(m *Mem) {
			f := durable(t, m, "a", sector("A")+"B")
			must(t, f.Truncate(SectorSize))
			must(t, f.Truncate(SectorSize+1))
		}, []string{"/a=" + sector("A"), "/a=" + sector("A") + ".", "/a=" + sector("A") + "B"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := outcomes(t, CrashOptions{Survive: 50}, c.script); !slices.Equal(got, c.want) {
				t.Errorf("found\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
			}
		})
	}
}

// TestCrashFindsOldVersions: between two syncs a sector may have been written back more than once, and a length too.
func TestCrashFindsOldVersions(t *testing.T) {
	got := outcomes(t, CrashOptions{Survive: 50}, func(m *Mem) {
		f := durable(t, m, "a", "0")
		write(t, f, "1", 0)
		write(t, f, "2", 0)
	})
	if want := []string{"/a=0", "/a=1", "/a=2"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	sizes := map[int]bool{}
	for _, state := range outcomes(t, CrashOptions{Survive: 50}, func(m *Mem) {
		f := durable(t, m, "a", "")
		write(t, f, "xxxx", 0)
		write(t, f, sector("x"), SectorSize)
	}) {
		sizes[len(state)-len("/a=")] = true
	}
	if want := []int{0, 4, SectorSize, 2 * SectorSize}; !slices.Equal(slices.Sorted(maps.Keys(sizes)), want) {
		t.Errorf("found the lengths %v, want %v", slices.Sorted(maps.Keys(sizes)), want)
	}
}

// TestCrashTearsBetweenSectors: with half of the sectors surviving, both old and new ones turn up, each whole.
func TestCrashTearsBetweenSectors(t *testing.T) {
	const sectors = 64
	m := NewMem()
	f := durable(t, m, "a", strings.Repeat("o", sectors*SectorSize))
	must(t, f.WriteVec([][]byte{bytes.Repeat([]byte{'n'}, 700), bytes.Repeat([]byte{'n'}, sectors*SectorSize-700)}, 0))
	after := read(t, m.Crash(seeded(7), CrashOptions{Survive: 50}), "a")
	count := map[string]int{}
	for s := range sectors {
		count[after[s*SectorSize:(s+1)*SectorSize]]++
	}
	if len(count) != 2 || count[sector("o")] < 10 || count[sector("n")] < 10 {
		t.Errorf("%d kinds of sectors; %d old, %d new ones: want some of each and no other", len(count), count[sector("o")], count[sector("n")])
	}
}

// TestCrashExtremes: at 0 percent exactly what was synced is left, at 100 exactly what was written.
func TestCrashExtremes(t *testing.T) {
	m := NewMem()
	f := durable(t, m, "a", "durable")
	create(t, m, "b", "x")
	write(t, f, "changed and longer", 0)
	if got := tree(t, m.CrashClone(nil, CrashOptions{})); got != "/a=durable" {
		t.Errorf("at 0 percent there is %q", got)
	}
	if got := tree(t, m.CrashClone(nil, CrashOptions{Survive: 100})); got != "/a=changed and longer /b=x" {
		t.Errorf("at 100 percent there is %q", got)
	}
}

// TestCrashIsRepeatable: the history and the seed decide everything, or a failing simulation could not be repeated.
func TestCrashIsRepeatable(t *testing.T) {
	run := func(seed uint64) string {
		m := NewMem()
		for i := range 20 {
			f := create(t, m, fmt.Sprint("f", i), sector(fmt.Sprint(i%10)))
			if i%3 == 0 {
				must(t, f.Sync())
			}
		}
		return tree(t, m.Crash(seeded(seed), CrashOptions{Survive: -1, Garbage: true, Flips: 3}))
	}
	different := map[string]bool{}
	for seed := range uint64(50) {
		first := run(seed)
		if again := run(seed); again != first {
			t.Fatalf("seed %d gives two results", seed)
		}
		different[first] = true
	}
	if len(different) < 25 {
		t.Errorf("50 seeds give only %d results", len(different))
	}
}

// TestOldFileSystemIsDead: a writer left over from before the crash must not reach the new one.
func TestOldFileSystemIsDead(t *testing.T) {
	for _, opt := range []CrashOptions{{}, {Survive: 50}, {Kill: true}} {
		m := NewMem()
		f := durable(t, m, "a", "A")
		lock, err := m.Lock("lock")
		must(t, err)
		after := m.Crash(seeded(1), opt)
		for name, call := range map[string]func() error{
			"open":     func() error { _, err := m.Open("a"); return err },
			"create":   func() error { _, err := m.Create("b"); return err },
			"mkdir":    func() error { return m.MkdirAll("d") },
			"list":     func() error { _, err := m.List("/"); return err },
			"stat":     func() error { _, err := m.Stat("a"); return err },
			"rename":   func() error { return m.Rename("a", "b") },
			"remove":   func() error { return m.Remove("a") },
			"all":      func() error { return m.RemoveAll("a") },
			"syncdir":  func() error { return m.SyncDir("/") },
			"free":     func() error { _, _, err := m.Free("/"); return err },
			"map":      func() error { _, err := m.Map("a", 1); return err },
			"lock":     func() error { _, err := m.Lock("a"); return err },
			"read":     func() error { _, err := f.ReadAt(make([]byte, 1), 0); return err },
			"write":    func() error { _, err := f.WriteAt([]byte("late"), 0); return err },
			"writevec": func() error { return f.WriteVec([][]byte{[]byte("late")}, 0) },
			"sync":     f.Sync,
			"truncate": func() error { return f.Truncate(0) },
			"size":     func() error { _, err := f.Size(); return err },
			"close":    f.Close,
		} {
			if err := call(); !errors.Is(err, ErrCrashed) {
				t.Errorf("%+v: %s on the old file system answers %v", opt, name, err)
			}
		}
		must(t, lock.Close())
		if got := read(t, after, "a"); got != "A" {
			t.Errorf("%+v: the new one has %q", opt, got)
		}
		if _, err := after.Lock("lock"); err != nil && opt.Kill {
			t.Errorf("the dead process still holds its lock: %v", err)
		}
	}
}

// TestKillKeepsTheCache: after a kill all that was written is there, but not durable. A recovery that trusts what it reads
// without syncing it loses it in the next power cut.
func TestKillKeepsTheCache(t *testing.T) {
	m := NewMem()
	durable(t, m, "a", "durable")
	f, err := m.Open("a")
	must(t, err)
	write(t, f, "written", 0)
	create(t, m, "b", "B")
	killed := m.Crash(nil, CrashOptions{Kill: true})
	if got := tree(t, killed); got != "/a=written /b=B" {
		t.Errorf("after the kill there is %q", got)
	}
	if got := tree(t, killed.CrashClone(nil, CrashOptions{})); got != "/a=durable" {
		t.Errorf("after the power cut there is %q", got)
	}
	f, err = killed.Open("a")
	must(t, err)
	must(t, f.Sync())
	if got := tree(t, killed.Crash(nil, CrashOptions{})); got != "/a=written" {
		t.Errorf("after a sync and the power cut there is %q", got)
	}
}

// TestAfterCrashAllIsDurable: what a reboot finds is on the disk.
func TestAfterCrashAllIsDurable(t *testing.T) {
	m := NewMem()
	create(t, m, "a", "A")
	must(t, m.MkdirAll("d/e"))
	after := m.Crash(nil, CrashOptions{Survive: 100})
	if got := after.Unsynced(); len(got) > 0 {
		t.Errorf("unsynced after a crash: %q", got)
	}
	if got := tree(t, after.Crash(nil, CrashOptions{})); got != "/a=A" {
		t.Errorf("a second power cut leaves %q", got)
	}
}

func TestUnsynced(t *testing.T) {
	m := NewMem()
	must(t, MkdirDurable(m, "/d/e"))
	must(t, WriteFileAtomic(m, "/d/e/a", []byte("A")))
	if got := m.Unsynced(); len(got) > 0 {
		t.Errorf("unsynced: %q", got)
	}
	f, err := m.Open("/d/e/a")
	must(t, err)
	write(t, f, "B", 0)
	create(t, m, "/d/new", "")
	must(t, m.Rename("/d/new", "/d/newer"))
	if got, want := m.Unsynced(), []string{"/d/e/a", "/d/newer"}; !slices.Equal(got, want) {
		t.Errorf("unsynced: %q, want %q", got, want)
	}
	must(t, f.Sync())
	must(t, m.SyncDir("/d"))
	must(t, m.Remove("/d/newer"))
	if got, want := m.Unsynced(), []string{"/d/newer"}; !slices.Equal(got, want) {
		t.Errorf("unsynced: %q, want %q", got, want)
	}
}

// TestGarbage: where data was lost but the length survived, old bytes of the disk may show.
func TestGarbage(t *testing.T) {
	m := NewMem()
	f := durable(t, m, "a", sector("A"))
	write(t, f, strings.Repeat("B", 8*SectorSize), SectorSize)
	garbage := false
	for seed := range uint64(100) {
		got := read(t, m.CrashClone(seeded(seed), CrashOptions{Survive: 50, Garbage: true}), "a")
		if !strings.HasPrefix(got, sector("A")) {
			t.Fatalf("seed %d: a durable sector has changed", seed)
		}
		garbage = garbage || strings.Trim(got, "AB\x00") != ""
	}
	if !garbage {
		t.Error("no garbage in 100 crashes")
	}
}

func TestFlips(t *testing.T) {
	m := NewMem()
	want := map[string]string{"/a": sector("A"), "/b": sector("B")}
	for name, content := range want {
		durable(t, m, name, content)
	}
	after := m.Crash(seeded(3), CrashOptions{Flips: 3, FlipIn: func(path string) bool { return path == "/b" }})
	if read(t, after, "/a") != want["/a"] {
		t.Error("a bit has changed in a file that was excepted")
	}
	flipped := 0
	for i, b := range []byte(read(t, after, "/b")) {
		flipped += bits.OnesCount8(b ^ want["/b"][i])
	}
	if flipped != 3 {
		t.Errorf("%d bits have changed, want 3", flipped)
	}
	if got := read(t, after.Crash(nil, CrashOptions{}), "/b"); got == want["/b"] {
		t.Error("rot was cured by a power cut")
	}
}

// TestFailedSyncLosesForGood is the trap that fsync lays on Linux: it fails once, then says that all is well, while the
// pages that it failed to write are clean and are never written.
func TestFailedSyncLosesForGood(t *testing.T) {
	m := NewMem()
	durable(t, m, "a", sector("0")+sector("0"))
	in := Inject(m, Rule{Op: OpSync, Path: "a", Err: syscall.EIO})
	f, err := in.Open("a")
	must(t, err)
	write(t, f, sector("1")+sector("1"), 0)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("the first sync answers %v", err)
	}
	must(t, f.Sync()) // a lie
	if got := read(t, in, "a"); got != sector("1")+sector("1") {
		t.Errorf("a reader sees %.8q...", got)
	}
	if got := read(t, m.CrashClone(nil, CrashOptions{}), "a"); got != sector("0")+sector("0") {
		t.Errorf("after a power cut there is %.8q...", got)
	}
	write(t, f, sector("2"), 0) // only what is written again is written back
	must(t, f.Sync())
	if got := read(t, m.CrashClone(nil, CrashOptions{}), "a"); got != sector("2")+sector("0") {
		t.Errorf("after another write, sync and power cut there is %.8q...%.8q...", got, got[SectorSize:])
	}
	seen := map[string]bool{}
	for seed := range uint64(100) {
		seen[read(t, m.CrashClone(seeded(seed), CrashOptions{Survive: 50}), "a")] = true
	}
	if !seen[sector("2")+sector("1")] || !seen[sector("2")+sector("0")] || len(seen) != 2 {
		t.Errorf("%d states: want the lost sector on the disk in some crashes and not in others", len(seen))
	}
}

// BenchmarkCrash: one iteration of a typical crash test, a small log written, synced and crashed.
func BenchmarkCrash(b *testing.B) {
	rng := seeded(1)
	payload := make([]byte, 700)
	for b.Loop() {
		m := NewMem()
		must(b, MkdirDurable(m, "/data/topic-0"))
		f, err := m.Create("/data/topic-0/00000000000000000000.log")
		must(b, err)
		must(b, m.SyncDir("/data/topic-0"))
		for i := range int64(100) {
			must(b, f.WriteVec([][]byte{payload}, i*700))
			if i%2 == 0 {
				must(b, f.Sync())
			}
		}
		m.Crash(rng, CrashOptions{Survive: -1})
	}
}
