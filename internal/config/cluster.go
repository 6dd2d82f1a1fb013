package config

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

const (
	// maxExpect bounds --bootstrap-expect: the nodes that begin a cluster; any number may join later.
	maxExpect = 99
	// maxRack and maxHost bound, in bytes, what a node tells of itself: all of it must fit into a gossip message of 512 bytes.
	maxRack = 100
	maxHost = 200
	// minKey and maxKey bound a cluster key, in bytes: shorter ones can be guessed, longer ones are the wrong file.
	minKey = 16
	maxKey = 4096
	// newKeyBytes is how much randomness a key that we make has.
	newKeyBytes = 32
	// DefaultGossipPort is the port of the gossip where nothing else is said.
	DefaultGossipPort = 9093
)

// forOthers are the bits of a file's mode that no secret should have. The group may read: secrets that a container or a service
// manager hands to a process belong to root and to the group of the process.
const forOthers = 0o027

// ErrClusterKey: the file does not hold a cluster key.
var ErrClusterKey = errors.New("config: not a cluster key")

// Clustered tells whether this node speaks with other nodes. A node with a key may be joined by others even if it is alone.
func (n *Node) Clustered() bool { return n.ClusterKeyFile != "" }

// atMost bounds a text's bytes.
func atMost(bytes int) func(string) error {
	return func(v string) error {
		if len(v) > bytes {
			return fmt.Errorf("longer than %d bytes", bytes)
		}
		return nil
	}
}

// joinTargets completes each element with the default port.
func joinTargets(v string) (out []string, err error) {
	for _, target := range Elements(v) {
		if _, _, err := net.SplitHostPort(target); err != nil {
			target = net.JoinHostPort(strings.Trim(target, "[]"), strconv.Itoa(DefaultGossipPort))
		}
		host, port, err := net.SplitHostPort(target)
		if err != nil || host == "" || port == "0" || integer(0, 65535)(port) != nil {
			return nil, fmt.Errorf("%s: expected host or host:port", target)
		}
		out = append(out, target)
	}
	return out, nil
}

func unspecified(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false // told of elsewhere
	}
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// cluster checks what several settings say together, and fills in the defaults that depend on others.
func (n *Node) cluster(g *gathered) {
	expect, expectGiven := g.own["bootstrap-expect"]
	if len(n.Join) > 0 && !expectGiven {
		n.BootstrapExpect = 0
	}
	n.Gossip = gossipAddress(n)
	n.GossipAdvertise = gossipAdvertise(n)
	many := len(n.Join) > 0 || n.BootstrapExpect > 1
	if len(n.Join) > 0 && expectGiven && n.BootstrapExpect == 1 {
		g.fail(expect.where, errors.New("a node that expects only itself begins a new cluster and never joins another: leave out one of bootstrap-expect and join"))
	}
	if n.BootstrapExpect == 0 && !n.Clustered() {
		g.fail("bootstrap-expect", errors.New("0 waits for a cluster to join, for which cluster-key-file is needed"))
	}
	if many && !n.Clustered() {
		g.fail("cluster-key-file", errors.New("needed with join or bootstrap-expect above 1: nodes must prove that they belong together (quorlog cluster key > FILE makes a key)"))
	}
	if _, given := g.own["node-id"]; many && !given {
		g.fail("node-id", errors.New("must be given with join or bootstrap-expect above 1: each node has its own, for ever"))
	}
	if n.Clustered() && unspecified(n.Listen) && n.Advertise == "" {
		g.fail("advertise", fmt.Errorf("must be given in a cluster when listening on %s: other nodes and clients cannot connect to that", n.Listen))
	}
	if host, _, _ := net.SplitHostPort(n.Advertise); len(host) > maxHost {
		g.fail("advertise", atMost(maxHost)(host))
	}
}

// gossipAddress is by default the next port on the same interface. Port 0 stays 0: a free one.
func gossipAddress(n *Node) string {
	if n.Gossip != "" {
		return n.Gossip
	}
	host, text, err := net.SplitHostPort(n.Listen)
	port, err2 := strconv.Atoi(text)
	switch {
	case err != nil || err2 != nil:
		return "" // told of with listen
	case port == 0:
	case port == 65535:
		port = DefaultGossipPort
	default:
		port++
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// gossipAdvertise is empty where gossip is told under the address that it is bound to: always, unless that is no address
// that anybody could connect to.
func gossipAdvertise(n *Node) string {
	host, _, err := net.SplitHostPort(n.Advertise)
	if n.GossipAdvertise != "" || err != nil || !unspecified(n.Gossip) {
		return n.GossipAdvertise
	}
	_, port, err := net.SplitHostPort(n.Gossip)
	if err != nil || port == "0" {
		return ""
	}
	return net.JoinHostPort(host, port)
}

// NewClusterKey makes a key, as text for a file.
func NewClusterKey() string {
	var key [newKeyBytes]byte
	rand.Read(key[:]) // never fails (crypto/rand)
	return base64.StdEncoding.EncodeToString(key[:])
}

// ReadClusterKey reads a key. What is around it, such as the line's end, does not belong to it. The warning, if any, is for the log.
func ReadClusterKey(path string) (key []byte, warning string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("cluster key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", fmt.Errorf("cluster key: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return nil, "", fmt.Errorf("cluster key: %w", err)
	}
	key = bytes.TrimSpace(text)
	if len(key) < minKey || len(text) > maxKey {
		return nil, "", fmt.Errorf("%w: %s has %d bytes, %d to %d are allowed (quorlog cluster key makes one)", ErrClusterKey, path, len(key), minKey, maxKey)
	}
	if mode := info.Mode().Perm(); mode&forOthers != 0 {
		warning = fmt.Sprintf("others than the owner and its group may use the cluster key: %s has mode %04o (chmod 640)", path, mode)
	}
	return key, warning, nil
}
