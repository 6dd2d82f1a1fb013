package invariant_test

import (
	"math"
	"testing"

	"github.com/quorlog/quorlog/internal/invariant"
)

// brokenBy runs fn and returns what it panicked with, empty if it did not.
func brokenBy(t *testing.T, fn func()) (what string) {
	t.Helper()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *invariant.Broken:
			what = r.Error()
		default:
			t.Errorf("panic with %v", r)
		}
	}()
	fn()
	return ""
}

func TestCheck(t *testing.T) {
	if got := brokenBy(t, func() { invariant.Check(true, "fine") }); got != "" {
		t.Errorf("got %q", got)
	}
	got := brokenBy(t, func() { invariant.Check(1 > 2, "one(%d) above two(%d)", 1, 2) })
	if want := "broken invariant: one(1) above two(2)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got = brokenBy(t, func() { invariant.Unreachable("kind %d", 7) })
	if want := "broken invariant: unreachable: kind 7"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHolds(t *testing.T) {
	if err := invariant.Holds(invariant.T("LogStart", 1), invariant.T("LSO", 1), invariant.T("HW", 5)); err != nil {
		t.Error(err)
	}
	if err := invariant.Holds[int](); err != nil {
		t.Error(err)
	}
	err := invariant.Holds(invariant.T("LogStart", int64(3)), invariant.T("LSO", int64(2)), invariant.T("HW", int64(7)), invariant.T("LEO", int64(6)))
	want := "broken invariant: LogStart(3) <=! LSO(2) <= HW(7) <=! LEO(6)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := invariant.Holds(invariant.T("a", math.NaN()), invariant.T("b", 1.0)); err == nil {
		t.Error("what can't be compared is not in order")
	}
}

func TestOrdered(t *testing.T) {
	if got := brokenBy(t, func() { invariant.Ordered(invariant.T("a", 1), invariant.T("b", 1)) }); got != "" {
		t.Errorf("got %q", got)
	}
	got := brokenBy(t, func() { invariant.Ordered(invariant.T("a", 1), invariant.T("b", 2), invariant.T("c", 1)) })
	if want := "broken invariant: a(1) <= b(2) <=! c(1)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func BenchmarkCheck(b *testing.B) {
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n++
		invariant.Check(n > 0, "positive")
		invariant.Ordered(invariant.T("zero", 0), invariant.T("n", n), invariant.T("max", math.MaxInt))
	}
}
