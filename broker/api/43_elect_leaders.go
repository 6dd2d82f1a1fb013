package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ElectLeaders, key 43, versions 0 to 2 (KIP-183).
//
//	v1         the kind of election, and an error code for the whole answer (KIP-460)
//	v2         flexible
//
// The preferred replica of a partition takes its leadership over, if it is in sync; the answer comes once it leads. No topics
// means all partitions; those that need no election are then left out. Unclean elections are never done: a partition
// without a leader is ELIGIBLE_LEADERS_NOT_AVAILABLE, and `quorlog raft recover` is how an operator accepts a loss.
var electLeadersRow = Row{Key: kafkaproto.KeyElectLeaders, Min: 0, Max: 2, AdvertisedMin: 0, Handler: handler(handleElectLeaders)}

const electKinds = 1

func handleElectLeaders(ctx context.Context, a *API, _ *Request, q *kmsg.ElectLeadersRequest) (kmsg.Response, error) {
	ctx, cancel := within(ctx, q.TimeoutMillis)
	defer cancel()
	kind := admin.PreferredElection
	if q.Version >= electKinds {
		kind = admin.ElectionKind(q.ElectionType)
	}
	var wanted []admin.PartitionRef
	if q.Topics != nil {
		wanted = []admin.PartitionRef{}
	}
	for i := range q.Topics {
		for _, p := range q.Topics[i].Partitions {
			wanted = append(wanted, admin.PartitionRef{Topic: q.Topics[i].Topic, Partition: p})
		}
	}
	resp := kmsg.NewPtrElectLeadersResponse()
	elections, err := a.Admin.ElectLeaders(ctx, kind, wanted)
	if err != nil && q.Version >= electKinds {
		resp.ErrorCode = code(err)
		return resp, nil
	}
	for _, e := range elections {
		if n := len(resp.Topics); n == 0 || resp.Topics[n-1].Topic != e.Topic {
			t := kmsg.NewElectLeadersResponseTopic()
			t.Topic = e.Topic
			resp.Topics = append(resp.Topics, t)
		}
		p := kmsg.NewElectLeadersResponseTopicPartition()
		p.Partition, p.ErrorCode, p.ErrorMessage = e.Partition, code(e.Err), message(e.Err)
		last := &resp.Topics[len(resp.Topics)-1]
		last.Partitions = append(last.Partitions, p)
	}
	return resp, nil
}
