package log

import (
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/quorlog/quorlog/log/vfs"
)

func TestReadBounds(t *testing.T) {
	f := openFixture(t)
	f.append(1, plain(t, 3, 1), plain(t, 3, 1), plain(t, 3, 1))
	one := len(f.read(0, 1))
	lens := func(from, below Offset, maxBytes int, force bool) (int, Offset) {
		t.Helper()
		r, err := f.log.Read(from, below, maxBytes, force)
		mustBe(t, err, nil)
		defer r.Release()
		return r.Len() / one, r.Next
	}
	for _, c := range []struct {
		from, below Offset
		max         int
		force       bool
		batches     int
		next        Offset
	}{
		{0, 9, 3 * one, false, 3, 9},
		{0, 9, 3*one - 1, false, 2, 6},
		{0, 9, one - 1, false, 0, 0},
		{0, 9, 0, true, 1, 3},
		{0, 5, 3 * one, true, 1, 3}, // whole batches only
		{0, 6, 3 * one, true, 2, 6},
		{4, 99, 3 * one, true, 2, 9},
		{9, 99, 3 * one, true, 0, 9},
		{3, 3, 3 * one, true, 0, 3},
	} {
		n, next := lens(c.from, c.below, c.max, c.force)
		if n != c.batches || next != c.next {
			t.Errorf("%+v: %d batches up to %d", c, n, next)
		}
	}
	_, err := f.log.Read(10, 99, 1, true)
	mustBe(t, err, ErrOffsetOutOfRange)
	_, err = f.log.Read(-1, 99, 1, true)
	mustBe(t, err, ErrOffsetOutOfRange)
}

func TestOffsetForTimestamp(t *testing.T) {
	f := openFixture(t, small)
	times := []int64{}
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 25 {
		var ts []int64
		for range 3 {
			ts = append(ts, int64(i*10)+rng.Int64N(40))
		}
		times = append(times, ts...)
		f.append(1, frame(t, 3, frameOpt{term: 1, times: ts}), noop())
	}
	f.apply()
	for _, start := range []Offset{0, 1, 13, 40, 74} {
		if start > 0 {
			f.append(1, logStart(start))
			f.apply()
		}
		for _, below := range []Offset{75, 60, 30} {
			for ts := int64(-1); ts < 300; ts += 3 {
				wantOff, wantOK := Offset(0), false
				for o := start; o < below && !wantOK; o++ {
					if times[o] >= ts {
						wantOff, wantOK = o, true
					}
				}
				off, at, ok, err := f.log.OffsetForTimestamp(ts, below)
				mustBe(t, err, nil)
				if ok != wantOK || ok && (off != wantOff || at != times[off]) {
					t.Fatalf("start %d below %d ts %d: got %d at %d %t, want %d %t", start, below, ts, off, at, ok, wantOff, wantOK)
				}
			}
			wantOff, wantOK := Offset(0), false
			for o := start; o < below/3*3; o++ {
				if !wantOK || times[o] > times[wantOff] {
					wantOff, wantOK = o, true
				}
			}
			off, at, ok, err := f.log.MaxTimestamp(below)
			mustBe(t, err, nil)
			if ok != wantOK || ok && (off != wantOff || at != times[off]) {
				t.Fatalf("start %d below %d: largest at %d (%d) %t, want %d %t", start, below, off, at, ok, wantOff, wantOK)
			}
		}
	}
}

func TestEndOffsetForEpoch(t *testing.T) {
	f := openFixture(t)
	f.append(2, noop(), plain(t, 5, 2))
	f.append(4, noop())
	f.append(5, noop(), plain(t, 3, 5))
	for _, c := range []struct {
		ask, epoch Epoch
		end        Offset
	}{{-1, -1, -1}, {0, 0, 0}, {1, 1, 0}, {2, 2, 5}, {3, 2, 5}, {4, 4, 5}, {5, 5, 8}, {6, -1, -1}} {
		e, o := f.log.EndOffsetForEpoch(c.ask)
		if e != c.epoch || o != c.end {
			t.Errorf("epoch %d ends as %d at %d, want %d at %d", c.ask, e, o, c.epoch, c.end)
		}
	}
	equal(t, f.log.EpochOf(4), 2, "epoch of 4")
	equal(t, f.log.EpochOf(5), 5, "epoch of 5")
}

func TestScrubFindsDamage(t *testing.T) {
	f := openFixture(t, small)
	for range 20 {
		f.append(1, plain(t, 3, 1))
	}
	f.apply()
	steps, total := 0, int64(0)
	for {
		r, err := f.log.Scrub(300)
		mustBe(t, err, nil)
		total += r.Bytes
		steps++
		if r.Wrapped {
			break
		}
	}
	equal(t, total, f.log.Size(), "scrubbed")
	if steps < 5 {
		t.Fatalf("%d steps", steps)
	}
	f.reopen()
	flip(t, f.fs, f.log.mu.segments[1].path(logSuffix), 150)
	_, err := f.log.Read(0, 60, 1<<20, true)
	mustBe(t, err, ErrCorrupt)
	for {
		r, err := f.log.Scrub(300)
		if err != nil {
			mustBe(t, err, ErrCorrupt)
			break
		}
		if r.Wrapped {
			t.Fatal("the scrub found nothing")
		}
	}
}

func flip(t testing.TB, fs vfs.FS, name string, at int64) {
	t.Helper()
	f, err := fs.Open(name)
	mustBe(t, err, nil)
	defer f.Close()
	var b [1]byte
	mustBe(t, readFull(f, b[:], at), nil)
	b[0] ^= 0x10
	_, err = f.WriteAt(b[:], at)
	mustBe(t, err, nil)
	mustBe(t, f.Sync(), nil)
}

// A sealed segment's slots are read from a mapping of its index, which its first reader makes for all that follow.
func TestSealedIndexesAreMapped(t *testing.T) {
	f, in, _ := tenSegments(t, false)
	rule := in.Arm(vfs.Rule{Op: vfs.OpMap, Path: indexSuffix, Last: -1})
	for _, from := range []Offset{0, 8, 14} {
		before := rule.Hits()
		f.read(from, 1)
		first := rule.Hits()
		f.read(from, 1)
		equal(t, []bool{first > before, rule.Hits() > first}, []bool{true, false}, "mapped at the first read, and at the second")
	}
	rule.Disarm()
	in.Arm(vfs.Rule{Op: vfs.OpMap, Path: indexSuffix, Last: -1, Err: syscall.ENOMEM})
	f.read(8, 1)
	_, err := f.log.Read(4, 20, 1, true)
	mustBe(t, err, syscall.ENOMEM)
}
