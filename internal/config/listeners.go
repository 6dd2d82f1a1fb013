package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// TLS are a node's certificates, the same for all listeners.
type TLS struct {
	Cert, Key string // PEM files; empty: no listener has TLS
	CA        string // PEM file with the authorities that clients and other nodes are verified against; may be empty
	// ClientAuth is what clients must show where their listener says nothing of it: none, requested or required.
	ClientAuth string
	// Peers is how nodes speak with each other: auto, optional or required. See Node.PeerTLS.
	Peers string
}

// The values of TLS.Peers.
const (
	peersAuto     = "auto"
	peersOptional = "optional"
	peersRequired = "required"
)

// Listener is an address that a node listens on, with what holds for those who come in there.
type Listener struct {
	Name      string // upper case; clients of a listener are told the addresses of the same listener of the other nodes
	Bind      string // host:port
	Advertise string // host:port that clients are told; empty: the address listened on
	TLS       bool
	SASL      bool
	// ClientAuth is what clients with TLS must show; empty: what TLS.ClientAuth says. See Node.ClientAuthOf.
	ClientAuth string
}

// ClientAuthOf is what clients of a listener must show: none, requested or required.
func (n *Node) ClientAuthOf(l Listener) string {
	if !l.TLS {
		return noClientAuth
	}
	return cmp.Or(l.ClientAuth, n.TLS.ClientAuth)
}

// PeerTLS tells whether nodes may speak TLS with each other, and whether they must. They must where the first listener has TLS.
// Where it has none they may if they are to go over to TLS, one after the other: each takes both, and dials with TLS first.
func (n *Node) PeerTLS() (may, must bool) {
	must = n.Listeners[0].TLS || n.TLS.Peers == peersRequired
	return must || n.TLS.Peers == peersOptional, must
}

const noClientAuth = "none"

var clientAuths = oneOf(noClientAuth, "requested", "required")

// Protocol is the listener's security protocol in Kafka's words.
func (l Listener) Protocol() string {
	switch {
	case l.TLS && l.SASL:
		return "SASL_SSL"
	case l.TLS:
		return "SSL"
	case l.SASL:
		return "SASL_PLAINTEXT"
	}
	return "PLAINTEXT"
}

const (
	// maxListeners bounds the listeners of a node: each costs a port, and a line in what every node knows of it.
	maxListeners = 8
	// maxListenerName bounds a listener's name, in bytes.
	maxListenerName = 50
)

// listenerOptions are what may stand behind the question mark of a listener.
var listenerOptions = []string{"advertise", "tls", "sasl", "client-auth"}

// parseListeners reads NAME://host:port?advertise=host:port&tls=true,... The order stays: the first one is that of the nodes.
func (n *Node) parseListeners(v string) (out []Listener, err error) {
	for _, text := range Elements(v) {
		l, err := parseListener(text)
		if err == nil {
			err = n.tell(&l)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		if slices.ContainsFunc(out, func(o Listener) bool { return o.Name == l.Name }) {
			return nil, fmt.Errorf("two listeners have the name %s", l.Name)
		}
		out = append(out, l)
	}
	if len(out) > maxListeners {
		return nil, fmt.Errorf("more than %d listeners", maxListeners)
	}
	return out, nil
}

// tell fills in what clients of a listener are told, and checks it.
func (n *Node) tell(l *Listener) (err error) {
	if l.Advertise, err = n.expand(l.Advertise); err != nil {
		return err
	}
	return advertised(l.Advertise)
}

func parseListener(text string) (l Listener, err error) {
	name, rest, ok := strings.Cut(text, "://")
	if !ok {
		return l, errors.New("expected NAME://host:port")
	}
	if l.Name, err = listenerName(name); err != nil {
		return l, err
	}
	bind, query, _ := strings.Cut(rest, "?")
	if err := hostPort(bind); err != nil {
		return l, err
	}
	l.Bind = bind
	options, err := url.ParseQuery(strings.ReplaceAll(query, "+", "%2B")) // a plus is one, as in {31000+node-id}
	if err != nil {
		return l, errors.New("expected option=value&option=value behind the question mark")
	}
	for key, values := range options {
		if !slices.Contains(listenerOptions, key) || len(values) != 1 {
			return l, fmt.Errorf("unknown or repeated option %q; there are %s", key, strings.Join(listenerOptions, ", "))
		}
	}
	l.Advertise = options.Get("advertise")
	for key, to := range map[string]*bool{"tls": &l.TLS, "sasl": &l.SASL} {
		if v := options.Get(key); v != "" {
			*to = v == "true"
			err = errors.Join(err, boolean(v))
		}
	}
	if l.ClientAuth = options.Get("client-auth"); l.ClientAuth != "" {
		err = errors.Join(err, clientAuths(l.ClientAuth))
	}
	return l, err
}

// listenerName checks a name; letter case does not matter.
func listenerName(name string) (string, error) {
	name = strings.ToUpper(name)
	for _, c := range name {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' && c != '.' {
			return "", fmt.Errorf("a listener's name has letters, digits, '_', '-' and '.', not %q", c)
		}
	}
	if name == "" || len(name) > maxListenerName {
		return "", fmt.Errorf("a listener's name has 1 to %d characters", maxListenerName)
	}
	return name, nil
}

