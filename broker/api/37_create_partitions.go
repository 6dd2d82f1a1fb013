package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreatePartitions, key 37, versions 0 to 3 (KIP-195).
//
//	v2         flexible
//	v3         THROTTLING_QUOTA_EXCEEDED (KIP-599), which is never answered
//
// Topics can only grow, and the cluster's own not even that: POLICY_VIOLATION. A topic that the request names twice is INVALID_REQUEST.
var createPartitionsRow = Row{Key: kafkaproto.KeyCreatePartitions, Min: 0, Max: 3, AdvertisedMin: 0, Handler: handler(handleCreatePartitions)}

func handleCreatePartitions(ctx context.Context, a *API, _ *Request, q *kmsg.CreatePartitionsRequest) (kmsg.Response, error) {
	ctx, cancel := within(ctx, q.TimeoutMillis)
	defer cancel()
	requests := make([]admin.MorePartitions, len(q.Topics))
	for i := range q.Topics {
		t := &q.Topics[i]
		requests[i] = admin.MorePartitions{Topic: t.Topic, Count: t.Count}
		if t.Assignment == nil {
			continue
		}
		requests[i].Assignments = make([][]replication.NodeID, len(t.Assignment))
		for j := range t.Assignment {
			requests[i].Assignments[j] = toNodes(t.Assignment[j].Replicas)
		}
	}
	resp := kmsg.NewPtrCreatePartitionsResponse()
	for i, err := range a.Admin.CreatePartitions(ctx, requests, q.ValidateOnly) {
		rt := kmsg.NewCreatePartitionsResponseTopic()
		rt.Topic, rt.ErrorCode, rt.ErrorMessage = q.Topics[i].Topic, code(err), message(err)
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}
