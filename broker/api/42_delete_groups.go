package api

import (
	"context"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker/share/keeper"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteGroups, key 42, versions 0 to 3 (KIP-229).
//
//	v2         flexible
//	v3         a message with each error
//
// A group with members is NON_EMPTY_GROUP, an unknown one GROUP_ID_NOT_FOUND. Its offsets go with it; those of a share group first,
// so that none is left behind.
var deleteGroupsRow = Row{Key: kafkaproto.KeyDeleteGroups, Min: 0, Max: 3, AdvertisedMin: 0, Handler: handler(handleDeleteGroups)}

func handleDeleteGroups(ctx context.Context, a *API, _ *Request, q *kmsg.DeleteGroupsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDeleteGroupsResponse()
	kept := map[string]error{}
	patient, cancel := context.WithTimeout(ctx, keepersTime)
	defer cancel()
	for _, id := range q.Groups {
		if a.Group.ShareEmpty(id) == nil {
			if err := forgetShares(patient, a, id); err != nil {
				kept[id] = err
			}
		}
	}
	going := slices.DeleteFunc(slices.Clone(q.Groups), func(id string) bool { return kept[id] != nil })
	errs := a.Group.Delete(ctx, going)
	for _, id := range q.Groups {
		err := kept[id]
		if err == nil {
			err, errs = errs[0], errs[1:]
		}
		rg := kmsg.NewDeleteGroupsResponseGroup()
		rg.Group, rg.ErrorCode, rg.ErrorMessage = id, code(err), message(err)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

// forgetShares deletes all that is known of a share group's progress. A list may be cut off: only an empty one is the end.
func forgetShares(ctx context.Context, a *API, group string) error {
	for pause := forgetPause; ; pause *= 2 {
		all, err := a.ShareOffsets.List(ctx, group)
		if err != nil || len(all) == 0 {
			return err
		}
		requests := make([]*keeper.Request, len(all))
		for i, l := range all {
			requests[i] = &keeper.Request{Op: keeper.Delete, Key: l.Key}
		}
		for _, r := range a.ShareOffsets.Ask(ctx, requests) {
			if r.Err != nil {
				return r.Err
			}
		}
		// A node that does not know yet that it keeps nothing any more lists what is gone.
		select {
		case <-time.After(pause):
		case <-ctx.Done(): // which List says
		}
	}
}

// forgetPause is the first pause between two looks for what is left of a share group.
const forgetPause = 5 * time.Millisecond