// String is the form that parseListeners reads.
func (l Listener) String() string {
	options := url.Values{}
	if l.Advertise != "" {
		options.Set("advertise", l.Advertise)
	}
	if l.TLS {
		options.Set("tls", strconv.FormatBool(l.TLS))
	}
	if l.SASL {
		options.Set("sasl", strconv.FormatBool(l.SASL))
	}
	if l.ClientAuth != "" {
		options.Set("client-auth", l.ClientAuth)
	}
	text := l.Name + "://" + l.Bind
	if len(options) > 0 {
		text += "?" + strings.ReplaceAll(options.Encode(), "%3A", ":")
	}
	return text
}

// AdvertisedAddress is what clients of the listener are told, given the address that it really listens on.
func (l Listener) AdvertisedAddress(listening string) (host string, port int32, err error) {
	addr := cmp.Or(l.Advertise, listening)
	if err := advertised(addr); err != nil {
		return "", 0, fmt.Errorf("listener %s, %s: %w: give --advertise, or its advertise", l.Name, addr, err)
	}
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	p, err := strconv.ParseInt(text, 10, 32)
	return host, int32(p), err
}

// listenerFields are what a listener of a YAML list may have.
var listenerFields = append([]string{"name", "bind"}, listenerOptions...)

// listenerList is a YAML list of listeners in the form that parseListeners reads; false if it is no such list.
func (g *gathered) listenerList(path string, list *yaml.Node) (string, bool) {
	if list.Kind != yaml.SequenceNode || len(list.Content) == 0 || resolved(list.Content[0]).Kind != yaml.MappingNode {
		return "", false
	}
	var out []string
	for _, entry := range list.Content {
		fields, options := map[string]string{}, url.Values{}
		g.pairs(path, entry, func(where string, key, value *yaml.Node) {
			text, ok := flat(value)
			switch {
			case !ok || !slices.Contains(listenerFields, key.Value):
				g.problems = append(g.problems, fmt.Errorf("%s: %s: a listener has %s", where, key.Value, strings.Join(listenerFields, ", ")))
			case key.Value == "name" || key.Value == "bind":
				fields[key.Value] = text
			default:
				options.Set(key.Value, text)
			}
		})
		text := fields["name"] + "://" + fields["bind"]
		if len(options) > 0 {
			text += "?" + options.Encode()
		}
		out = append(out, text)
	}
	return strings.Join(out, ","), true
}

