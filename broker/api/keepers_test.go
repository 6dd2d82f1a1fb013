package api

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/broker/share/keeper"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// slowKeepers keep positions of the topic "t" with 200 partitions. Every fourth partition's keeper is not there.
type slowKeepers struct {
	listed []keeper.Listed
	asked  int // times
}

func (*slowKeepers) Topic(name string) (replication.TopicID, int32, bool) {
	return replication.TopicID{1}, 200, name == "t"
}

func (*slowKeepers) Name(replication.TopicID) (string, bool) { return "t", true }

func (s *slowKeepers) List(context.Context, string) ([]keeper.Listed, error) { return s.listed, nil }

func (*slowKeepers) Ends(context.Context, []replication.PartitionID) map[replication.PartitionID]batch.Offset {
	return nil
}

func (s *slowKeepers) Ask(ctx context.Context, all []*keeper.Request) []keeper.Result {
	s.asked++
	<-ctx.Done()
	out := make([]keeper.Result, len(all))
	for i, q := range all {
		if out[i].State = (&share.Durable{Start: 7}); q.Key.Partition%4 == 0 {
			out[i] = keeper.Result{Err: fmt.Errorf("%w: nobody answers", broker.ErrCoordinatorNotAvailable)}
		}
	}
	return out
}

// Keepers that are not there hold a request up for ten seconds in all, and each partition hears what became of it.
func TestKeepersThatAreNotThere(t *testing.T) {
	const partitions, patience = 200, 10 * time.Second
	every := make([]int32, partitions)
	for i := range every {
		every[i] = int32(i)
	}
	check := func(t *testing.T, what string, index int32, got int16) {
		t.Helper()
		want := kafkaproto.None
		if index%4 == 0 {
			want = kafkaproto.CoordinatorNotAvailable
		}
		if kafkaproto.Code(got) != want {
			t.Errorf("%s partition %d: %v, expected %v", what, index, kafkaproto.Code(got), want)
		}
	}
	for name, ask := range map[string]func(t *testing.T, ctx context.Context, a *API){
		"describe": func(t *testing.T, ctx context.Context, a *API) {
			q := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
			half := partitions / 2
			for i, some := range [][]int32{every[:half], every[half:]} {
				q.Groups = append(q.Groups, kmsg.DescribeShareGroupOffsetsRequestGroup{GroupID: fmt.Sprint("g", i),
					Topics: []kmsg.DescribeShareGroupOffsetsRequestGroupTopic{{Topic: "t", Partitions: some}}})
			}
			resp, err := handleDescribeShareGroupOffsets(ctx, a, nil, q)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range resp.(*kmsg.DescribeShareGroupOffsetsResponse).Groups {
				for _, p := range g.Topics[0].Partitions {
					check(t, g.GroupID, p.Partition, p.ErrorCode)
				}
			}
		},
		"alter": func(t *testing.T, ctx context.Context, a *API) {
			q := kmsg.NewPtrAlterShareGroupOffsetsRequest()
			q.GroupID, q.Topics = "g", []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: "t"}}
			for _, index := range every {
				q.Topics[0].Partitions = append(q.Topics[0].Partitions, kmsg.AlterShareGroupOffsetsRequestTopicPartition{Partition: index, StartOffset: 1})
			}
			resp, err := handleAlterShareGroupOffsets(ctx, a, nil, q)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range resp.(*kmsg.AlterShareGroupOffsetsResponse).Topics[0].Partitions {
				check(t, "set", p.Partition, p.ErrorCode)
			}
		},
		"delete": func(t *testing.T, ctx context.Context, a *API) {
			q := kmsg.NewPtrDeleteShareGroupOffsetsRequest()
			q.GroupID, q.Topics = "g", []kmsg.DeleteShareGroupOffsetsRequestTopic{{Topic: "t"}}
			resp, err := handleDeleteShareGroupOffsets(ctx, a, nil, q)
			if err != nil {
				t.Fatal(err)
			}
			check(t, "the first lost", 0, resp.(*kmsg.DeleteShareGroupOffsetsResponse).Topics[0].ErrorCode)
		},
		"delete the group": func(t *testing.T, ctx context.Context, a *API) {
			if err := group.MakeShare(ctx, a.Group, "g"); err != nil {
				t.Fatal(err)
			}
			q := kmsg.NewPtrDeleteGroupsRequest()
			q.Groups = []string{"g"}
			resp, err := handleDeleteGroups(ctx, a, nil, q)
			if err != nil {
				t.Fatal(err)
			}
			check(t, "the first lost", 0, resp.(*kmsg.DeleteGroupsResponse).Groups[0].ErrorCode)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				groups, err := group.New(group.Options{Logs: &memOffsets{}, Cluster: oneNode{}, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				defer groups.Close()
				groups.LeaderChanged(0, 1, true)
				synctest.Wait() // it is loaded
				keepers := &slowKeepers{}
				for _, index := range every {
					keepers.listed = append(keepers.listed, keeper.Listed{Key: share.Key{Group: "g", Topic: replication.TopicID{1}, Partition: index}})
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				began := time.Now()
				ask(t, ctx, New(Services{Group: groups, ShareOffsets: keepers, Logger: slog.New(slog.DiscardHandler)}))
				if took := time.Since(began); took > patience {
					t.Errorf("it took %v", took)
				}
				if keepers.asked != 1 {
					t.Errorf("keepers were asked %d times", keepers.asked)
				}
			})
		})
	}
}
