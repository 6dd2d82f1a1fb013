package conn

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// goodbye is how long TLS tries to tell a client that reads nothing that its connection ends.
const goodbye = 5 * time.Second

// slowEnd is a connection to such a client.
type slowEnd struct{ net.Conn }

func (s slowEnd) Close() error {
	<-time.After(goodbye)
	return s.Conn.Close()
}

// Clients that read nothing can't hold up the end of the server one after the other.
func TestCloseEndsAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := onPipe(t, dispatcher(echo), Options{})
		for range 20 {
			client, server := net.Pipe()
			defer func() { _ = client.Close() }()
			h.pipe.conns <- slowEnd{server}
		}
		synctest.Wait()
		began := time.Now()
		h.Close()
		if took := time.Since(began); took > 3*goodbye {
			t.Errorf("it took %v", took)
		}
	})
}
