package log

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

var crashes = flag.Int("log.crashes", 200, "how many crash histories the model test runs")

const testDir = "data/t-0"

// clock is a clock that stands still unless it is moved.
type clock struct{ ms atomic.Int64 }

func newClock() *clock                { c := &clock{}; c.ms.Store(1_700_000_000_000); return c }
func (c *clock) now() time.Time       { return time.UnixMilli(c.ms.Load()) }
func (c *clock) add(by time.Duration) { c.ms.Add(by.Milliseconds()) }

// fixture is a log on a file system that can be crashed.
type fixture struct {
	t    testing.TB
	fs   vfs.FS
	o    Options
	log  *Log
	time *clock
}

func newFixture(t testing.TB, fs vfs.FS) *fixture {
	t.Helper()
	f := &fixture{t: t, fs: fs, time: newClock()}
	if err := fs.MkdirAll("data"); err != nil {
		t.Fatal(err)
	}
	if err := fs.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	f.o = Options{FS: fs, Dir: testDir, Now: f.time.now}
	return f
}

func openFixture(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	f := newFixture(t, vfs.NewMem())
	for _, c := range change {
		c(&f.o)
	}
	f.open()
	return f
}

func (f *fixture) open() *Log {
	f.t.Helper()
	l, err := Open(f.o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.log = l
	return l
}

// reopen closes cleanly and opens again.
func (f *fixture) reopen() *Log {
	f.t.Helper()
	if err := f.log.Close(); err != nil {
		f.t.Fatal(err)
	}
	return f.open()
}

// crash ends the file system's history and opens what is left.
func (f *fixture) crash(opt vfs.CrashOptions) *Log {
	f.t.Helper()
	f.crashOnly(opt)
	return f.open()
}

func (f *fixture) crashOnly(opt vfs.CrashOptions) {
	f.fs = f.fs.(*vfs.Mem).Crash(rand.New(rand.NewPCG(1, 2)), opt)
	f.o.FS = f.fs
}

func (f *fixture) reopenFails(want error) error {
	f.t.Helper()
	l, err := Open(f.o)
	if err == nil {
		l.Close()
	}
	mustBe(f.t, err, want)
	return err
}

// append stores frames behind the log's end in a term and returns the entries.
func (f *fixture) append(term Epoch, frames ...[]byte) []Entry {
	f.t.Helper()
	es := f.entries(term, frames...)
	if err := f.log.Append(es); err != nil {
		f.t.Fatal(err)
	}
	return es
}

func (f *fixture) entries(term Epoch, frames ...[]byte) []Entry {
	next := f.log.LastIndex() + 1
	var es []Entry
	for i, frame := range frames {
		es = append(es, Entry{Index: next + Index(i), Term: term, Kind: KindOf(frame), Frame: frame})
	}
	return es
}

// apply applies everything up to the log's end.
func (f *fixture) apply() {
	f.t.Helper()
	for i := f.log.AppliedIndex() + 1; i <= f.log.LastIndex(); i++ {
		e, err := f.log.Entry(i)
		if err != nil {
			f.t.Fatal(err)
		}
		f.log.Apply(e)
	}
	if err := f.log.Err(); err != nil {
		f.t.Fatal(err)
	}
}

// read returns the bytes from an offset up to the log's end.
func (f *fixture) read(from Offset, maxBytes int) []byte {
	f.t.Helper()
	r, err := f.log.Read(from, f.log.Offsets().LogEnd, maxBytes, true)
	if err != nil {
		f.t.Fatal(err)
	}
	defer r.Release()
	b, err := r.AppendTo(nil)
	if err != nil {
		f.t.Fatal(err)
	}
	if len(b) != r.Len() {
		f.t.Fatalf("range of %d bytes has %d", r.Len(), len(b))
	}
	return b
}

// verify holds the directory against itself.
func (f *fixture) verify() Report {
	f.t.Helper()
	r, err := Verify(f.fs, testDir)
	if err != nil {
		f.t.Fatal(err)
	}
	if len(r.Problems) > 0 {
		var b bytes.Buffer
		Dump(f.fs, testDir, &b, DumpOptions{})
		f.t.Fatalf("problems: %v\n%s", r.Problems, b.String())
	}
	return r
}

// frameOpt is what a test batch is made of beyond its records.
type frameOpt struct {
	term  Epoch
	prod  *batch.Producer
	txn   bool
	times []int64
	size  int // of each value
}

// frame builds a new batch of n records, checked in a term.
func frame(t interface {
	Helper()
	Fatal(args ...any)
}, n int, o frameOpt) []byte {
	t.Helper()
	b := batch.NewBuilder(batch.BuildOptions{Producer: o.prod, Transactional: o.txn})
	for i := range n {
		r := batch.Record{Timestamp: 1000 + int64(i), Value: fmt.Appendf(nil, "v%d", i)}
		if i < len(o.times) {
			r.Timestamp = o.times[i]
		}
		if o.size > 0 {
			r.Value = bytes.Repeat([]byte{byte('a' + i%26)}, o.size)
		}
		b.Add(r)
	}
	f, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	batch.Stamp(f, batch.Unstamped, o.term)
	return f
}

// plain is a batch without a producer.
func plain(t testing.TB, n int, term Epoch) []byte { return frame(t, n, frameOpt{term: term}) }

// idem is a batch of an idempotent producer.
func idem(t testing.TB, n int, term Epoch, id int64, epoch int16, seq int32) []byte {
	return frame(t, n, frameOpt{term: term, prod: &batch.Producer{ID: id, Epoch: epoch, Sequence: seq}})
}

// txn is a batch within a transaction.
func txn(t testing.TB, n int, term Epoch, id int64, epoch int16, seq int32) []byte {
	return frame(t, n, frameOpt{term: term, txn: true, prod: &batch.Producer{ID: id, Epoch: epoch, Sequence: seq}})
}

func marker(term Epoch, id int64, epoch int16, commit bool) []byte {
	return markerOf(term, id, epoch, 0, commit)
}

func markerOf(term Epoch, id int64, epoch int16, coordinator int32, commit bool) []byte {
	c := batch.Control{Type: batch.ControlAbort, ProducerID: id, ProducerEpoch: epoch, CoordinatorEpoch: coordinator, Timestamp: 5}
	if commit {
		c.Type = batch.ControlCommit
	}
	f := batch.BuildControl(c)
	batch.Stamp(f, batch.Unstamped, term)
	return f
}

func noop() []byte { return InternalFrame(KindNoop, nil) }

func logStart(o Offset) []byte { return InternalFrame(KindLogStart, EncodeLogStart(o)) }

func config(s string) []byte { return InternalFrame(KindConfiguration, []byte(s)) }

func small(o *Options) { o.SegmentBytes = 600 }

func mustBe(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || (want == nil) != (err == nil) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func equal[T any](t testing.TB, got, want T, what string) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}
