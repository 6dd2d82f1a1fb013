package testcluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Network gives each node a network namespace with an address of its own behind one bridge, on which the test and its
// clients are host 1. Links are cut by dropping packets where they arrive, so a cut may be one way: the sender notices
// nothing but silence, as with a real network.
type Network struct {
	prefix string // "198.18.7": addresses of the range that RFC 2544 keeps for tests
	bridge string
	spaces []string // namespace of node i+1
}

// ClientHost is the number of the test's own end of the bridge, for Cut and its like; nodes have their ids.
const ClientHost = 0

// NewNetwork makes namespaces for nodes 1..nodes that live as long as the test. It needs root, ip, nft and nsenter, and skips the
// test where they are missing.
func NewNetwork(t testing.TB, nodes int) *Network {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "network namespaces", errors.New("not root"))
	}
	for _, tool := range []string{"ip", "nft", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			Missing(t, tool, err)
		}
	}
	n, err := newBridge()
	if err != nil {
		Missing(t, "network namespaces", err)
	}
	t.Cleanup(n.remove)
	if err := n.build(nodes); err != nil {
		Missing(t, "network namespaces", err)
	}
	return n
}

// newBridge makes the bridge of a network: who has that has the number, and with it the names and addresses, as other processes run tests too.
// It carries the process's id, by which what a killed one left behind is known.
func newBridge() (*Network, error) {
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "quorlog-networks.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // and with it the lock: nobody removes what another one has just made anew
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return nil, err
	}
	const most = 250
	for i, first := 0, rand.IntN(most); i < most; i++ {
		id := (first + i) % most
		n := &Network{prefix: fmt.Sprintf("198.18.%d", id), bridge: fmt.Sprintf("qlb%d", id)}
		err := n.claim()
		if err == nil {
			return n, nil
		}
		if _, statErr := os.Stat("/sys/class/net/" + n.bridge); statErr != nil {
			return nil, err
		}
	}
	return nil, errors.New("all networks of tests are in use")
}

// claim makes the bridge, if it is nobody's.
func (n *Network) claim() error {
	if n.abandoned() {
		n.remove()
	}
	return script([][]string{
		{"ip", "link", "add", n.bridge, "type", "bridge"},
		{"ip", "link", "set", n.bridge, "alias", strconv.Itoa(os.Getpid())},
	})
}

// abandoned tells whether the bridge is there and its process is not, which ended before it could write its id if there is none.
func (n *Network) abandoned() bool {
	alias, err := os.ReadFile("/sys/class/net/" + n.bridge + "/ifalias")
	pid := strings.TrimSpace(string(alias))
	return err == nil && (pid == "" || ended(pid))
}

func (n *Network) build(nodes int) error {
	err := script([][]string{
		{"ip", "addr", "add", n.prefix + ".1/24", "dev", n.bridge},
		{"ip", "link", "set", n.bridge, "up"},
	})
	for i := 1; err == nil && i <= nodes; i++ {
		ns, outer := fmt.Sprintf("%sn%d", n.bridge, i), fmt.Sprintf("%sv%d", n.bridge, i)
		n.spaces = append(n.spaces, ns)
		in := []string{"ip", "-n", ns}
		err = script([][]string{
			{"ip", "netns", "add", ns},
			{"ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", ns},
			{"ip", "link", "set", outer, "master", n.bridge, "up"},
			append(in, "addr", "add", n.Host(i)+"/24", "dev", "eth0"),
			append(in, "link", "set", "lo", "up"),
			append(in, "link", "set", "eth0", "up"),
			inside(ns, "nft", "add table inet faults; add chain inet faults in { type filter hook input priority 0; policy accept; }"),
		})
	}
	return err
}

// remove deletes what build makes, as far as it is there.
func (n *Network) remove() {
	// The kernel takes its time to clear a namespace; until then its pairs would keep their names, which the next network may want.
	pairs, _ := filepath.Glob("/sys/class/net/" + n.bridge + "v*")
	for _, outer := range pairs {
		_ = exec.Command("ip", "link", "del", filepath.Base(outer)).Run()
	}
	out, _ := exec.Command("ip", "netns", "list").Output()
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 0 && strings.HasPrefix(fields[0], n.bridge+"n") {
			_ = exec.Command("ip", "netns", "del", fields[0]).Run()
		}
	}
	_ = exec.Command("ip", "link", "del", n.bridge).Run()
}

// Host is the address of a node, or of the test (ClientHost).
func (n *Network) Host(node int) string {
	if node == ClientHost {
		return n.prefix + ".1"
	}
	return n.prefix + "." + strconv.Itoa(10+node)
}

// Space is the name of a node's namespace.
func (n *Network) Space(node int) string { return n.spaces[node-1] }

// CutOneWay drops what from sends to to; the other direction works. to must be a node.
func (n *Network) CutOneWay(t testing.TB, from, to int) {
	t.Helper()
	n.rule(t, to, "add rule inet faults in ip saddr "+n.Host(from)+" drop")
}

// Cut drops everything between two nodes, or between a node and the test.
func (n *Network) Cut(t testing.TB, a, b int) {
	t.Helper()
	if a != ClientHost {
		n.CutOneWay(t, b, a)
	}
	if b != ClientHost {
		n.CutOneWay(t, a, b)
	}
}

// Isolate cuts a node from all other nodes, not from the test.
func (n *Network) Isolate(t testing.TB, node int) {
	t.Helper()
	for other := 1; other <= len(n.spaces); other++ {
		if other != node {
			n.Cut(t, node, other)
		}
	}
}

// Lose drops some of the packets that arrive at a node, chosen by chance.
func (n *Network) Lose(t testing.TB, node, percent int) {
	t.Helper()
	n.rule(t, node, fmt.Sprintf("add rule inet faults in iifname eth0 numgen random mod 100 < %d drop", percent))
}

// Reset answers what arrives at a node's port from another host with a TCP reset, as a firewall does that was restarted.
func (n *Network) Reset(t testing.TB, from, to int) {
	t.Helper()
	n.rule(t, to, "add rule inet faults in ip saddr "+n.Host(from)+" meta l4proto tcp reject with tcp reset")
}

// DropPort drops what arrives at one port of a node, given as host:port, over TCP and UDP.
func (n *Network) DropPort(t testing.TB, node int, addr string) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n.rule(t, node, "add rule inet faults in th dport "+port+" drop")
}

// Heal undoes every cut.
func (n *Network) Heal(t testing.TB) {
	t.Helper()
	for node := range n.spaces {
		n.rule(t, node+1, "flush chain inet faults in")
	}
}

func (n *Network) rule(t testing.TB, node int, text string) {
	t.Helper()
	if err := script([][]string{inside(n.Space(node), "nft", text)}); err != nil {
		t.Fatal(err)
	}
}

// inside is the command that runs in a namespace. nsenter replaces itself by the program, so the process id and the parent stay
// the same. "ip netns exec" would also give the program mounts of its own, and a disk whose power was cut stays cut while any
// mount of it is left.
func inside(space string, command ...string) []string {
	return append([]string{"nsenter", "--net=/run/netns/" + space}, command...)
}

// script runs commands until one fails.
func script(commands [][]string) error {
	for _, c := range commands {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(c, " "), err, out)
		}
	}
	return nil
}
