package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterConfigs, key 33, versions 0 to 2.
//
//	v2         flexible
//
// It replaces all that is set for a resource, so what it does not name goes back to its default. Clients should prefer
// IncrementalAlterConfigs, key 44 (KIP-339).
var alterConfigsRow = Row{Key: kafkaproto.KeyAlterConfigs, Min: 0, Max: 2, AdvertisedMin: 0, Handler: handler(handleAlterConfigs)}

func handleAlterConfigs(ctx context.Context, a *API, _ *Request, q *kmsg.AlterConfigsRequest) (kmsg.Response, error) {
	changes := make([]admin.ConfigChange, len(q.Resources))
	for i := range q.Resources {
		r := &q.Resources[i]
		changes[i].Resource = resource(r.ResourceType, r.ResourceName)
		changes[i].Replace = true
		for _, c := range r.Configs {
			changes[i].Ops = append(changes[i].Ops, admin.ConfigOp{Name: c.Name, Kind: admin.OpSet, Value: c.Value})
		}
	}
	resp := kmsg.NewPtrAlterConfigsResponse()
	for i, err := range a.Admin.AlterConfigs(ctx, changes, q.ValidateOnly) {
		rr := kmsg.NewAlterConfigsResponseResource()
		rr.ResourceType, rr.ResourceName = q.Resources[i].ResourceType, q.Resources[i].ResourceName
		rr.ErrorCode, rr.ErrorMessage = code(err), message(err)
		resp.Resources = append(resp.Resources, rr)
	}
	return resp, nil
}
