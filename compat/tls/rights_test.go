package tls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// What a certificate stands for counts for each protocol of a listener, and on the listener that asks for one alone.
func TestRightsByCertificate(t *testing.T) {
	certs := issue(t)
	inside, outside := testcluster.FreeAddr(t), testcluster.FreeAddr(t)
	testcluster.Start(t, testcluster.Options{Args: certs.node(1,
		"--listeners", fmt.Sprintf("INSIDE://%s,OUTSIDE://%s?tls=true&client-auth=requested", inside, outside),
		"--set", "authorizer=acl", "--set", "super.users=User:CN=alice")})
	for _, c := range []struct {
		who, addr string
		config    *tls.Config // nil: plain text
		may       bool
	}{
		{"alice", outside, certs.config("alice"), true}, {"bob", outside, certs.config("bob"), false},
		{"nobody", outside, certs.config(""), false}, {"nobody", inside, nil, false},
	} {
		t.Run(c.who+" at "+c.addr, func(t *testing.T) {
			var opts []kgo.Opt
			scheme, creds, transport := "http", insecure.NewCredentials(), &http.Transport{ForceAttemptHTTP2: true}
			if c.config != nil {
				opts = append(opts, kgo.DialTLSConfig(c.config))
				scheme, creds, transport.TLSClientConfig = "https", credentials.NewTLS(c.config), c.config
			}
			defer transport.CloseIdleConnections()
			for _, path := range []string{"/v1/cluster", "/metrics"} {
				resp, err := (&http.Client{Transport: transport}).Get(scheme + "://" + c.addr + path)
				if err != nil {
					t.Fatal(err)
				}
				want := http.StatusForbidden
				if c.may {
					want = http.StatusOK
				}
				if err := resp.Body.Close(); err != nil || resp.StatusCode != want {
					t.Errorf("%s: %s, %v; want %d", path, resp.Status, err, want)
				}
			}
			cc, err := grpc.NewClient("passthrough:///"+c.addr, grpc.WithTransportCredentials(creds))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cc.Close() }()
			want := codes.PermissionDenied
			if c.may {
				want = codes.OK
			}
			if _, err := quorlogv1.NewClusterClient(cc).GetStatus(limited(t), &quorlogv1.GetStatusRequest{}); status.Code(err) != want {
				t.Errorf("gRPC: %v, want %v", err, want)
			}
			_, err = kadm.NewClient(client(t, c.addr, opts...)).CreateTopic(limited(t), 1, 1, nil, "by-"+c.who)
			if (err == nil) != c.may || !c.may && !errors.Is(err, kerr.TopicAuthorizationFailed) {
				t.Errorf("Kafka: %v", err)
			}
		})
	}
}
