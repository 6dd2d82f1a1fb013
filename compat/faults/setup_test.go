package faults

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// scaled picks a count: CI's, the full one, or, beside everything else of `go test ./...`, a tenth of CI's.
func scaled(inCI, inFull int) int { return rig.Count(max(1, inCI/10), inCI, inFull) }

// length picks how long a test lasts.
func length(inCI, inFull time.Duration) time.Duration { return rig.Length(inCI/8, inCI, inFull) }

// chance is a test's source of random choices, and the seed for those of its load.
func chance(t *testing.T) (*rand.Rand, uint64) {
	t.Helper()
	rng := rig.Chance(t)
	return rng, rng.Uint64()
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
