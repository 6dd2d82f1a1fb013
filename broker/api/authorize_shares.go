package api

import (
	"errors"
	"slices"

	"github.com/quorlog/quorlog/broker"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Guards of the keys of share groups (KIP-932).

// errHiddenTopics: a group is described only to those who may see its members' topics.
var errHiddenTopics = errors.New("the group has topics that the caller may not describe")

func guardShareGroupHeartbeat(g *gate, q *kmsg.ShareGroupHeartbeatRequest, next func() (*kmsg.ShareGroupHeartbeatResponse, error)) (*kmsg.ShareGroupHeartbeatResponse, error) {
	if err := g.subscription(q.GroupID, q.SubscribedTopicNames); err != nil {
		resp := kmsg.NewPtrShareGroupHeartbeatResponse()
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	return next()
}

func guardShareGroupDescribe(g *gate, q *kmsg.ShareGroupDescribeRequest, next func() (*kmsg.ShareGroupDescribeResponse, error)) (*kmsg.ShareGroupDescribeResponse, error) {
	allowed, refused := split(q.GroupIDs, g.groupDenied(broker.Describe))
	q.GroupIDs = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range resp.Groups {
		rg := &resp.Groups[i]
		if rg.ErrorCode != 0 {
			continue
		}
		rg.AuthorizedOperations = g.operations(q.IncludeAuthorizedOperations, broker.Group(rg.GroupID))
		if slices.ContainsFunc(rg.Members, func(m kmsg.ShareGroupDescribeResponseGroupMember) bool {
			names := slices.Clone(m.SubscribedTopicNames) // these may be the group's own
			for i := range m.Assignment.TopicPartitions {
				names = append(names, m.Assignment.TopicPartitions[i].Topic)
			}
			return g.hides(names)
		}) {
			id := rg.GroupID
			*rg = kmsg.NewShareGroupDescribeResponseGroup()
			rg.GroupID, rg.ErrorCode, rg.ErrorMessage = id, topicDeniedCode, message(errHiddenTopics)
		}
	}
	for _, id := range refused {
		rg := kmsg.NewShareGroupDescribeResponseGroup()
		rg.GroupID, rg.ErrorCode = id, code(broker.ErrGroupDenied)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

func guardShareAcknowledge(g *gate, q *kmsg.ShareAcknowledgeRequest, next func() (*kmsg.ShareAcknowledgeResponse, error)) (*kmsg.ShareAcknowledgeResponse, error) {
	if err := g.group(broker.Read, deref(q.GroupID)); err != nil {
		resp := kmsg.NewPtrShareAcknowledgeResponse()
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	allowed, refused := split(q.Topics, func(t *kmsg.ShareAcknowledgeRequestTopic) bool { return g.idDenied(broker.Read, t.TopicID) })
	q.Topics = allowed
	resp, err := next()
	if err != nil || resp.ErrorCode != 0 {
		return resp, err
	}
	for i := range refused {
		t := kmsg.NewShareAcknowledgeResponseTopic()
		t.TopicID = refused[i].TopicID
		for j := range refused[i].Partitions {
			p := kmsg.NewShareAcknowledgeResponseTopicPartition()
			p.Partition, p.ErrorCode = refused[i].Partitions[j].Partition, topicDeniedCode
			p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = -1, -1
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func guardDescribeShareGroupOffsets(g *gate, q *kmsg.DescribeShareGroupOffsetsRequest, next func() (*kmsg.DescribeShareGroupOffsetsResponse, error)) (*kmsg.DescribeShareGroupOffsetsResponse, error) {
	var gone []kmsg.DescribeShareGroupOffsetsRequestGroup
	q.Groups, gone = split(q.Groups, func(rg *kmsg.DescribeShareGroupOffsetsRequestGroup) bool {
		return g.group(broker.Describe, rg.GroupID) != nil
	})
	refused := make([][]kmsg.DescribeShareGroupOffsetsRequestGroupTopic, len(q.Groups))
	for i := range q.Groups {
		q.Groups[i].Topics, refused[i] = split(q.Groups[i].Topics, func(t *kmsg.DescribeShareGroupOffsetsRequestGroupTopic) bool {
			return g.topicDenied(broker.Describe, t.Topic, none)
		})
	}
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range resp.Groups {
		rg := &resp.Groups[i]
		// Of what was asked for by name all may be seen; of a whole list some may not.
		rg.Topics, _ = split(rg.Topics, func(t *kmsg.DescribeShareGroupOffsetsResponseGroupTopic) bool {
			return g.topicDenied(broker.Describe, t.Topic, none)
		})
		for _, t := range refused[i] {
			rt := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
			rt.Topic = t.Topic
			for _, index := range t.Partitions {
				p := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopicPartition()
				p.Partition, p.StartOffset, p.ErrorCode, p.ErrorMessage = index, -1, topicDeniedCode, message(broker.ErrTopicDenied)
				rt.Partitions = append(rt.Partitions, p)
			}
			rg.Topics = append(rg.Topics, rt)
		}
	}
	for i := range gone {
		rg := kmsg.NewDescribeShareGroupOffsetsResponseGroup()
		rg.GroupID, rg.ErrorCode, rg.ErrorMessage = gone[i].GroupID, code(broker.ErrGroupDenied), message(broker.ErrGroupDenied)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

func guardAlterShareGroupOffsets(g *gate, q *kmsg.AlterShareGroupOffsetsRequest, next func() (*kmsg.AlterShareGroupOffsetsResponse, error)) (*kmsg.AlterShareGroupOffsetsResponse, error) {
	if err := g.group(broker.Read, q.GroupID); err != nil {
		resp := kmsg.NewPtrAlterShareGroupOffsetsResponse()
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	allowed, refused := split(q.Topics, func(t *kmsg.AlterShareGroupOffsetsRequestTopic) bool {
		return g.topicDenied(broker.Read, t.Topic, none)
	})
	q.Topics = allowed
	resp, err := next()
	if err != nil || resp.ErrorCode != 0 {
		return resp, err
	}
	for i := range refused {
		t := kmsg.NewAlterShareGroupOffsetsResponseTopic()
		t.Topic = refused[i].Topic
		for j := range refused[i].Partitions {
			p := kmsg.NewAlterShareGroupOffsetsResponseTopicPartition()
			p.Partition, p.ErrorCode, p.ErrorMessage = refused[i].Partitions[j].Partition, topicDeniedCode, message(broker.ErrTopicDenied)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func guardDeleteShareGroupOffsets(g *gate, q *kmsg.DeleteShareGroupOffsetsRequest, next func() (*kmsg.DeleteShareGroupOffsetsResponse, error)) (*kmsg.DeleteShareGroupOffsetsResponse, error) {
	if err := g.group(broker.Delete, q.GroupID); err != nil {
		resp := kmsg.NewPtrDeleteShareGroupOffsetsResponse()
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	allowed, refused := split(q.Topics, func(t *kmsg.DeleteShareGroupOffsetsRequestTopic) bool {
		return g.topicDenied(broker.Read, t.Topic, none)
	})
	q.Topics = allowed
	resp, err := next()
	if err != nil || resp.ErrorCode != 0 {
		return resp, err
	}
	for i := range refused {
		t := kmsg.NewDeleteShareGroupOffsetsResponseTopic()
		t.Topic, t.ErrorCode, t.ErrorMessage = refused[i].Topic, topicDeniedCode, message(broker.ErrTopicDenied)
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}
