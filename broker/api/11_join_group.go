package api

import (
	"context"
	"net/netip"
	"time"

	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// JoinGroup, key 11, versions 0 to 9.
//
//	v0         the session timeout is also the rebalance timeout
//	v1         rebalance timeout (KIP-62)
//	v4         a new member is told its id first, with MEMBER_ID_REQUIRED (KIP-394)
//	v5         static members (KIP-345)
//	v6         flexible
//	v7         the answer names the protocol type (KIP-559)
//	v8         a reason, for the log (KIP-800)
//	v9         skip_assignment for a static leader that came back (KIP-814)
//
// Waits until all members have joined or the rebalance timeout is over.
var joinGroupRow = Row{Key: kafkaproto.KeyJoinGroup, Min: 0, Max: 9, AdvertisedMin: 0, Handler: handler(handleJoinGroup)}

const (
	versionJoinRebalanceTimeout = 1
	versionJoinMemberIDRequired = 4
	versionJoinNullProtocol     = 7
	versionJoinSkipAssignment   = 9
)

func handleJoinGroup(ctx context.Context, a *API, r *Request, q *kmsg.JoinGroupRequest) (kmsg.Response, error) {
	version, caller := r.Header.Version, r.Caller()
	req := group.JoinRequest{
		Group: q.Group, Member: q.MemberID, Instance: deref(q.InstanceID),
		ClientID: caller.ClientID, ClientHost: clientHost(caller.Host),
		ProtocolType: q.ProtocolType, Protocols: make([]group.Protocol, len(q.Protocols)),
		SessionTimeout:   time.Duration(q.SessionTimeoutMillis) * time.Millisecond,
		RebalanceTimeout: time.Duration(q.RebalanceTimeoutMillis) * time.Millisecond,
		RequireMemberID:  version >= versionJoinMemberIDRequired,
		SkipAssignment:   version >= versionJoinSkipAssignment,
	}
	if version < versionJoinRebalanceTimeout || req.RebalanceTimeout < 0 {
		req.RebalanceTimeout = req.SessionTimeout
	}
	for i := range q.Protocols {
		req.Protocols[i] = group.Protocol{Name: q.Protocols[i].Name, Metadata: q.Protocols[i].Metadata}
	}
	a.Logger.Debug("A member joins.", "group", q.Group, "member", q.MemberID, "client", caller.ClientID, "reason", deref(q.Reason))
	got := a.Group.Join(ctx, req)
	return joinResponse(version, &got), nil
}

func joinResponse(version int16, got *group.JoinResponse) *kmsg.JoinGroupResponse {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.ErrorCode, resp.Generation = code(got.Err), int32(got.Generation)
	resp.MemberID, resp.LeaderID, resp.SkipAssignment = got.Member, got.Leader, got.SkipAssignment
	if got.Err == nil {
		resp.ProtocolType, resp.Protocol = &got.ProtocolType, &got.Protocol
	} else if version < versionJoinNullProtocol {
		resp.Protocol = new(string) // may not be null yet
	}
	for i := range got.Members {
		m := &got.Members[i]
		rm := kmsg.NewJoinGroupResponseMember()
		rm.MemberID, rm.InstanceID, rm.ProtocolMetadata = m.Member, orNull(m.Instance), m.Metadata
		resp.Members = append(resp.Members, rm)
	}
	return resp
}

// clientHost is an address as Kafka prints it in a group's description.
func clientHost(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return "/" + a.Unmap().String()
}
