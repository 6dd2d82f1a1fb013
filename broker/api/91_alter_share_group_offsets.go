package api

import (
	"context"
	"fmt"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/broker/share/keeper"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterShareGroupOffsets, key 91, version 0 (KIP-932).
//
// Sets start offsets and forgets which records were delivered. A group with members is NON_EMPTY_GROUP, one of another type
// GROUP_ID_NOT_FOUND; one that is not known is made by it, also if no offset can be set.
var alterShareGroupOffsetsRow = Row{
	Key: kafkaproto.KeyAlterShareGroupOffsets, Min: 0, Max: 0, AdvertisedMin: 0, Handler: handler(handleAlterShareGroupOffsets),
}

func handleAlterShareGroupOffsets(ctx context.Context, a *API, _ *Request, q *kmsg.AlterShareGroupOffsetsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrAlterShareGroupOffsetsResponse()
	err := broker.ErrInvalidGroupID
	if q.GroupID != "" {
		err = group.MakeShare(ctx, a.Group, q.GroupID)
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp, nil
	}
	var requests []*keeper.Request
	var into [][]*kmsg.AlterShareGroupOffsetsResponseTopicPartition // of each request
	at := map[share.Key]int{}                                       // its place in both
	for i := range q.Topics {
		t := &q.Topics[i]
		rt := kmsg.NewAlterShareGroupOffsetsResponseTopic()
		rt.Topic = t.Topic
		id, partitions, known := a.ShareOffsets.Topic(t.Topic)
		rt.TopicID = id
		rt.Partitions = make([]kmsg.AlterShareGroupOffsetsResponseTopicPartition, len(t.Partitions))
		for j, p := range t.Partitions {
			rp := &rt.Partitions[j]
			rp.Default()
			rp.Partition = p.Partition
			err := replication.ErrUnknownPartition
			switch {
			case p.StartOffset < 0:
				err = fmt.Errorf("%w: offset %d", replication.ErrInvalidRequest, p.StartOffset)
			case known && p.Partition >= 0 && p.Partition < partitions:
				err = nil
				key := share.Key{Group: q.GroupID, Topic: id, Partition: p.Partition}
				n, again := at[key]
				if !again {
					n = len(requests)
					at[key], requests, into = n, append(requests, &keeper.Request{Op: keeper.Set, Key: key}), append(into, nil)
				}
				requests[n].Start = batch.Offset(p.StartOffset) // of a partition that is named again the last one holds
				into[n] = append(into[n], rp)
			}
			rp.ErrorCode, rp.ErrorMessage = code(err), message(err)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	ctx, cancel := context.WithTimeout(ctx, keepersTime)
	defer cancel()
	for i, r := range a.ShareOffsets.Ask(ctx, requests) {
		for _, rp := range into[i] {
			rp.ErrorCode, rp.ErrorMessage = code(r.Err), message(r.Err)
		}
	}
	return resp, nil
}
