package log

import (
	"testing"

	"github.com/quorlog/quorlog/log/vfs"
)

func TestApplyMovesTransactions(t *testing.T) {
	f := openFixture(t, small)
	offsets := func(start, stable, high, end Offset) {
		t.Helper()
		equal(t, f.log.Offsets(), Offsets{start, stable, high, end}, "offsets")
	}
	f.append(1, plain(t, 2, 1), txn(t, 2, 1, 1, 0, 0)) // 0-1, 2-3
	f.append(1, txn(t, 2, 1, 2, 0, 0))                 // 4-5
	offsets(0, 0, 0, 6)
	f.apply()
	offsets(0, 2, 6, 6)
	f.append(1, marker(1, 1, 0, false)) // 6
	offsets(0, 2, 6, 7)
	f.apply()
	offsets(0, 4, 7, 7)
	f.append(1, plain(t, 3, 1), marker(1, 2, 0, true)) // 7-9, 10
	f.apply()
	offsets(0, 11, 11, 11)
	f.append(1, txn(t, 1, 1, 1, 0, 2), marker(1, 1, 0, false)) // 11, 12
	f.apply()
	all := []AbortedTxn{{1, 2, 6}, {1, 11, 12}}
	check := func() {
		t.Helper()
		got, err := f.log.Aborted(0, 13)
		mustBe(t, err, nil)
		equal(t, got, all, "aborted")
		got, _ = f.log.Aborted(7, 11)
		equal(t, len(got), 0, "aborted between")
		got, _ = f.log.Aborted(3, 4)
		equal(t, got, all[:1], "aborted at the front")
	}
	check()
	mustBe(t, f.log.Checkpoint(f.log.LastIndex()), nil)
	f.append(1, txn(t, 1, 1, 1, 0, 3))
	f.apply()
	f.crash(vfs.CrashOptions{})
	equal(t, f.log.AppliedIndex(), f.log.LastIndex()-1, "applied after a crash")
	check()
	offsets(0, 13, 13, 14)
	f.apply()
	f.append(1, marker(1, 1, 0, false))
	f.apply()
	all = append(all, AbortedTxn{1, 13, 14})
	got, err := f.log.Aborted(0, 15)
	mustBe(t, err, nil)
	equal(t, got, all, "aborted at the end")
	f.reopen()
	got, err = f.log.Aborted(0, 15)
	mustBe(t, err, nil)
	equal(t, got, all, "aborted after reopening")
	f.verify()
}
