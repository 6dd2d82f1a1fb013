package log

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/quorlog/quorlog/log/vfs"
)

func TestTruncateSuffix(t *testing.T) {
	for _, cp := range []bool{false, true} {
		t.Run(fmt.Sprintf("checkpoint=%t", cp), func(t *testing.T) {
			f := openFixture(t, small)
			f.append(1, noop(), idem(t, 1, 1, 5, 0, 0))
			f.apply()
			for i := range 30 {
				f.append(Epoch(2+i/10), idem(t, 1, Epoch(2+i/10), 5, 0, int32(1+i)), config(fmt.Sprint(i)))
				if cp && i%7 == 3 {
					mustBe(t, f.log.Checkpoint(99), nil)
				}
			}
			mustBe(t, f.log.TruncateSuffix(2), ErrCommitted)
			mustBe(t, f.log.TruncateSuffix(100), nil)
			for last := Index(61); last >= 8; last -= 7 {
				mustBe(t, f.log.TruncateSuffix(last+1), nil)
				equal(t, f.log.LastIndex(), last, "last")
				f.verify()
				if last%3 == 0 {
					f.crash(vfs.CrashOptions{})
					equal(t, f.log.LastIndex(), last, "last after a crash")
				}
				st, _ := f.log.LastProducer(5)
				equal(t, st.LastSequence, int32(last-1)/2, "sequence")
				c, i := f.log.Configuration()
				want := (last - 2) / 2 * 2
				if want == 0 {
					equal(t, c, nil, "configuration")
				} else {
					equal(t, i, 2+want, "configuration's index")
					at, j, err := f.log.ConfigurationAt(i - 1)
					mustBe(t, err, nil)
					if j != i-2 && i > 4 {
						t.Fatalf("configuration at %d is %q at %d", i-1, at, j)
					}
				}
				if _, err := f.log.Entry(last + 1); err != ErrNotFound {
					t.Fatal(err)
				}
				equal(t, f.log.EpochOf(f.log.Offsets().LogEnd-1), mustTerm(t, f.log, last), "epoch")
			}
			f.append(9, plain(t, 1, 9))
			f.verify()
			f.crash(vfs.CrashOptions{})
			f.verify()
		})
	}
}

func mustTerm(t *testing.T, l *Log, i Index) Epoch {
	t.Helper()
	e, err := l.Term(i)
	mustBe(t, err, nil)
	return e
}

func TestReset(t *testing.T) {
	donor := openFixture(t, small)
	donor.append(1, config("first"), txn(t, 2, 1, 1, 0, 0))
	for i := range 20 {
		donor.append(3, idem(t, 1, 3, 2, 0, int32(i)))
	}
	donor.append(3, logStart(10))
	donor.apply()
	if _, err := donor.log.DropSegments(); err != nil {
		t.Fatal(err)
	}
	state, err := donor.log.StartState()
	mustBe(t, err, nil)
	decoded, err := DecodeState(state.Encode())
	mustBe(t, err, nil)
	equal(t, decoded, state, "state")

	f := openFixture(t, small)
	for range 10 {
		f.append(1, plain(t, 3, 1))
	}
	f.apply()
	held, err := f.log.Read(0, 30, 1<<20, true)
	mustBe(t, err, nil)
	mustBe(t, f.log.Reset(state), nil)
	_, err = held.AppendTo(nil)
	mustBe(t, err, nil)
	held.Release()
	check := func() {
		t.Helper()
		equal(t, f.log.LastIndex(), state.Index, "last")
		equal(t, f.log.FirstIndex(), 0, "first")
		equal(t, f.log.AppliedIndex(), state.Index, "applied")
		equal(t, f.log.CheckpointedCommit(), state.Index, "commit")
		o := state.Offset
		equal(t, f.log.Offsets(), Offsets{o, o, o, o}, "offsets")
		c, i := f.log.Configuration()
		equal(t, string(c), "first", "configuration")
		equal(t, i, 1, "configuration's index")
		c, i, err := f.log.ConfigurationAt(state.Index)
		mustBe(t, err, nil)
		equal(t, string(c)+fmt.Sprint(i), "first1", "configuration at the boundary")
		equal(t, len(f.log.Producers()), 2, "producers")
	}
	check()
	f.crash(vfs.CrashOptions{})
	check()
	// Everything the donor still has arrives as ordinary entries, and the logs are equal.
	for i := state.Index + 1; i <= donor.log.LastIndex(); i++ {
		e, err := donor.log.Entry(i)
		mustBe(t, err, nil)
		e.Frame = bytes.Clone(e.Frame)
		mustBe(t, f.log.Append([]Entry{e}), nil)
	}
	f.apply()
	equal(t, f.log.Offsets(), donor.log.Offsets(), "offsets")
	equal(t, f.read(10, 1<<20), donor.read(10, 1<<20), "records")
	f.verify()
}
