package groups

import (
	"bufio"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"syscall"
)

// member is one process of a group.
type member struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone and all that it printed is read
	stderr lastLines
}

// join starts a member; what it prints goes to the history under its number.
func join(h *history, number int, argv []string) (*member, error) {
	m := &member{cmd: exec.Command(argv[0], argv[1:]...), exited: make(chan struct{})}
	// A test that dies must leave no members behind.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m.cmd.Stderr = &m.stderr
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(m.exited)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			h.line(number, lines.Text())
		}
		_ = m.cmd.Wait() // gone tells whether it was to end
	}()
	return m, nil
}

// kill ends the process as a crash does and waits until it is gone.
func (m *member) kill() {
	_ = m.cmd.Process.Kill() // it may have ended
	<-m.exited
}

// gone tells why a member that was not killed has ended; "" while it runs.
func (m *member) gone() string {
	select {
	case <-m.exited:
		return fmt.Sprintf("%s ended (%v):\n%s", strings.Join(m.cmd.Args, " "), m.cmd.ProcessState, m.stderr.String())
	default:
		return ""
	}
}

// kept is how much of a member's error output is kept.
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
