package api

import (
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// atListener are the nodes as clients of a listener know them. Those that have no such listener are left out: such a client can't
// reach them.
func atListener(nodes []replication.Node, listener string) []replication.Node {
	out := make([]replication.Node, 0, len(nodes))
	for _, n := range nodes {
		if n, ok := n.At(listener); ok {
			out = append(out, n)
		}
	}
	return out
}

// metadataListenerNotFound is the version of Metadata since which a leader that a client can't reach has an error of its own.
const metadataListenerNotFound = 6

// hideLeaders takes the leaders out of an answer that have no listener of the client's: it was not told where they are.
func hideLeaders(resp *kmsg.MetadataResponse, version int16, nodes []replication.Node, listener string) {
	hidden := map[int32]bool{}
	for _, n := range nodes {
		if _, ok := n.At(listener); !ok {
			hidden[int32(n.ID)] = true
		}
	}
	if len(hidden) == 0 {
		return
	}
	why := code(admin.ErrLeaderNotAvailable)
	if version >= metadataListenerNotFound {
		why = int16(kafkaproto.ListenerNotFound)
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; hidden[p.Leader] && p.ErrorCode == 0 {
				p.Leader, p.ErrorCode = int32(replication.NoNode), why
			}
		}
	}
}
