package api

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/broker/share/keeper"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeShareGroupOffsets, key 90, versions 0 to 1 (KIP-932, KIP-1226).
//
// Tells the start offsets as they are stored; -1 where the group has none. Without topics: of all partitions that the group has
// one of.
// v1: lag: the offsets up to the partition's end of which the group has not finished. It is -1 where the end is not known in time; Kafka
// answers an error for that partition.
var describeShareGroupOffsetsRow = Row{
	Key: kafkaproto.KeyDescribeShareGroupOffsets, Min: 0, Max: 1, AdvertisedMin: 0, Handler: handler(handleDescribeShareGroupOffsets),
}

// ShareOffsets tells and changes where share groups are.
type ShareOffsets interface {
	// Topic finds a topic.
	Topic(name string) (id replication.TopicID, partitions int32, ok bool)
	// Name finds a topic's name.
	Name(id replication.TopicID) (string, bool)
	// List tells all positions of a group, or ends with ctx.
	List(ctx context.Context, group string) ([]keeper.Listed, error)
	// Ask asks keepers until all have answered or ctx ends; the results are in the order of the requests.
	Ask(ctx context.Context, all []*keeper.Request) []keeper.Result
	// Ends tells the ends of partitions, which differ; what is not known is left out.
	Ends(ctx context.Context, of []replication.PartitionID) map[replication.PartitionID]batch.Offset
}

// keepersTime is how long a request waits for keepers, all that it needs together: clients give up after 30 seconds.
const keepersTime = 10 * time.Second

func handleDescribeShareGroupOffsets(ctx context.Context, a *API, _ *Request, q *kmsg.DescribeShareGroupOffsetsRequest) (kmsg.Response, error) {
	resp := kmsg.NewPtrDescribeShareGroupOffsetsResponse()
	patient, cancel := context.WithTimeout(ctx, keepersTime)
	defer cancel()
	var wanted lookups
	for i := range q.Groups {
		g := &q.Groups[i]
		rg := kmsg.NewDescribeShareGroupOffsetsResponseGroup()
		rg.GroupID = g.GroupID
		err := a.Group.ShareEmpty(g.GroupID)
		if errors.Is(err, broker.ErrNonEmptyGroup) || errors.Is(err, broker.ErrGroupNotFound) {
			err = nil // this node coordinates the group, that is all that counts
		}
		if err == nil && g.Topics == nil {
			err = listShareOffsets(patient, a, &rg)
		} else if err == nil {
			wanted.add(a, g, &rg)
		}
		rg.ErrorCode, rg.ErrorMessage = code(err), message(err)
		resp.Groups = append(resp.Groups, rg)
	}
	for i, r := range a.ShareOffsets.Ask(patient, wanted.requests) {
		p := wanted.into[i]
		tellPosition(p, keeper.PositionOf(r.State))
		p.ErrorCode, p.ErrorMessage = code(r.Err), message(r.Err)
	}
	if q.Version >= 1 {
		tellShareLags(ctx, a, resp.Groups)
	}
	return resp, nil
}

// tellShareLags puts the ends of the partitions into the lags, which hold how far the group is in them.
func tellShareLags(ctx context.Context, a *API, groups []kmsg.DescribeShareGroupOffsetsResponseGroup) {
	wanted := map[replication.PartitionID][]*int64{}
	for i := range groups {
		for j := range groups[i].Topics {
			t := &groups[i].Topics[j]
			for k := range t.Partitions {
				if p := &t.Partitions[k]; p.Lag >= 0 {
					id := replication.PartitionID{Topic: t.TopicID, Partition: p.Partition}
					wanted[id] = append(wanted[id], &p.Lag)
				}
			}
		}
	}
	ends := a.ShareOffsets.Ends(ctx, slices.Collect(maps.Keys(wanted)))
	for id, lags := range wanted {
		end, known := ends[id]
		for _, lag := range lags {
			if *lag = max(0, int64(end)-*lag); !known {
				*lag = -1
			}
		}
	}
}

// tellPosition fills in what is known of a share-partition. The lag is -1, or how many of the partition's offsets are finished.
func tellPosition(p *kmsg.DescribeShareGroupOffsetsResponseGroupTopicPartition, at keeper.Position) {
	if p.StartOffset = int64(at.Start); at.Start != keeper.Unset {
		p.LeaderEpoch, p.Lag = max(0, int32(at.LeaderEpoch)), int64(at.Start)+at.Finished // Kafka knows no leader before the first as 0
	}
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
		p.Partition = l.Key.Partition
		tellPosition(&p, l.Position)
		rg.Topics[n].Partitions = append(rg.Topics[n].Partitions, p)
	}
	return err
}

// lookups are what keepers are asked for a request, and where each answer goes.
type lookups struct {
	requests []*keeper.Request
	into     []*kmsg.DescribeShareGroupOffsetsResponseGroupTopicPartition
}

// add makes the answer for a group whose partitions are named, but for what keepers know.
func (l *lookups) add(a *API, g *kmsg.DescribeShareGroupOffsetsRequestGroup, rg *kmsg.DescribeShareGroupOffsetsResponseGroup) {
	for i := range g.Topics {
		t := &g.Topics[i]
		rt := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
		rt.Topic = t.Topic
		id, partitions, known := a.ShareOffsets.Topic(t.Topic)
		rt.TopicID = id
		rt.Partitions = make([]kmsg.DescribeShareGroupOffsetsResponseGroupTopicPartition, len(t.Partitions))
		for j, index := range t.Partitions {
			p := &rt.Partitions[j]
			p.Default()
			p.Partition, p.StartOffset = index, int64(keeper.Unset)
			if known && index >= 0 && index < partitions {
				l.requests = append(l.requests, &keeper.Request{Op: keeper.Look, Key: share.Key{Group: g.GroupID, Topic: id, Partition: index}})
				l.into = append(l.into, p)
			}
		}
		rg.Topics = append(rg.Topics, rt)
	}
}
