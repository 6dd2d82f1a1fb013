package log

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// snapshot is the content of a directory.
func snapshot(t testing.TB, fs vfs.FS) map[string][]byte {
	t.Helper()
	names, err := fs.List(testDir)
	mustBe(t, err, nil)
	all := make(map[string][]byte)
	for _, n := range names {
		b, err := readFile(fs, path.Join(testDir, n))
		mustBe(t, err, nil)
		all[n] = b
	}
	return all
}

// restore makes a file system that holds a snapshot, durably.
func restore(t testing.TB, files map[string][]byte) *vfs.Mem {
	t.Helper()
	fs := vfs.NewMem()
	mustBe(t, fs.MkdirAll(testDir), nil)
	for name, b := range files {
		put(t, fs, name, b)
	}
	for _, d := range []string{"/", "data", testDir} {
		mustBe(t, fs.SyncDir(d), nil)
	}
	return fs
}

func put(t testing.TB, fs vfs.FS, name string, b []byte) {
	t.Helper()
	mustBe(t, replaceFile(fs, path.Join(testDir, name), b), nil)
	mustBe(t, fs.SyncDir(testDir), nil)
}

func activeName(f *fixture, suffix string) string {
	return path.Base(f.log.mu.segments[len(f.log.mu.segments)-1].path(suffix))
}

// damaged changes a stopped log's files and says what Open must answer; nil: it recovers.
func TestOpenTellsTornFromDamaged(t *testing.T) {
	type files = map[string][]byte
	drop := func(b []byte, n int) []byte { return b[:len(b)-n] }
	cases := []struct {
		name   string
		change func(fs files, log, index string)
		want   error
		last   Index // after recovery
	}{
		{"nothing", func(files, string, string) {}, nil, 6},
		{"half a frame behind the end", func(fs files, log, _ string) { fs[log] = append(fs[log], fs[log][:50]...) }, nil, 6},
		{"zeros behind the end", func(fs files, log, _ string) { fs[log] = append(fs[log], make([]byte, 900)...) }, nil, 6},
		{"the first frame once more", func(fs files, log, _ string) {
			h, _ := batch.ParseHeader(fs[log])
			fs[log] = append(fs[log], fs[log][:h.Size()]...)
		}, nil, 6},
		{"last frame damaged, no slot for it", func(fs files, log, index string) {
			fs[index] = drop(fs[index], slotSize)
			fs[log][len(fs[log])-1] ^= 1
		}, nil, 5},
		{"last frame damaged, its slot is zeros", func(fs files, log, index string) {
			clear(fs[index][len(fs[index])-slotSize:])
			fs[log][len(fs[log])-1] ^= 1
		}, nil, 5},
		{"last frame damaged", func(fs files, log, _ string) { fs[log][len(fs[log])-1] ^= 1 }, ErrCorrupt, 0},
		{"last frame's epoch damaged", func(fs files, log, _ string) {
			fs[log][lastFrame(fs[log])+posLeaderEpoch+3] ^= 2
		}, ErrCorrupt, 0},
		{"frame in the middle damaged, only the last slot is left", func(fs files, log, index string) {
			fs[log][lastFrame(fs[log])-3] ^= 1
			clear(fs[index][len(fs[index])-2*slotSize : len(fs[index])-slotSize])
		}, ErrCorrupt, 0},
		{"log shorter than its index", func(fs files, log, _ string) { fs[log] = fs[log][:lastFrame(fs[log])] }, ErrDataLoss, 0},
		{"log shorter than the checkpoint", func(fs files, log, _ string) { fs[log] = fs[log][:40] }, ErrDataLoss, 0},
		{"log gone", func(fs files, log, _ string) { delete(fs, log) }, ErrDataLoss, 0},
		{"checkpoint damaged", func(fs files, _, _ string) { fs[checkpointName][70] ^= 1 }, ErrCorrupt, 0},
		{"index gone", func(fs files, _, index string) { delete(fs, index) }, nil, 6},
		{"index damaged below the checkpoint", func(fs files, _, index string) { fs[index][indexHeadSize+5] ^= 1 }, nil, 6},
		{"index header damaged", func(fs files, _, index string) { fs[index][20] ^= 1 }, nil, 6},
		{"index and frame damaged below the checkpoint", func(fs files, log, index string) {
			fs[index][indexHeadSize+5] ^= 1
			fs[log][80] ^= 1
		}, ErrCorrupt, 0},
		{"state damaged", func(fs files, log, _ string) {
			fs[strings.TrimSuffix(log, logSuffix)+stateSuffix][20] ^= 1
		}, ErrCorrupt, 0},
		{"temporary files", func(fs files, log, _ string) {
			fs[checkpointName+tmpSuffix] = []byte("x")
			fs[log[:nameLen]+stateSuffix+tmpSuffix] = nil
			fs[segmentName(99, 99)+stateSuffix] = []byte("y")
		}, nil, 6},
	}
	f := openFixture(t)
	f.append(1, plain(t, 2, 1), noop(), plain(t, 1, 1))
	f.apply()
	mustBe(t, f.log.Checkpoint(3), nil)
	f.append(1, plain(t, 1, 1))
	f.append(1, plain(t, 2, 1))
	f.append(1, plain(t, 3, 1))
	logName, indexName := activeName(f, logSuffix), activeName(f, indexSuffix)
	before := snapshot(t, f.fs)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			files := make(map[string][]byte)
			for n, b := range before {
				files[n] = bytes.Clone(b)
			}
			c.change(files, logName, indexName)
			f := &fixture{t: t, fs: restore(t, files), o: f.o}
			f.o.FS = f.fs
			if c.want != nil {
				f.reopenFails(c.want)
				if !maps.EqualFunc(files, snapshot(t, f.fs), bytes.Equal) {
					t.Fatal("a refused log was changed")
				}
				return
			}
			f.open()
			equal(t, f.log.LastIndex(), c.last, "last")
			for i := Index(1); i <= c.last; i++ {
				_, err := f.log.Entry(i)
				mustBe(t, err, nil)
			}
			f.verify()
			f.append(1, plain(t, 1, 1))
			f.crash(vfs.CrashOptions{})
			equal(t, f.log.LastIndex(), c.last+1, "last after another append")
			f.verify()
		})
	}
}

