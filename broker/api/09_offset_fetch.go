package api

import (
	"context"
	"time"

	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetFetch, key 9, versions 1 to 10.
//
//	v2         an error for the whole group; topics null asks for all
//	v5         leader epochs (KIP-320)
//	v6         flexible
//	v7         require_stable (KIP-447): UNSTABLE_OFFSET_COMMIT where an open transaction would change the offset
//	v8         many groups at once (KIP-709)
//	v9         member id and epoch for consumer groups of KIP-848: UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH
//	v10        topics by id
//
// An unknown group, or partition, has offset -1 and no error. Version 1 has no place for an error of the group: each of
// the partitions that were asked for carries it.
var offsetFetchRow = Row{Key: kafkaproto.KeyOffsetFetch, Min: 1, Max: 10, AdvertisedMin: 1, Handler: handler(handleOffsetFetch)}

const (
	versionFetchGroupError = 2
	versionFetchManyGroups = 8

	noMemberEpoch group.MemberEpoch = -1

	// offsetFetchPatience bounds what a request waits while it is not known which topics there are now, for however many groups.
	offsetFetchPatience = 5 * time.Second
)

func handleOffsetFetch(ctx context.Context, a *API, r *Request, q *kmsg.OffsetFetchRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrOffsetFetchResponse()
	ctx, cancel := context.WithTimeout(ctx, offsetFetchPatience)
	defer cancel()
	if r.Header.Version < versionFetchManyGroups {
		offsetFetchOne(ctx, a, r.Header.Version, q, resp)
		return resp, nil
	}
	for i := range q.Groups {
		resp.Groups = append(resp.Groups, offsetFetchGroup(ctx, a, r.Header.Version, &q.Groups[i], q.RequireStable))
	}
	return resp, nil
}

// offsetFetchOne answers the versions before 8.
func offsetFetchOne(ctx context.Context, a *API, version int16, q *kmsg.OffsetFetchRequest, resp *kmsg.OffsetFetchResponse) {
	req := group.FetchRequest{Group: q.Group, Epoch: noMemberEpoch, RequireStable: q.RequireStable}
	req.All = q.Topics == nil && version >= versionFetchGroupError
	for i := range q.Topics {
		req.Topics = append(req.Topics, group.FetchTopic{Name: q.Topics[i].Topic, Partitions: q.Topics[i].Partitions})
	}
	got := a.Group.Fetch(ctx, req)
	resp.ErrorCode = code(got.Err)
	if got.Err != nil && version < versionFetchGroupError {
		got.Topics = failedOffsets(&req, got.Err)
	}
	for i := range got.Topics {
		t := &got.Topics[i]
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Name
		for j := range t.Partitions {
			p := &t.Partitions[j]
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch = p.Partition, int64(p.Offset), int32(p.LeaderEpoch)
			rp.Metadata, rp.ErrorCode = &p.Metadata, code(p.Err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
}

// failedOffsets is the answer for a group that can't be asked.
func failedOffsets(req *group.FetchRequest, err error) []group.FetchedTopic {
	out := make([]group.FetchedTopic, len(req.Topics))
	for i, t := range req.Topics {
		out[i] = group.FetchedTopic{Name: t.Name, ID: t.ID}
		for _, p := range t.Partitions {
			out[i].Partitions = append(out[i].Partitions, group.FetchedPartition{Partition: p, Offset: group.NoOffset, LeaderEpoch: -1, Err: err})
		}
	}
	return out
}

func offsetFetchGroup(ctx context.Context, a *API, version int16, q *kmsg.OffsetFetchRequestGroup, requireStable bool) kmsg.OffsetFetchResponseGroup {
	req := group.FetchRequest{Group: q.Group, Epoch: noMemberEpoch, RequireStable: requireStable, All: q.Topics == nil}
	req.Member, req.Epoch = deref(q.MemberID), group.MemberEpoch(q.MemberEpoch)
	for i := range q.Topics {
		t := &q.Topics[i]
		req.Topics = append(req.Topics, group.FetchTopic{Name: t.Topic, ID: replication.TopicID(t.TopicID), Partitions: t.Partitions})
	}
	got := a.Group.Fetch(ctx, req)
	resp := kmsg.NewOffsetFetchResponseGroup()
	resp.Group, resp.ErrorCode = q.Group, code(got.Err)
	for i := range got.Topics {
		t := &got.Topics[i]
		if req.All && version >= versionOffsetsByID && t.ID == (replication.TopicID{}) {
			continue // the topic is gone, so nothing names it in this version
		}
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.TopicID = t.Name, t.ID
		for j := range t.Partitions {
			p := &t.Partitions[j]
			rp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch = p.Partition, int64(p.Offset), int32(p.LeaderEpoch)
			rp.Metadata, rp.ErrorCode = &p.Metadata, code(p.Err)
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
