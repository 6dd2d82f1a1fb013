package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
)

// kafkaName is the mapping of Kafka's images: _ is a dot, __ an underscore, ___ a dash.
func kafkaName(s string) string {
	const dash, underscore = "\x00", "\x01"
	s = strings.ReplaceAll(strings.ToLower(s), "___", dash)
	s = strings.ReplaceAll(s, "__", underscore)
	s = strings.ReplaceAll(s, "_", ".")
	return strings.ReplaceAll(strings.ReplaceAll(s, dash, "-"), underscore, "_")
}

// nodeNames are the settings of Kafka that say what a node setting says, the stronger names first.
var nodeNames = []struct {
	own     string
	kafka   []string
	convert func(string) (string, error)
}{
	{"node-id", []string{"node.id", "broker.id"}, asIs},
	{"rack", []string{"broker.rack"}, asIs},
	{"data-dir", []string{"log.dirs", "log.dir"}, oneDirectory},
	{"listen", []string{"listeners"}, listener},
	{"advertise", []string{"advertised.listeners"}, listener},
}

// translate turns those into node settings. Of two in the same place our own name is stronger.
func (g *gathered) translate() {
	for _, n := range nodeNames {
		best, found := given{}, false
		for _, name := range n.kafka {
			if k, ok := g.kafka[name]; ok && (!found || k.strength > best.strength) {
				best, found = k, true
			}
			delete(g.kafka, name)
		}
		if have, ok := g.own[n.own]; !found || ok && have.strength >= best.strength {
			continue
		}
		value, err := n.convert(strings.TrimSpace(best.value))
		if err != nil {
			g.fail(best.where, fmt.Errorf("%q: %w", best.value, err))
			continue
		}
		g.own[n.own] = given{value, best.where, best.strength}
	}
}

func asIs(v string) (string, error) { return v, nil }

func oneDirectory(v string) (string, error) {
	if strings.Contains(v, ",") {
		return "", errors.New("a node has one data directory; run one node for each disk")
	}
	return v, nil
}

// listener is the address of the one plaintext listener. Kafka's own CONTROLLER listener has no counterpart: everything is
// on one port.
func listener(v string) (string, error) {
	list := slices.DeleteFunc(Elements(v), func(e string) bool { return strings.HasPrefix(e, "CONTROLLER://") })
	if len(list) != 1 {
		return "", errors.New("expected one listener, as in PLAINTEXT://host:9092")
	}
	addr, ok := strings.CutPrefix(list[0], "PLAINTEXT://")
	if !ok {
		return "", errors.New("only PLAINTEXT:// listeners are there yet")
	}
	return addr, nil
}

// nameAsKafka adds what the node settings say under Kafka's names, for clients that ask a broker for its configuration.
func (n *Node) nameAsKafka() {
	n.Kafka["node.id"] = strconv.Itoa(int(n.NodeID))
	n.Kafka["log.dirs"] = n.DataDir
	n.Kafka["listeners"] = "PLAINTEXT://" + n.Listen
	n.Kafka["advertised.listeners"] = "PLAINTEXT://" + cmp.Or(n.Advertise, n.Listen)
	if n.Rack != "" {
		n.Kafka["broker.rack"] = n.Rack
	}
}

// foreign are settings of Kafka that many files have and that can't be honoured, with what to do instead.
var foreign = map[string]string{
	"process.roles":                       "every node is a broker and may become the controller; remove it",
	"controller.quorum.voters":            "the metadata group finds its members itself; remove it",
	"controller.quorum.bootstrap.servers": "the metadata group finds its members itself; remove it",
	"controller.listener.names":           "everything is on one port; remove it",
	"inter.broker.listener.name":          "everything is on one port; remove it",
	"listener.security.protocol.map":      "everything is on one port; remove it",
	"security.inter.broker.protocol":      "everything is on one port; remove it",
	"zookeeper.connect":                   "there is no ZooKeeper; remove it",
	"metadata.log.dir":                    "metadata lies in the data directory; remove it",
	"inter.broker.protocol.version":       "versions are agreed on by the nodes themselves; remove it",
	"log.message.format.version":          "there is one message format, v2; remove it",
	"log.message.downconversion.enable":   "there is one message format, v2; remove it",
	"allow.everyone.if.no.acl.found":      "authorization is not there yet",
	"authorizer.class.name":               "authorization is not there yet",
	"sasl.enabled.mechanisms":             "authentication is not there yet",
	"ssl.keystore.location":               "TLS is not there yet",
	"remote.log.storage.system.enable":    "tiered storage is not supported",
	"cluster.id":                          "the cluster makes its id itself; remove it",
}

// validateStatic checks a broker setting that a node is started with.
func validateStatic(name, value string) error {
	if why, ok := foreign[name]; ok {
		return fmt.Errorf("%s: %s", name, why)
	}
	return Validate(Broker, name, value)
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
