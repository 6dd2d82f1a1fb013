package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/agent"
	"github.com/quorlog/quorlog/internal/leaks"
)

// asQuorlog makes the test's binary be quorlog: nodes in processes of their own are this binary.
const asQuorlog = "TEST_RUN_AS_QUORLOG"

func TestMain(m *testing.M) {
	if os.Getenv(asQuorlog) != "" {
		main()
	}
	goleak.VerifyTestMain(m, leaks.Gossip()...)
}

// devCluster is `quorlog dev` running in the background.
type devCluster struct {
	*broker
	lines <-chan string // what it prints, which never holds it up
	stop  func()        // as ^C does; it waits for the end
}

func startDev(t *testing.T, args ...string) *devCluster {
	t.Helper()
	t.Setenv(asQuorlog, "1")
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var errs bytes.Buffer
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"dev", "--port", "0"}, args...), strings.NewReader(""), in, &errs)
		in.Close()
	}()
	d := &devCluster{broker: &broker{t: t}, lines: linesOf(out)}
	stopped := false
	d.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for line := range d.lines {
			t.Log(line)
		}
		if got := <-code; got != 0 {
			t.Errorf("dev: exit code %d\n%s", got, errs.String())
		}
	}
	t.Cleanup(d.stop)
	d.addr = strings.TrimPrefix(d.until("-b "), "-b ")
	return d
}

func linesOf(r io.Reader) <-chan string {
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return lines
}

// until reads what dev prints until a line has the text, and returns the line from the text on.
func (d *devCluster) until(text string) string {
	d.t.Helper()
	for line := range d.lines {
		if _, after, ok := strings.Cut(line, text); ok {
			return text + after
		}
	}
	d.t.Fatalf("dev has ended without %q", text)
	return ""
}

func TestDevCommand(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, "--dir", dir)
	d.quorlog(0, "a\nb\n", "produce", "words")
	d.has(d.quorlog(0, "", "cluster", "status", "--check", "--wait", "30s"), "is healthy")
	d.quorlog(exitFailed, "", "dev", "kill", "1", "--dir", dir) // it is not a process of its own
	d.quorlog(exitUsage, "", "dev", "--dir", dir, "--nodes", "1", "--port", "0")
	d.quorlog(exitUsage, "", "dev", "--nodes", "2")
	d.quorlog(exitUsage, "", "dev", "--port", "65500")
	d.quorlog(exitUsage, "", "dev", "kill", "first")
}

func TestDevProcessesCommand(t *testing.T) {
	dir := t.TempDir()
	d := startDev(t, "--dir", dir, "--procs", "--restart-after", "1ms")
	d.quorlog(0, "a\nb\n", "produce", "words")
	pid, err := os.ReadFile(filepath.Join(dir, "node-2.pid"))
	if err != nil {
		t.Fatal(err)
	}
	d.has(d.quorlog(0, "", "dev", "kill", "2", "--dir", dir), "killed node 2 (process "+strings.TrimSpace(string(pid)))
	d.until("node 2 has ended (signal: killed)")
	d.until("node 2 starts again")
	if got := d.quorlog(0, "", "consume", "words", "--exit"); got != "a\nb\n" {
		t.Errorf("consumed %q", got)
	}
	d.stop()
	if left, _ := filepath.Glob(filepath.Join(dir, "*.pid")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A port that something else has is named before any node starts.
func TestDevNeedsItsPorts(t *testing.T) {
	for name, c := range map[string]struct {
		taken int // behind the first node's port
		args  []string
		need  string
	}{
		"of a single node":     {0, []string{"--nodes", "1"}, "node 1"},
		"of the second node":   {agent.PortStep, nil, "node 2"},
		"of processes":         {2 * agent.PortStep, []string{"--procs"}, "node 3"},
		"of gossip":            {1, nil, "node 1's gossip"},
		"of processes' gossip": {agent.PortStep + 1, []string{"--procs"}, "node 2's gossip"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(asQuorlog, "1")
			first := freePorts(t)
			l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first+c.taken)))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			dir := t.TempDir()
			var out, errs bytes.Buffer
			got := run(t.Context(), append([]string{"dev", "--dir", dir, "--port", strconv.Itoa(first)}, c.args...), strings.NewReader(""), &out, &errs)
			if got != exitFailed || strings.Count(errs.String(), "\n") != 1 {
				t.Errorf("exit code %d\n%s", got, errs.String())
			}
			(&broker{t: t}).has(errs.String(), l.Addr().String(), c.need, "--port")
			if started, _ := filepath.Glob(filepath.Join(dir, "node-*")); len(started) > 0 {
				t.Errorf("%v were begun", started)
			}
		})
	}
}

// freePorts finds a port from which on three nodes have theirs, below those of outgoing connections.
func freePorts(t *testing.T) int {
	t.Helper()
	for range 100 {
		d := &dev{nodes: 3, port: 10_000 + rand.IntN(9_000)}
		if d.portsAreFree() == nil {
			return d.port
		}
	}
	t.Fatal("no ports are free")
	return 0
}

func TestDemoCommand(t *testing.T) {
	t.Setenv(asQuorlog, "1")
	t.Setenv("TMPDIR", t.TempDir())
	b := &broker{t: t}
	var r demoResult
	out := b.quorlog(0, "", "demo", "--rounds", "1", "--pause", "0s", "--rate", "200", "-o", "json")
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Rounds) != 1 || r.Rounds[0].Killed == r.Rounds[0].Leader || r.Rounds[0].FailOverMS <= 0 || r.Acked == 0 || r.Consumed < r.Acked {
		t.Errorf("%+v", r)
	}
	if left, _ := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	b.quorlog(exitUsage, "", "demo", "--rounds", "0")
	b.quorlog(exitUsage, "", "demo", "-o", "xml")
}

// TestDemoVerdict: what the demo is there to find makes it fail.
func TestDemoVerdict(t *testing.T) {
	l := &demoLoad{acks: []bool{true, true, true, false}, ackCount: 3, failed: 1, seen: map[uint64]int{0: 2, 2: 1, 3: 1}}
	r := l.count()
	if r.Lost != 1 || r.Duplicated != 1 || r.Acked != 3 || r.Consumed != 4 || r.Failed != 1 {
		t.Errorf("%+v", r)
	}
	for _, bad := range []demoResult{{Lost: 1}, {Duplicated: 1}, {Reordered: 1}, {Failed: 1}} {
		if bad.verdict() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
	if err := (&demoResult{Acked: 1, Consumed: 1}).verdict(); err != nil {
		t.Error(err)
	}
}
