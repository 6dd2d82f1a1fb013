package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestManyPartitions makes many partitions of three replicas, lets them rest, and restarts everything.
func TestManyPartitions(t *testing.T) {
	partitions := int32(scaled(200, 1000))
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{})
	began := time.Now()
	// A client may have to wait longer for so many than it does by default; the topic comes all the same.
	if _, err := c.Admin().CreateTopic(t.Context(), partitions, 3, nil, "many"); err != nil && !errors.Is(err, kerr.RequestTimedOut) && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	awaitWhole(t, c, "many", partitions)
	created := time.Since(began)
	rest := time.Duration(scaled(5, 60)) * time.Second
	idle(rest / 5)
	before := cpuOf(t, c)
	idle(rest)
	cores := (cpuOf(t, c) - before).Seconds() / rest.Seconds()
	var memory []int
	for _, id := range c.IDs() {
		memory = append(memory, residentMB(t, c.Node(id).Pid))
	}
	c.Kill()
	began = time.Now()
	c.StartAll(c.IDs()...)
	ledParts(t, c, "many", partitions)
	led := time.Since(began)
	awaitWhole(t, c, "many", partitions)
	t.Logf("%d partitions of 3 replicas on 3 nodes: created in %v; at rest %.3f cores together, %v MiB resident; after a kill of all, led again in %v, whole in %v",
		partitions, created.Round(time.Millisecond), cores, memory, led.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	if !rig.Full() {
		return
	}
	if created > time.Minute || led > 20*time.Second || cores > 0.3 {
		t.Errorf("the aim: created within 60 s, led within 20 s, 0.3 cores at rest")
	}
}

// cpuOf is the processor time that all nodes have used so far.
func cpuOf(t *testing.T, c *testcluster.Cluster) (total time.Duration) {
	t.Helper()
	const tick = 10 * time.Millisecond // USER_HZ is 100 everywhere
	for _, id := range c.IDs() {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Node(id).Pid))
		if err != nil {
			testcluster.Missing(t, "/proc", err)
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		for _, f := range fields[11:13] { // utime and stime
			n, err := strconv.Atoi(string(f))
			if err != nil {
				t.Fatal(err)
			}
			total += time.Duration(n) * tick
		}
	}
	return total
}

// residentMB is the memory of a process in MiB.
func residentMB(t *testing.T, pid int) int {
	t.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		testcluster.Missing(t, "/proc", err)
	}
	pages, err := strconv.Atoi(string(bytes.Fields(statm)[1]))
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize() >> 20
}

// TestNoElections runs a load without faults on a busy machine: nobody may lose the leadership.
func TestNoElections(t *testing.T) {
	if rig.Default() {
		t.Skip("other packages' tests may be using the machine; run with -ci or -full")
	}
	_, l, _ := cluster(t, testcluster.ClusterOptions{}, LoadOptions{Probers: 1, Writers: 3, Rate: 1000})
	l.WaitAcked(500)
	before := l.History.Elections()
	ctx, cancel := context.WithTimeout(t.Context(), length(15*time.Second, time.Hour))
	defer cancel()
	burn(ctx, 0.8)
	noElections(t, l, before)
	l.Check()
	t.Logf("produce latency p50 %v, p99 %v, max %v", l.Latency(50), l.Latency(99), l.Latency(100))
}

// burn keeps all cores busy to a degree, together with whatever else runs, until ctx ends.
func burn(ctx context.Context, degree float64) {
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			const slice = 10 * time.Millisecond
			lastBusy, lastTotal := machineTime()
			spin := degree / 2
			for ctx.Err() == nil {
				for end := time.Now().Add(time.Duration(spin * float64(slice))); time.Now().Before(end); {
				}
				idle(time.Duration((1 - spin) * float64(slice)))
				if busy, total := machineTime(); total-lastTotal >= 50 {
					used := float64(busy-lastBusy) / float64(total-lastTotal)
					spin = min(1, max(0, spin+(degree-used)/2))
					lastBusy, lastTotal = busy, total
				}
			}
		})
	}
	wg.Wait()
}

// machineTime is how many ticks all cores were busy, and how many there were, since the start of the machine.
func machineTime() (busy, total int) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	for i, f := range bytes.Fields(line)[1:] {
		n, _ := strconv.Atoi(string(f)) // a kernel that writes no numbers there has no /proc/stat
		total += n
		if i != 3 && i != 4 { // idle, waiting for a disk
			busy += n
		}
	}
	return busy, total
}
