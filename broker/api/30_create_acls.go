package api

import (
	"context"

	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateAcls, key 30, versions 1 to 3.
//
//	v1         patterns (KIP-290)
//	v2         flexible
//	v3         the resource type USER
//
// Any broker accepts the request. The good rules of a request are made together; a rule that exists is no error. A host is an
// address or "*": Kafka takes any text there, and never matches it.
var createACLsRow = Row{Key: kafkaproto.KeyCreateACLs, Min: 1, Max: 3, AdvertisedMin: 1, Handler: handler(handleCreateACLs)}

func handleCreateACLs(ctx context.Context, a *API, _ *Request, q *kmsg.CreateACLsRequest) (kmsg.Response, error) {
	errs := make([]error, len(q.Creations))
	var good []controller.ACL
	for i := range q.Creations {
		c := &q.Creations[i]
		rule := controller.ACL{
			ResourceType: int8(c.ResourceType), Name: c.ResourceName, Pattern: controller.PatternType(c.ResourcePatternType),
			Principal: c.Principal, Host: c.Host, Operation: int8(c.Operation), Permission: controller.Permission(c.PermissionType),
		}
		if errs[i] = controller.ValidateACL(rule); errs[i] == nil {
			good = append(good, rule)
		}
	}
	var all error
	switch {
	case a.Rules == nil:
		all = errNoRules
	case len(good) > 0:
		all = a.Rules.ChangeACLs(ctx, good, nil)
	}
	resp := kmsg.NewPtrCreateACLsResponse()
	for _, err := range errs {
		if err == nil || a.Rules == nil {
			err = all
		}
		r := kmsg.NewCreateACLsResponseResult()
		r.ErrorCode, r.ErrorMessage = code(err), message(err)
		resp.Results = append(resp.Results, r)
	}
	return resp, nil
}
