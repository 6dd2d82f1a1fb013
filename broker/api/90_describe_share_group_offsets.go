package api

import (
	"context"
	"errors"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/broker/share/keeper"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeShareGroupOffsets, key 90, version 0 (KIP-932).
//
// Tells the start offsets as they are stored; -1 where the group has none. Without topics: of all partitions that the group has
// one of.
var describeShareGroupOffsetsRow = Row{
	Key: kafkaproto.KeyDescribeShareGroupOffsets, Min: 0, Max: 0, AdvertisedMin: 0, Handler: handler(handleDescribeShareGroupOffsets),
}

// ShareOffsets tells and changes where share groups are.
type ShareOffsets interface {
	// Topic finds a topic.
	Topic(name string) (id replication.TopicID, partitions int32, ok bool)
	// Name finds a topic's name.
	Name(id replication.TopicID) (string, bool)
	// List tells all start offsets of a group.
	List(ctx context.Context, group string) ([]keeper.Listed, error)
	// Look tells a start offset; keeper.Unset for none.
	Look(ctx context.Context, k share.Key) (batch.Offset, error)
	// Set begins anew at an offset.
	Set(ctx context.Context, k share.Key, start batch.Offset) error
	// Delete forgets a share-partition.
	Delete(ctx context.Context, k share.Key) error
}

func handleDescribeShareGroupOffsets(ctx context.Context, a *API, _ *Request, q *kmsg.DescribeShareGroupOffsetsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeShareGroupOffsetsResponse()
	for i := range q.Groups {
		g := &q.Groups[i]
		rg := kmsg.NewDescribeShareGroupOffsetsResponseGroup()
		rg.GroupID = g.GroupID
		err := a.Group.ShareEmpty(g.GroupID)
		if errors.Is(err, broker.ErrNonEmptyGroup) || errors.Is(err, broker.ErrGroupNotFound) {
			err = nil // this node coordinates the group, that is all that counts
		}
		if err == nil && g.Topics == nil {
			err = listShareOffsets(ctx, a, &rg)
		} else if err == nil {
			describeShareOffsets(ctx, a, g, &rg)
		}
		rg.ErrorCode, rg.ErrorMessage = code(err), message(err)
		resp.Groups = append(resp.Groups, rg)
	}
	return resp, nil
}

// listShareOffsets tells all that is known of a group.
func listShareOffsets(ctx context.Context, a *API, rg *kmsg.DescribeShareGroupOffsetsResponseGroup) error {
	all, err := a.ShareOffsets.List(ctx, rg.GroupID)
	at := map[replication.TopicID]int{}
	for _, l := range all {
		name, ok := a.ShareOffsets.Name(l.Key.Topic)
		if !ok || l.Start == keeper.Unset {
			continue
		}
		n, ok := at[l.Key.Topic]
		if !ok {
			n = len(rg.Topics)
			at[l.Key.Topic] = n
			t := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
			t.Topic, t.TopicID = name, l.Key.Topic
			rg.Topics = append(rg.Topics, t)
		}
		p := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopicPartition()
		p.Partition, p.StartOffset = l.Key.Partition, int64(l.Start)
		rg.Topics[n].Partitions = append(rg.Topics[n].Partitions, p)
	}
	return err
}

func describeShareOffsets(ctx context.Context, a *API, g *kmsg.DescribeShareGroupOffsetsRequestGroup, rg *kmsg.DescribeShareGroupOffsetsResponseGroup) {
	for i := range g.Topics {
		t := &g.Topics[i]
		rt := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
		rt.Topic = t.Topic
		id, partitions, known := a.ShareOffsets.Topic(t.Topic)
		rt.TopicID = id
		for _, index := range t.Partitions {
			p := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopicPartition()
			p.Partition, p.StartOffset = index, int64(keeper.Unset)
			if known && index >= 0 && index < partitions {
				start, err := a.ShareOffsets.Look(ctx, share.Key{Group: g.GroupID, Topic: id, Partition: index})
				p.StartOffset, p.ErrorCode, p.ErrorMessage = int64(start), code(err), message(err)
			}
			rt.Partitions = append(rt.Partitions, p)
		}
		rg.Topics = append(rg.Topics, rt)
	}
}
