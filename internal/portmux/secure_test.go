package portmux

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/internal/certs"
)

// secureMux is a port with certificates.
type secureMux struct {
	*Mux
	log    *lines
	keeper *certs.Keeper
	client *tls.Config // what its clients need
}

// startTLS serves a port with TLS, or, if plain, one where only peers have it.
func startTLS(t *testing.T, plain bool, o Options) secureMux {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := certs.Issue(certs.Request{Name: "CA", CA: true}, nil, file("ca.crt"), file("ca.key"), time.Now()); err != nil {
		t.Fatal(err)
	}
	ca, err := certs.LoadAuthority(file("ca.crt"), file("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	q := certs.Request{Name: "node", Node: new(int32), Hosts: []string{"127.0.0.1"}}
	if err := certs.Issue(q, ca, file("n.crt"), file("n.key"), time.Now()); err != nil {
		t.Fatal(err)
	}
	s := secureMux{client: &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}}
	s.keeper, err = certs.Open(certs.Files{Cert: file("n.crt"), Key: file("n.key"), CA: file("ca.crt")}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	o.PeerProtocol = certs.PeerProtocol
	if plain {
		o.PeerTLS = s.keeper.Peers()
	} else {
		o.TLS = s.keeper.Server(certs.NoClientAuth, true)
	}
	s.Mux, s.log = start(t, o)
	pem, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	s.client.RootCAs.AppendCertsFromPEM(pem)
	return s
}

// say begins a TLS connection, as a client's or a peer's, and sends something.
func (s secureMux) say(t *testing.T, peer bool, text string) net.Conn {
	t.Helper()
	nc := dial(t, s.Mux)
	c := tls.Client(nc, s.client)
	if peer {
		var err error
		if c, err = s.keeper.DialPeer(t.Context(), nc); err != nil {
			t.Fatal(err)
		}
	}
	send(t, c, text)
	return c
}

// take accepts a connection and reads what was said there.
func take(t *testing.T, l net.Listener, want string) *Conn {
	t.Helper()
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	got := make([]byte, len(want))
	if _, err := io.ReadFull(server, got); err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	return server.(*Conn)
}

// Inside of TLS a port sorts as without it.
func TestSorting(t *testing.T) {
	m := startTLS(t, false, Options{})
	for want, l := range map[string]net.Listener{"\x00\x00\x00\x05hello": m.Kafka(), "\xf1peers": m.Peers(), "GET / HTTP/1.1\r\n": m.HTTP(), "PRI * ": m.GRPC()} {
		client := m.say(t, want[0] == peerByte, want)
		server := take(t, l, want)
		if server.TCP() != nil {
			t.Error("bytes could go around TLS")
		}
		if state, ok := server.TLS(); !ok || !state.HandshakeComplete {
			t.Error("the state of the TLS connection is not known")
		}
		if _, err := io.WriteString(server, "answer"); err != nil {
			t.Error(err)
		}
		got := make([]byte, 6)
		if _, err := io.ReadFull(client, got); err != nil || string(got) != "answer" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if m.log.String() != "" {
		t.Errorf("log: %s", m.log)
	}
}

// A peer's connection is for nothing else, whatever its certificate would allow, and a client's is never a peer's.
func TestPeersAreToldByTheirProtocol(t *testing.T) {
	m := startTLS(t, false, Options{})
	m.Peers()
	m.HTTP()
	m.GRPC()
	for text, peer := range map[string]bool{"\x00\x00\x00\x05hello": true, "GET / HTTP/1.1\r\n": true, "PRI * ": true, "\x16": true, "\xf1peers": false} {
		if n, err := m.say(t, peer, text).Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("%q of a peer: %t: %d, %v", text, peer, n, err)
		}
	}
	if n := strings.Count(m.log.String(), "a peer's connection"); n != 4 {
		t.Errorf("log: %s", m.log)
	}
}

// On a plaintext port that takes peers by TLS, nobody else comes so, and all others come as ever.
func TestPeersByTLSOnAPlainPort(t *testing.T) {
	m := startTLS(t, true, Options{})
	kafka, peers := m.Kafka(), m.Peers()
	m.say(t, true, "\xf1safe")
	server := take(t, peers, "\xf1safe")
	if state, ok := server.TLS(); !ok || state.NegotiatedProtocol != certs.PeerProtocol {
		t.Error("not by TLS")
	}
	for text, l := range map[string]net.Listener{"\x00\x00\x00\x05hello": kafka, "\xf1plain": peers} {
		send(t, dial(t, m.Mux), text)
		server := take(t, l, text)
		if _, ok := server.TLS(); ok || server.TCP() == nil {
			t.Errorf("%q: not plain", text)
		}
	}
	client := tls.Client(dial(t, m.Mux), m.client)
	if n, err := client.Read(make([]byte, 1)); n > 0 || err == nil { // with TLS 1.3, only after its handshake it hears that it failed
		t.Error("a client comes in by TLS")
	}
	if n, err := m.say(t, true, "\x00\x00\x00\x05hello").Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("a peer speaks Kafka: %d, %v", n, err)
	}
}

// Ends of TLS connections are those of plain ones: a reset until somebody says otherwise, and not an end in order before it.
func TestEndsOfTLS(t *testing.T) {
	m := startTLS(t, false, Options{})
	for _, c := range []struct {
		settle bool
		want   error
	}{{false, syscall.ECONNRESET}, {true, io.EOF}} {
		client := m.say(t, false, "\x00")
		server := take(t, m.Kafka(), "\x00")
		if c.settle {
			if err := server.SetLinger(-1); err != nil {
				t.Fatal(err)
			}
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, c.want) {
			t.Errorf("%v, want %v", err, c.want)
		}
	}
}

// What is no TLS goes nowhere, whatever it says first.
func TestPlaintextOnTLS(t *testing.T) {
	m := startTLS(t, false, Options{})
	log := m.log
	for _, sent := range []string{"\x00\x00\x00\x05hello", "\xf1QP\x01 ", "\x80garbage"} {
		nc := dial(t, m.Mux)
		send(t, nc, sent)
		if _, err := io.Copy(io.Discard, nc); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	}
	nc := dial(t, m.Mux)
	send(t, nc, "GET / HTTP/1.1\r\n\r\n")
	answer, err := bufio.NewReader(nc).ReadString('\n')
	if err != nil || !strings.Contains(answer, "400") {
		t.Errorf("%q, %v", answer, err)
	}
	if !strings.Contains(log.String(), "no TLS on a TLS port") {
		t.Errorf("log: %s", log)
	}
}

// A client that begins a handshake and falls silent is closed in time, with TLS for all and for peers alone.
func TestSilenceInHandshake(t *testing.T) {
	for name, plain := range map[string]bool{"for all": false, "for peers": true} {
		t.Run(name, func(t *testing.T) {
			m := startTLS(t, plain, Options{FirstByte: 10 * time.Millisecond, Handshake: time.Millisecond})
			turnedAway(t, m.Mux, "\x16\x03\x01\x02\x00\x01")
			if m.log.String() != "" {
				t.Errorf("log: %s", m.log)
			}
		})
	}
}

// Close does not wait for a client that is silent in its handshake.
func TestCloseInHandshake(t *testing.T) {
	m := startTLS(t, false, Options{FirstByte: time.Hour})
	nc := dial(t, m.Mux)
	send(t, nc, "\x16\x03\x01\x02\x00\x01")
	plain := dial(t, m.Mux) // once it is refused, the silent one has been accepted
	send(t, plain, "hello")
	if _, err := io.Copy(io.Discard, plain); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if _, err := nc.Read(make([]byte, 1)); err == nil {
		t.Error("still open")
	}
	if strings.Count(m.log.String(), "\n") > 1 {
		t.Errorf("log: %s", m.log)
	}
}

// Before its handshake is over, nobody makes the port keep much.
func TestLongHandshake(t *testing.T) {
	m := startTLS(t, false, Options{})
	nc := dial(t, m.Mux)
	const record = 16 << 10
	hello := "\x01\x00\xf0\x00" + strings.Repeat("x", 3*record-4) // of 61,440 bytes
	for ; hello != ""; hello = hello[record:] {
		if _, err := io.WriteString(nc, "\x16\x03\x01\x40\x00"+hello[:record]); err != nil {
			break // it was closed
		}
	}
	if _, err := nc.Read(make([]byte, 1)); err == nil {
		t.Error("answered")
	}
	if !strings.Contains(m.log.String(), "32 KiB") {
		t.Errorf("log: %s", m.log)
	}
}

// Whoever is turned away in the handshake is told so: a reset could overtake the alert.
func TestAlertBeforeTheEnd(t *testing.T) {
	m := startTLS(t, false, Options{})
	nc := dial(t, m.Mux)
	var alert *net.OpError
	err := tls.Client(nc, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}).Handshake()
	if !errors.As(err, &alert) || alert.Op != "remote error" {
		t.Errorf("%v, want an alert of the server", err)
	}
	if _, err := nc.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want an end in order", err)
	}
}

// A client that reads nothing does not hold up whoever closes its connection.
func TestGoodbyeIsShort(t *testing.T) {
	m := startTLS(t, false, Options{})
	now := time.Now() // the bubble's is long before any certificate
	m.client.Time = func() time.Time { return now }
	synctest.Test(t, func(t *testing.T) {
		nc, raw := net.Pipe()
		defer func() { _ = nc.Close() }()
		client, server := tls.Client(nc, m.client), secure(raw, nil, m.keeper.Server(certs.NoClientAuth, false), time.Minute)
		go func() { _, _ = client.Write([]byte{1}) }() // what follows tells whether it worked
		if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if err := server.SetLinger(-1); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_ = server.Close() // it says that the goodbye failed
		if took := time.Since(began); took > goodbye {
			t.Errorf("it took %v", took)
		}
	})
}
