package log

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// benchFrame is a batch of one incompressible record; the whole frame has about size bytes.
func benchFrame(b *testing.B, size int) []byte {
	b.Helper()
	value := make([]byte, size-batch.HeaderSize-12)
	rand.Read(value)
	bb := batch.NewBuilder(batch.BuildOptions{})
	bb.Add(batch.Record{Timestamp: 1, Value: value})
	f, err := bb.Build()
	if err != nil {
		b.Fatal(err)
	}
	return f
}

func benchLog(b *testing.B, o Options) *Log {
	b.Helper()
	l, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// syncless is a file system whose fsyncs do nothing: what is left is our own work and the system calls.
type syncless struct{ vfs.FS }

type synclessFile struct{ vfs.File }

func (synclessFile) Sync() error { return nil }

func (s syncless) Open(name string) (vfs.File, error) {
	f, err := s.FS.Open(name)
	return synclessFile{f}, err
}

func (s syncless) Create(name string) (vfs.File, error) {
	f, err := s.FS.Create(name)
	return synclessFile{f}, err
}

// nowhere throws writes away too: what is left is our own work.
type nowhere struct{ syncless }

type nowhereFile struct{ vfs.File }

func (nowhereFile) Sync() error                        { return nil }
func (nowhereFile) WriteVec(b [][]byte, _ int64) error { return nil }

func (s nowhere) Create(name string) (vfs.File, error) {
	f, err := s.FS.Create(name)
	return nowhereFile{f}, err
}

func BenchmarkAppend(b *testing.B) {
	for _, shape := range []struct{ entries, size int }{{1, 1 << 10}, {1, 64 << 10}, {16, 4 << 10}, {256, 1 << 10}} {
		for _, fs := range []struct {
			name string
			fs   vfs.FS
		}{{"os", vfs.OS{}}, {"nosync", syncless{vfs.OS{}}}, {"nowrite", nowhere{syncless{vfs.OS{}}}}} {
			b.Run(fmt.Sprintf("%dx%d/%s", shape.entries, shape.size, fs.name), func(b *testing.B) {
				benchAppend(b, fs.fs, shape.entries, shape.size)
			})
		}
	}
}

func benchAppend(b *testing.B, fs vfs.FS, n, size int) {
	l := benchLog(b, Options{FS: fs, Dir: filepath.Join(b.TempDir(), "t-0"), SegmentBytes: 256 << 20, TailBytes: 4 << 20})
	defer l.Close()
	tmpl := benchFrame(b, size)
	frames := make([][]byte, n)
	for i := range frames {
		frames[i] = append([]byte(nil), tmpl...)
	}
	entries := make([]Entry, n)
	b.SetBytes(int64(n * len(tmpl)))
	b.ReportAllocs()
	b.ResetTimer()
	next := Index(1)
	for range b.N {
		for i := range entries {
			batch.Stamp(frames[i], batch.Unstamped, 1)
			entries[i] = Entry{Index: next, Term: 1, Frame: frames[i]}
			next++
		}
		if err := l.Append(entries); err != nil {
			b.Fatal(err)
		}
		if next%10_000 < Index(n) {
			b.StopTimer()
			l.Apply(Entry{Index: next - 1, Frame: InternalFrame(KindLogStart, EncodeLogStart(l.Offsets().LogEnd))})
			l.mu.offsets.start, l.mu.offsets.high = l.Offsets().LogEnd, l.Offsets().LogEnd
			if fs, ok := fs.(vfs.OS); ok {
				_ = fs
				if _, err := l.DropSegments(); err != nil {
					b.Fatal(err)
				}
			}
			b.StartTimer()
		}
	}
}

// filled is a log of total bytes in frames of size bytes, applied.
func filled(b *testing.B, o Options, total, size int) *Log {
	b.Helper()
	l := benchLog(b, o)
	tmpl := benchFrame(b, size)
	const per = 256
	entries := make([]Entry, per)
	for next := Index(1); int(next)*size < total; {
		for i := range entries {
			f := append([]byte(nil), tmpl...)
			batch.Stamp(f, batch.Unstamped, 1)
			entries[i] = Entry{Index: next, Term: 1, Frame: f}
			next++
		}
		if err := l.Append(entries); err != nil {
			b.Fatal(err)
		}
		for _, e := range entries {
			l.Apply(e)
		}
	}
	return l
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10} {
		b.Run(fmt.Sprintf("1MiB of %d", size), func(b *testing.B) {
			l := filled(b, Options{FS: vfs.OS{}, Dir: filepath.Join(b.TempDir(), "t-0"), SegmentBytes: 64 << 20}, 192<<20, size)
			defer l.Close()
			end := l.Offsets().LogEnd
			b.SetBytes(1 << 20)
			b.ReportAllocs()
			b.ResetTimer()
			from := Offset(0)
			for range b.N {
				r, err := l.Read(from, end, 1<<20, true)
				if err != nil {
					b.Fatal(err)
				}
				if from = r.Next; from >= end {
					from = 0
				}
				r.Release()
			}
		})
	}
}

func BenchmarkEntry(b *testing.B) {
	l := filled(b, Options{FS: vfs.OS{}, Dir: filepath.Join(b.TempDir(), "t-0")}, 64<<20, 4<<10)
	defer l.Close()
	last := l.LastIndex()
	for _, c := range []struct {
		name string
		at   func(i int) Index
	}{{"tail", func(i int) Index { return last - Index(i%64) }}, {"disk", func(i int) Index { return 1 + Index(i%1000) }}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				if _, err := l.Entry(c.at(i)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen opens a log after a kill.
func BenchmarkOpen(b *testing.B) {
	for _, c := range []struct {
		name        string
		total, size int
	}{{"1GiB of 16KiB", 1 << 30, 16 << 10}, {"256MiB of 1KiB", 256 << 20, 1 << 10}} {
		b.Run(c.name, func(b *testing.B) {
			o := Options{FS: vfs.OS{}, Dir: filepath.Join(b.TempDir(), "t-0"), SegmentBytes: 256 << 20}
			l := filled(b, o, c.total, c.size)
			l.closeFilesLocked()
			b.ResetTimer()
			var scanned int64
			for range b.N {
				l := benchLog(b, o)
				scanned = l.Stats().OpenScannedBytes
				l.closeFilesLocked()
			}
			b.ReportMetric(float64(scanned)/(1<<20), "MiB-scanned")
		})
	}
}
