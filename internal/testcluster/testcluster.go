// Package testcluster starts the real binary for tests: it builds it once, runs it as one node or as a cluster, and does to
// it what the world does: it kills, stops and pauses processes, cuts the links between them one way or both
// ([Network]), takes the power from their disks ([Disk]), and starts them again on the same addresses and data.
//
// Goroutines: one per process that reads its log; it ends when the process does. One that starts a command in a namespace; Start
// waits for it. The methods of [Cluster] that start or end
// several processes use one goroutine for each and return when all have finished.
package testcluster

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startPatience bounds a start on a busy machine; a healthy one is ready in milliseconds.
const startPatience = 60 * time.Second

// BinaryEnv names a variable that points at a binary to test instead of building one.
const BinaryEnv = "QUORLOG_BINARY"

var build struct {
	sync.Once
	path string
	err  error
}

// Binary returns the path of the built program; it is built once per test process.
func Binary(t testing.TB) string {
	t.Helper()
	build.Do(func() {
		if build.path = os.Getenv(BinaryEnv); build.path == "" {
			build.path, build.err = buildBinary()
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

// buildBinary builds the program into a directory of this process's, and removes those of processes that have ended.
func buildBinary() (string, error) {
	const prefix = "quorlog-bin-"
	old, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range old {
		if _, pid, _ := strings.Cut(filepath.Base(dir), prefix); ended(pid) {
			_ = os.RemoveAll(dir) // another process may be at it too
		}
	}
	dir := filepath.Join(os.TempDir(), prefix+strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "quorlog")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/quorlog")
	cmd.Dir, cmd.Env = Root(), append(os.Environ(), "CGO_ENABLED=0") // static, as it is released
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// ended tells whether the process whose id this is is no more.
func ended(pid string) bool {
	id, err := strconv.Atoi(pid)
	return err == nil && errors.Is(syscall.Kill(id, 0), syscall.ESRCH)
}

// Root is the module's directory.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Node is one broker process.
type Node struct {
	Addr    string // host:port for Kafka clients, the same over restarts
	DataDir string
	Pid     int

	t     testing.TB
	netns string // the network namespace it runs in; "" is the test's own
	args  []string
	env   []string
	cmd   *exec.Cmd
	exit  chan struct{} // closed when the process has ended and its log is read
	ready chan string   // gets the address of the ready line
	began time.Time

	mu struct {
		sync.Mutex
		log   strings.Builder
		ready map[string]any // the attributes of the last "ready" line
		err   error          // how the process ended
	}
}

// Options of a node.
type Options struct {
	DataDir string   // default: a directory of the test's own
	Args    []string // more flags for `quorlog serve`
	Env     []string // more environment, KEY=value
}

// Start runs a node until the test ends and waits until it is ready.
func Start(t testing.TB, o Options) *Node {
	t.Helper()
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	n := &Node{t: t, DataDir: o.DataDir, Addr: loopback(freePort(t)), args: o.Args, env: o.Env}
	n.Restart()
	t.Cleanup(func() {
		n.Kill()
		n.checkLog()
		if t.Failed() {
			t.Logf("log of %s:\n%s", n.Addr, tail(n.Log(), 8<<10))
		}
	})
	return n
}

// Restart starts the process, which must not be running, and waits until it is ready. It returns how long that took.
func (n *Node) Restart() time.Duration {
	n.t.Helper()
	ready, err := n.TryStart()
	if err != nil {
		n.t.Fatalf("start: %v\n%s", err, tail(n.Log(), 8<<10))
	}
	return ready
}

// TryStart is Restart for tests that expect the start to fail: the error tells how the process ended.
func (n *Node) TryStart() (time.Duration, error) {
	if err := n.launch(); err != nil {
		return 0, err
	}
	return n.awaitReady(startPatience)
}

// launch starts the process and returns at once.
func (n *Node) launch() error {
	args := append([]string{Binary(n.t), "serve", "--data-dir", n.DataDir, "--log-format", "json"}, n.args...)
	if !slices.Contains(n.args, "--listeners") {
		args = append(args, "--listen", n.Addr)
	}
	if n.netns != "" {
		args = inside(n.netns, args...)
	}
	n.cmd = exec.Command(args[0], args[1:]...)
	n.cmd.Env = append(os.Environ(), n.env...)
	// A test process that dies must not leave brokers behind. The signal is tied to the thread that starts the process, so
	// that thread must live as long as the test: Go ends threads only where a goroutine was locked to one.
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	pipe, err := n.cmd.StderrPipe()
	if err != nil {
		return err
	}
	n.began = time.Now()
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.Pid = n.cmd.Process.Pid
	n.ready, n.exit = make(chan string, 1), make(chan struct{})
	go n.watch(n.cmd, pipe, n.ready, n.exit)
	return nil
}

// awaitReady waits for the process that launch has started.
func (n *Node) awaitReady(patience time.Duration) (time.Duration, error) {
	select {
	case addr := <-n.ready:
		if n.Addr != addr { // after a restart it is the same, and clients may be reading it
			n.Addr = addr
		}
		return time.Since(n.began), nil
	case <-n.exit:
		return 0, fmt.Errorf("the process ended: %w", n.ExitError())
	case <-time.After(patience):
		n.Kill()
		return 0, fmt.Errorf("not ready within %v", patience)
	}
}

// watch reads the log until the process ends.
func (n *Node) watch(cmd *exec.Cmd, pipe io.Reader, ready chan<- string, exit chan<- struct{}) {
	lines := bufio.NewReader(pipe)
	for {
		line, err := lines.ReadBytes('\n') // of any length: who stopped reading would have the node stand still
		if len(line) == 0 && err != nil {
			break
		}
		var entry map[string]any
		_ = json.Unmarshal(line, &entry) // a panic's text is no JSON; it is kept all the same
		n.mu.Lock()
		n.mu.log.Write(line)
		if entry["msg"] == "ready" {
			n.mu.ready = entry
		}
		n.mu.Unlock()
		if addr, ok := entry["listen"].(string); ok && entry["msg"] == "ready" {
			select {
			case ready <- addr:
			default: // said before
			}
		}
	}
	err := cmd.Wait()
	n.mu.Lock()
	n.mu.err = err
	n.mu.Unlock()
	close(exit)
}

// Ready returns an attribute of the last "ready" log line.
func (n *Node) Ready(key string) any {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.ready[key]
}

// checkLog fails the test for what no log may hold: a crash of Go, or what the race detector found in a binary that was
// built with it, which goes on all the same.
func (n *Node) checkLog() {
	log := "\n" + n.Log()
	for _, bad := range []string{"\npanic: ", "\nfatal error: ", "WARNING: DATA RACE"} {
		if at := strings.Index(log, bad); at >= 0 {
			n.t.Errorf("%s logged: %s", n.Addr, log[at:min(len(log), at+8<<10)])
		}
	}
}

// Pause stops the process's threads (SIGSTOP), as a machine does that swaps or whose hypervisor moves it: its connections stay
// open and nobody answers.
func (n *Node) Pause() { _ = n.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (n *Node) Resume() { _ = n.cmd.Process.Signal(syscall.SIGCONT) }

// Running tells whether the process was started and has not ended.
func (n *Node) Running() bool {
	if n.exit == nil {
		return false
	}
	select {
	case <-n.exit:
		return false
	default:
		return true
	}
}

// Kill ends the process at once (SIGKILL) and waits until it is gone.
func (n *Node) Kill() { n.signal(syscall.SIGKILL) }

// Stop asks the process to end (SIGTERM) and waits until it is gone.
func (n *Node) Stop() { n.signal(syscall.SIGTERM) }

func (n *Node) signal(sig os.Signal) {
	if n.exit == nil {
		return
	}
	_ = n.cmd.Process.Signal(sig) // it may have ended already
	<-n.exit
}

// Exited is closed once the process has ended.
func (n *Node) Exited() <-chan struct{} { return n.exit }

// ExitError tells how the process ended; nil for exit code 0.
func (n *Node) ExitError() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.err
}

// Log is everything that the node has logged.
func (n *Node) Log() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.log.String()
}

func tail(s string, limit int) string {
	if len(s) > limit {
		return "..." + s[len(s)-limit:]
	}
	return s
}
