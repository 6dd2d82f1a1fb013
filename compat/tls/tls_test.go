package tls

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 2 * time.Minute

// certificates are files that `quorlog cert` has made.
type certificates struct {
	t   *testing.T
	dir string
}

// issue makes an authority, certificates for three nodes and for the clients alice and bob.
func issue(t *testing.T) certificates {
	t.Helper()
	c := certificates{t, filepath.Join(t.TempDir(), "certs")}
	c.quorlog("ca")
	for id := 1; id <= 3; id++ {
		c.quorlog("node", strconv.Itoa(id), "--host", "127.0.0.1", "--host", "localhost")
	}
	c.quorlog("client", "alice")
	c.quorlog("client", "bob")
	return c
}

func (c certificates) quorlog(args ...string) {
	c.t.Helper()
	args = append(append([]string{"cert"}, args...), "--dir", c.dir)
	if out, err := exec.Command(testcluster.Binary(c.t), args...).CombinedOutput(); err != nil {
		c.t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

func (c certificates) file(name string) string { return filepath.Join(c.dir, name) }

// node are a node's flags.
func (c certificates) node(id int, more ...string) []string {
	name := c.file(fmt.Sprint("node-", id))
	return append([]string{"--tls-cert", name + ".crt", "--tls-key", name + ".key", "--tls-ca", c.file("ca.crt")}, more...)
}

// config is a client's that believes the authority and has the certificate of a name, or none.
func (c certificates) config(name string) *tls.Config {
	c.t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	config.RootCAs.AppendCertsFromPEM(read(c.t, c.file("ca.crt")))
	if name != "" {
		config.Certificates = []tls.Certificate{c.pair(name)}
	}
	return config
}

func (c certificates) pair(name string) tls.Certificate {
	c.t.Helper()
	pair, err := tls.LoadX509KeyPair(c.file(name+".crt"), c.file(name+".key"))
	if err != nil {
		c.t.Fatal(err)
	}
	return pair
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// await waits for something to happen.
func await(t *testing.T, what string, happened func() bool) {
	t.Helper()
	rig.Await(t, func() string {
		if happened() {
			return ""
		}
		return what
	})
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// roundTrip writes records and reads them back.
func roundTrip(t *testing.T, cl *kgo.Client, topic string, records int) {
	t.Helper()
	ctx := limited(t)
	for i := range records {
		cl.Produce(ctx, &kgo.Record{Topic: topic, Value: bytes.Repeat([]byte{byte(i)}, 1000)}, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	cl.AddConsumeTopics(topic)
	for got := 0; got < records; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d: %v", got, records, err)
		}
		got += fetches.NumRecords()
	}
}

// Three nodes whose only listener has TLS: clients and nodes, each by its certificates, and clients of several makes.
func TestClusterOverTLS(t *testing.T) {
	certs := issue(t)
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{NodeArgs: func(id int) []string {
		return certs.node(id, "--tls-client-auth", "requested")
	}})
	cl := client(t, c.Node(2).Addr, kgo.DialTLSConfig(certs.config("alice")))
	if _, err := kadm.NewClient(cl).CreateTopic(limited(t), 3, 3, nil, "secret"); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, cl, "secret", 3000)
	anonymous := client(t, c.Node(1).Addr, kgo.DialTLSConfig(certs.config("")))
	if err := anonymous.Ping(limited(t)); err != nil {
		t.Errorf("requested, not required: %v", err)
	}

	t.Run("plain", func(t *testing.T) {
		plain := client(t, c.Node(1).Addr, kgo.RequestRetries(0))
		if err := plain.Ping(limited(t)); err == nil {
			t.Error("a plain client is served")
		}
	})
	t.Run("quorlog", func(t *testing.T) {
		out, err := exec.Command(testcluster.Binary(t), "topic", "list", "-b", c.Node(3).Addr, "--tls-ca", certs.file("ca.crt")).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "secret") {
			t.Errorf("%v: %s", err, out)
		}
	})
	t.Run("a client as a node", func(t *testing.T) {
		// The magic of the peers inside of a client's TLS connection.
		nc, err := tls.Dial("tcp", c.Node(1).Addr, certs.config("alice"))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if _, err := nc.Write([]byte("\xf1QP\x01")); err != nil {
			t.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, nc); n > 0 {
			t.Errorf("%d bytes of answer, %v", n, err)
		}
		await(t, "the refusal", func() bool { return strings.Contains(c.Node(1).Log(), "does not speak") })
	})
}

// Whoever has no certificate is refused where one is required.
func TestRequired(t *testing.T) {
	certs := issue(t)
	n := testcluster.Start(t, testcluster.Options{Args: certs.node(1, "--tls-client-auth", "required")})
	named := client(t, n.Addr, kgo.DialTLSConfig(certs.config("alice")), kgo.AllowAutoTopicCreation())
	roundTrip(t, named, "mine", 10)
	anonymous := client(t, n.Addr, kgo.DialTLSConfig(certs.config("")), kgo.RequestRetries(0))
	if err := anonymous.Ping(limited(t)); err == nil {
		t.Error("served without a certificate")
	}
}

// Clients of each listener are told its addresses, those of the leaders and coordinators included.
func TestListeners(t *testing.T) {
	certs := issue(t)
	within, outside := map[int]string{}, map[int]string{}
	for id := 1; id <= 3; id++ {
		within[id], outside[id] = testcluster.FreeAddr(t), testcluster.FreeAddr(t)
	}
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{NodeArgs: func(id int) []string {
		list := fmt.Sprintf("INSIDE://%s,OUTSIDE://%s?tls=true&advertise=localhost:%s", within[id], outside[id], port(t, outside[id]))
		return certs.node(id, "--listeners", list)
	}})
	inside := client(t, c.Node(1).Addr, kgo.AllowAutoTopicCreation(), kgo.ConsumerGroup("in"))
	away := client(t, outside[2], kgo.DialTLSConfig(certs.config("")), kgo.ConsumerGroup("out"))
	roundTrip(t, inside, "in", 100)
	if _, err := kadm.NewClient(away).CreateTopic(limited(t), 6, 3, nil, "out"); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, away, "out", 600)
	for _, test := range []struct {
		cl   *kgo.Client
		host string
		want func(id int) string
	}{
		{inside, "127.0.0.1", func(id int) string { return port(t, c.Node(id).Addr) }},
		{away, "localhost", func(id int) string { return port(t, outside[id]) }},
	} {
		adm := kadm.NewClient(test.cl)
		brokers, err := adm.ListBrokers(limited(t))
		if err != nil || len(brokers) != 3 {
			t.Fatalf("%v, %v", brokers, err)
		}
		coordinators := adm.FindGroupCoordinators(limited(t), "in", "out")
		details := slices.Concat(brokers, coordinatorsOf(coordinators))
		for _, b := range details {
			if b.Host != test.host || strconv.Itoa(int(b.Port)) != test.want(int(b.NodeID)) {
				t.Errorf("node %d is told as %s:%d", b.NodeID, b.Host, b.Port)
			}
		}
	}
}

