package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/quorlog/quorlog/internal/logging"
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
	LogFormat       string                   // text or json
	LogLevels       map[string]logging.Level // by the loggers' names
	TracesEndpoint  string                   // URL of a collector of OpenTelemetry; empty: no traces
	MetricsListen   string                   // host:port of a listener of its own for figures and probes; empty: none
	TLS             TLS
	SASL            bool // clients of the one listener must log in; Listeners say it where there are several
	// BootstrapUsersFile has the first users of a new cluster; may be empty.
	BootstrapUsersFile string
	// Listeners are at least one, once Load has filled them in. The first is also that of the other nodes, and is what Listen and
	// Advertise say.
	Listeners []Listener
	// Kafka holds the broker settings that were given, by Kafka's names, and what the fields above say in Kafka's terms.
	Kafka map[string]string

	env map[string]string // what expand fills in
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
	{"advertise", "", "host:port that clients and other nodes are told; default: the address listened on; here, in --listeners, --gossip, --gossip-advertise and --rack, {node-id}, {31000+node-id} and {env:NAME} are filled in", expanded(func(n *Node, v string) error { n.Advertise = v; return advertised(v) })},
	{"listeners", "", "more than one address to listen on, instead of --listen and --advertise: NAME://host:port?advertise=host:port&tls=true&client-auth=required&sasl=true,...; clients are told the addresses of the listener that they come in on, other nodes come in on the first; in the file also a list with name, bind and these", func(n *Node, v string) (err error) {
		n.Listeners, err = n.parseListeners(v)
		return err
	}},
	{"tls-cert", "", "PEM file with this node's certificate and those between it and the root (quorlog cert node makes one); without --listeners, the node speaks TLS only; read again when it changes, as are the next two", func(n *Node, v string) error { n.TLS.Cert = v; return nil }},
	{"tls-key", "", "PEM file with the private key", func(n *Node, v string) error { n.TLS.Key = v; return nil }},
	{"tls-ca", "", "PEM file with the authorities that clients and other nodes are verified against", func(n *Node, v string) error { n.TLS.CA = v; return nil }},
	{"tls-client-auth", noClientAuth, "none, requested or required: whether clients on listeners with TLS show a certificate, where the listener does not say it by client-auth=; its name, as ssl.principal.mapping.rules maps it, is the client's", func(n *Node, v string) error {
		n.TLS.ClientAuth = v
		return clientAuths(v)
	}},
	{"tls-peers", peersAuto, "auto, optional or required: whether nodes speak TLS with each other; auto as the first listener does, optional where the other node does too, to go over to TLS node by node, required although the first listener has none", func(n *Node, v string) error {
		n.TLS.Peers = v
		return oneOf(peersAuto, peersOptional, peersRequired)(v)
	}},
	{"sasl", "false", "true or false: whether clients must log in by a user and a password (quorlog user); with --listeners, each says it for itself", func(n *Node, v string) error {
		n.SASL = v == "true"
		return boolean(v)
	}},
	{"bootstrap-users-file", "", "file with the first users of a new cluster, a line name:password for each; where there ever were users it is not read", func(n *Node, v string) error { n.BootstrapUsersFile = v; return nil }},
	{"gossip", "", "host:port of the gossip between nodes, TCP and UDP, opened only with a cluster key; default: the host of --listen and the port after its", expanded(func(n *Node, v string) error { n.Gossip = v; return optional(hostPort)(v) })},
	{"gossip-advertise", "", "host:port of the gossip that other nodes are told; default: the address of --gossip, or the host of --advertise where that is none to connect to", expanded(func(n *Node, v string) error { n.GossipAdvertise = v; return advertised(v) })},
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
	{"rack", "", "rack or zone of this node", expanded(func(n *Node, v string) error { n.Rack = v; return atMost(maxRack)(v) })},
	{"log-format", "text", "text or json", func(n *Node, v string) error { n.LogFormat = v; return oneOf("text", "json")(v) }},
	{"log-levels", "", "what is logged from the start: root=WARN,raft=DEBUG,... with FATAL, ERROR, WARN, INFO, DEBUG or TRACE; what is not named follows root; kafka-configs changes it later (broker-loggers)", func(n *Node, v string) (err error) {
		n.LogLevels, err = logLevels(v)
		return err
	}},
	{"traces-endpoint", "", "URL of a collector of OpenTelemetry that takes traces by OTLP over HTTP, such as http://localhost:4318/v1/traces; what is sampled is set by OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG", func(n *Node, v string) error {
		n.TracesEndpoint = v
		return optional(collectorURL)(v)
	}},
	{"metrics-listen", "", "host:port to serve /metrics and the probes on beside --listen, as plain HTTP and to whoever can connect; on --listen, figures are for those who may describe the cluster", func(n *Node, v string) error {
		n.MetricsListen = v
		return optional(hostPort)(v)
	}},
}

func collectorURL(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("expected http://host:port/path or https://host:port/path")
	}
	return nil
}

// logLevels reads name=LEVEL,...
func logLevels(v string) (map[string]logging.Level, error) {
	out := map[string]logging.Level{}
	for _, text := range Elements(v) {
		name, level, _ := strings.Cut(text, "=")
		if name != logging.Root && !slices.Contains(logging.Names(), name) {
			return nil, fmt.Errorf("there is no logger %q; there are %s, %s", name, logging.Root, strings.Join(logging.Names(), ", "))
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("%s stands there twice", name)
		}
		parsed, err := logging.ParseLevel(level)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = parsed
	}
	return out, nil
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
	g.auths = g.clientAuths()
	g.kafkaListeners()
	g.translate()
	node := &Node{Kafka: map[string]string{}, env: environ(s.Env)}
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
	node.listen(g)
	node.nameAsKafka()
	node.cluster(g)
	return node, errors.Join(g.problems...)
}
