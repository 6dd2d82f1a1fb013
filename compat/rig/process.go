package rig

import (
	"bufio"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// Process is a foreign client that runs until it is killed.
type Process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone and all that it printed is read
	stderr lastLines
}

// Run starts a process; line gets each line that it prints, from a goroutine that ends with the process.
func Run(argv []string, line func(string)) (*Process, error) {
	p := &Process{cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{})}
	// A test that dies must leave no processes behind.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.exited)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			line(lines.Text())
		}
		_ = p.cmd.Wait() // Gone tells whether it was to end
	}()
	return p, nil
}

// Kill ends the process as a crash does and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.exited
}

// Gone tells why a process that was not killed has ended; "" while it runs.
func (p *Process) Gone() string {
	select {
	case <-p.exited:
		return fmt.Sprintf("%s ended (%v):\n%s", strings.Join(p.cmd.Args, " "), p.cmd.ProcessState, p.stderr.String())
	default:
		return ""
	}
}

// kept is how much of a process's error output is kept.
const kept = 4 << 10

// lastLines keeps the end of what is written to it.
type lastLines struct {
	mu  sync.Mutex
	buf []byte
}

func (l *lastLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, b...)
	l.buf = l.buf[max(0, len(l.buf)-kept):]
	return len(b), nil
}

func (l *lastLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}
