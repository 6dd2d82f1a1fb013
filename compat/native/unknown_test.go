package native

import (
	"testing"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestUnknownMethods: whoever calls what is not served takes no room from others, however often.
func TestUnknownMethods(t *testing.T) {
	w := newWorld(t, 1)
	for range 200 {
		err := w.conns[0].Invoke(w.ctx, "/quorlog.v1.Records/NoSuchMethod", &quorlogv1.GetServersRequest{}, &quorlogv1.GetServersResponse{})
		if status.Code(err) != codes.Unimplemented {
			t.Fatal(err)
		}
	}
	_, err := w.cluster(0).GetServers(w.ctx, &quorlogv1.GetServersRequest{})
	w.must(err)
}
