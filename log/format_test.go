package log

import (
	"bytes"
	"flag"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/batch"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldens are logs whose files, byte for byte, are the format.
var goldens = map[string]func(testing.TB) *fixture{"golden": golden, "cleaned": cleaned}

// golden is a log with one of everything: sealed and active segment, transactions, epochs, a configuration, a refusal, a
// checkpoint in the middle.
func golden(t testing.TB) *fixture {
	f := openFixture(t, func(o *Options) { o.SegmentBytes = 700 })
	f.append(1, noop(), config("servers 1 2 3"), idem(t, 3, 1, 7, 0, 0))
	f.append(1, txn(t, 2, 1, 8, 1, 0), marker(1, 8, 1, false), idem(t, 1, 1, 7, 0, 9))
	f.apply()
	f.append(2, InternalFrame(KindEpoch, nil), txn(t, 1, 2, 8, 2, 0))
	f.append(2, logStart(1), plain(t, 2, 2))
	f.apply()
	mustBe(f.t, f.log.Checkpoint(f.log.LastIndex()), nil)
	f.append(3, noop(), idem(t, 1, 3, 7, 0, 3))
	return f
}

// cleaned is a log after a pass of compaction: gaps of two terms, headers without records that keep the producers' newest sequences,
// a tombstone and a marker with the time at which they go, nothing left of an aborted transaction but its marker; and what came since.
func cleaned(t testing.TB) *fixture {
	f := openFixture(t)
	f.append(1, noop(), config("servers 1 2 3"), kv(t, frameOpt{term: 1}, "a=1", "b=1"), idem(t, 2, 1, 7, 0, 0))
	tx := frameOpt{term: 1, txn: true, prod: &batch.Producer{ID: 8, Epoch: 1}}
	f.append(1, kv(t, tx, "a=never"), marker(1, 8, 1, false), kv(t, frameOpt{term: 1}, "c=1"))
	f.seal()
	f.append(2, InternalFrame(KindEpoch, nil), kv(t, frameOpt{term: 2}, "b", "a=2"))
	f.seal()
	f.clean(CleanOptions{DeleteRetention: time.Hour})
	f.append(2, kv(t, frameOpt{term: 2}, "a=3"))
	f.apply()
	return f
}

func TestGoldenFiles(t *testing.T) {
	for name, log := range goldens {
		t.Run(name, func(t *testing.T) { checkGolden(t, filepath.Join("testdata", name), log(t)) })
	}
}

func checkGolden(t *testing.T, dir string, f *fixture) {
	files := snapshot(t, f.fs)
	state, err := f.log.StartState()
	mustBe(t, err, nil)
	files[resetName] = state.Encode()
	var dump bytes.Buffer
	mustBe(t, Dump(f.fs, testDir, &dump, DumpOptions{Records: true}), nil)
	files["dump.txt"] = dump.Bytes()
	if *update {
		mustBe(t, os.RemoveAll(dir), nil)
		mustBe(t, os.MkdirAll(dir, 0o755), nil)
		for name, b := range files {
			mustBe(t, os.WriteFile(filepath.Join(dir, name), b, 0o644), nil)
		}
	}
	want := goldenFiles(t, dir)
	equal(t, slices.Sorted(maps.Keys(files)), slices.Sorted(maps.Keys(want)), "names")
	for name, b := range files {
		if !bytes.Equal(b, want[name]) {
			t.Errorf("%s differs from the golden file; if the format was meant to change, raise fileVersion and run with -update\n%s",
				name, firstDifference(b, want[name]))
		}
	}
}

func goldenFiles(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	list, err := os.ReadDir(dir)
	mustBe(t, err, nil)
	files := make(map[string][]byte)
	for _, e := range list {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func firstDifference(a, b []byte) string {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return strings.Join([]string{quote(a, i), quote(b, i)}, "\n")
}

func quote(b []byte, i int) string { return strings.ToValidUTF8(string(b[i:min(len(b), i+80)]), "?") }

// What an earlier build wrote is read by this one.
func TestGoldenFilesAreReadable(t *testing.T) {
	files := goldenFiles(t, "testdata/golden")
	reset := files[resetName]
	delete(files, resetName)
	f := &fixture{t: t, fs: restore(t, files), time: newClock()}
	f.o = Options{FS: f.fs, Dir: testDir, Now: f.time.now}
	f.open()
	equal(t, f.log.LastIndex(), 12, "last")
	equal(t, f.log.Offsets(), Offsets{LogStart: 1, LastStable: 6, HighWatermark: 9, LogEnd: 10}, "offsets")
	aborted, err := f.log.Aborted(1, 9)
	mustBe(t, err, nil)
	equal(t, aborted, []AbortedTxn{{8, 3, 5}}, "aborted")
	f.verify()
	// A reset that a crash left unfinished is done.
	mustBe(t, f.log.Close(), nil)
	put(t, f.fs, resetName, reset)
	f.open()
	equal(t, f.log.LastIndex(), 0, "last after the reset")
	if _, err := f.fs.Stat(filepath.Join(testDir, resetName)); !isNotExist(err) {
		t.Fatal("the intent is still there")
	}
	f.verify()
}

// What an earlier build has compacted is read by this one, and compacted again.
func TestCleanedFilesAreReadable(t *testing.T) {
	files := goldenFiles(t, "testdata/cleaned")
	delete(files, resetName)
	f := &fixture{t: t, fs: restore(t, files), time: newClock()}
	f.o = Options{FS: f.fs, Dir: testDir, Now: f.time.now}
	f.open()
	equal(t, f.stored(), "- | - | abort | 6 c=1 | 7 b, 8 a=2 | 9 a=3", "records")
	equal(t, f.log.Offsets(), Offsets{LastStable: 9, HighWatermark: 9, LogEnd: 10}, "offsets")
	for i := f.log.FirstIndex(); i <= f.log.LastIndex(); i++ {
		e, err := f.log.Entry(i)
		mustBe(t, err, nil)
		want, _ := f.log.Term(i)
		equal(t, e.Term, want, "term")
	}
	f.append(2, idem(t, 1, 2, 7, 0, 2)) // goes on where the producer was
	f.time.add(2 * time.Hour)
	f.seal()
	f.clean(CleanOptions{DeleteRetention: time.Hour})
	equal(t, f.stored(), "- | - | abort | 6 c=1 | 9 a=3 | -", "records, cleaned again")
}

func TestDumpOfDamage(t *testing.T) {
	f := golden(t)
	files := snapshot(t, f.fs)
	files[checkpointName][40] ^= 1
	for n := range files {
		if strings.HasSuffix(n, logSuffix) {
			files[n] = append(files[n][:len(files[n])-3], "xyz"...)
		}
		if strings.HasSuffix(n, stateSuffix) || strings.HasSuffix(n, txnSuffix) {
			files[n][len(files[n])-3] ^= 1
		}
	}
	files[segmentName(77, 78)+stateSuffix] = nil
	fs := restore(t, files)
	var b bytes.Buffer
	mustBe(t, Dump(fs, testDir, &b, DumpOptions{Records: true, From: 2, To: 4}), nil)
	for _, want := range []string{"checkpoint: log: corrupt", "damaged:", "state: log: corrupt", "orphan 00000000000000000077"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	r, err := Verify(fs, testDir)
	mustBe(t, err, nil)
	if len(r.Problems) < 4 {
		t.Fatalf("problems: %q", r.Problems)
	}
}

func TestSlotsProveThemselves(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var b [slotSize]byte
	if slotProves(b[:]) {
		t.Fatal("zeros prove themselves")
	}
	for range 1000 {
		s := slot{
			pos: rng.Uint32(), size: rng.Uint32(), relOff: rng.Uint32(), relIndex: rng.Uint32(), maxTS: rng.Int64(),
			headCRC: rng.Uint32(), flags: uint8(rng.UintN(4)), kind: Kind(rng.UintN(8)),
		}
		s.put(b[:])
		if !slotProves(b[:]) || getSlot(b[:]) != s {
			t.Fatalf("%+v became %+v", s, getSlot(b[:]))
		}
		b[rng.IntN(slotSize)] ^= 1 << rng.UintN(8)
		if slotProves(b[:]) {
			t.Fatalf("%+v proves itself with a wrong bit", s)
		}
	}
}

func TestTablesCutWithoutTouchingReaders(t *testing.T) {
	var s slots
	for i := range 3*chunkSlots + 5 {
		s.appendSlot(slot{pos: uint32(i), relIndex: uint32(i), relOff: uint32(i / 2)})
	}
	reader := s.table
	c := s.cut(chunkSlots + 7)
	for range 50 {
		c.appendSlot(slot{pos: 999})
	}
	for i := range reader.n {
		if reader.at(i).pos != uint32(i) {
			t.Fatalf("slot %d of the reader's table changed", i)
		}
	}
	h := heapSlots(&reader, chunkSlots+7)
	d := s.cut(chunkSlots + 7)
	equal(t, h.crc, d.crc, "CRC")
	equal(t, reader.findIndex(200), 200, "index")
	equal(t, reader.findOffset(100), 201, "the last of two slots with one offset")
	equal(t, reader.findOffset(1<<31), reader.n-1, "behind the end")
}

func TestCheckSequence(t *testing.T) {
	st := newProducer(1)
	feed := func(epoch int16, seq int32, n int32) SequenceVerdict {
		h := batch.Header{ProducerID: 1, ProducerEpoch: epoch, BaseSequence: seq, LastOffsetDelta: n - 1, BaseOffset: Offset(seq), MaxTimestamp: 9}
		v := CheckSequence(st, st.n > 0, h)
		if v.Verdict == SequenceOK {
			st.absorb(&parsed{Header: h, coordinator: -1}, 0)
		}
		return v
	}
	equal(t, feed(0, 1, 1).Verdict, SequenceUnknown, "unknown")
	for i := int32(0); i < 12; i += 2 {
		equal(t, feed(0, i, 2).Verdict, SequenceOK, "in order")
	}
	equal(t, len(st.Batches()), 5, "remembered")
	equal(t, feed(0, 4, 2), SequenceVerdict{Verdict: SequenceDuplicate, Base: 4, Last: 5, Timestamp: 9}, "duplicate")
	equal(t, feed(0, 0, 2).Verdict, SequenceOutOfOrder, "forgotten")
	equal(t, feed(0, 4, 3).Verdict, SequenceOutOfOrder, "other batch of the same sequence")
	equal(t, feed(0, 13, 1).Verdict, SequenceOutOfOrder, "gap")
	equal(t, feed(1, 3, 1).Verdict, SequenceOutOfOrder, "new epoch, not from 0")
	equal(t, feed(1, 0, 1).Verdict, SequenceOK, "new epoch")
	equal(t, feed(0, 12, 1).Verdict, SequenceStaleEpoch, "old epoch")
	st.LastSequence, st.n = 1<<31-2, 0
	equal(t, feed(1, 1<<31-1, 3).Verdict, SequenceUnknown, "nothing remembered counts as unknown here")
	h := batch.Header{ProducerID: 1, ProducerEpoch: 1, BaseSequence: 1<<31 - 1, LastOffsetDelta: 2}
	equal(t, CheckSequence(st, true, h).Verdict, SequenceOK, "at the wrap")
	st.absorb(&parsed{Header: h, coordinator: -1}, 0)
	equal(t, st.LastSequence, 1, "behind the wrap")
	equal(t, CheckSequence(st, true, batch.Header{ProducerID: -1}).Verdict, SequenceOK, "no producer")
}

func TestSegmentNames(t *testing.T) {
	base, first, suffix, ok := parseSegmentName(segmentName(12, 34) + logSuffix)
	equal(t, []any{base, first, suffix, ok}, []any{Offset(12), Index(34), logSuffix, true}, "name")
	for _, n := range []string{"", "checkpoint", "00000000000000000012.log", segmentName(1, 2), segmentName(1, 2) + ".bak",
		"-0000000000000000012-00000000000000000034.log", strings.Replace(segmentName(1, 2), "-", "_", 1) + logSuffix} {
		if _, _, _, ok := parseSegmentName(n); ok {
			t.Errorf("%q was taken for a segment", n)
		}
	}
}
