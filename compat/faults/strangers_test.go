package faults

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestStrangersOnThePeerPort talks to a node as a peer without the key: bytes at random, silence, and the magic with
// rubbish behind it. The node must close the connection and go on.
func TestStrangersOnThePeerPort(t *testing.T) {
	c, l, _ := cluster(t, testcluster.ClusterOptions{}, LoadOptions{Probers: 1})
	before := l.History.Elections()
	for i := range scaled(50, 2000) {
		conn, err := net.DialTimeout("tcp", c.Node(i%3+1).Addr, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		noise := make([]byte, 1+i%400)
		_, _ = rand.Read(noise) // it never fails: see its documentation
		noise[0] = 0xF1
		if _, err := conn.Write(noise); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			// Whoever says no more is waited for only so long.
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, conn); n > 4<<10 {
				t.Errorf("a stranger got %d bytes, and %v", n, err)
			}
		}
		_ = conn.Close()
	}
	l.WaitAcked(200)
	noElections(t, l, before)
	l.Check()
}

// TestRefusedNodes starts nodes that must not become members: one with another cluster's key, one with another cluster's
// data, and one under an id that is taken. Each says why; the cluster goes on.
func TestRefusedNodes(t *testing.T) {
	c, l, _ := cluster(t, testcluster.ClusterOptions{}, LoadOptions{Probers: 1})
	elections := l.History.Elections()
	t.Run("another key", func(t *testing.T) {
		n := c.Stranger(t, testcluster.StrangerOptions{ID: 4, KeyFile: testcluster.NewKeyFile(t)})
		awaitLog(t, n, "key")
	})
	t.Run("another cluster", func(t *testing.T) {
		dir := t.TempDir()
		alone := c.Stranger(t, testcluster.StrangerOptions{ID: 5, KeyFile: c.KeyFile, DataDir: dir, Alone: true})
		await(t, func() string {
			if alone.Ready("listen") == nil {
				return "the other cluster does not start"
			}
			return ""
		})
		alone.Stop()
		// It may be ready for a moment, as the cluster of one that it is, before it hears of the one that it was to join.
		awaitEnd(t, c.Stranger(t, testcluster.StrangerOptions{ID: 5, KeyFile: c.KeyFile, DataDir: dir}), "belongs to another cluster")
	})
	t.Run("a taken id", func(t *testing.T) {
		awaitEnd(t, c.Stranger(t, testcluster.StrangerOptions{ID: 2, KeyFile: c.KeyFile}), "node's id")
	})
	l.WaitAcked(200)
	noElections(t, l, elections)
	for _, id := range c.IDs() {
		if !c.Node(id).Running() {
			t.Errorf("node %d has ended: %v", id, c.Node(id).ExitError())
		}
	}
	await(t, func() string {
		if got := len(lookAt(c, l.Topic).addrs); got != 3 {
			return fmt.Sprintf("the cluster has %d nodes", got)
		}
		return ""
	})
	l.Check()
}

// noElections checks that nobody was elected since there were so many elections.
func noElections(t *testing.T, l *Load, before int) {
	t.Helper()
	n := l.History.Elections() - before
	t.Logf("%d elections", n)
	if n > 0 && rig.Full() { // in a default run, other tests may take the processors away for longer than an election
		t.Errorf("%d elections without any fault", n)
	}
}

// awaitEnd waits until a node has ended by itself, with an error, and checks that it has said why.
func awaitEnd(t *testing.T, n *testcluster.Node, why string) {
	t.Helper()
	select {
	case <-n.Exited():
	case <-time.After(patience):
		t.Fatalf("the node goes on:\n%s", n.Log())
	}
	if n.ExitError() == nil {
		t.Error("the node ended with exit code 0")
	}
	if log := n.Log(); !strings.Contains(log, why) {
		t.Errorf("the log does not say what is wrong:\n%s", log)
	}
}

// awaitLog waits until a node has warned about something, has not become ready, and then ends it.
func awaitLog(t *testing.T, n *testcluster.Node, what string) {
	t.Helper()
	await(t, func() string {
		for line := range strings.Lines(n.Log()) {
			if (strings.Contains(line, `"WARN"`) || strings.Contains(line, `"ERROR"`) || strings.Contains(line, "error")) && strings.Contains(line, what) {
				return ""
			}
		}
		return fmt.Sprintf("the node does not warn about its %s:\n%s", what, n.Log())
	})
	if addr := n.Ready("listen"); addr != nil {
		t.Errorf("the node says that it is ready on %v", addr)
	}
	n.Kill()
}
