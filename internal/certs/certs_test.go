package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var silent = slog.New(slog.DiscardHandler)

// dir is a directory with an authority ("ca").
type dir struct {
	t    *testing.T
	path string
	ca   *Authority
}

func newDir(t *testing.T) *dir {
	t.Helper()
	d := &dir{t: t, path: t.TempDir()}
	if err := Issue(Request{Name: "Test CA", CA: true}, nil, d.file("ca.crt"), d.file("ca.key"), time.Now()); err != nil {
		t.Fatal(err)
	}
	ca, err := LoadAuthority(d.file("ca.crt"), d.file("ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	d.ca = ca
	return d
}

func (d *dir) file(name string) string { return filepath.Join(d.path, name) }

// issue makes name.crt and name.key.
func (d *dir) issue(name string, q Request) Files {
	d.t.Helper()
	f := Files{Cert: d.file(name + ".crt"), Key: d.file(name + ".key"), CA: d.file("ca.crt")}
	if q.Name == "" {
		q.Name = name
	}
	if err := Issue(q, d.ca, f.Cert, f.Key, time.Now()); err != nil {
		d.t.Fatal(err)
	}
	return f
}

func (d *dir) node(id int32) Files {
	return d.issue("node-"+string('0'+rune(id)), Request{Node: &id, Hosts: []string{"localhost", "127.0.0.1"}})
}

func (d *dir) open(f Files) *Keeper {
	d.t.Helper()
	k, err := Open(f, silent)
	if err != nil {
		d.t.Fatal(err)
	}
	return k
}

// shake makes a TLS connection through TCP and tells what the server learned. Each side sends a byte, so that both know.
func shake(t *testing.T, server *tls.Config, dial func(net.Conn) (*tls.Conn, error)) (state tls.ConnectionState, clientErr, serverErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			serverErr = err
			return
		}
		defer nc.Close()
		c := tls.Server(nc, server)
		if serverErr = c.Handshake(); serverErr == nil {
			state = c.ConnectionState()
			_, serverErr = c.Write([]byte{1})
		}
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c, clientErr := dial(nc)
	if clientErr == nil {
		_, clientErr = io.ReadFull(c, make([]byte, 1))
	}
	_ = nc.Close()
	<-done
	return state, clientErr, serverErr
}

// client dials as a Kafka client would, with or without a certificate.
func (d *dir) client(with *Files, protocols ...string) func(net.Conn) (*tls.Conn, error) {
	d.t.Helper()
	pem, err := os.ReadFile(d.file("ca.crt"))
	if err != nil {
		d.t.Fatal(err)
	}
	c := &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost", NextProtos: protocols}
	c.RootCAs.AppendCertsFromPEM(pem)
	if with != nil {
		pair, err := tls.LoadX509KeyPair(with.Cert, with.Key)
		if err != nil {
			d.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return func(nc net.Conn) (*tls.Conn, error) { return tls.Client(nc, c), nil }
}

func TestClientAuth(t *testing.T) {
	d, other := newDir(t), newDir(t)
	k := d.open(d.node(1))
	good, strange := d.issue("alice", Request{}), other.issue("mallory", Request{})
	for _, c := range []struct {
		auth  ClientAuth
		with  *Files
		fails bool
		named bool
	}{
		{NoClientAuth, nil, false, false}, {NoClientAuth, &good, false, false}, {NoClientAuth, &strange, false, false},
		{RequestedClientAuth, nil, false, false}, {RequestedClientAuth, &good, false, true}, {RequestedClientAuth, &strange, true, false},
		{RequiredClientAuth, nil, true, false}, {RequiredClientAuth, &good, false, true}, {RequiredClientAuth, &strange, true, false},
	} {
		state, clientErr, serverErr := shake(t, k.Server(c.auth, true), d.client(c.with))
		if failed := serverErr != nil; failed != c.fails || failed && clientErr == nil {
			t.Errorf("%s with %v: %v, %v", c.auth, c.with, clientErr, serverErr)
		}
		if named := len(state.VerifiedChains) > 0; named != c.named {
			t.Errorf("%s with %v: named %v", c.auth, c.with, named)
		}
		if _, err := NodeOf(state); !errors.Is(err, ErrNoNode) {
			t.Errorf("a client is a node: %v", err)
		}
	}
}

// What a client that is none of ours offers must not keep it out, and those of HTTP get what they need.
func TestProtocols(t *testing.T) {
	d := newDir(t)
	k := d.open(d.node(1))
	for offered, want := range map[string]string{
		"h2": "h2", "http/1.1": "http/1.1", "kafka": "", "": "",
		"h2 http/1.1": "http/1.1", "http/1.1 h2": "http/1.1", // browsers, curl, Prometheus: HTTP/2 is gRPC here
	} {
		protocols := strings.Fields(offered)
		state, clientErr, serverErr := shake(t, k.Server(NoClientAuth, true), d.client(nil, protocols...))
		if err := errors.Join(clientErr, serverErr); err != nil || state.NegotiatedProtocol != want {
			t.Errorf("%q: %q, %v", offered, state.NegotiatedProtocol, err)
		}
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	d := newDir(t)
	k := d.open(d.node(1))
	_, _, err := shake(t, k.Server(NoClientAuth, false), func(nc net.Conn) (*tls.Conn, error) {
		return tls.Client(nc, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}), nil
	})
	if err == nil {
		t.Error("TLS 1.1 is taken")
	}
}

func TestPeers(t *testing.T) {
	d, other := newDir(t), newDir(t)
	one, two := d.open(d.node(1)), d.open(d.node(2))
	plain, stranger := d.open(d.issue("client", Request{})), other.open(other.node(2))
	dial := func(k *Keeper) func(net.Conn) (*tls.Conn, error) {
		return func(nc net.Conn) (*tls.Conn, error) { return k.DialPeer(context.Background(), nc) }
	}
	state, clientErr, serverErr := shake(t, one.Server(NoClientAuth, true), dial(two))
	if err := errors.Join(clientErr, serverErr); err != nil {
		t.Fatal(err)
	}
	if id, err := NodeOf(state); id != 2 || err != nil {
		t.Errorf("node %d, %v", id, err)
	}
	for what, k := range map[string]*Keeper{"a client's certificate": plain, "another authority's": stranger} {
		if _, _, err := shake(t, one.Server(NoClientAuth, true), dial(k)); err == nil {
			t.Errorf("%s is taken for a peer's", what)
		}
		if _, err, _ := shake(t, k.Server(NoClientAuth, true), dial(one)); err == nil {
			t.Errorf("a server with %s is taken for a peer", what)
		}
	}
	// A listener on which no peers come in gives their protocol to nobody.
	if _, err, _ := shake(t, one.Server(NoClientAuth, false), dial(two)); !errors.Is(err, ErrNoNode) {
		t.Errorf("%v, want ErrNoNode", err)
	}
}

// A certificate that asks for the name of two nodes is none of either.
func TestNodeNames(t *testing.T) {
	for _, c := range []struct {
		uris []string
		want int32
		ok   bool
	}{
		{[]string{"urn:quorlog:node:7"}, 7, true}, {[]string{"spiffe://x", "urn:quorlog:node:0"}, 0, true},
		{nil, 0, false}, {[]string{"urn:quorlog:node:"}, 0, false}, {[]string{"urn:quorlog:node:-1"}, 0, false},
		{[]string{"urn:quorlog:node:2147483648"}, 0, false}, {[]string{"urn:quorlog:node:1", "urn:quorlog:node:2"}, 0, false},
	} {
		cert := &x509.Certificate{}
		for _, u := range c.uris {
			cert.URIs = append(cert.URIs, parseURL(t, u))
		}
		if id, err := nodeOf(cert); id != c.want && c.ok || (err == nil) != c.ok {
			t.Errorf("%v: %d, %v", c.uris, id, err)
		}
	}
}

// serial is the number of the certificate that a server shows now.
func (d *dir) serial(k *Keeper) string {
	d.t.Helper()
	g := k.held.Load()
	return g.pair.Leaf.SerialNumber.String()
}

// twice looks as often as it takes until what has changed is taken over.
func twice(k *Keeper) {
	k.look()
	k.look()
}

func TestReload(t *testing.T) {
	d := newDir(t)
	log := &bytes.Buffer{}
	files := d.node(1)
	k, err := Open(files, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	first := d.serial(k)
	twice(k)
	if d.serial(k) != first || log.Len() > 0 {
		t.Errorf("nothing has changed: %s", log)
	}
	fresh := d.issue("fresh", Request{Node: new(int32), Hosts: []string{"localhost"}})
	damage := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		twice(k)
		if d.serial(k) != first || !bytes.Contains(log.Bytes(), []byte("the old certificate stays")) {
			t.Errorf("after a damaged %s: %s", filepath.Base(path), log)
		}
		log.Reset()
		twice(k)
		if log.Len() > 0 {
			t.Errorf("said twice: %s", log)
		}
	}
	oldKey, oldCA := mustRead(t, files.Key), mustRead(t, files.CA)
	damage(files.CA, []byte("nothing"))
	if err := os.WriteFile(files.CA, oldCA, 0o600); err != nil {
		t.Fatal(err)
	}
	twice(k)
	damage(files.Key, []byte("-----BEGIN PRIVATE KEY-----\nno\n-----END PRIVATE KEY-----\n"))
	damage(files.Key, nil)
	damage(files.Cert, mustRead(t, fresh.Cert)[:100])
	damage(files.Cert, mustRead(t, fresh.Cert)) // the key is still the old one's
	damage(files.Key, oldKey)
	if err := os.Remove(files.Key); err != nil {
		t.Fatal(err)
	}
	twice(k)
	for path, from := range map[string]string{files.Key: fresh.Key, files.CA: fresh.Cert} {
		if err := os.WriteFile(path, mustRead(t, from), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	twice(k)
	if d.serial(k) == first || !bytes.Contains(log.Bytes(), []byte("are in use")) {
		t.Errorf("the new certificate is not in use: %s", log)
	}
}

// A file that is being written is not taken for the whole: a bundle that ends behind its first authority would shut out the
// clients of the second.
func TestHalfWrittenFiles(t *testing.T) {
	d, other := newDir(t), newDir(t)
	files := d.node(1)
	files.CA = d.file("bundle.crt")
	write := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(files.CA, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, both := mustRead(t, d.file("ca.crt")), append(mustRead(t, d.file("ca.crt")), mustRead(t, other.file("ca.crt"))...)
	write(both)
	k := d.open(files)
	before := k.held.Load()
	write(first)
	k.look()
	write(both)
	k.look()
	k.look()
	if k.held.Load() != before {
		t.Error("a half of the file was in use")
	}
	write(first)
	twice(k)
	if k.held.Load() == before {
		t.Error("what was written is not in use")
	}
}

// The end of a certificate is told when it is read, every day from two weeks before it, and as an error once it has come.
func TestEndIsTold(t *testing.T) {
	d := newDir(t)
	log := &bytes.Buffer{}
	now := time.Now()
	k, err := Open(d.node(1), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if left := k.NotAfter().Sub(now); left > CertificateLife || left < CertificateLife-time.Hour {
		t.Errorf("it ends in %v", left)
	}
	for _, c := range []struct {
		after time.Duration
		want  string
	}{
		{CertificateLife - expirySoon - time.Hour, ""}, {CertificateLife - expirySoon + time.Hour, "ends soon"},
		{CertificateLife - expirySoon + 2*time.Hour, ""}, {CertificateLife - expirySoon + 26*time.Hour, "ends soon"}, {CertificateLife + time.Hour, "has ended"},
	} {
		log.Reset()
		k.now = func() time.Time { return now.Add(c.after) }
		k.remind()
		if got := log.String(); (got == "") != (c.want == "") || !bytes.Contains(log.Bytes(), []byte(c.want)) {
			t.Errorf("after %v: %q, want %q", c.after, got, c.want)
		}
	}
}

// Run tells of the end, too, for a node that runs on for long.
func TestRunTellsOfTheEnd(t *testing.T) {
	d := newDir(t)
	log := &bytes.Buffer{}
	k, err := Open(d.node(1), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	k.now = func() time.Time { return k.NotAfter().Add(-time.Hour) }
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*lookInterval)
		defer cancel()
		k.Run(ctx)
	})
	if n := bytes.Count(log.Bytes(), []byte("ends soon")); n != 1 {
		t.Errorf("%d times: %s", n, log)
	}
}

// A private key that others may read is told of.
func TestExposedKey(t *testing.T) {
	d := newDir(t)
	files := d.node(1)
	for mode, want := range map[fs.FileMode]bool{0o600: false, 0o440: false, 0o660: true, 0o644: true} {
		if err := os.Chmod(files.Key, mode); err != nil {
			t.Fatal(err)
		}
		log := &bytes.Buffer{}
		if _, err := Open(files, slog.New(slog.NewTextHandler(log, nil))); err != nil {
			t.Fatal(err)
		}
		if told := bytes.Contains(log.Bytes(), []byte("may use the private key")); told != want {
			t.Errorf("%o: %s", mode, log)
		}
	}
}

// Without authorities nobody is believed, and not whom the operating system would believe.
func TestNoAuthorities(t *testing.T) {
	d := newDir(t)
	files := d.node(1)
	alice := d.issue("alice", Request{})
	k := d.open(Files{Cert: files.Cert, Key: files.Key})
	t.Setenv("SSL_CERT_FILE", d.file("ca.crt"))
	for _, auth := range []ClientAuth{RequestedClientAuth, RequiredClientAuth} {
		if _, _, err := shake(t, k.Server(auth, true), d.client(&alice)); err == nil {
			t.Errorf("%s: a client of the operating system's authorities is believed", auth)
		}
	}
	two := d.open(d.node(2))
	if _, _, err := shake(t, k.Server(NoClientAuth, true), func(nc net.Conn) (*tls.Conn, error) { return two.DialPeer(t.Context(), nc) }); err == nil {
		t.Error("so is a node")
	}
}

// On a listener for nodes alone nobody else finishes a handshake, and nodes speak TLS 1.3.
func TestOnlyPeers(t *testing.T) {
	d := newDir(t)
	one, two := d.open(d.node(1)), d.open(d.node(2))
	alice := d.issue("alice", Request{})
	state, clientErr, serverErr := shake(t, one.Peers(), func(nc net.Conn) (*tls.Conn, error) { return two.DialPeer(t.Context(), nc) })
	if err := errors.Join(clientErr, serverErr); err != nil || state.Version != tls.VersionTLS13 {
		t.Errorf("%x, %v", state.Version, err)
	}
	for _, protocols := range [][]string{nil, {PeerProtocol}} {
		for _, with := range []*Files{nil, &alice} {
			if _, _, err := shake(t, one.Peers(), d.client(with, protocols...)); err == nil {
				t.Errorf("a client comes in: %v, %v", protocols, with)
			}
		}
	}
	node := d.issue("node-4", Request{Node: new(int32)})
	if _, _, err := shake(t, one.Peers(), d.client(&node)); err == nil {
		t.Error("a node's certificate is enough, without the peers' protocol")
	}
}

func TestRunEnds(t *testing.T) {
	d := newDir(t)
	k := d.open(d.node(1))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		k.Run(ctx)
		close(done)
	}()
	cancel()
	<-done
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestBadFilesSayWhere(t *testing.T) {
	d := newDir(t)
	good := d.node(1)
	cert := mustRead(t, good.Cert)
	garbage := []byte("-----BEGIN CERTIFICATE-----\nbm90IGEgY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n")
	for name, c := range map[string]struct {
		data []byte
		line int
	}{
		"empty":              {nil, 0},
		"text":               {[]byte("hello\n"), 0},
		"der":                {[]byte{0x30, 0x82, 1, 2}, 0},
		"second is damaged":  {append(bytes.Clone(cert), cert[:len(cert)/2]...), 1 + bytes.Count(cert, []byte("\n"))},
		"second is no cert":  {append(bytes.Clone(cert), garbage...), 1 + bytes.Count(cert, []byte("\n"))},
		"damaged then whole": {append(bytes.Clone(cert[:len(cert)/2]), append([]byte("\n"), cert...)...), 1},
		"key":                {mustRead(t, good.Key), 0},
	} {
		path := d.file("bad")
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, files := range []Files{{Cert: path, Key: good.Key}, {Cert: good.Cert, Key: good.Key, CA: path}} {
			_, err := Open(files, silent)
			var at *FileError
			if !errors.As(err, &at) || at.File != path || at.Line != c.line {
				t.Errorf("%s: %v, want line %d of %s", name, err, c.line, path)
			}
		}
	}
	for name, files := range map[string]Files{
		"another's key": {Cert: good.Cert, Key: d.issue("x", Request{}).Key},
		"no key":        {Cert: good.Cert, Key: good.Cert},
	} {
		var at *FileError
		if _, err := Open(files, silent); !errors.As(err, &at) || at.File != files.Key {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(Files{Cert: d.file("missing"), Key: good.Key}, silent); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// One file may hold both, as Kafka's keystores in PEM form do.
func TestOneFileForBoth(t *testing.T) {
	d := newDir(t)
	f := d.node(1)
	both := d.file("both.pem")
	if err := os.WriteFile(both, append(mustRead(t, f.Key), mustRead(t, f.Cert)...), 0o600); err != nil {
		t.Fatal(err)
	}
	k := d.open(Files{Cert: both, Key: both})
	if _, clientErr, serverErr := shake(t, k.Server(NoClientAuth, false), d.client(nil)); clientErr != nil || serverErr != nil {
		t.Error(clientErr, serverErr)
	}
}

func TestIssue(t *testing.T) {
	d := newDir(t)
	f := d.node(3)
	for path, want := range map[string]fs.FileMode{f.Key: 0o600, d.file("ca.key"): 0o600, f.Cert: 0o644} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm()&^want != 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	before := mustRead(t, f.Key)
	if err := Issue(Request{Name: "again"}, d.ca, f.Cert, f.Key, time.Now()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overwritten: %v", err)
	}
	if !bytes.Equal(before, mustRead(t, f.Key)) {
		t.Error("the key has changed")
	}
	// If the certificate can't be written, no key without one stays.
	if err := Issue(Request{Name: "half"}, d.ca, f.Cert, d.file("half.key"), time.Now()); !errors.Is(err, fs.ErrExist) {
		t.Error(err)
	}
	if _, err := os.Stat(d.file("half.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a key without a certificate stays")
	}
	if _, err := LoadAuthority(f.Cert, f.Key); err == nil {
		t.Error("a node's certificate is taken for an authority's")
	}
	for _, host := range []string{"", "n1:9092", "https://n1", "a b"} {
		if err := Issue(Request{Name: "n", Hosts: []string{host}}, d.ca, d.file("n.crt"), d.file("n.key"), time.Now()); err == nil {
			t.Errorf("a certificate for %q", host)
		}
	}
	if err := Issue(Request{}, d.ca, d.file("n.crt"), d.file("n.key"), time.Now()); err == nil {
		t.Error("a certificate without a name")
	}
	// None outlives its authority.
	long := d.issue("long", Request{Life: 2 * AuthorityLife})
	certs, err := parseCertificates(long.Cert, mustRead(t, long.Cert))
	if err != nil || !certs[0].NotAfter.Equal(d.ca.cert.NotAfter) {
		t.Errorf("%v, %v", certs[0].NotAfter, err)
	}
}
