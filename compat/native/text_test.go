package native

import (
	"net/http"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// TestGroupsThatAreNoText: what Kafka's clients call groups and themselves is bytes. One such name takes nothing from anybody: the
// list of groups, the group, its offsets.
func TestGroupsThatAreNoText(t *testing.T) {
	const odd, text = "\xff", "\ufffd"
	w := newWorld(t, 3)
	w.topic("t", 1)
	for _, name := range []string{"g" + odd, "plain"} {
		var offsets kadm.Offsets
		offsets.Add(kadm.Offset{Topic: "t", At: 1, LeaderEpoch: -1, Metadata: odd})
		w.eventually(func() bool { return w.admin.CommitAllOffsets(w.ctx, name, offsets) == nil })
	}
	w.client(kgo.ClientID(odd), kgo.InstanceID(odd), kgo.ConsumeTopics("t"), kgo.ConsumerGroup("classic"))
	w.client(kgo.ClientID(odd), kgo.InstanceID(odd), kgo.ConsumeTopics("t"), kgo.ConsumerGroup("consumer"), kgo.ServerSideBalancer())
	w.eventually(func() bool {
		got, err := w.admin.DescribeGroups(w.ctx, "classic")
		return err == nil && len(got["classic"].Members) == 1
	})
	w.eventually(func() bool {
		got, err := w.admin.DescribeConsumerGroups(w.ctx, "consumer")
		return err == nil && len(got["consumer"].Members) == 1
	})
	for node := range w.conns {
		list := w.listed(node)
		found := false
		for _, g := range list.GetGroups() {
			found = found || g.GetGroup() == "g"+text
		}
		if !found {
			w.Errorf("node %d lists %v", node, list)
		}
		for _, kind := range []string{"classic", "consumer"} {
			group, err := w.groups(node).DescribeGroup(w.ctx, &quorlogv1.DescribeGroupRequest{Group: kind})
			m := group.GetMembers()
			if err != nil || group.GetType() != kind || len(m) != 1 || m[0].GetClientId() != text || m[0].GetInstance() != text {
				w.Error(group, err)
			}
		}
		offsets, err := w.groups(node).FetchOffsets(w.ctx, &quorlogv1.FetchOffsetsRequest{Group: "plain"})
		if o := offsets.GetOffsets(); err != nil || len(o) != 1 || o[0].GetOffset() != 1 || o[0].GetMetadata() != text {
			w.Error(offsets, err)
		}
	}
	w.listed(0)
	if status, body := w.http(http.MethodGet, "http://"+w.addrs[0]+"/v1/groups", nil); status != http.StatusOK {
		w.Error(status, body)
	}
}
