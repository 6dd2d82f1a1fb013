package faults

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quorlog/quorlog/internal/testcluster"
)

var (
	full     = flag.Bool("full", false, "run the full counts (minutes to hours)")
	ci       = flag.Bool("ci", false, "run CI's counts (ten minutes); without, a fifth of them")
	lasting  = flag.Duration("for", 0, "how long the tests last that have a length instead of a count; 0: a default")
	seedFlag = flag.Uint64("seed", 0, "repeat a run's random choices; 0: new ones")
)

// scaled picks a count: CI's, the full one, or, beside everything else of `go test ./...`, a fifth of CI's.
func scaled(inCI, inFull int) int {
	switch {
	case *full:
		return inFull
	case *ci:
		return inCI
	}
	return max(1, inCI/5)
}

// length picks how long a test lasts.
func length(inCI, inFull time.Duration) time.Duration {
	switch {
	case *lasting > 0:
		return *lasting
	case *full:
		return inFull
	case *ci:
		return inCI
	}
	return inCI / 4
}

// chance is a test's source of random choices, whose seed is printed.
func chance(t *testing.T) (*rand.Rand, uint64) {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1)), seed
}

// single is one node alone, with a load on it: here the harness itself is proven.
func single(t *testing.T, o testcluster.ClusterOptions) (*testcluster.Cluster, *Load, *rand.Rand) {
	t.Helper()
	rng, seed := chance(t)
	o.Nodes = 1
	c := testcluster.StartCluster(t, o)
	return c, StartLoad(t, c, seed, LoadOptions{Replicas: 1, Plain: 1, Probers: 1, Shots: 1}), rng
}

// idle lets time go by while a fault lasts: the fault's length is what a test of it is about, and nothing tells when it
// has lasted long enough.
func idle(d time.Duration) { <-time.After(d) }
