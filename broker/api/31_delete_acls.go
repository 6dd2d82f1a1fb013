package api

import (
	"context"

	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteAcls, key 31, versions 1 to 3.
//
//	v1         patterns (KIP-290)
//	v2         flexible
//	v3         the resource type USER
//
// Any broker accepts the request. Rules that several filters choose are told of with each.
var deleteACLsRow = Row{Key: kafkaproto.KeyDeleteACLs, Min: 1, Max: 3, AdvertisedMin: 1, Handler: handler(handleDeleteACLs)}

func handleDeleteACLs(ctx context.Context, a *API, _ *Request, q *kmsg.DeleteACLsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDeleteACLsResponse()
	im := &controller.Image{}
	if a.Rules != nil {
		im = a.Rules.Image() // one for all filters
	}
	for i := range q.Filters {
		c := &q.Filters[i]
		f := &ruleFilter{
			kind: int8(c.ResourceType), pattern: int8(c.ResourcePatternType), operation: int8(c.Operation), permission: int8(c.PermissionType),
			name: c.ResourceName, principal: c.Principal, host: c.Host,
		}
		resp.Results = append(resp.Results, deleteACLs(ctx, a, f, im))
	}
	return resp, nil
}

// deleteACLs removes the rules that a filter chooses. A failure in the middle of many is told for those that may still be there.
func deleteACLs(ctx context.Context, a *API, f *ruleFilter, im *controller.Image) kmsg.DeleteACLsResponseResult {
	result := kmsg.NewDeleteACLsResponseResult()
	err := f.check()
	if a.Rules == nil {
		err = errNoRules
	}
	if err != nil {
		result.ErrorCode, result.ErrorMessage = code(err), message(err)
		return result
	}
	rules := f.choose(im)
	for len(rules) > 0 {
		n := min(len(rules), controller.MaxACLsPerChange)
		if err == nil {
			err = a.Rules.ChangeACLs(ctx, nil, rules[:n])
		}
		for i := range rules[:n] {
			m := kmsg.NewDeleteACLsResponseResultMatchingACL()
			m.ResourceName, m.Principal, m.Host = rules[i].Name, rules[i].Principal, rules[i].Host
			m.ResourceType, m.ResourcePatternType, m.Operation, m.PermissionType = ruleCodes(&rules[i])
			m.ErrorCode, m.ErrorMessage = code(err), message(err)
			result.MatchingACLs = append(result.MatchingACLs, m)
		}
		rules = rules[n:]
	}
	return result
}
