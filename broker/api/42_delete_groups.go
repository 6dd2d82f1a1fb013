package api

import (
	"context"

	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteGroups, key 42, versions 0 to 3 (KIP-229).
//
//	v2         flexible
//	v3         a message with each error
//
// A group with members is NON_EMPTY_GROUP, an unknown one GROUP_ID_NOT_FOUND. Its offsets go with it.
var deleteGroupsRow = Row{Key: kafkaproto.KeyDeleteGroups, Min: 0, Max: 3, AdvertisedMin: 0, Handler: handler(handleDeleteGroups)}

func handleDeleteGroups(ctx context.Context, a *API, _ *Request, q *kmsg.DeleteGroupsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDeleteGroupsResponse()
	for i, err := range a.Group.Delete(ctx, q.Groups) {
		rg := kmsg.NewDeleteGroupsResponseGroup()
		rg.Group, rg.ErrorCode, rg.ErrorMessage = q.Groups[i], code(err), message(err)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}