// listen completes the listeners: without a list there is one, of the settings listen and advertise. The first one of a list
// says what these would.
func (n *Node) listen(g *gathered) {
	if len(n.Listeners) == 0 {
		one := Listener{Bind: n.Listen, Advertise: n.Advertise, TLS: n.TLS.Cert != "", SASL: n.SASL}
		one.Name = one.Protocol()
		n.Listeners = []Listener{one}
	} else {
		for _, name := range []string{"listen", "advertise", "sasl"} {
			if v, given := g.own[name]; given {
				g.fail(v.where, errors.New("listeners says it already: leave out one of the two"))
			}
		}
		n.Listen, n.Advertise = n.Listeners[0].Bind, n.Listeners[0].Advertise
	}
	n.takeClientAuths(g)
	n.checkTLS(g)
	n.checkSASL(g)
	for _, l := range n.Listeners[1:] { // cluster checks the first
		if host, _, _ := net.SplitHostPort(l.Advertise); len(host) > maxHost {
			g.fail("listeners", fmt.Errorf("%s: %w", l.Name, atMost(maxHost)(host)))
		}
		if unspecified(l.Bind) && l.Advertise == "" {
			g.fail("listeners", fmt.Errorf("%s: advertise must be given when listening on %s: clients cannot connect to that", l.Name, l.Bind))
		}
	}
}

// checkTLS checks what listeners and certificates say together. Nothing of it may end in a listener without TLS that was to
// have it.
func (n *Node) checkTLS(g *gathered) {
	may, _ := n.PeerTLS()
	wanted := may || slices.ContainsFunc(n.Listeners, func(l Listener) bool { return l.TLS })
	asking := slices.IndexFunc(n.Listeners, func(l Listener) bool { return n.ClientAuthOf(l) != noClientAuth })
	deaf := slices.IndexFunc(n.Listeners, func(l Listener) bool { return !l.TLS && cmp.Or(l.ClientAuth, noClientAuth) != noClientAuth })
	switch {
	case (n.TLS.Cert == "") != (n.TLS.Key == ""):
		g.fail("tls-cert", errors.New("tls-cert and tls-key go together"))
	case wanted && n.TLS.Cert == "":
		g.fail("listeners", errors.New("a listener, or tls-peers, wants TLS, but there is no tls-cert"))
	case n.TLS.Cert != "" && !wanted:
		g.fail("tls-cert", errors.New("no listener has TLS: add tls=true to one of listeners"))
	case n.TLS.Cert == "" && (n.TLS.CA != "" || n.TLS.ClientAuth != noClientAuth):
		g.fail("tls-cert", errors.New("tls-ca and tls-client-auth need tls-cert and tls-key: without them nothing is encrypted, and nobody asked for a certificate"))
	case deaf >= 0:
		g.fail("listeners", fmt.Errorf("%s has client-auth but no TLS, so nobody can show a certificate there", n.Listeners[deaf].Name))
	case asking >= 0 && n.TLS.CA == "":
		g.fail("tls-ca", fmt.Errorf("needed with %s client certificates on listener %s: it says which are believed", n.ClientAuthOf(n.Listeners[asking]), n.Listeners[asking].Name))
	case n.TLS.Peers == peersOptional && n.Listeners[0].TLS:
		g.fail("tls-peers", fmt.Errorf("the first listener (%s) has TLS, so nodes must speak it with each other: leave it out", n.Listeners[0].Name))
	case n.Clustered() && may && n.TLS.CA == "":
		g.fail("tls-ca", fmt.Errorf("needed in a cluster whose nodes speak TLS with each other, as they do where the first listener (%s) has TLS, or tls-peers says so", n.Listeners[0].Name))
	}
}

// clientAuths are Kafka's settings of that kind for single listeners, by the listeners' names. Those of CONTROLLER listeners, which
// have no counterpart, are thrown away.
func (g *gathered) clientAuths() map[string]given {
	out := map[string]given{}
	for name, v := range g.kafka {
		rest, ok := strings.CutPrefix(name, ofListener)
		listener, auth := strings.CutSuffix(rest, ".ssl.client.auth")
		if ok && auth && listener != "controller" {
			out[strings.ToUpper(listener)] = v
		}
		if ok && (auth || strings.HasPrefix(rest, "controller.")) {
			delete(g.kafka, name)
		}
	}
	return out
}

