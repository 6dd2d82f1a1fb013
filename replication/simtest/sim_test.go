package simtest

import (
	"log/slog"
	"maps"
	"os"
	"runtime/pprof"
	"slices"
	"testing"
	"time"
)

// fullFailOvers is what -full wants, and the cluster has to show. Power cuts of all machines are a tenth of it.
const fullFailOvers = 10_000

// TestSimulation lives through clusters until there were enough fail-overs and power cuts of all machines.
func TestSimulation(t *testing.T) {
	failOvers := *wantFlag
	if *fullFlag {
		failOvers = fullFailOvers
	}
	b := newBook()
	began := time.Now()
	for round := 0; ; round++ {
		if *roundsFlag > 0 && round >= *roundsFlag {
			break
		}
		if *roundsFlag == 0 && b.of("fail-overs") >= failOvers && b.of("power cuts of all") >= failOvers/10 {
			break
		}
		watch := watchRound(*seedFlag + uint64(round))
		runRound(t, b, *seedFlag+uint64(round), plan{events: *eventsFlag})
		watch.Stop()
		if b.broken() {
			break
		}
		if round%50 == 49 {
			t.Logf("after %d rounds, %v: %d fail-overs, %d power cuts of all", round+1, time.Since(began).Round(time.Second), b.of("fail-overs"), b.of("power cuts of all"))
		}
	}
	b.report(t, *seedFlag)
}

// roundPatience is far longer than any round takes, in real time.
const roundPatience = 15 * time.Minute

// watchRound ends the process, and tells where all goroutines are, if a round does not end: a goroutine that waits for a lock
// for ever stops the time of its bubble, and nothing within notices.
func watchRound(seed uint64) *time.Timer {
	return time.AfterFunc(roundPatience, func() {
		slog.Error("a simulated cluster does not end", "seed", seed, "patience", roundPatience)
		_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		os.Exit(2)
	})
}

// report prints what was counted, and fails the test if something was found.
func (b *book) report(t *testing.T, from uint64) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	t.Logf("seeds %d..%d", from, from+uint64(b.counts["rounds"])-1)
	for _, k := range slices.Sorted(maps.Keys(b.counts)) {
		t.Logf("%8d  %s", b.counts[k], k)
	}
	for _, k := range slices.Sorted(maps.Keys(b.checks)) {
		t.Logf("%8d  checks: %s", b.checks[k], k)
	}
	t.Logf("%8d  violations", len(b.violations))
	for _, v := range b.violations {
		t.Errorf("VIOLATED: %s: %s", v.check, v.detail)
	}
}
