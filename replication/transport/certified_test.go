package transport

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/replication"
)

const (
	nothing replication.NodeID = 1000 // stands for a connection that lacks a certificate
	anybody                    = replication.NoNode
)

// shows stands for a connection whose other side has the certificate of a node.
func shows(id replication.NodeID) func(net.Conn) (replication.NodeID, bool) {
	return func(net.Conn) (replication.NodeID, bool) { return id, id != nothing }
}

// Where peers need certificates, each side holds what the other says against its own, the key notwithstanding.
func TestCertificates(t *testing.T) {
	for name, test := range map[string]struct {
		dialled  replication.NodeID // whose certificate the side that is dialled sees
		accepted replication.NodeID // and the side that dials
		log      string             // of the side that is dialled; empty: it has nothing to say
		why      error
	}{
		"both right":            {2, 1, "", nil},
		"none is needed":        {anybody, anybody, "", nil},
		"none is needed here":   {anybody, 1, "", nil},
		"a client's":            {nothing, 1, "it has no certificate of a node", nil},
		"another node's":        {3, 1, "certificate of another node", ErrRefused},
		"the server is another": {2, 3, "", errCert},
		"the server has none":   {2, nothing, "", errNoCert},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			a := c.add(1, func(o *PeersOptions) { o.Certified = shows(test.dialled) })
			s := c.stranger(2, func(o *PeersOptions) { o.Certified = shows(test.accepted) })
			st, _, err := s.dial(t.Context(), a.listener.Addr().String(), laneControl, 1)
			if good := test.log == "" && test.why == nil; (err == nil) != good || test.why != nil && !errors.Is(err, test.why) {
				t.Errorf("%v", err)
			}
			if err == nil {
				st.fail(ErrClosed)
			}
			wait(t, "the log", func() bool { return strings.Contains(a.log.String(), test.log) })
		})
	}
}
