package native

import (
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// A port with TLS serves gRPC and HTTPS too, to clients that would speak HTTP/2 as well, and nothing in plain text.
func TestTLS(t *testing.T) {
	n, trust := secure(t)
	cc, err := grpc.NewClient("passthrough:///"+n.Addr, grpc.WithTransportCredentials(credentials.NewTLS(trust)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	if _, err := quorlogv1.NewTopicsClient(cc).CreateTopic(t.Context(), &quorlogv1.CreateTopicRequest{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	records := quorlogv1.NewRecordsClient(cc)
	if _, err := records.Produce(t.Context(), &quorlogv1.ProduceRequest{Topic: "t", Records: []*quorlogv1.Record{{Value: []byte("v")}}}); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + n.Addr + "/v1/topics/t/partitions/0/records")
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK {
		t.Error(resp.Status, err)
	}
	plain := dial(t, n.Addr)
	if _, err := quorlogv1.NewClusterClient(plain).GetStatus(t.Context(), &quorlogv1.GetStatusRequest{}); err == nil || strings.Contains(n.Log(), "panic") {
		t.Error("plain text is served")
	}
}
