package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListGroups, key 16, versions 0 to 5.
//
//	v3         flexible
//	v4         a filter by state (KIP-518)
//	v5         a filter by type (KIP-848): Classic, Consumer, Share
//
// Lists the groups of this node only: a client asks all nodes.
var listGroupsRow = Row{Key: kafkaproto.KeyListGroups, Min: 0, Max: 5, AdvertisedMin: 0, Handler: handler(handleListGroups)}

func handleListGroups(_ context.Context, a *API, _ *Request, q *kmsg.ListGroupsRequest) (kmsg.Response, error) {
	groups, err := a.Group.List(group.ListRequest{States: q.StatesFilter, Types: q.TypesFilter})
	resp := kmsg.NewPtrListGroupsResponse()
	resp.ErrorCode = code(err)
	for _, g := range groups {
		rg := kmsg.NewListGroupsResponseGroup()
		rg.Group, rg.ProtocolType, rg.GroupState, rg.GroupType = g.Group, g.ProtocolType, g.State, g.Type
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}
