package api

import (
	"context"

	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeAcls, key 29, versions 1 to 3.
//
//	v1         patterns (KIP-290)
//	v2         flexible
//	v3         the resource type USER
//
// Any broker answers. Without access control by rules the answer is SECURITY_DISABLED.
var describeACLsRow = Row{Key: kafkaproto.KeyDescribeACLs, Min: 1, Max: 3, AdvertisedMin: 1, Handler: handler(handleDescribeACLs)}

func handleDescribeACLs(_ context.Context, a *API, _ *Request, q *kmsg.DescribeACLsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeACLsResponse()
	f := &ruleFilter{
		kind: int8(q.ResourceType), pattern: int8(q.ResourcePatternType), operation: int8(q.Operation), permission: int8(q.PermissionType),
		name: q.ResourceName, principal: q.Principal, host: q.Host,
	}
	err := f.check()
	if a.Rules == nil {
		err = errNoRules
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	rules := f.choose(a.Rules.Image())
	for i := range rules {
		rule := &rules[i]
		if i == 0 || rules[i-1].ResourceType != rule.ResourceType || rules[i-1].Name != rule.Name || rules[i-1].Pattern != rule.Pattern {
			r := kmsg.NewDescribeACLsResponseResource()
			r.ResourceType, r.ResourcePatternType, _, _ = ruleCodes(rule)
			r.ResourceName = rule.Name
			resp.Resources = append(resp.Resources, r)
		}
		one := kmsg.NewDescribeACLsResponseResourceACL()
		one.Principal, one.Host = rule.Principal, rule.Host
		_, _, one.Operation, one.PermissionType = ruleCodes(rule)
		last := &resp.Resources[len(resp.Resources)-1]
		last.ACLs = append(last.ACLs, one)
	}
	return resp, nil
}
