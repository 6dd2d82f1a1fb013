package agent

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/replication"
)

// Names of nodes in requests by HTTP.
//
// Who owns a name may have it lead anywhere, also to a node that only the browser of his page's reader can reach (DNS rebinding). For
// the browser the node is then the page's own server: the page reads what the node answers, and sends what it likes, without a header
// that would tell. Where clients prove who they are the page can't, and where the node does, by a certificate, the browser notices. On
// other listeners the name itself has to tell: a node takes requests by those names only that no stranger can give it.

// privateDomains are those below which there are no names in public DNS.
var privateDomains = []string{"localhost", "internal", "home.arpa", "svc", "cluster.local"}

// ownNames lets through requests for names of this cluster, where nothing else tells who asks for what.
func (w *web) ownNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(webConnKey{}).(*webConn)
		if open := !ok || c.port == nil || !c.port.TLS && !c.port.SASL; open && !w.isOwnName(r.Host) {
			http.Error(rw, "the node does not know itself by this name: quorlog.http.hosts can say it, an address always will do", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(rw, r)
	})
}

// isOwnName tells whether the Host of a request is a name that the cluster has, or that no stranger could have given it.
func (w *web) isOwnName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil || !strings.Contains(name, ".") || name == w.machine {
		return true
	}
	below := func(domain string) bool { return strings.HasSuffix(name, "."+domain) }
	if slices.ContainsFunc(privateDomains, below) {
		return true
	}
	for _, own := range config.Elements(w.node.layers.Get(config.Broker, "quorlog.http.hosts")) {
		domain, all := strings.CutPrefix(strings.ToLower(own), ".")
		if own == "*" || all && below(domain) || !all && name == domain {
			return true
		}
	}
	told := func(e replication.Endpoint) bool { return strings.EqualFold(strings.TrimSuffix(e.Host, "."), name) }
	for _, n := range w.node.controller.Image().Nodes {
		if slices.ContainsFunc(n.Endpoints, told) || told(replication.Endpoint{Host: n.Host}) {
			return true
		}
	}
	return false
}
