package testcluster

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports lie below the range from which the kernel takes those of outgoing connections, and above those of agent.ChoosePorts: none of
// these could sit on a node's port while the node is down.
const (
	lowestPort, highestPort = 20_000, 32_000
	blockPorts              = 50
)

// block is the ports that this process gives out: no other test process does, as this one listens on the first of them until it ends.
var block struct {
	sync.Mutex
	next, end int
	held      []net.Listener // of this block and those that are used up, for their nodes may be restarted
}

func freePort(t testing.TB) int {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// FreePort finds a port of this machine that nobody listens on, for what is started beside a test's nodes. It is given out once.
func FreePort() (int, error) {
	block.Lock()
	defer block.Unlock()
	for tries := 0; tries < 1000; tries++ {
		if block.next == block.end {
			first := lowestPort + blockPorts*rand.IntN((highestPort-lowestPort)/blockPorts)
			if l, err := net.Listen("tcp", loopback(first)); err == nil {
				block.held = append(block.held, l)
				block.next, block.end = first+1, first+blockPorts
			}
			continue
		}
		port := block.next
		block.next++
		if vacant(port) {
			return port, nil
		}
	}
	return 0, errors.New("testcluster: no free port")
}

// vacant tells whether a port is free for both protocols: gossip needs both.
func vacant(port int) bool {
	l, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	u, err := net.ListenPacket("udp", loopback(port))
	if err == nil {
		err = u.Close()
	}
	return errors.Join(err, l.Close()) == nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
