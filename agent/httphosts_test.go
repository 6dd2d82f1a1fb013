package agent

import (
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/internal/certs"
)

// hostPorts are what requests may be said to be for, with what a node answers that anybody may use without TLS.
var hostPorts = map[string]bool{
	"evil.example":             false,
	"evil.example:9092":        false,
	"127.0.0.1.evil.example":   false,
	"localhost.evil.example":   false,
	"n1.example.com.evil.org":  false,
	"evilcluster.local":        false,
	"evil.n1.example.com":      false,
	"example.net":              false,
	"notexample.net":           false,
	"127.0.0.1:9092":           true,
	"10.1.2.3":                 true,
	"[::1]:9092":               true,
	"[2001:db8::1]":            true,
	"localhost:9092":           true,
	"LocalHost.":               true,
	"web.localhost":            true,
	"broker:9092":              true, // a name of a container, or beside the node
	"kafka.internal":           true,
	"quorlog.ns.svc:9092":      true,
	"q.ns.svc.cluster.local":   true,
	"n1.example.com:9092":      true, // as clients are told
	"N1.Example.Com.":          true,
	"lb.example.org:80":        true, // by the setting
	"a.example.net":            true,
	"deep.a.example.net.:9092": true,
}

// A page whose name leads its browser to a node sends requests that are of the same origin, for all that the browser knows; only the
// name tells. Where nobody has to prove who it is, a node takes requests by the names that no stranger can give it, only.
func TestRequestsForAnotherName(t *testing.T) {
	a := testNode(t, map[string]string{"advertise": "n1.example.com:9092"}, nil, "quorlog.http.hosts=lb.example.org,.example.net")
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	asking := func(method, path, host, origin, body string) int {
		t.Helper()
		return askedAs(t, "http://"+a.Addr(), method, path, host, origin, body)
	}
	if status := asking(http.MethodPost, "/v1/topics", "evil.example:9092", "http://evil.example:9092", `{"name":"t","partitions":1}`); status != http.StatusMisdirectedRequest {
		t.Errorf("a page with another name makes a topic: %d", status)
	}
	if _, made := a.controller.Image().Topics["t"]; made {
		t.Error("the topic is made")
	}
	if status := asking(http.MethodPost, "/v1/topics", a.Addr(), "http://"+a.Addr(), `{"name":"t","partitions":1}`); status != http.StatusOK {
		t.Errorf("the node's own page: %d", status)
	}
	for host, want := range hostPorts {
		status := asking(http.MethodGet, "/v1/topics/t/partitions/0/records?edge=EDGE_EARLIEST", host, "", "")
		if want && status != http.StatusOK || !want && status != http.StatusMisdirectedRequest {
			t.Errorf("records for %q: %d", host, status)
		}
		for _, path := range []string{"/livez", "/readyz", "/metrics", "/version"} {
			if status := asking(http.MethodGet, path, host, "", ""); status != http.StatusOK {
				t.Errorf("%s for %q: %d", path, host, status)
			}
		}
	}
	if name, err := os.Hostname(); err != nil || asking(http.MethodGet, "/v1/topics", name, "", "") != http.StatusOK {
		t.Errorf("the machine's own name %q is refused, %v", name, err)
	}
}

// Where a name is proven by a certificate, or a client by a password, any name will do.
func TestNamesOfProvenServersAndClients(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := certs.Issue(certs.Request{Name: "CA", CA: true}, nil, file("ca.crt"), file("ca.key"), time.Now()); err != nil {
		t.Fatal(err)
	}
	authority, err := certs.LoadAuthority(file("ca.crt"), file("ca.key"))
	node := int32(1)
	err = errors.Join(err, certs.Issue(certs.Request{Name: "node", Node: &node, Hosts: []string{"127.0.0.1"}}, authority, file("node.crt"), file("node.key"), time.Now()),
		os.WriteFile(file("users"), []byte("admin:admin-secret\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for scheme, c := range map[string]struct {
		flags map[string]string
		want  int
	}{
		"https://": {map[string]string{"tls-cert": file("node.crt"), "tls-key": file("node.key"), "tls-ca": file("ca.crt")}, http.StatusOK},
		"http://":  {map[string]string{"sasl": "true", "bootstrap-users-file": file("users")}, http.StatusForbidden}, // without TLS no password is taken
	} {
		a := testNode(t, c.flags, nil)
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if status := askedAs(t, scheme+a.Addr(), http.MethodGet, "/v1/topics", "kafka.example.com", "", ""); status != c.want {
			t.Errorf("%s: %d, want %d", scheme, status, c.want)
		}
	}
}

// askedAs is the status of a request for a host, from a page if origin says of which.
func askedAs(t *testing.T, url, method, path, host, origin, body string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	if origin != "" {
		req.Header.Set("Origin", origin)
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	resp, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}