func lastFrame(b []byte) int {
	pos := 0
	for {
		h, _ := batch.ParseHeader(b[pos:])
		if pos+h.Size() == len(b) {
			return pos
		}
		pos += h.Size()
	}
}

func TestOpenRefusesHoles(t *testing.T) {
	f := openFixture(t, small)
	for range 30 {
		f.append(1, plain(t, 3, 1))
	}
	f.apply()
	mustBe(t, f.log.Checkpoint(30), nil)
	before := snapshot(t, f.fs)
	segs := f.log.mu.segments
	for i, s := range segs {
		files := maps.Clone(before)
		delete(files, s.name()+logSuffix)
		g := &fixture{t: t, fs: restore(t, files), o: f.o}
		g.o.FS = g.fs
		err := g.reopenFails(ErrDataLoss)
		if i == 0 && !strings.Contains(err.Error(), "index 1") {
			t.Fatal(err)
		}
	}
	// Everything but side files of later segments is gone: that is no new log.
	files := maps.Clone(before)
	for n := range files {
		if strings.HasSuffix(n, logSuffix) || n == checkpointName {
			delete(files, n)
		}
	}
	g := &fixture{t: t, fs: restore(t, files), o: f.o}
	g.o.FS = g.fs
	g.reopenFails(ErrDataLoss)
	// A sealed log that lost its end.
	files = maps.Clone(before)
	files[segs[1].name()+logSuffix] = files[segs[1].name()+logSuffix][:100]
	g = &fixture{t: t, fs: restore(t, files), o: f.o}
	g.o.FS = g.fs
	g.reopenFails(ErrDataLoss)
}

func TestSealedIndexIsRebuilt(t *testing.T) {
	f := openFixture(t, small)
	for i := range 30 {
		f.append(1, idem(t, 3, 1, 4, 0, int32(3*i)), noop())
	}
	f.apply()
	want := f.read(0, 1<<20)
	mustBe(t, f.log.Close(), nil)
	before := snapshot(t, f.fs)
	var sealed []string
	for n := range before {
		if strings.HasSuffix(n, indexSuffix) {
			sealed = append(sealed, n)
		}
	}
	slices.Sort(sealed)
	for _, damage := range []func(b []byte) []byte{
		func([]byte) []byte { return nil },
		func(b []byte) []byte { b[indexHeadSize+7] ^= 4; return b },
		func(b []byte) []byte { b[len(b)-5] ^= 4; return b },
		func(b []byte) []byte { return b[:len(b)-footerSize] },
	} {
		files := maps.Clone(before)
		for _, n := range sealed[:len(sealed)-1] {
			files[n] = damage(bytes.Clone(files[n]))
		}
		g := &fixture{t: t, fs: restore(t, files), o: f.o}
		g.o.FS = g.fs
		g.open()
		equal(t, g.read(0, 1<<20), want, "records")
		for i := Index(1); i <= 60; i++ {
			_, err := g.log.Entry(i)
			mustBe(t, err, nil)
		}
		for _, s := range g.log.Segments() {
			if s.MaxTimestamp != 1002 {
				t.Fatalf("%+v", s)
			}
		}
		mustBe(t, g.log.Close(), nil)
	}
}

