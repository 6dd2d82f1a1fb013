package native

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestGroupsOfASilentNode: while a node of the cluster does not answer, the list of groups is an error that names it, not a part of the
// list; and it is whole again when the node answers.
func TestGroupsOfASilentNode(t *testing.T) {
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{})
	w := limited(t)
	groups := quorlogv1.NewGroupsClient(dial(t, c.Addrs()[0]))
	list := func() error {
		_, err := groups.ListGroups(w.ctx, &quorlogv1.ListGroupsRequest{})
		return err
	}
	w.eventually(func() bool { return list() == nil })
	c.Node(3).Pause()
	var err error
	w.eventually(func() bool {
		err = list()
		return status.Code(err) == codes.Unavailable
	})
	st := w.refused(err, codes.Unavailable, "NOT_COORDINATOR")
	if nc := detail[*quorlogv1.NotCoordinator](st); nc.GetNode() != 3 || nc.GetAddress() != c.Addrs()[2] {
		t.Errorf("%v is named", nc)
	}
	c.Node(3).Resume()
	w.eventually(func() bool { return list() == nil })
}
