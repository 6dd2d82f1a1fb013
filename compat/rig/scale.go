package rig

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	full     = flag.Bool("full", false, "run the full counts (minutes to hours)")
	parts    = flag.Int("parts", 1, "with -full: do one of so many parts of the counts, for a machine that is not free for hours")
	ci       = flag.Bool("ci", false, "run CI's counts (minutes); without, what fits beside everything else of go test ./...")
	lasting  = flag.Duration("for", 0, "how long the tests last that have a length instead of a count; 0: a default")
	seedFlag = flag.Uint64("seed", 0, "repeat a run's random choices; 0: new ones")
)

// Full tells whether the full counts are run.
func Full() bool { return *full }

// Default tells whether the test runs beside everything else of `go test ./...`: other tests may be using the machine.
func Default() bool { return !*full && !*ci }

// Count picks a count. One of several parts of a full count is CI's at least.
func Count(byDefault, inCI, inFull int) int {
	return pick(byDefault, inCI, max(min(inCI, inFull), inFull/max(1, *parts)))
}

// Length picks how long a test lasts; the flag -for overrules all three.
func Length(byDefault, inCI, inFull time.Duration) time.Duration {
	if *lasting > 0 {
		return *lasting
	}
	return pick(byDefault, inCI, inFull)
}

func pick[T any](byDefault, inCI, inFull T) T {
	switch {
	case *full:
		return inFull
	case *ci:
		return inCI
	}
	return byDefault
}

// Chance is a test's source of random choices, whose seed is printed.
func Chance(t testing.TB) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
