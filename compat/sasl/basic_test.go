package sasl

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// basic is a user and a password as each call by gRPC carries them.
type basic struct{ user, password string }

func (b basic) header() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(b.user+":"+b.password))
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b basic) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if b.user == "" {
		return map[string]string{}, nil
	}
	return map[string]string{"authorization": b.header()}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (basic) RequireTransportSecurity() bool { return true }

// TestBasic: gRPC and HTTP know users by the passwords that Kafka clients log in with, over TLS only, and no longer than those are
// users.
func TestBasic(t *testing.T) {
	n := start(t)
	n.create(t, "t")
	pem, err := os.ReadFile(n.ca)
	if err != nil {
		t.Fatal(err)
	}
	trust := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	trust.RootCAs.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	get := func(url string, who basic) (code int, challenge string) {
		t.Helper()
		q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v1/topics/t/partitions/0/records", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if who.user != "" {
			q.Header.Set("Authorization", who.header())
		}
		resp, err := (&http.Client{Transport: transport}).Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("WWW-Authenticate")
	}
	call := func(who basic) codes.Code {
		t.Helper()
		cc, err := grpc.NewClient("passthrough:///"+n.secure, grpc.WithTransportCredentials(credentials.NewTLS(trust)), grpc.WithPerRPCCredentials(who))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cc.Close() }()
		_, err = quorlogv1.NewRecordsClient(cc).Produce(t.Context(), &quorlogv1.ProduceRequest{Topic: "t", Records: []*quorlogv1.Record{{Value: []byte("v")}}})
		return status.Code(err)
	}
	check := func(who basic, wantHTTP int, want codes.Code) {
		t.Helper()
		got, challenge := get("https://"+n.secure, who)
		if got != wantHTTP || (challenge != "") != (wantHTTP == http.StatusUnauthorized) {
			t.Errorf("%s by HTTP: %d, challenge %q", who.user, got, challenge)
		}
		if got := call(who); got != want {
			t.Errorf("%s by gRPC: %v", who.user, got)
		}
	}
	alice := basic{user, password}
	check(alice, http.StatusOK, codes.OK)
	check(basic{}, http.StatusUnauthorized, codes.Unauthenticated)
	check(basic{user, "wrong"}, http.StatusUnauthorized, codes.Unauthenticated)
	check(basic{"nobody", password}, http.StatusUnauthorized, codes.Unauthenticated)
	if got, challenge := get("http://"+n.scram, alice); got != http.StatusForbidden || challenge != "" {
		t.Errorf("without TLS: %d, challenge %q", got, challenge)
	}
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	change := exec.Command(testcluster.Binary(t), "user", "password", user, "-b", n.Addr)
	change.Stdin = strings.NewReader("another\n")
	if out, err := change.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check(alice, http.StatusUnauthorized, codes.Unauthenticated)
	check(basic{user, "another"}, http.StatusOK, codes.OK)
	out, err := exec.Command(testcluster.Binary(t), "topic", "list", "-b", n.secure, "--tls-ca", n.ca, "--user", user, "--password-file", file, "--sasl", "PLAIN").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "t") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.Command(testcluster.Binary(t), "user", "remove", user, "-b", n.Addr).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	check(basic{user, "another"}, http.StatusUnauthorized, codes.Unauthenticated)
}
