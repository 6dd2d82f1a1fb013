package conn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"

	"github.com/quorlog/quorlog/broker"
)

// secured is a connection that says what a TLS handshake has found out.
type secured struct {
	net.Conn
	state tls.ConnectionState
}

func (s secured) TLS() (tls.ConnectionState, bool) { return s.state, true }

func TestIdentify(t *testing.T) {
	errNobody := errors.New("nobody")
	verified := tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{}}}}
	unverified := tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}
	alice := func(tls.ConnectionState) (broker.Principal, error) { return "User:CN=alice", nil }
	nobody := func(tls.ConnectionState) (broker.Principal, error) { return "User:CN=alice", errNobody }
	for name, c := range map[string]struct {
		of   PrincipalOf
		nc   net.Conn
		want broker.Principal
		err  error
	}{
		"a verified certificate":            {alice, secured{state: verified}, "User:CN=alice", nil},
		"one that stands for nobody":        {nobody, secured{state: verified}, broker.Anonymous, errNobody},
		"one that was not verified":         {alice, secured{state: unverified}, broker.Anonymous, nil},
		"none":                              {alice, secured{}, broker.Anonymous, nil},
		"a listener that asks for none":     {nil, secured{state: verified}, broker.Anonymous, nil},
		"a connection that can't have one":  {alice, &net.TCPConn{}, broker.Anonymous, nil},
		"no certificate, and would be sure": {nobody, secured{}, broker.Anonymous, nil},
	} {
		s := NewSession(SessionInfo{})
		err := Listener{Principal: c.of}.identify(s, c.nc)
		if got := s.Caller("").Principal; got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}
