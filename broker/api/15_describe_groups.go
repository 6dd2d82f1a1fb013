package api

import (
	"context"
	"errors"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeGroups, key 15, versions 0 to 6.
//
//	v0-5       an unknown group is Dead, without an error
//	v3         authorized operations: not known without an authorizer
//	v4         static members (KIP-345)
//	v5         flexible
//	v6         an unknown group is Dead, with GROUP_ID_NOT_FOUND and a message (KIP-1043)
//
// Members' metadata and assignments are shown while the group is Stable.
var describeGroupsRow = Row{Key: kafkaproto.KeyDescribeGroups, Min: 0, Max: 6, AdvertisedMin: 0, Handler: handler(handleDescribeGroups)}

const versionDescribeNotFound = 6

func handleDescribeGroups(_ context.Context, a *API, r *Request, q *kmsg.DescribeGroupsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeGroupsResponse()
	for _, d := range a.Group.Describe(q.Groups) {
		resp.Groups = append(resp.Groups, describedGroup(r.Header.Version, &d))
	}
	return resp, nil
}

func describedGroup(version int16, d *group.Description) kmsg.DescribeGroupsResponseGroup {
	rg := kmsg.NewDescribeGroupsResponseGroup()
	rg.Group, rg.State, rg.ProtocolType, rg.Protocol = d.Group, d.State.String(), d.ProtocolType, d.Protocol
	switch {
	case d.Err == nil:
	case errors.Is(d.Err, broker.ErrGroupNotFound) && version < versionDescribeNotFound:
	default:
		rg.ErrorCode, rg.ErrorMessage = code(d.Err), message(d.Err)
		if !errors.Is(d.Err, broker.ErrGroupNotFound) {
			rg.State = "" // not known here
		}
	}
	for i := range d.Members {
		m := &d.Members[i]
		rm := kmsg.NewDescribeGroupsResponseGroupMember()
		rm.MemberID, rm.InstanceID, rm.ClientID, rm.ClientHost = m.Member, orNull(m.Instance), m.ClientID, m.ClientHost
		rm.ProtocolMetadata, rm.MemberAssignment = m.Metadata, m.Assignment
		rg.Members = append(rg.Members, rm)
	}
	return rg
}
