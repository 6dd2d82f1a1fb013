package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/quorlog/quorlog/internal/config"
)

// ClusterConfig describes a cluster whose nodes all run in this process, on loopback.
type ClusterConfig struct {
	Nodes int    // at least 1
	Dir   string // holds a data directory for each node, node-1, node-2, ..., and the cluster's key
	// BasePort is the first node's port; the others follow in steps of PortStep, and each node gossips on the port after its
	// own. 0 takes free ports, which are other ones after each start.
	BasePort int
	Settings map[string]string // Kafka broker settings of all nodes
	Logger   *slog.Logger      // nil: slog.Default
	OnFatal  func(error)       // as in Config
}

// PortStep lies between the ports of the nodes of a local cluster.
const PortStep = 100

// Cluster is a cluster within one process: real nodes, real files, real TCP. A test or a demonstration embeds it.
type Cluster struct {
	nodes []*Agent
}

// NewCluster returns a cluster that is yet to Start. The same directory gives the same cluster again.
func NewCluster(c ClusterConfig) (*Cluster, error) {
	if c.Nodes < 1 || c.Dir == "" {
		return nil, errors.New("agent: ClusterConfig needs Nodes and Dir")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	key, err := clusterKey(c.Dir)
	if err != nil {
		return nil, err
	}
	ports, err := ChoosePorts(c.Nodes, c.BasePort)
	if err != nil {
		return nil, err
	}
	cluster := &Cluster{}
	for i := range c.Nodes {
		flags := LocalNodeFlags(c.Dir, key, ports, i)
		var set []string
		for name, value := range c.Settings {
			set = append(set, name+"="+value)
		}
		node, err := config.Load(config.Sources{Flags: flags, Set: set})
		if err != nil {
			return nil, err
		}
		a, err := New(Config{Node: node, Logger: c.Logger.With("node", int(node.NodeID)), OnFatal: c.OnFatal})
		if err != nil {
			return nil, err
		}
		cluster.nodes = append(cluster.nodes, a)
	}
	return cluster, nil
}

// LocalPorts are the ports of a local node: for clients and peers, and for gossip.
type LocalPorts struct{ Port, Gossip int }

// LocalNodeFlags are the flags of node i (from 0) of a local cluster, by their names without dashes in front.
func LocalNodeFlags(dir, keyFile string, ports []LocalPorts, i int) map[string]string {
	flags := map[string]string{
		"data-dir": filepath.Join(dir, "node-"+strconv.Itoa(i+1)),
		"node-id":  strconv.Itoa(i + 1),
		"listen":   loopback(ports[i].Port),
	}
	if len(ports) == 1 {
		return flags
	}
	flags["gossip"] = loopback(ports[i].Gossip)
	flags["cluster-key-file"] = keyFile
	flags["bootstrap-expect"] = strconv.Itoa(len(ports))
	join := ""
	for j, p := range ports {
		if j != i {
			join += "," + loopback(p.Gossip)
		}
	}
	flags["join"] = join[1:]
	return flags
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// clusterKey makes the cluster's key once.
func clusterKey(dir string) (file string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	file = filepath.Join(dir, "cluster.key")
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return file, nil
	}
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(config.NewClusterKey() + "\n")
	return file, errors.Join(err, f.Close())
}

// ChoosePorts chooses the ports of the nodes of a cluster on this machine, as ClusterConfig describes: from base on, or free ones, which
// are found by listening on them for a moment.
func ChoosePorts(nodes, base int) ([]LocalPorts, error) {
	ports := make([]LocalPorts, nodes)
	for i := range ports {
		if base > 0 {
			ports[i] = LocalPorts{base + i*PortStep, base + i*PortStep + 1}
			continue
		}
		for _, p := range []*int{&ports[i].Port, &ports[i].Gossip} {
			l, err := listenBelowEphemeral()
			if err != nil {
				return nil, err
			}
			defer l.Close() // all are held until all are chosen, so that none is chosen twice
			*p = l.Addr().(*net.TCPAddr).Port
		}
	}
	return ports, nil
}

// The kernel takes the ports of outgoing connections from 32768 on: one of those could sit on a node's port before the node does,
// or while it is down. From 20000 on, tests that run nodes as processes have theirs: see testcluster.FreePort.
const lowestFree, highestFree = 10_000, 20_000

// listenBelowEphemeral listens on a free port that no outgoing connection takes.
func listenBelowEphemeral() (l net.Listener, err error) {
	for range 100 {
		if l, err = net.Listen("tcp", loopback(lowestFree+rand.IntN(highestFree-lowestFree))); err == nil {
			return l, nil
		}
	}
	return nil, err
}

// Nodes are the cluster's nodes, in the order of their ids.
func (c *Cluster) Nodes() []*Agent { return c.nodes }

// Start starts all nodes and returns once all of them serve. After an error, Close frees what was started.
func (c *Cluster) Start(ctx context.Context) error {
	var all errgroup.Group
	for i, a := range c.nodes {
		all.Go(func() error {
			if err := a.Start(ctx); err != nil {
				return fmt.Errorf("node %d: %w", i+1, err)
			}
			return nil
		})
	}
	return all.Wait()
}

// Close stops all nodes. They stop one after the other, so that each can hand over what it leads.
func (c *Cluster) Close(ctx context.Context) error {
	var errs []error
	for _, a := range c.nodes {
		errs = append(errs, a.Close(ctx))
	}
	return errors.Join(errs...)
}
