package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/broker/share/keeper"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteShareGroupOffsets, key 92, version 0 (KIP-932).
//
// Forgets all that is known of a group's progress in the topics; it would begin anew by share.auto.offset.reset. A group with
// members is NON_EMPTY_GROUP, an unknown one GROUP_ID_NOT_FOUND, and a topic of which nothing is known UNKNOWN_TOPIC_OR_PARTITION.
var deleteShareGroupOffsetsRow = Row{
	Key: kafkaproto.KeyDeleteShareGroupOffsets, Min: 0, Max: 0, AdvertisedMin: 0, Handler: handler(handleDeleteShareGroupOffsets),
}

func handleDeleteShareGroupOffsets(ctx context.Context, a *API, _ *Request, q *kmsg.DeleteShareGroupOffsetsRequest) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, keepersTime)
	defer cancel()
	resp := kmsg.NewPtrDeleteShareGroupOffsetsResponse()
	topics, err := forgettable(ctx, a, q.GroupID)
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	var requests []*keeper.Request
	var of []int // the topics that they belong to
	errs := make([]error, len(q.Topics))
	resp.Topics = make([]kmsg.DeleteShareGroupOffsetsResponseTopic, len(q.Topics))
	for i := range q.Topics {
		rt := &resp.Topics[i]
		rt.Default()
		rt.Topic = q.Topics[i].Topic
		id, partitions, known := a.ShareOffsets.Topic(rt.Topic)
		switch rt.TopicID = id; {
		case !known:
			errs[i] = replication.ErrUnknownPartition
			continue
		case !topics[id]:
			errs[i] = fmt.Errorf("%w of which the group has offsets", replication.ErrUnknownPartition)
			continue
		}
		for index := range partitions {
			requests = append(requests, &keeper.Request{Op: keeper.Delete, Key: share.Key{Group: q.GroupID, Topic: id, Partition: index}})
			of = append(of, i)
		}
	}
	for i, r := range a.ShareOffsets.Ask(ctx, requests) {
		if errs[of[i]] == nil {
			errs[of[i]] = r.Err
		}
	}
	for i, err := range errs {
		resp.Topics[i].ErrorCode, resp.Topics[i].ErrorMessage = code(err), message(err)
	}
	return resp, nil
}

// forgettable tells in which topics a group's progress is known, if it may be forgotten: by a group that has no members and is coordinated here.
func forgettable(ctx context.Context, a *API, group string) (map[replication.TopicID]bool, error) {
	if group == "" {
		return nil, broker.ErrInvalidGroupID
	}
	idle := a.Group.ShareEmpty(group)
	if idle != nil && !errors.Is(idle, broker.ErrGroupNotFound) {
		return nil, idle
	}
	all, err := a.ShareOffsets.List(ctx, group)
	switch {
	case err != nil:
		return nil, err
	case len(all) == 0:
		return nil, idle // what is known of a group that is none may be forgotten, too
	}
	topics := map[replication.TopicID]bool{}
	for _, l := range all {
		topics[l.Key.Topic] = true
	}
	return topics, nil
}
