package api

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"
)

// Clients are told what they can reach by the listener that they came in on, and of leaders that they can't reach, that it is so.
func TestListenersOfNodes(t *testing.T) {
	nodes := []replication.Node{
		{ID: 1, Host: "n1", Port: 1, Endpoints: []replication.Endpoint{{Listener: "IN", Host: "n1", Port: 1}, {Listener: "OUT", Host: "o1", Port: 11}}},
		{ID: 2, Host: "n2", Port: 2, Endpoints: []replication.Endpoint{{Listener: "IN", Host: "n2", Port: 2}}},
		{ID: 3, Host: "n3", Port: 3},
	}
	for listener, want := range map[string]map[replication.NodeID]string{
		"IN":  {1: "n1", 2: "n2", 3: "n3"},
		"OUT": {1: "o1", 3: "n3"},
	} {
		told := atListener(nodes, listener)
		if len(told) != len(want) {
			t.Errorf("%s: %v", listener, told)
		}
		for _, n := range told {
			if n.Host != want[n.ID] {
				t.Errorf("%s: node %d at %s", listener, n.ID, n.Host)
			}
		}
	}
	for _, c := range []struct {
		version  int16
		listener string
		leader   int32
		code     int16
	}{
		{13, "IN", 2, 0}, {13, "OUT", -1, int16(kafkaproto.ListenerNotFound)}, {5, "OUT", -1, int16(kafkaproto.LeaderNotAvailable)},
	} {
		resp := &kmsg.MetadataResponse{Topics: []kmsg.MetadataResponseTopic{{Partitions: []kmsg.MetadataResponseTopicPartition{
			{Leader: 2}, {Leader: 1}, {Leader: -1, ErrorCode: int16(kafkaproto.LeaderNotAvailable)}, {Leader: 9},
		}}}}
		hideLeaders(resp, c.version, nodes, c.listener)
		p := resp.Topics[0].Partitions
		if p[0].Leader != c.leader || p[0].ErrorCode != c.code {
			t.Errorf("version %d on %s: leader %d, code %d", c.version, c.listener, p[0].Leader, p[0].ErrorCode)
		}
		if p[1].Leader != 1 || p[1].ErrorCode != 0 || p[2].ErrorCode != int16(kafkaproto.LeaderNotAvailable) || p[3].Leader != 9 {
			t.Errorf("others have changed: %+v", p)
		}
	}
}
