package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// IncrementalAlterConfigs, key 44, versions 0 and 1 (KIP-339).
//
//	v1         flexible
//
// The levels of a broker's loggers are changed on that broker, until it ends (KIP-412).
//
// Set and delete work on every setting, append and subtract on lists. A resource that the request names twice, and a
// setting that a resource names twice, are INVALID_REQUEST.
var incrementalAlterConfigsRow = Row{Key: kafkaproto.KeyIncrementalAlterConfigs, Min: 0, Max: 1, AdvertisedMin: 0, Handler: handler(handleIncrementalAlterConfigs)}

func handleIncrementalAlterConfigs(ctx context.Context, a *API, _ *Request, q *kmsg.IncrementalAlterConfigsRequest) (kmsg.Response, error) {
	changes := make([]admin.ConfigChange, len(q.Resources))
	for i := range q.Resources {
		r := &q.Resources[i]
		changes[i].Resource = resource(r.ResourceType, r.ResourceName)
		for _, c := range r.Configs {
			changes[i].Ops = append(changes[i].Ops, admin.ConfigOp{Name: c.Name, Kind: admin.OpKind(c.Op), Value: c.Value})
		}
	}
	resp := kmsg.NewPtrIncrementalAlterConfigsResponse()
	for i, err := range a.Admin.AlterConfigs(ctx, changes, q.ValidateOnly) {
		rr := kmsg.NewIncrementalAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = q.Resources[i].ResourceType, q.Resources[i].ResourceName
		rr.ErrorCode, rr.ErrorMessage = code(err), message(err)
		resp.Resources = append(resp.Resources, rr)
	}
	return resp, nil
}
