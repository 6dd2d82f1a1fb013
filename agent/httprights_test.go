package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/quorlog/quorlog/internal/certs"
)

// syncedLog is a log that may be read while it is written.
type syncedLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *syncedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *syncedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *syncedLog) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// httpAs asks a node by HTTP as a user; without a name, as nobody.
func httpAs(t *testing.T, addr, path, user, password string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp
}

// TestWhoSeesFigures: with access control, those who may describe the cluster; on a listener of their own, whoever can connect.
// Probes are for everybody.
func TestWhoSeesFigures(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte("admin:admin-secret\nalice:alice-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := testNode(t, map[string]string{"sasl": "true", "bootstrap-users-file": users, "metrics-listen": "127.0.0.1:0"}, nil,
		"authorizer=acl", "super.users=User:admin", "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256", "quorlog.sasl.plain.on.loopback=true")
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	figures := func(user, password string, want int) {
		t.Helper()
		resp := httpAs(t, a.Addr(), "/metrics", user, password)
		if challenged := resp.Header.Get("WWW-Authenticate") != ""; resp.StatusCode != want || challenged != (want == http.StatusUnauthorized) {
			t.Errorf("%q: %s, %v; want %d", user, resp.Status, resp.Header, want)
		}
	}
	figures("", "", http.StatusUnauthorized)
	figures("admin", "alice-secret", http.StatusUnauthorized)
	figures("nobody", "alice-secret", http.StatusUnauthorized)
	figures("alice", "alice-secret", http.StatusForbidden)
	figures("admin", "admin-secret", http.StatusOK)
	for _, path := range []string{"/livez", "/readyz", "/healthz", "/version"} {
		if resp := httpAs(t, a.Addr(), path, "", ""); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	own := a.web.probes.Addr().String()
	for path, want := range map[string]int{
		"/metrics": http.StatusOK, "/livez": http.StatusOK, "/readyz": http.StatusOK, "/healthz": http.StatusOK, "/version": http.StatusOK,
		"/": http.StatusNotFound, "/v1/topics": http.StatusNotFound,
	} {
		if resp := httpAs(t, own, path, "", ""); resp.StatusCode != want {
			t.Errorf("%s on its own listener: %s, want %d", path, resp.Status, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl := newClient(t, kgo.SeedBrokers(a.Addr()), kgo.SASL(plain.Auth{User: "admin", Pass: "admin-secret"}.AsMechanism()))
	rule := kadm.NewACLs().Allow("User:alice").AllowHosts("*").Clusters().Operations(kadm.OpDescribe)
	if results, err := kadm.NewClient(cl).CreateACLs(ctx, rule); err != nil || results[0].Err != nil {
		t.Fatal(err, results)
	}
	figures("alice", "alice-secret", http.StatusOK)
	_, body := httpGet(t, own, "/metrics")
	got := parseSeries(t, body)
	for key, least := range map[string]float64{
		`quorlog_denials_total{resource="cluster"}`:                                      1,
		`quorlog_logins_total{listener="SASL_PLAINTEXT",result="accepted"}`:              4,
		`quorlog_logins_total{listener="SASL_PLAINTEXT",result="refused"}`:               2,
		`quorlog_request_memory_limit_bytes`:                                             1,
		`quorlog_log_tail_limit_bytes`:                                                   1,
		`quorlog_request_duration_seconds_count{key="SaslAuthenticate"}`:                 1,
		`kafka_server_socket_server_metrics_connection_count{listener="SASL_PLAINTEXT"}`: 1,
	} {
		if got[key] < least {
			t.Errorf("%s: %v, want at least %v", key, got[key], least)
		}
	}
}

// TestFiguresByCertificate: over HTTPS it is the certificate that says who asks, and when the node's own ends is told.
func TestFiguresByCertificate(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(certs.Issue(certs.Request{Name: "CA", CA: true}, nil, file("ca.crt"), file("ca.key"), time.Now()))
	authority, err := certs.LoadAuthority(file("ca.crt"), file("ca.key"))
	must(err)
	node := int32(1)
	for name, q := range map[string]certs.Request{"node": {Node: &node, Hosts: []string{"127.0.0.1"}}, "admin": {}, "alice": {}} {
		q.Name = name
		must(certs.Issue(q, authority, file(name+".crt"), file(name+".key"), time.Now()))
	}
	a := testNode(t, map[string]string{
		"tls-cert": file("node.crt"), "tls-key": file("node.key"), "tls-ca": file("ca.crt"), "tls-client-auth": "requested",
	}, nil, "authorizer=acl", "super.users=User:CN=admin")
	must(a.Start(t.Context()))
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(file("ca.crt"))
	must(err)
	roots.AppendCertsFromPEM(pem)
	ask := func(who, path string) (int, string) {
		t.Helper()
		config := &tls.Config{RootCAs: roots}
		if who != "" {
			pair, err := tls.LoadX509KeyPair(file(who+".crt"), file(who+".key"))
			must(err)
			config.Certificates = []tls.Certificate{pair}
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: config, ForceAttemptHTTP2: true}, Timeout: time.Minute}
		resp, err := client.Get("https://" + a.Addr() + path)
		must(err)
		body, err := io.ReadAll(resp.Body)
		must(errors.Join(err, resp.Body.Close()))
		return resp.StatusCode, string(body)
	}
	for who, want := range map[string]int{"": http.StatusForbidden, "alice": http.StatusForbidden, "admin": http.StatusOK} {
		if status, body := ask(who, "/metrics"); status != want {
			t.Errorf("%q: %d, want %d: %.100s", who, status, want, body)
		}
		if status, body := ask(who, "/livez"); status != http.StatusOK {
			t.Errorf("%q: %d %s", who, status, body)
		}
	}
	_, body := ask("admin", "/metrics")
	end := time.Unix(int64(parseSeries(t, body)["quorlog_tls_certificate_end_seconds"]), 0)
	if left := time.Until(end); left > certs.CertificateLife || left < certs.CertificateLife-time.Hour {
		t.Errorf("the certificate is said to end at %v", end)
	}
}

// A handler that panics costs its connection, and is in the log where somebody sees it.
func TestPanicOfAnHTTPHandler(t *testing.T) {
	var log syncedLog
	a := loggedNode(t, log.logger(), nil, nil)
	a.web.route("GET /broken", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _ = strings.Split(r.URL.Path, "/")[5] }))
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	if resp, err := client.Get("http://" + a.Addr() + "/broken"); err == nil {
		t.Errorf("%s", resp.Status)
		_ = resp.Body.Close()
	}
	if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "index out of range") {
		t.Errorf("the log says %s", text)
	}
	if status, _ := httpGet(t, a.Addr(), "/livez"); status != http.StatusOK {
		t.Error(status)
	}
}
