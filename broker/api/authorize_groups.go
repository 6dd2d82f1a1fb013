package api

import (
	"slices"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Guards of the keys of groups: members need Read, who looks on Describe, who deletes Delete.

func guardOffsetCommit(g *gate, q *kmsg.OffsetCommitRequest, next func() (*kmsg.OffsetCommitResponse, error)) (*kmsg.OffsetCommitResponse, error) {
	denied := g.group(broker.Read, q.Group)
	all, refused, resp, err := q.Topics, q.Topics, kmsg.NewPtrOffsetCommitResponse(), error(nil)
	if denied == nil {
		denied = broker.ErrTopicDenied
		q.Topics, refused = split(all, func(t *kmsg.OffsetCommitRequestTopic) bool { return g.topicDenied(broker.Read, t.Topic, t.TopicID) })
		if len(q.Topics) > 0 || len(all) == 0 {
			resp, err = next()
		}
	}
	if err != nil {
		return nil, err
	}
	for i := range refused {
		t := kmsg.NewOffsetCommitResponseTopic()
		t.Topic, t.TopicID = refused[i].Topic, refused[i].TopicID
		for j := range refused[i].Partitions {
			p := kmsg.NewOffsetCommitResponseTopicPartition()
			p.Partition, p.ErrorCode = refused[i].Partitions[j].Partition, code(denied)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

func guardTxnOffsetCommit(g *gate, q *kmsg.TxnOffsetCommitRequest, next func() (*kmsg.TxnOffsetCommitResponse, error)) (*kmsg.TxnOffsetCommitResponse, error) {
	denied := g.transaction(broker.Write, q.TransactionalID)
	if denied == nil {
		denied = g.group(broker.Read, q.Group)
	}
	all, refused, resp, err := q.Topics, q.Topics, kmsg.NewPtrTxnOffsetCommitResponse(), error(nil)
	if denied == nil {
		denied = broker.ErrTopicDenied
		q.Topics, refused = split(all, func(t *kmsg.TxnOffsetCommitRequestTopic) bool { return g.topicDenied(broker.Read, t.Topic, none) })
		if len(q.Topics) > 0 || len(all) == 0 {
			resp, err = next()
		}
	}
	if err != nil {
		return nil, err
	}
	for i := range refused {
		t := kmsg.NewTxnOffsetCommitResponseTopic()
		t.Topic = refused[i].Topic
		for j := range refused[i].Partitions {
			p := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			p.Partition, p.ErrorCode = refused[i].Partitions[j].Partition, code(denied)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

// none is the id of a topic that a request names by its name.
var none replication.TopicID

func guardJoinGroup(g *gate, q *kmsg.JoinGroupRequest, next func() (*kmsg.JoinGroupResponse, error)) (*kmsg.JoinGroupResponse, error) {
	if err := g.group(broker.Read, q.Group); err != nil {
		return joinResponse(q.Version, &group.JoinResponse{Err: err, Generation: -1}), nil
	}
	return next()
}

func guardHeartbeat(g *gate, q *kmsg.HeartbeatRequest, next func() (*kmsg.HeartbeatResponse, error)) (*kmsg.HeartbeatResponse, error) {
	if err := g.group(broker.Read, q.Group); err != nil {
		resp := kmsg.NewPtrHeartbeatResponse()
		resp.ErrorCode = code(err)
		return resp, nil
	}
	return next()
}

func guardLeaveGroup(g *gate, q *kmsg.LeaveGroupRequest, next func() (*kmsg.LeaveGroupResponse, error)) (*kmsg.LeaveGroupResponse, error) {
	if err := g.group(broker.Read, q.Group); err != nil {
		resp := kmsg.NewPtrLeaveGroupResponse()
		resp.ErrorCode = code(err)
		return resp, nil
	}
	return next()
}

func guardSyncGroup(g *gate, q *kmsg.SyncGroupRequest, next func() (*kmsg.SyncGroupResponse, error)) (*kmsg.SyncGroupResponse, error) {
	if err := g.group(broker.Read, q.Group); err != nil {
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.ErrorCode = code(err)
		return resp, nil
	}
	return next()
}

func (g *gate) groupDenied(op broker.Operation) func(*string) bool {
	return func(id *string) bool { return g.group(op, *id) != nil }
}

func guardDescribeGroups(g *gate, q *kmsg.DescribeGroupsRequest, next func() (*kmsg.DescribeGroupsResponse, error)) (*kmsg.DescribeGroupsResponse, error) {
	allowed, refused := split(q.Groups, g.groupDenied(broker.Describe))
	q.Groups = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range resp.Groups {
		if rg := &resp.Groups[i]; rg.ErrorCode == 0 {
			rg.AuthorizedOperations = g.operations(q.IncludeAuthorizedOperations, broker.Group(rg.Group))
		}
	}
	for _, id := range refused {
		rg := kmsg.NewDescribeGroupsResponseGroup()
		rg.Group, rg.ErrorCode = id, code(broker.ErrGroupDenied)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

// guardListGroups leaves out what the caller may not see, unless it may see the cluster.
func guardListGroups(g *gate, _ *kmsg.ListGroupsRequest, next func() (*kmsg.ListGroupsResponse, error)) (*kmsg.ListGroupsResponse, error) {
	resp, err := next()
	if err != nil || g.cluster(broker.Describe) == nil {
		return resp, err
	}
	resp.Groups, _ = split(resp.Groups, func(rg *kmsg.ListGroupsResponseGroup) bool { return g.group(broker.Describe, rg.Group) != nil })
	return resp, nil
}

func guardDeleteGroups(g *gate, q *kmsg.DeleteGroupsRequest, next func() (*kmsg.DeleteGroupsResponse, error)) (*kmsg.DeleteGroupsResponse, error) {
	allowed, refused := split(q.Groups, g.groupDenied(broker.Delete))
	q.Groups = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for _, id := range refused {
		rg := kmsg.NewDeleteGroupsResponseGroup()
		rg.Group, rg.ErrorCode, rg.ErrorMessage = id, code(broker.ErrGroupDenied), message(broker.ErrGroupDenied)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

func guardOffsetDelete(g *gate, q *kmsg.OffsetDeleteRequest, next func() (*kmsg.OffsetDeleteResponse, error)) (*kmsg.OffsetDeleteResponse, error) {
	if err := g.group(broker.Delete, q.Group); err != nil {
		resp := kmsg.NewPtrOffsetDeleteResponse()
		resp.ErrorCode = code(err)
		return resp, nil
	}
	allowed, refused := split(q.Topics, func(t *kmsg.OffsetDeleteRequestTopic) bool { return g.topicDenied(broker.Read, t.Topic, none) })
	q.Topics = allowed
	resp, err := next()
	if err != nil || resp.ErrorCode != 0 {
		return resp, err
	}
	for i := range refused {
		t := kmsg.NewOffsetDeleteResponseTopic()
		t.Topic = refused[i].Topic
		for j := range refused[i].Partitions {
			p := kmsg.NewOffsetDeleteResponseTopicPartition()
			p.Partition, p.ErrorCode = refused[i].Partitions[j].Partition, topicDeniedCode
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

// subscription is nil if the caller may be a member of a group and see the topics that it subscribes to.
func (g *gate) subscription(id string, topics []string) error {
	if err := g.group(broker.Read, id); err != nil {
		return err
	}
	for _, t := range topics {
		if g.topicDenied(broker.Describe, t, none) {
			return broker.ErrTopicDenied
		}
	}
	return nil
}

func guardConsumerGroupHeartbeat(g *gate, q *kmsg.ConsumerGroupHeartbeatRequest, next func() (*kmsg.ConsumerGroupHeartbeatResponse, error)) (*kmsg.ConsumerGroupHeartbeatResponse, error) {
	if err := g.subscription(q.Group, q.SubscribedTopicNames); err != nil {
		resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	return next()
}

func guardConsumerGroupDescribe(g *gate, q *kmsg.ConsumerGroupDescribeRequest, next func() (*kmsg.ConsumerGroupDescribeResponse, error)) (*kmsg.ConsumerGroupDescribeResponse, error) {
	allowed, refused := split(q.Groups, g.groupDenied(broker.Describe))
	q.Groups = allowed
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range resp.Groups {
		rg := &resp.Groups[i]
		if rg.ErrorCode != 0 {
			continue
		}
		rg.AuthorizedOperations = g.operations(q.IncludeAuthorizedOperations, broker.Group(rg.Group))
		if slices.ContainsFunc(rg.Members, func(m kmsg.ConsumerGroupDescribeResponseGroupMember) bool {
			return g.hides(m.SubscribedTopics, m.Assignment.TopicPartitions, m.TargetAssignment.TopicPartitions)
		}) {
			id := rg.Group
			*rg = kmsg.NewConsumerGroupDescribeResponseGroup()
			rg.Group, rg.ErrorCode, rg.ErrorMessage = id, topicDeniedCode, message(errHiddenTopics)
		}
	}
	for _, id := range refused {
		rg := kmsg.NewConsumerGroupDescribeResponseGroup()
		rg.Group, rg.ErrorCode = id, code(broker.ErrGroupDenied)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

// hides tells whether a member has to do with topics that the caller may not see.
func (g *gate) hides(names []string, assignments ...[]kmsg.AssignmentTopicPartition) bool {
	for _, name := range names {
		if g.topicDenied(broker.Describe, name, none) {
			return true
		}
	}
	for _, list := range assignments {
		for i := range list {
			if g.topicDenied(broker.Describe, list[i].Topic, none) {
				return true
			}
		}
	}
	return false
}

func guardOffsetFetch(g *gate, q *kmsg.OffsetFetchRequest, next func() (*kmsg.OffsetFetchResponse, error)) (*kmsg.OffsetFetchResponse, error) {
	if q.Version < versionFetchManyGroups {
		return guardOffsetFetchOne(g, q, next)
	}
	asked := q.Groups
	var gone []kmsg.OffsetFetchRequestGroup
	q.Groups, gone = split(asked, func(og *kmsg.OffsetFetchRequestGroup) bool { return g.group(broker.Describe, og.Group) != nil })
	refused := make([][]kmsg.OffsetFetchRequestGroupTopic, len(q.Groups))
	all := make([]bool, len(q.Groups))
	for i := range q.Groups {
		og := &q.Groups[i]
		all[i] = og.Topics == nil
		og.Topics, refused[i] = split(og.Topics, func(t *kmsg.OffsetFetchRequestGroupTopic) bool {
			return g.topicDenied(broker.Describe, t.Topic, t.TopicID)
		})
	}
	resp, err := next()
	if err != nil {
		return nil, err
	}
	for i := range resp.Groups {
		rg := &resp.Groups[i]
		if all[i] {
			rg.Topics, _ = split(rg.Topics, func(t *kmsg.OffsetFetchResponseGroupTopic) bool {
				return g.topicDenied(broker.Describe, t.Topic, t.TopicID)
			})
		}
		if rg.ErrorCode == 0 {
			rg.Topics = append(rg.Topics, hiddenOffsets(refused[i])...)
		}
	}
	for i := range gone {
		rg := kmsg.NewOffsetFetchResponseGroup()
		rg.Group, rg.ErrorCode = gone[i].Group, code(broker.ErrGroupDenied)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

func hiddenOffsets(refused []kmsg.OffsetFetchRequestGroupTopic) (out []kmsg.OffsetFetchResponseGroupTopic) {
	for i := range refused {
		t := kmsg.NewOffsetFetchResponseGroupTopic()
		t.Topic, t.TopicID = refused[i].Topic, refused[i].TopicID
		for _, index := range refused[i].Partitions {
			p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = index, -1, -1, new(string), topicDeniedCode
			t.Partitions = append(t.Partitions, p)
		}
		out = append(out, t)
	}
	return out
}

// guardOffsetFetchOne is for the versions before 8.
func guardOffsetFetchOne(g *gate, q *kmsg.OffsetFetchRequest, next func() (*kmsg.OffsetFetchResponse, error)) (*kmsg.OffsetFetchResponse, error) {
	denied, all, refused := g.group(broker.Describe, q.Group), q.Topics == nil, q.Topics
	resp, err := kmsg.NewPtrOffsetFetchResponse(), error(nil)
	switch {
	case denied != nil && q.Version >= versionFetchGroupError:
		resp.ErrorCode = code(denied)
		return resp, nil
	case denied == nil:
		denied = broker.ErrTopicDenied
		q.Topics, refused = split(q.Topics, func(t *kmsg.OffsetFetchRequestTopic) bool { return g.topicDenied(broker.Describe, t.Topic, none) })
		resp, err = next()
	}
	if err != nil || resp.ErrorCode != 0 {
		return resp, err
	}
	if all {
		resp.Topics, _ = split(resp.Topics, func(t *kmsg.OffsetFetchResponseTopic) bool { return g.topicDenied(broker.Describe, t.Topic, none) })
	}
	for i := range refused {
		t := kmsg.NewOffsetFetchResponseTopic()
		t.Topic = refused[i].Topic
		for _, index := range refused[i].Partitions {
			p := kmsg.NewOffsetFetchResponseTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = index, -1, -1, new(string), code(denied)
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
	return resp, nil
}

// guardFindCoordinator refuses keys one by one, or before version 4 the only one.
func guardFindCoordinator(g *gate, q *kmsg.FindCoordinatorRequest, next func() (*kmsg.FindCoordinatorResponse, error)) (*kmsg.FindCoordinatorResponse, error) {
	denied := func(key *string) error {
		switch q.CoordinatorType {
		case coordinatorOfGroup:
			return g.group(broker.Describe, *key)
		case coordinatorOfTransaction:
			return g.transaction(broker.Describe, *key)
		}
		return g.cluster(broker.ClusterAction)
	}
	if q.Version < versionFindMany {
		if err := denied(&q.CoordinatorKey); err != nil {
			resp := kmsg.NewPtrFindCoordinatorResponse()
			resp.ErrorCode, resp.ErrorMessage, resp.NodeID, resp.Port = code(err), message(err), -1, -1
			return resp, nil
		}
		return next()
	}
	var refused []string
	q.CoordinatorKeys, refused = split(q.CoordinatorKeys, func(key *string) bool { return denied(key) != nil })
	resp, err := next()
	if err != nil {
		return nil, err
	}
	why := broker.ErrClusterDenied
	switch q.CoordinatorType {
	case coordinatorOfGroup:
		why = broker.ErrGroupDenied
	case coordinatorOfTransaction:
		why = broker.ErrTransactionalIDDenied
	}
	for _, key := range refused {
		c := kmsg.NewFindCoordinatorResponseCoordinator()
		c.Key, c.ErrorCode, c.ErrorMessage, c.NodeID, c.Port = key, code(why), message(why), -1, -1
		resp.Coordinators = append(resp.Coordinators, c)
	}
	return resp, nil
}