// TestBitRot flips single bits of a stopped log. Whatever is flipped, what is answered is right or a typed error.
func TestBitRot(t *testing.T) {
	f := openFixture(t, small)
	for i := range 12 {
		f.append(Epoch(1+i/5), txn(t, 1, Epoch(1+i/5), 1, 0, int32(i)), config(fmt.Sprint(i)))
		if i%4 == 3 {
			f.append(Epoch(1+i/5), marker(Epoch(1+i/5), 1, 0, i%8 == 3))
		}
		if i == 8 {
			f.apply()
			mustBe(t, f.log.Checkpoint(f.log.LastIndex()), nil)
		}
	}
	f.apply()
	last := f.log.LastIndex()
	var want []Entry
	for i := Index(1); i <= last; i++ {
		e, err := f.log.Entry(i)
		mustBe(t, err, nil)
		want = append(want, e)
	}
	aborted, err := f.log.Aborted(0, 100)
	mustBe(t, err, nil)
	records := f.read(0, 1<<20)
	found := 0
	for seed := range uint64(1500) {
		fs := f.fs.(*vfs.Mem).CrashClone(rand.New(rand.NewPCG(seed, 1)), vfs.CrashOptions{Survive: 100, Flips: 1})
		o := f.o
		o.FS = fs
		l, err := Open(o)
		if err != nil {
			typed(t, seed, err)
			found++
			continue
		}
		if l.LastIndex() != last {
			t.Fatalf("seed %d: last %d, want %d", seed, l.LastIndex(), last)
		}
		for _, e := range want {
			got, err := l.Entry(e.Index)
			if err != nil {
				typed(t, seed, err)
				found++
				break
			}
			if !bytes.Equal(got.Frame, e.Frame) || got.Term != e.Term {
				t.Fatalf("seed %d: entry %d is wrong", seed, e.Index)
			}
		}
		if r, err := l.Read(0, 100, 1<<20, true); err != nil {
			typed(t, seed, err)
		} else {
			if b, err := r.AppendTo(nil); err != nil || !bytes.Equal(b, records) {
				t.Fatalf("seed %d: wrong records, %v", seed, err)
			}
			r.Release()
		}
		for i := l.AppliedIndex() + 1; i <= last; i++ {
			l.Apply(want[i-1])
		}
		got, err := l.Aborted(0, 100)
		if err == nil {
			err = l.Err()
		}
		if err != nil {
			typed(t, seed, err)
		} else if !slices.Equal(got, aborted) {
			t.Fatalf("seed %d: aborted %v, want %v", seed, got, aborted)
		}
		l.closeFilesLocked()
	}
	if found < 300 {
		t.Fatalf("only %d flips were found", found)
	}
}

func typed(t *testing.T, seed uint64, err error) {
	t.Helper()
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrDataLoss) && !errors.Is(err, ErrFormat) {
		t.Fatalf("seed %d: %v", seed, err)
	}
}

func TestUnknownVersionsAreRefusedByName(t *testing.T) {
	f := openFixture(t, small)
	for i := range 12 {
		f.append(1, txn(t, 1, 1, 1, 0, int32(i)), marker(1, 1, 0, false))
	}
	f.apply()
	mustBe(t, f.log.Checkpoint(f.log.LastIndex()), nil)
	before := snapshot(t, f.fs)
	for name := range before {
		if strings.HasSuffix(name, logSuffix) {
			continue
		}
		files := maps.Clone(before)
		files[name] = bytes.Clone(files[name])
		files[name][magicSize] = 2
		g := &fixture{t: t, fs: restore(t, files), o: f.o}
		g.o.FS = g.fs
		l, err := Open(g.o)
		if err == nil {
			// Sealed files are opened at first use.
			_, err = l.Read(0, 24, 1<<20, true)
			if err == nil {
				_, err = l.Aborted(0, 24)
			}
			for i := Index(1); i < 24 && err == nil; i++ {
				_, _, err = l.ConfigurationAt(i)
			}
			if err == nil && strings.HasSuffix(name, stateSuffix) {
				_, err = readState(g.fs, l.mu.segments[segmentNamed(l, name)])
			}
		}
		mustBe(t, err, ErrFormat)
		if !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "version 2") {
			t.Fatalf("%v does not name %s", err, name)
		}
	}
}

func segmentNamed(l *Log, file string) int {
	return slices.IndexFunc(l.mu.segments, func(s *segment) bool { return strings.HasPrefix(file, s.name()) })
}