// takeClientAuths gives them to the listeners. What a listener says itself is stronger.
func (n *Node) takeClientAuths(g *gathered) {
	for name, v := range g.auths {
		i := slices.IndexFunc(n.Listeners, func(l Listener) bool { return l.Name == name })
		switch err := clientAuths(v.value); {
		case i < 0:
			g.fail(v.where, fmt.Errorf("there is no listener %s", name))
		case err != nil:
			g.fail(v.where, fmt.Errorf("%q: %w", v.value, err))
		case n.Listeners[i].ClientAuth == "":
			n.Listeners[i].ClientAuth = v.value
		}
	}
}

// kafkaListeners turns Kafka's three settings about listeners into ours, unless they say no more than one plain address, for
// which there are listen and advertise (nodeNames). CONTROLLER listeners have no counterpart: everything is on every port.
func (g *gathered) kafkaListeners() {
	const (
		where     = "listeners"
		advertise = "advertised.listeners"
		protocols = "listener.security.protocol.map"
	)
	given, ok := g.kafka[where]
	plan, mapped := g.kafka[protocols]
	delete(g.kafka, protocols)
	if !ok {
		if mapped {
			g.fail(plan.where, errors.New("there is no listeners for it"))
		}
		return
	}
	list := slices.DeleteFunc(Elements(given.value), func(e string) bool { return strings.HasPrefix(e, "CONTROLLER://") })
	_, certified := g.own["tls-cert"]
	if len(list) == 1 && strings.HasPrefix(list[0], "PLAINTEXT://") && !mapped && !certified {
		return
	}
	told := g.kafka[advertise]
	delete(g.kafka, where)
	delete(g.kafka, advertise)
	if own, has := g.own[where]; has && own.strength >= given.strength {
		return
	}
	protocol, err := protocolMap(plan.value)
	if err != nil {
		g.fail(cmp.Or(plan.where, given.where), err)
		return
	}
	text, err := kafkaList(list, Elements(told.value), protocol)
	if err != nil {
		g.fail(given.where, fmt.Errorf("%q: %w", given.value, err))
		return
	}
	given.value = text
	g.own[where] = given
}

// protocols are Kafka's security protocols, by their names.
var protocols = map[string]Listener{"PLAINTEXT": {}, "SSL": {TLS: true}, "SASL_PLAINTEXT": {SASL: true}, "SASL_SSL": {TLS: true, SASL: true}}

// protocolMap reads NAME:PROTOCOL,... A listener that is not in it has the protocol of its name.
func protocolMap(v string) (map[string]Listener, error) {
	out := maps.Clone(protocols)
	for _, pair := range Elements(v) {
		name, protocol, _ := strings.Cut(pair, ":")
		l, ok := protocols[strings.ToUpper(protocol)]
		if !ok {
			return nil, fmt.Errorf("listener.security.protocol.map: %q: expected NAME:PROTOCOL, with PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", pair)
		}
		out[strings.ToUpper(name)] = l
	}
	return out, nil
}

// kafkaList is Kafka's lists in our form.
func kafkaList(list, advertised []string, protocol map[string]Listener) (string, error) {
	told := map[string]string{}
	for _, e := range advertised {
		name, addr, _ := strings.Cut(e, "://")
		told[strings.ToUpper(name)] = addr
	}
	var out []string
	for _, e := range list {
		name, addr, _ := strings.Cut(e, "://")
		name = strings.ToUpper(name)
		l, ok := protocol[name]
		if !ok {
			return "", fmt.Errorf("listener %s has no protocol: add it to listener.security.protocol.map", name)
		}
		l.Name, l.Bind, l.Advertise = name, addr, told[name]
		delete(told, name)
		out = append(out, l.String())
	}
	for name := range told {
		return "", fmt.Errorf("advertised.listeners has %s, which is not one of listeners", name)
	}
	return strings.Join(out, ","), nil
}
