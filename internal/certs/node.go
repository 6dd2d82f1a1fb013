package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// nodeScheme begins the URI in a node's certificate; the node's id follows.
const nodeScheme = "urn:quorlog:node:"

// nodeURI is the name of a node in its certificate.
func nodeURI(id int32) *url.URL {
	return &url.URL{Scheme: "urn", Opaque: strings.TrimPrefix(nodeScheme, "urn:") + strconv.Itoa(int(id))}
}

// NodeOf is the node that the other side of a connection between nodes has the certificate of. The error is ErrNoNode if it is
// not such a connection, or the certificate is none of a node. Only after the handshake has verified it does it prove anything.
func NodeOf(s tls.ConnectionState) (int32, error) {
	if s.NegotiatedProtocol != PeerProtocol || len(s.PeerCertificates) == 0 {
		return 0, ErrNoNode
	}
	return nodeOf(s.PeerCertificates[0])
}

// nodeOf reads the one node that a certificate names.
func nodeOf(c *x509.Certificate) (id int32, err error) {
	found := 0
	for _, u := range c.URIs {
		text, ok := strings.CutPrefix(u.String(), nodeScheme)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return 0, fmt.Errorf("%w: %q", ErrNoNode, u)
		}
		id = int32(n)
		found++
	}
	if found != 1 {
		return 0, fmt.Errorf("%w, but %d, in its URIs", ErrNoNode, found)
	}
	return id, nil
}
