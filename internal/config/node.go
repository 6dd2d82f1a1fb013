package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/quorlog/quorlog/replication"
)

// Node is what a node is started with.
type Node struct {
	DataDir         string
	NodeID          replication.NodeID
	Listen          string   // host:port
	Advertise       string   // host:port that clients are told; empty: the address listened on
	Gossip          string   // host:port of the gossip; Load fills in the default
	GossipAdvertise string   // host:port; empty: the address bound to
	Join            []string // host:port each
	BootstrapExpect int
	ClusterKeyFile  string
	Rack            string
	LogFormat       string // text or json
	// Kafka holds the broker settings that were given, by Kafka's names, and what the fields above say in Kafka's terms.
	Kafka map[string]string
}

// NodeSetting is a row of what a node is started with: flag, variable QUORLOG_..., and key of the file.
type NodeSetting struct {
	Name    string // of the flag and in the file, with dashes
	Default string
	Doc     string
	set     func(*Node, string) error
}

// Env is the environment variable of the setting.
func (s *NodeSetting) Env() string {
	return "QUORLOG_" + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}

// NodeSettings lists the rows in the order of --help.
func NodeSettings() []NodeSetting { return nodeSettings }

var nodeSettings = []NodeSetting{
	{"data-dir", "./quorlog-data", "directory of this node's data", func(n *Node, v string) error { n.DataDir = v; return required(v) }},
	{"node-id", "1", "id of this node, unique in the cluster and for ever; must be given where nodes form a cluster", func(n *Node, v string) error {
		id, err := strconv.ParseInt(v, 10, 32)
		if err != nil || id < 0 {
			return errors.New("expected a number from 0 to 2147483647")
		}
		n.NodeID = replication.NodeID(id)
		return nil
	}},
	{"listen", "127.0.0.1:9092", "host:port to listen on, for clients and other nodes; port 0 picks a free one", func(n *Node, v string) error { n.Listen = v; return hostPort(v) }},
	{"advertise", "", "host:port that clients and other nodes are told; default: the address listened on", func(n *Node, v string) error { n.Advertise = v; return advertised(v) }},
	{"gossip", "", "host:port of the gossip between nodes, TCP and UDP, opened only with a cluster key; default: the host of --listen and the port after its", func(n *Node, v string) error { n.Gossip = v; return optional(hostPort)(v) }},
	{"gossip-advertise", "", "host:port of the gossip that other nodes are told; default: the address of --gossip, or the host of --advertise where that is none to connect to", func(n *Node, v string) error { n.GossipAdvertise = v; return advertised(v) }},
	{"join", "", "nodes of the cluster to find, host:port of their gossip,...; a host may be a name with many addresses, a port that is missing is 9093", func(n *Node, v string) (err error) {
		n.Join, err = joinTargets(v)
		return err
	}},
	{"bootstrap-expect", "1", "how many nodes with empty data directories begin a new cluster, together, once they see each other; 0 never begins one; default with --join: 0", func(n *Node, v string) error {
		expect, err := strconv.Atoi(v)
		if err != nil || expect < 0 || expect > maxExpect {
			return fmt.Errorf("expected a number from 0 to %d", maxExpect)
		}
		n.BootstrapExpect = expect
		return nil
	}},
	{"cluster-key-file", "", "file with the secret that the nodes of a cluster share (quorlog cluster key makes one); needed for more than one node", func(n *Node, v string) error { n.ClusterKeyFile = v; return nil }},
	{"rack", "", "rack or zone of this node", func(n *Node, v string) error { n.Rack = v; return atMost(maxRack)(v) }},
	{"log-format", "text", "text or json", func(n *Node, v string) error { n.LogFormat = v; return oneOf("text", "json")(v) }},
}

func required(v string) error {
	if v == "" {
		return errors.New("must not be empty")
	}
	return nil
}

func hostPort(v string) error {
	_, port, err := net.SplitHostPort(v)
	if err != nil {
		return errors.New("expected host:port")
	}
	return integer(0, 65535)(port)
}

// advertised refuses what no client could connect to.
func advertised(v string) error {
	if v == "" {
		return nil
	}
	if err := hostPort(v); err != nil {
		return err
	}
	host, port, _ := net.SplitHostPort(v)
	if ip := net.ParseIP(host); host == "" || port == "0" || ip != nil && ip.IsUnspecified() {
		return errors.New("clients cannot connect to an unspecified address or port")
	}
	return nil
}

// Sources are where settings of a node come from: Flags beat Env, Env beats File, File beats the defaults.
type Sources struct {
	Flags map[string]string // only those that were given
	Set   []string          // name=value broker settings from the command line
	Env   []string          // as os.Environ gives it
	File  string            // path of a YAML file; empty: none
}

// Load resolves the settings of a node. The error holds everything that is wrong, not only the first.
func Load(s Sources) (*Node, error) {
	g := newGathered()
	if s.File != "" {
		g.file(s.File)
	}
	g.environment(s.Env)
	g.flags(s.Flags, s.Set)
	g.translate()
	node := &Node{Kafka: map[string]string{}}
	for _, row := range nodeSettings {
		v, ok := g.own[row.Name]
		if !ok {
			v = given{value: row.Default, where: "default of " + row.Name}
		}
		if err := row.set(node, v.value); err != nil {
			g.fail(v.where, fmt.Errorf("%q: %w", v.value, err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(g.kafka)) {
		v := g.kafka[name]
		if err := validateStatic(name, v.value); err != nil {
			g.fail(v.where, err)
			continue
		}
		node.Kafka[name] = registry[Broker][name].clean(v.value)
	}
	node.nameAsKafka()
	node.cluster(g)
	return node, errors.Join(g.problems...)
}
