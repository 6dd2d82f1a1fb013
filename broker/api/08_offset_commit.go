package api

import (
	"context"
	"time"

	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetCommit, key 8, versions 2 to 10.
//
//	v2-4       the client may set its own retention of the offsets
//	v5         the broker's retention holds, counted from when the group becomes empty (KIP-211)
//	v6         leader epochs (KIP-320)
//	v7         static members (KIP-345)
//	v8         flexible
//	v9         the first that a member of a consumer group (KIP-848) may use: it knows STALE_MEMBER_EPOCH
//	v10        topics by id
//
// Answered when the offsets are committed to __consumer_offsets. Generation -1 and no member id: a client that keeps
// offsets in a group without members.
var offsetCommitRow = Row{Key: kafkaproto.KeyOffsetCommit, Min: 2, Max: 10, AdvertisedMin: 2, Handler: handler(handleOffsetCommit)}

// versionMemberEpochs is the first OffsetCommit of clients that know the errors of consumer groups.
const versionMemberEpochs = 9

// versionOffsetsByID is the first OffsetCommit and OffsetFetch that name topics by id.
const versionOffsetsByID = 10

func handleOffsetCommit(ctx context.Context, a *API, r *Request, q *kmsg.OffsetCommitRequest) (kmsg.Response, error) {
	req := group.CommitRequest{
		Group: q.Group, Member: q.MemberID, Instance: deref(q.InstanceID), Generation: group.Generation(q.Generation),
		Retention: -1, Old: r.Header.Version < versionMemberEpochs, Topics: make([]group.CommitTopic, len(q.Topics)),
	}
	if r.Header.Version <= 4 && q.RetentionTimeMillis >= 0 {
		req.Retention = time.Duration(q.RetentionTimeMillis) * time.Millisecond
	}
	for i := range q.Topics {
		t := &q.Topics[i]
		req.Topics[i] = group.CommitTopic{Name: t.Topic, ID: replication.TopicID(t.TopicID), Partitions: make([]group.CommitPartition, len(t.Partitions))}
		for j := range t.Partitions {
			p := &t.Partitions[j]
			req.Topics[i].Partitions[j] = group.CommitPartition{
				Partition: p.Partition, Offset: batch.Offset(p.Offset), LeaderEpoch: batch.Epoch(p.LeaderEpoch), Metadata: deref(p.Metadata),
			}
		}
	}
	errs := a.Group.Commit(ctx, req)

	resp := kmsg.NewPtrOffsetCommitResponse()
	for i := range q.Topics {
		t := &q.Topics[i]
		rt := kmsg.NewOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for j := range t.Partitions {
			rp := kmsg.NewOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = t.Partitions[j].Partition, code(errs[i][j])
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp, nil
}

// deref takes null for empty.
func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// orNull is the inverse of deref.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
