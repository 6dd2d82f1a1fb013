package config

import (
	"cmp"
	"errors"
	"fmt"
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
	{"tls-client-auth", []string{"ssl.client.auth"}, asIs},
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

// listener is the address of a listener that is the only one, and plain: kafkaListeners has taken all others.
func listener(v string) (string, error) {
	list := slices.DeleteFunc(Elements(v), func(e string) bool { return strings.HasPrefix(e, "CONTROLLER://") })
	if len(list) != 1 {
		return "", errors.New("expected one listener, as in PLAINTEXT://host:9092")
	}
	addr, ok := strings.CutPrefix(list[0], "PLAINTEXT://")
	if !ok {
		return "", errors.New("it must name the same listener as listeners")
	}
	return addr, nil
}

// nameAsKafka adds what the node settings say under Kafka's names, for clients that ask a broker for its configuration.
func (n *Node) nameAsKafka() {
	n.Kafka["node.id"] = strconv.Itoa(int(n.NodeID))
	n.Kafka["log.dirs"] = n.DataDir
	var bound, told, protocols []string
	for _, l := range n.Listeners {
		bound = append(bound, l.Name+"://"+l.Bind)
		told = append(told, l.Name+"://"+cmp.Or(l.Advertise, l.Bind))
		protocols = append(protocols, l.Name+":"+l.Protocol())
	}
	n.Kafka["listeners"], n.Kafka["advertised.listeners"] = strings.Join(bound, ","), strings.Join(told, ",")
	n.Kafka["listener.security.protocol.map"] = strings.Join(protocols, ",")
	n.Kafka["ssl.client.auth"] = n.TLS.ClientAuth
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
	"inter.broker.listener.name":          "nodes come in on the first of the listeners; put that one first, and remove this",
	"security.inter.broker.protocol":      "nodes come in on the first of the listeners; put that one first, and remove this",
	"zookeeper.connect":                   "there is no ZooKeeper; remove it",
	"metadata.log.dir":                    "metadata lies in the data directory; remove it",
	"inter.broker.protocol.version":       "versions are agreed on by the nodes themselves; remove it",
	"log.message.format.version":          "there is one message format, v2; remove it",
	"log.message.downconversion.enable":   "there is one message format, v2; remove it",
	"authorizer.class.name":               "authorizer=acl does what Kafka's StandardAuthorizer does",
	"ssl.keystore.location":               "certificates are PEM files: tls-cert and tls-key name them",
	"ssl.truststore.location":             "certificates are PEM files: tls-ca names that of the authorities",
	"remote.log.storage.system.enable":    "tiered storage is not supported",
	"cluster.id":                          "the cluster makes its id itself; remove it",
}

// ofListener begins the names of Kafka's settings for a single listener.
const ofListener = "listener.name."

// secures tells whether a name is that of a setting of Kafka about security, known here or not.
func secures(name string) bool {
	return slices.ContainsFunc([]string{ofListener, "ssl.", "sasl.", "authorizer."}, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// validateStatic checks a broker setting that a node is started with.
func validateStatic(name, value string) error {
	if why, ok := foreign[name]; ok {
		return fmt.Errorf("%s: %s", name, why)
	}
	return Validate(Broker, name, value)
}
