package api

import (
	"context"

	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// LeaveGroup, key 13, versions 0 to 5.
//
//	v0-2       one member; its error is the request's
//	v3         many members, also by instance alone, with an error each (KIP-345)
//	v4         flexible
//	v5         a reason, for the log (KIP-800)
var leaveGroupRow = Row{Key: kafkaproto.KeyLeaveGroup, Min: 0, Max: 5, AdvertisedMin: 0, Handler: handler(handleLeaveGroup)}

const versionLeaveMany = 3

func handleLeaveGroup(ctx context.Context, a *API, r *Request, q *kmsg.LeaveGroupRequest) (kmsg.Response, error) {
	req := group.LeaveRequest{Group: q.Group}
	many := r.Header.Version >= versionLeaveMany
	if !many {
		req.Members = []group.LeaveMember{{Member: q.MemberID}}
	}
	for i := range q.Members {
		m := &q.Members[i]
		req.Members = append(req.Members, group.LeaveMember{Member: m.MemberID, Instance: deref(m.InstanceID)})
		a.Logger.Debug("A member leaves.", "group", q.Group, "member", m.MemberID, "reason", deref(m.Reason))
	}
	each, err := a.Group.Leave(ctx, req)

	resp := kmsg.NewPtrLeaveGroupResponse()
	switch {
	case err != nil:
		resp.ErrorCode = code(err)
	case !many:
		resp.ErrorCode = code(each[0])
	default:
		for i := range q.Members {
			m := &q.Members[i]
			rm := kmsg.NewLeaveGroupResponseMember()
			rm.MemberID, rm.InstanceID, rm.ErrorCode = m.MemberID, m.InstanceID, code(each[i])
			resp.Members = append(resp.Members, rm)
		}
	}
	return resp, nil
}
