package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/quorlog/quorlog/replication"
)

// Node is what a node is started with.
type Node struct {
	DataDir         string
	NodeID          replication.NodeID
	Listen          string // host:port
	Advertise       string // host:port that clients are told; empty: the address listened on
	Gossip          string
	Join            []string
	BootstrapExpect int
	ClusterKeyFile  string
	Rack            string
	LogFormat       string            // text or json
	Kafka           map[string]string // broker settings by Kafka's names
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
	{"node-id", "1", "id of this node, unique in the cluster and for ever", func(n *Node, v string) error {
		id, err := strconv.ParseInt(v, 10, 32)
		if err != nil || id < 0 {
			return errors.New("expected a number from 0 to 2147483647")
		}
		n.NodeID = replication.NodeID(id)
		return nil
	}},
	{"listen", "127.0.0.1:9092", "host:port to listen on; port 0 picks a free one", func(n *Node, v string) error { n.Listen = v; return hostPort(v) }},
	{"advertise", "", "host:port that clients are told; default: the address listened on", func(n *Node, v string) error { n.Advertise = v; return advertised(v) }},
	{"gossip", "", "host:port of the gossip between nodes; unused on a single node", func(n *Node, v string) error { n.Gossip = v; return optional(hostPort)(v) }},
	{"join", "", "nodes to join, host:port,...; not there yet", func(n *Node, v string) error { n.Join = Elements(v); return notYet(v, "joining a cluster") }},
	{"bootstrap-expect", "1", "nodes that start a new cluster together; only 1 yet", func(n *Node, v string) error {
		n.BootstrapExpect = 1
		return never("1", "clusters of several nodes are not there yet")(v)
	}},
	{"cluster-key-file", "", "file with the key by which nodes know each other; unused on a single node", func(n *Node, v string) error { n.ClusterKeyFile = v; return nil }},
	{"rack", "", "rack or zone of this node", func(n *Node, v string) error { n.Rack = v; return nil }},
	{"log-format", "text", "text or json", func(n *Node, v string) error { n.LogFormat = v; return oneOf("text", "json")(v) }},
}

func required(v string) error {
	if v == "" {
		return errors.New("must not be empty")
	}
	return nil
}

func notYet(v, what string) error {
	if v != "" {
		return fmt.Errorf("%s is not there yet", what)
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

// given is a value with where it stands, for errors.
type given struct{ value, where string }

// Load resolves the settings of a node. The error holds everything that is wrong, not only the first.
func Load(s Sources) (*Node, error) {
	own, kafka := map[string]given{}, map[string]given{}
	var problems []error
	if s.File != "" {
		problems = append(problems, loadFile(s.File, own, kafka)...)
	}
	problems = append(problems, loadEnv(s.Env, own, kafka)...)
	for name, value := range s.Flags {
		own[name] = given{value, "--" + name}
	}
	for _, pair := range s.Set {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			problems = append(problems, fmt.Errorf("--set %s: expected name=value", pair))
			continue
		}
		kafka[name] = given{value, "--set " + name}
	}
	node := &Node{Kafka: map[string]string{}}
	for _, row := range nodeSettings {
		v, ok := own[row.Name]
		if !ok {
			v = given{row.Default, "default of " + row.Name}
		}
		if err := row.set(node, v.value); err != nil {
			problems = append(problems, fmt.Errorf("%s: %q: %w", v.where, v.value, err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(kafka)) {
		v := kafka[name]
		if err := Validate(Broker, name, v.value); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", v.where, err))
			continue
		}
		node.Kafka[name] = v.value
	}
	return node, errors.Join(problems...)
}

func isNodeSetting(name string) bool {
	return slices.ContainsFunc(nodeSettings, func(r NodeSetting) bool { return r.Name == name })
}

// loadFile reads a YAML file: own settings at the top, Kafka's under "kafka".
func loadFile(path string, own, kafka map[string]given) []error {
	text, err := os.ReadFile(path)
	if err != nil {
		return []error{err}
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return []error{fmt.Errorf("%s: %w", path, err)}
	}
	if len(root.Content) == 0 {
		return nil
	}
	var problems []error
	top := root.Content[0]
	if top.Kind != yaml.MappingNode {
		return []error{fmt.Errorf("%s:%d: expected name: value lines", path, top.Line)}
	}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		where := fmt.Sprintf("%s:%d:%d", path, key.Line, key.Column)
		switch {
		case key.Value == "kafka" && value.Kind == yaml.MappingNode:
			for j := 0; j+1 < len(value.Content); j += 2 {
				k := value.Content[j]
				kafka[k.Value] = given{value.Content[j+1].Value, fmt.Sprintf("%s:%d:%d", path, k.Line, k.Column)}
			}
		case isNodeSetting(key.Value):
			own[key.Value] = given{scalar(value), where}
		default:
			problems = append(problems, unknownSetting(where, key.Value))
		}
	}
	return problems
}

func scalar(n *yaml.Node) string {
	if n.Kind != yaml.SequenceNode {
		return n.Value
	}
	parts := make([]string, len(n.Content))
	for i, c := range n.Content {
		parts[i] = c.Value
	}
	return strings.Join(parts, ",")
}

func unknownSetting(where, name string) error {
	known := func(yield func(string) bool) {
		for _, row := range nodeSettings {
			if !yield(row.Name) {
				return
			}
		}
	}
	hint := nearest(name, known)
	if hint == "" {
		return fmt.Errorf("%s: unknown setting %s", where, name)
	}
	return fmt.Errorf("%s: unknown setting %s (did you mean %s?)", where, name, hint)
}

// notSettings are variables of ours that other parts of the program read.
var notSettings = []string{"QUORLOG_BROKERS", "QUORLOG_CONFIG", "QUORLOG_BINARY", "QUORLOG_PYTHON", "QUORLOG_REQUIRE_CLIENTS"}

// loadEnv reads QUORLOG_DATA_DIR and the like, and KAFKA_NUM_PARTITIONS for Kafka's names.
func loadEnv(env []string, own, kafka map[string]given) []error {
	var problems []error
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		switch {
		case slices.Contains(notSettings, name):
		case strings.HasPrefix(name, "QUORLOG_"):
			key := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "QUORLOG_"), "_", "-"))
			if !isNodeSetting(key) {
				problems = append(problems, unknownSetting("environment", name))
				continue
			}
			own[key] = given{value, name}
		case strings.HasPrefix(name, "KAFKA_"):
			key := kafkaName(strings.TrimPrefix(name, "KAFKA_"))
			// The environment of a container may hold KAFKA_ variables of other programs: only known names count.
			if _, ok := Lookup(Broker, key); ok {
				kafka[key] = given{value, name}
			}
		}
	}
	return problems
}

// kafkaName is the mapping of Kafka's images: _ is a dot, __ an underscore, ___ a dash.
func kafkaName(s string) string {
	const dash, underscore = "\x00", "\x01"
	s = strings.ReplaceAll(strings.ToLower(s), "___", dash)
	s = strings.ReplaceAll(s, "__", underscore)
	s = strings.ReplaceAll(s, "_", ".")
	return strings.ReplaceAll(strings.ReplaceAll(s, dash, "-"), underscore, "_")
}

// AdvertisedAddress is what clients are told, given the address that the node really listens on.
func (n *Node) AdvertisedAddress(listening string) (host string, port int32, err error) {
	addr := cmp.Or(n.Advertise, listening)
	if err := advertised(addr); err != nil {
		return "", 0, fmt.Errorf("%s: %w: give --advertise", addr, err)
	}
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	p, err := strconv.ParseInt(text, 10, 32)
	return host, int32(p), err
}
