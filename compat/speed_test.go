package compat

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/bench"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestSpeed compares one node with fsync to kfake, which keeps everything in memory: the same client, interleaved runs on
// one machine, medians of ratios. It asserts nothing about time: the figures go to docs/PERFORMANCE.md by hand.
func TestSpeed(t *testing.T) {
	if !rig.Full() {
		t.Skip("figures need a quiet machine and minutes: run with -full")
	}
	const rounds, partitions = 5, 1
	records := 500_000
	kfakeBin := filepath.Join(t.TempDir(), "kfakeserver")
	build := exec.Command("go", "build", "-o", kfakeBin, "./compat/kfakeserver")
	build.Dir = testcluster.Root()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, codec := range []string{"none", "snappy"} {
		ratios := map[string][]float64{}
		for round := range rounds {
			node := testcluster.Start(t, testcluster.Options{})
			createTopic(t, node, "bench", partitions)
			ours := measure(t, node.Addr, codec, records)
			node.Kill()
			addr, stop := startKfake(t, kfakeBin, partitions)
			theirs := measure(t, addr, codec, records)
			stop()
			for kind, r := range ours {
				ratio := r.MBPerSecond / theirs[kind].MBPerSecond
				ratios[kind] = append(ratios[kind], ratio)
				t.Logf("%s round %d %s: quorlog %.1f MB/s, kfake %.1f MB/s, ratio %.2f (quorlog p99 %.1f ms, kfake p99 %.1f ms)",
					codec, round, kind, r.MBPerSecond, theirs[kind].MBPerSecond, ratio, r.P99, theirs[kind].P99)
			}
		}
		for kind, values := range ratios {
			slices.Sort(values)
			t.Logf("%s %s: median ratio to kfake %.2f", codec, kind, values[len(values)/2])
		}
	}
}

func startKfake(t *testing.T, bin string, partitions int) (addr string, stop func()) {
	t.Helper()
	cmd := exec.Command(bin, strconv.Itoa(partitions))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	return strings.TrimSpace(line), stop
}

// measure runs `quorlog bench` as a user would.
func measure(t *testing.T, addr, codec string, records int) map[string]bench.Result {
	t.Helper()
	results := map[string]bench.Result{}
	for _, kind := range []string{"produce", "consume"} {
		out, err := exec.Command(testcluster.Binary(t), "bench", kind, "-b", addr, "--topic", "bench", "--records", fmt.Sprint(records),
			"--record-size", "1024", "--compression", codec, "--quiet", "-o", "json").Output()
		if err != nil {
			t.Fatalf("bench %s: %v", kind, err)
		}
		var r bench.Result
		if err := json.Unmarshal(out, &r); err != nil {
			t.Fatal(err)
		}
		results[kind] = r
	}
	return results
}
