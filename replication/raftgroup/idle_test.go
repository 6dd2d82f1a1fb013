package raftgroup

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftlog"
	"github.com/quorlog/quorlog/replication/transport"
)

var (
	idleGroups  = flag.Int("idle.groups", 0, "measure what so many idle groups of three replicas cost in three processes")
	idleFor     = flag.Duration("idle.for", 20*time.Second, "how long to measure")
	idleProfile = flag.String("idle.profile", "", "write the first process's profile to this file")
)

// idleEnv makes the test binary one of the processes: "node groups profile".
const idleEnv = "QUORLOG_TEST_IDLE"

// TestIdleNode is one process of TestIdleCost.
func TestIdleNode(t *testing.T) {
	spec := os.Getenv(idleEnv)
	if spec == "" {
		t.Skip("run by TestIdleCost")
	}
	var node, groups int
	if _, err := fmt.Sscan(spec, &node, &groups); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(os.Stdin)
	report("listening", l.Addr())
	in.Scan()
	addrs := strings.Fields(in.Text())
	peers := transport.NewPeers(transport.PeersOptions{
		Node: replication.NodeID(node), Directory: [16]byte{byte(node)}, Key: []byte("the key of a test cluster"), Cluster: func() string { return "idle" },
		Resolve: func(id replication.NodeID) (string, bool) { return addrs[id], true },
	})
	served := make(chan error, 1)
	go func() { served <- peers.Serve(l) }()
	host := newIdleHost(t, node, groups, peers)
	report("open")
	for in.Scan() && in.Text() != "end" {
		if path, ok := strings.CutPrefix(in.Text(), "profile "); ok {
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := pprof.StartCPUProfile(f); err != nil {
				t.Fatal(err)
			}
			defer pprof.StopCPUProfile()
		}
		s := peers.Stats()
		report("state", host.leading.Load(), host.moves.Load(), usage(t).Microseconds(), s.BeatFrames, s.Beats, s.BytesSent)
	}
}

// report writes a line to the process that started this one.
func report(words ...any) { _, _ = fmt.Fprintln(os.Stdout, words...) }

func usage(t *testing.T) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// idleHost is a node with many groups. It is the owner of all.
type idleHost struct {
	leading, moves atomic.Int64
}

// idleOwner counts one group's leadership.
type idleOwner struct {
	host *idleHost
	mu   sync.Mutex
	is   bool
}

func (o *idleOwner) Applied()         {}
func (o *idleOwner) Failed(err error) { report("failed", err) }
func (o *idleOwner) Led(_ replication.Leader, local bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.host.moves.Add(1)
	if local != o.is {
		o.is = local
		if local {
			o.host.leading.Add(1)
		} else {
			o.host.leading.Add(-1)
		}
	}
}

func newIdleHost(t *testing.T, node, groups int, network transport.Network) *idleHost {
	h := &idleHost{}
	patrol := NewPatrol()
	disk := vfs.NewMem()
	if err := vfs.MkdirDurable(disk, "/data"); err != nil {
		t.Fatal(err)
	}
	votes, err := raftlog.OpenVotes(t.TempDir()+"/votes.db", raftlog.VoteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range groups {
		name := fmt.Sprintf("0123456789abcdef0123456789abcdef-%d", i)
		l, err := log.Open(log.Options{FS: disk, Dir: "/data/" + name})
		if err != nil {
			t.Fatal(err)
		}
		var voters []replication.ReplicaID
		for v := range 3 {
			voters = append(voters, replication.ReplicaID{Node: replication.NodeID((i + v) % 3), Incarnation: 1})
		}
		_, err = Open(Options{
			Name: name, Self: replication.ReplicaID{Node: replication.NodeID(node), Incarnation: 1}, Log: l, Stable: votes.Group(fmt.Sprintf("%s-0", name)),
			Network: network, Owner: &idleOwner{host: h}, Bootstrap: voters, Patrol: patrol,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return h
}

// idleProcess is a child.
type idleProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// say writes a line and reads the answer that begins with a word.
func (p *idleProcess) say(t *testing.T, line, want string) string {
	t.Helper()
	if line != "" {
		if _, err := fmt.Fprintln(p.in, line); err != nil {
			t.Fatal(err)
		}
	}
	for p.out.Scan() {
		if rest, ok := strings.CutPrefix(p.out.Text(), want+" "); ok || p.out.Text() == want {
			return rest
		}
		t.Log(p.out.Text())
	}
	t.Fatalf("the process ended before it said %q", want)
	return ""
}

type idleState struct{ leading, moves, cpu, frames, beats, bytes int64 }

func (p *idleProcess) state(t *testing.T) (s idleState) {
	t.Helper()
	if _, err := fmt.Sscan(p.say(t, "state", "state"), &s.leading, &s.moves, &s.cpu, &s.frames, &s.beats, &s.bytes); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestIdleCost measures what groups without work cost: three processes, the real network, the real groups.
//
//	go test ./replication/raftgroup -run TestIdleCost -idle.groups 1000 -v
func TestIdleCost(t *testing.T) {
	if *idleGroups == 0 {
		t.Skip("a measurement: -idle.groups 1000")
	}
	procs := make([]*idleProcess, 3)
	var addrs []string
	for i := range procs {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "TestIdleNode$", "-test.v", "-test.timeout", "1h")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", idleEnv, i, *idleGroups))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p := &idleProcess{cmd, in, bufio.NewScanner(out)}
		procs[i], addrs = p, append(addrs, p.say(t, "", "listening"))
	}
	began := time.Now()
	for _, p := range procs {
		if _, err := fmt.Fprintln(p.in, strings.Join(addrs, " ")); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range procs {
		p.say(t, "", "open")
	}
	t.Logf("open after %v", time.Since(began))
	for leaders := int64(0); leaders < int64(*idleGroups); {
		leaders = 0
		for _, p := range procs {
			leaders += p.state(t).leading
		}
		<-time.After(100 * time.Millisecond)
	}
	t.Logf("all have leaders after %v", time.Since(began))
	<-time.After(5 * time.Second) // the noise of the start
	if *idleProfile != "" {
		procs[0].say(t, "profile "+*idleProfile, "state")
	}
	var before, after [3]idleState
	for i, p := range procs {
		before[i] = p.state(t)
	}
	began = time.Now()
	<-time.After(*idleFor)
	var sum idleState
	for i, p := range procs {
		after[i] = p.state(t)
		sum.cpu += after[i].cpu - before[i].cpu
		sum.moves += after[i].moves - before[i].moves
		sum.frames += after[i].frames - before[i].frames
		sum.beats += after[i].beats - before[i].beats
		sum.bytes += after[i].bytes - before[i].bytes
		t.Logf("node %d leads %d", i, after[i].leading)
	}
	s := time.Since(began).Seconds()
	t.Logf("%d groups: %.3f cores; each second %.0f frames with %.0f heartbeats, %.0f KB; leaders changed %d times", *idleGroups,
		float64(sum.cpu)/1e6/s, float64(sum.frames)/s, float64(sum.beats)/s, float64(sum.bytes)/1e3/s, sum.moves)
	for _, p := range procs {
		_, _ = fmt.Fprintln(p.in, "end")
	}
	for _, p := range procs {
		for p.out.Scan() {
		}
		if err := p.cmd.Wait(); err != nil {
			t.Log(err)
		}
	}
}
