package conn

import (
	"crypto/tls"
	"net"

	"github.com/quorlog/quorlog/broker"
)

// PrincipalOf tells whom the certificate of a TLS connection stands for. It is asked only where the certificate was verified. After
// an error the connection is closed.
type PrincipalOf func(tls.ConnectionState) (broker.Principal, error)

// identify sets the principal that a client's certificate stands for. A connection without a certificate that was verified stays
// anonymous. After an error the connection must not be served.
func (l Listener) identify(s *Session, nc net.Conn) error {
	secured, ok := nc.(interface {
		TLS() (tls.ConnectionState, bool)
	})
	if l.Principal == nil || !ok {
		return nil
	}
	state, ok := secured.TLS()
	if !ok || len(state.VerifiedChains) == 0 {
		return nil
	}
	principal, err := l.Principal(state)
	if err == nil {
		s.SetPrincipal(principal)
	}
	return err
}
