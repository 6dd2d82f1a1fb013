package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/agent"
	"github.com/quorlog/quorlog/internal/config"
)

const (
	startPatience = time.Minute           // for all nodes of a local cluster to serve
	lookAgain     = 50 * time.Millisecond // between two looks at something that is awaited
)

// procs is a cluster on this machine whose nodes are child processes, which can be killed one by one.
type procs struct {
	dir   string
	exe   string
	nodes []*proc
}

// proc is one node. A goroutine per run waits for the process's end, closes ended and removes the pid file.
type proc struct {
	id    int
	addr  string
	args  []string
	log   string // file of its output
	pid   string // file of its process id, while it runs
	cmd   *exec.Cmd
	ended chan struct{} // closed once the process has ended
}

// newProcs prepares a cluster's nodes; nothing runs yet. Port 0 takes free ports.
func newProcs(dir string, nodes, port int) (*procs, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	key := filepath.Join(dir, "cluster.key")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if _, err := os.Stat(key); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(key, []byte(config.NewClusterKey()+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	ports, err := agent.ChoosePorts(nodes, port)
	if err != nil {
		return nil, err
	}
	p := &procs{dir: dir, exe: exe}
	for i := range nodes {
		flags := agent.LocalNodeFlags(dir, key, ports, i)
		args := []string{"serve", "--log-format", "json"}
		for _, name := range slices.Sorted(maps.Keys(flags)) {
			args = append(args, "--"+name, flags[name])
		}
		base := filepath.Join(dir, "node-"+strconv.Itoa(i+1))
		p.nodes = append(p.nodes, &proc{id: i + 1, addr: flags["listen"], args: args, log: base + ".log", pid: base + ".pid"})
	}
	return p, nil
}

func (p *procs) addrs() []string {
	var addrs []string
	for _, n := range p.nodes {
		addrs = append(addrs, n.addr)
	}
	return addrs
}

// start runs a node that does not run.
func (p *procs) start(n *proc) error {
	logFile, err := os.OpenFile(n.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close() // the child has its own copy
	cmd := exec.Command(p.exe, n.args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "QUORLOG_") }) // a lone node's settings
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}                                                        // ^C is for us; we stop the nodes in turn
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting node %d: %w", n.id, err)
	}
	ended := make(chan struct{})
	n.cmd, n.ended = cmd, ended
	err = os.WriteFile(n.pid, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o644)
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		_ = os.Remove(n.pid)
		close(ended)
	}()
	return err
}

// noneRuns fails if nodes of the same directory run.
func (p *procs) noneRuns() error {
	for _, n := range p.nodes {
		if pid, ok := n.running(); ok {
			return fmt.Errorf("node %d of %s runs already, as process %d", n.id, p.dir, pid)
		}
	}
	return nil
}

// startAll runs all nodes and returns once all of them serve.
func (p *procs) startAll(ctx context.Context) error {
	for _, n := range p.nodes {
		if err := p.start(n); err != nil {
			return err
		}
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(p.addrs()...), kgo.ClientID("quorlog-cli"))
	if err != nil {
		return err
	}
	defer cl.Close()
	return p.await(ctx, func(ctx context.Context) bool { return complete(ctx, cl, len(p.nodes)) })
}

// complete tells whether a cluster has so many nodes, and a controller. It asks at each call: kadm remembers brokers for as long as
// the client lives, and the node that founds a cluster knows of itself alone for a moment.
func complete(ctx context.Context, cl *kgo.Client, nodes int) bool {
	q := kmsg.NewPtrMetadataRequest()
	q.Topics = []kmsg.MetadataRequestTopic{}
	meta, err := q.RequestWith(ctx, cl)
	return err == nil && len(meta.Brokers) == nodes && meta.ControllerID >= 0
}

// await looks until something has come to be. It gives up when a node ends that nobody killed.
func (p *procs) await(ctx context.Context, there func(context.Context) bool) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		try, stop := context.WithTimeout(ctx, time.Second)
		ok := there(try)
		stop()
		if ok {
			return nil
		}
		for _, n := range p.nodes {
			if n.hasEnded() && !n.killed() {
				return fmt.Errorf("node %d has stopped: %s", n.id, n.lastWords())
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the nodes don't get there, see the logs %s: %w", filepath.Join(p.dir, "node-*.log"), ctx.Err())
		case <-tick.C:
		}
	}
}

// stopAll stops the nodes one after the other, so that each can hand over what it leads; who does not stop in time is killed.
func (p *procs) stopAll() {
	for _, n := range p.nodes {
		if n.cmd == nil || n.hasEnded() {
			continue
		}
		_ = n.cmd.Process.Signal(syscall.SIGTERM)
		late := time.NewTimer(stopPatience + 2*closePatience) // it has had its own time to end then
		select {
		case <-n.ended:
		case <-late.C:
			n.kill()
		}
		late.Stop()
	}
}

// killAll ends all nodes at once.
func (p *procs) killAll() {
	for _, n := range p.nodes {
		n.kill()
	}
}

// kill ends a node as a crash does.
func (n *proc) kill() {
	if n.cmd != nil {
		_ = n.cmd.Process.Kill() // an error says that it has ended
		<-n.ended
	}
}

func (n *proc) hasEnded() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// killed tells whether an ended node ended by SIGKILL.
func (n *proc) killed() bool {
	status, ok := n.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// running reads the pid file. A file that outlived its process names nobody, or by now a stranger.
func (n *proc) running() (pid int, ok bool) {
	text, err := os.ReadFile(n.pid)
	if err != nil {
		return 0, false
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 || syscall.Kill(pid, 0) != nil {
		return 0, false
	}
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err == nil && !bytes.Contains(line, []byte(strings.TrimSuffix(filepath.Base(n.pid), ".pid"))) {
		return 0, false
	}
	return pid, true // systems without /proc are believed
}

// lastWords is the last line that a node logged.
func (n *proc) lastWords() string {
	f, err := os.Open(n.log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const tail = 4 << 10
	if info, err := f.Stat(); err == nil && info.Size() > tail {
		_, _ = f.Seek(-tail, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}
