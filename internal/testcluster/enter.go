package testcluster

import (
	"errors"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// Start starts a command in a node's namespace. Unlike nsenter it needs no program there, so that the command may have a root of
// its own (SysProcAttr.Chroot).
func (n *Network) Start(cmd *exec.Cmd, node int) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // a namespace is a thread's, and a process begins in that of the thread that makes it
		back, err := enter("/run/netns/" + n.Space(node))
		if err == nil {
			err = cmd.Start()
		}
		if back != nil {
			if left := back(); left != nil {
				err = errors.Join(err, left)
				started <- err
				return // with a thread that no other goroutine must get; the command dies with it if Pdeathsig says so
			}
		}
		runtime.UnlockOSThread()
		started <- err
	}()
	return <-started
}

// enter moves the thread into a network namespace; back moves it out again.
func enter(path string) (back func() error, err error) {
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	leave := func() error { return errors.Join(unix.Setns(own, unix.CLONE_NEWNET), unix.Close(own)) }
	to, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return leave, err
	}
	return leave, errors.Join(unix.Setns(to, unix.CLONE_NEWNET), unix.Close(to))
}