func coordinatorsOf(found kadm.FindCoordinatorResponses) (out kadm.BrokerDetails) {
	for _, f := range found {
		out = append(out, kadm.BrokerDetail{NodeID: f.NodeID, Host: f.Host, Port: f.Port})
	}
	return out
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Damaged files stop the start, and the reason is told, with the place where there is one.
func TestBadFilesStopTheStart(t *testing.T) {
	certs := issue(t)
	bad := certs.file("bad.crt")
	if err := os.WriteFile(bad, []byte("-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"certificate": {[]string{"--tls-cert", bad, "--tls-key", certs.file("node-1.key")}, "TLS: " + bad + ":1: x509: malformed certificate"},
		"key":         {[]string{"--tls-cert", certs.file("node-1.crt"), "--tls-key", bad}, "TLS: " + bad + ": holds no private key in PEM form"},
		"other key":   {[]string{"--tls-cert", certs.file("node-1.crt"), "--tls-key", certs.file("node-2.key")}, "private key does not match public key"},
		"authorities": {certs.node(1, "--tls-ca", bad), "TLS: " + bad + ":1: x509: malformed certificate"},
		"rules":       {certs.node(1, "--set", "ssl.principal.mapping.rules=RULE:bad.crt"), "ssl.principal.mapping.rules"},
		"no key":      {[]string{"--tls-cert", certs.file("node-1.crt")}, "tls-cert and tls-key go together"},
	} {
		cmd := exec.Command(testcluster.Binary(t), append([]string{"serve", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0"}, c.args...)...)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v: %s; want %q", name, err, out, c.want)
		}
	}
}
