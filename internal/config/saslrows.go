package config

import (
	"errors"
	"fmt"
	"slices"
)

// saslMechanisms are those that sasl.enabled.mechanisms may name.
var saslMechanisms = []string{"SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"}

const (
	mechanismsSetting = "sasl.enabled.mechanisms"
	loopbackSetting   = "quorlog.sasl.plain.on.loopback"
)

// saslRows are about how clients log in on listeners with SASL.
func saslRows() []Setting {
	return []Setting{
		brokerRow(mechanismsSetting, List, "SCRAM-SHA-512,SCRAM-SHA-256", "SCRAM-SHA-512, SCRAM-SHA-256, PLAIN", "How clients may log in on listeners with SASL. PLAIN is offered on listeners with TLS only, and with it Authorization: Basic to HTTP and gRPC. Kafka's default is GSSAPI.", mechanismList, false),
		brokerRow(loopbackSetting, Boolean, "false", "", "Offer PLAIN and Basic without TLS to clients on this machine, and so to all that come through a proxy on it. Quorlog's own.", boolean, false),
		brokerRow("connections.max.reauth.ms", Long, "0", "0 or more", "How long a login is good for before the client must log in again over the same connection; 0 is for ever. Clients that do not know KIP-368 are disconnected then.", integer(0, maxInt), false),
		brokerRow("connection.failed.authentication.delay.ms", Int, "100", "0 to 10000", "How long the answer to a login that failed takes.", integer(0, 10_000), false),
	}
}

func mechanismList(v string) error {
	list := Elements(v)
	if len(list) == 0 {
		return errors.New("expected at least one mechanism")
	}
	for i, m := range list {
		if !slices.Contains(saslMechanisms, m) {
			return fmt.Errorf("expected some of %v", saslMechanisms)
		}
		if slices.Contains(list[:i], m) {
			return fmt.Errorf("%s stands there twice", m)
		}
	}
	return nil
}

// checkSASL checks what listeners and mechanisms say together: nobody could log in where PLAIN is all there is, without TLS. Nothing
// that says that clients must log in may end in a listener where they need not.
func (n *Node) checkSASL(g *gathered) {
	set := Layers{Static: n.Kafka}
	anybody := slices.ContainsFunc(Elements(set.Get(Broker, mechanismsSetting)), func(m string) bool { return m != "PLAIN" })
	for _, l := range n.Listeners {
		// A list of Kafka's says by such a name what holds; nobody who writes one here means that it does not.
		if promised := protocols[l.Name]; promised.TLS && !l.TLS || promised.SASL && !l.SASL {
			g.fail("listeners", fmt.Errorf("%s is the name of a protocol that the listener does not have: add tls=true, sasl=true or both, or give it another name", l.Name))
		}
		if l.SASL && !l.TLS && !anybody && !set.Bool(loopbackSetting) {
			g.fail(mechanismsSetting, fmt.Errorf("listener %s has no TLS, and PLAIN shows passwords to whoever listens: add TLS or a mechanism of SCRAM", l.Name))
		}
	}
	if n.BootstrapUsersFile != "" && !slices.ContainsFunc(n.Listeners, func(l Listener) bool { return l.SASL }) {
		g.fail("bootstrap-users-file", errors.New("no listener has SASL: give --sasl, or sasl=true to one of --listeners"))
	}
}
