package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListConfigResources, key 74, versions 0 to 1 (KIP-714, KIP-1142).
//
//	v0         client metrics subscriptions, of which there are none
//	v1         any kinds of resources; without kinds all: topics, brokers, their loggers, groups with settings of their own
//
// Unknown kinds are UNSUPPORTED_VERSION, as in Kafka.
var listConfigResourcesRow = Row{
	Key: kafkaproto.KeyListConfigResources, Min: 0, Max: 1, AdvertisedMin: 0, Handler: handler(handleListConfigResources),
}

// clientMetrics are a kind of which nothing is kept.
const clientMetrics = 16

func handleListConfigResources(_ context.Context, a *API, _ *Request, q *kmsg.ListConfigResourcesRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrListConfigResourcesResponse()
	if q.Version < 1 {
		return resp, nil
	}
	kinds := []admin.ResourceKind{admin.TopicResource, admin.BrokerResource, admin.LoggerResource, admin.GroupResource}
	if len(q.ResourceTypes) > 0 {
		kinds = kinds[:0]
		for _, t := range q.ResourceTypes {
			if t != clientMetrics {
				kinds = append(kinds, admin.ResourceKind(t))
			}
		}
	}
	found, err := a.Admin.ConfigResources(kinds)
	if err != nil {
		resp.ErrorCode = code(ErrUnsupportedVersion)
		return resp, nil
	}
	for _, r := range found {
		rr := kmsg.NewListConfigResourcesResponseConfigResource()
		rr.Name, rr.Type = r.Name, int8(r.Kind)
		resp.ConfigResources = append(resp.ConfigResources, rr)
	}
	return resp, nil
}
