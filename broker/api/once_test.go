package api

import (
	"runtime"
	"slices"
	"strconv"
	"testing"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// newOnceAPI is an API over a node with the topic "orders" and, of the topic "t", a classic group "g" with offsets, a consumer group
// "c", and a share group "s", which has begun to read orders.
func newOnceAPI(t *testing.T) *API {
	t.Helper()
	a, n, id := newShareAPI(t)
	n.fill(newClient(t, a), "orders", id, 1)
	member, generation := joinAt(t, a, joinGroupRow.Max)
	syncAt(t, a, syncGroupRow.Max, member, generation)
	commitAt(t, a, offsetCommitRow.Max, member, generation)
	join := send[*kmsg.ConsumerGroupHeartbeatResponse](t, a, 1, joiningConsumer("c", "m"))
	wantCode(t, "join", 1, join.ErrorCode, kafkaproto.None)
	share := kmsg.NewPtrShareGroupHeartbeatRequest()
	share.GroupID, share.MemberID, share.SubscribedTopicNames = "s", "m", []string{"t"}
	wantCode(t, "join", 1, send[*kmsg.ShareGroupHeartbeatResponse](t, a, 1, share).ErrorCode, kafkaproto.None)
	start := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	start.GroupID = "idle-group"
	start.Topics = []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: "orders", Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{}, {Partition: 1}}}}
	wantCode(t, "start", 0, send[*kmsg.AlterShareGroupOffsetsResponse](t, a, 0, start).Topics[0].Partitions[0].ErrorCode, kafkaproto.None)
	return a
}

// onceRows are requests that name the same n times, for each key of onces and each list in it.
func onceRows() map[string]func(n int) kmsg.Request {
	orders, t := "orders", "t"
	id := topicT.ID
	many := func(n int) []int32 { return slices.Repeat([]int32{1}, n) }
	return map[string]func(n int) kmsg.Request{
		"Metadata": func(n int) kmsg.Request {
			return &kmsg.MetadataRequest{Version: 13, Topics: slices.Repeat([]kmsg.MetadataRequestTopic{{Topic: &orders}}, n)}
		},
		"Metadata by a name with any ids": func(n int) kmsg.Request {
			q := &kmsg.MetadataRequest{Version: 13, Topics: slices.Repeat([]kmsg.MetadataRequestTopic{{Topic: &orders}}, n)}
			for i := range q.Topics {
				q.Topics[i].TopicID = [16]byte{1, byte(i), byte(i >> 8)}
			}
			return q
		},
		"OffsetFetch of groups": func(n int) kmsg.Request {
			return &kmsg.OffsetFetchRequest{Version: 9, Groups: slices.Repeat([]kmsg.OffsetFetchRequestGroup{{Group: "g"}}, n)}
		},
		"OffsetFetch of a group in any epochs": func(n int) kmsg.Request {
			q := &kmsg.OffsetFetchRequest{Version: 9, Groups: slices.Repeat([]kmsg.OffsetFetchRequestGroup{{Group: "g"}}, n)}
			for i := range q.Groups {
				q.Groups[i].MemberEpoch = int32(i)
			}
			return q
		},
		"OffsetFetch of topics": func(n int) kmsg.Request {
			topics := slices.Repeat([]kmsg.OffsetFetchRequestGroupTopic{{TopicID: id, Partitions: many(1)}}, n)
			return &kmsg.OffsetFetchRequest{Version: 10, Groups: []kmsg.OffsetFetchRequestGroup{{Group: "g", Topics: topics}}}
		},
		"OffsetFetch of partitions": func(n int) kmsg.Request {
			topics := []kmsg.OffsetFetchRequestGroupTopic{{Topic: t, Partitions: many(n)}}
			return &kmsg.OffsetFetchRequest{Version: 8, Groups: []kmsg.OffsetFetchRequestGroup{{Group: "g", Topics: topics}}}
		},
		"OffsetFetch of topics of one group": func(n int) kmsg.Request {
			return &kmsg.OffsetFetchRequest{Version: 7, Group: "g", Topics: slices.Repeat([]kmsg.OffsetFetchRequestTopic{{Topic: t, Partitions: many(1)}}, n)}
		},
		"OffsetFetch of partitions of one group": func(n int) kmsg.Request {
			return &kmsg.OffsetFetchRequest{Version: 1, Group: "g", Topics: []kmsg.OffsetFetchRequestTopic{{Topic: t, Partitions: many(n)}}}
		},
		"FindCoordinator": func(n int) kmsg.Request {
			return &kmsg.FindCoordinatorRequest{Version: 6, CoordinatorKeys: slices.Repeat([]string{"g"}, n)}
		},
		"DescribeGroups": func(n int) kmsg.Request {
			return &kmsg.DescribeGroupsRequest{Version: 6, Groups: slices.Repeat([]string{"g"}, n)}
		},
		"ConsumerGroupDescribe": func(n int) kmsg.Request {
			return &kmsg.ConsumerGroupDescribeRequest{Version: 1, Groups: slices.Repeat([]string{"c"}, n)}
		},
		"ShareGroupDescribe": func(n int) kmsg.Request {
			return &kmsg.ShareGroupDescribeRequest{Version: 1, GroupIDs: slices.Repeat([]string{"s"}, n)}
		},
		"DeleteGroups": func(n int) kmsg.Request {
			return &kmsg.DeleteGroupsRequest{Version: 3, Groups: slices.Repeat([]string{"nobody"}, n)}
		},
		"DescribeConfigs": func(n int) kmsg.Request {
			r := kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceType(admin.TopicResource), ResourceName: orders}
			return &kmsg.DescribeConfigsRequest{Version: 4, Resources: slices.Repeat([]kmsg.DescribeConfigsRequestResource{r}, n),
				IncludeDocumentation: true, IncludeSynonyms: true}
		},
		"ListConfigResources": func(n int) kmsg.Request {
			return &kmsg.ListConfigResourcesRequest{Version: 1, ResourceTypes: slices.Repeat([]int8{int8(admin.TopicResource)}, min(n, 1000))}
		},
		"DescribeProducers of topics": func(n int) kmsg.Request {
			return &kmsg.DescribeProducersRequest{Topics: slices.Repeat([]kmsg.DescribeProducersRequestTopic{{Topic: orders, Partitions: many(1)}}, n)}
		},
		"DescribeProducers of partitions": func(n int) kmsg.Request {
			return &kmsg.DescribeProducersRequest{Topics: []kmsg.DescribeProducersRequestTopic{{Topic: orders, Partitions: many(n)}}}
		},
		"DescribeTransactions": func(n int) kmsg.Request {
			return &kmsg.DescribeTransactionsRequest{TransactionalIDs: slices.Repeat([]string{"x"}, n)}
		},
		"DescribeQuorum of topics": func(n int) kmsg.Request {
			one := []kmsg.DescribeQuorumRequestTopicPartition{{Partition: 7}} // there is none: no other node is asked
			return &kmsg.DescribeQuorumRequest{Version: 2, Topics: slices.Repeat([]kmsg.DescribeQuorumRequestTopic{{Topic: orders, Partitions: one}}, n)}
		},
		"DescribeQuorum of partitions": func(n int) kmsg.Request {
			many := slices.Repeat([]kmsg.DescribeQuorumRequestTopicPartition{{Partition: 7}}, n)
			return &kmsg.DescribeQuorumRequest{Version: 2, Topics: []kmsg.DescribeQuorumRequestTopic{{Topic: orders, Partitions: many}}}
		},
		"DescribeTopicPartitions": func(n int) kmsg.Request {
			return &kmsg.DescribeTopicPartitionsRequest{ResponsePartitionLimit: 10,
				Topics: slices.Repeat([]kmsg.DescribeTopicPartitionsRequestTopic{{Topic: orders}}, n)}
		},
		"ElectLeaders": func(n int) kmsg.Request {
			topics := slices.Repeat([]kmsg.ElectLeadersRequestTopic{{Topic: "nothing", Partitions: many(3)}}, n)
			return &kmsg.ElectLeadersRequest{Version: 2, Topics: topics}
		},
		"ListPartitionReassignments": func(n int) kmsg.Request {
			topics := slices.Repeat([]kmsg.ListPartitionReassignmentsRequestTopic{{Topic: orders, Partitions: many(3)}}, n)
			return &kmsg.ListPartitionReassignmentsRequest{Topics: topics}
		},
		"DescribeShareGroupOffsets of groups": func(n int) kmsg.Request {
			return &kmsg.DescribeShareGroupOffsetsRequest{Version: 1, Groups: slices.Repeat([]kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: "idle-group"}}, n)}
		},
		"DeleteShareGroupOffsets": func(n int) kmsg.Request {
			return &kmsg.DeleteShareGroupOffsetsRequest{GroupID: "idle-group", Topics: slices.Repeat([]kmsg.DeleteShareGroupOffsetsRequestTopic{{Topic: "nothing"}}, n)}
		},
		"DescribeShareGroupOffsets of topics": func(n int) kmsg.Request {
			topics := slices.Repeat([]kmsg.DescribeShareGroupOffsetsRequestGroupTopic{{Topic: orders, Partitions: many(3)}}, n)
			return &kmsg.DescribeShareGroupOffsetsRequest{Version: 1, Groups: []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: "idle-group", Topics: topics}}}
		},
	}
}

// What is named again and again is told once: an answer, and the memory it takes to make it, do not grow with the repeats.
func TestRepeatsAreToldOnce(t *testing.T) {
	const repeats, perByte, besides = 10_000, 30, 1 << 20
	a := newOnceAPI(t)
	c := newClient(t, a)
	met := map[kafkaproto.Key]bool{}
	for name, of := range onceRows() {
		met[kafkaproto.Key(of(1).Key())] = true
		took := func(n int) (answer, frame int, memory uint64) {
			q := of(n)
			var before, after runtime.MemStats
			call := c.start(q, q.GetVersion())
			frame = len(q.AppendTo(nil))
			runtime.ReadMemStats(&before)
			reply, err := call.Finish(t.Context())
			runtime.ReadMemStats(&after)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return 0, 0, 0
			}
			reply.Body.Release()
			return reply.Body.Size, frame, after.TotalAlloc - before.TotalAlloc
		}
		one, _, _ := took(1)
		all, frame, memory := took(repeats)
		if all != one {
			t.Errorf("%s: %d bytes for one, %d for as many as %d", name, one, all, repeats)
		}
		if bound := uint64(perByte*frame + besides); memory > bound {
			t.Errorf("%s: a request of %d bytes took %d of memory, expected at most %d", name, frame, memory, bound)
		}
	}
	for key := range onces {
		if !met[key] {
			t.Errorf("%s is not tested", key)
		}
	}
}

// Repeats may say different things of the same: all of it is answered, in the place of the first.
func TestRepeatsAreMerged(t *testing.T) {
	a := newOnceAPI(t)
	c := newClient(t, a)
	group := func(id string, topics ...kmsg.OffsetFetchRequestGroupTopic) kmsg.OffsetFetchRequestGroup {
		return kmsg.OffsetFetchRequestGroup{Group: id, MemberEpoch: -1, Topics: topics}
	}
	one := func(partitions ...int32) kmsg.OffsetFetchRequestGroupTopic {
		return kmsg.OffsetFetchRequestGroupTopic{Topic: "t", Partitions: partitions}
	}
	fetch := &kmsg.OffsetFetchRequest{Groups: []kmsg.OffsetFetchRequestGroup{
		group("g", one(1, 0)), group("other", one(2)), group("g", one(3), one(0, 2)), group("other"),
	}}
	fetch.Groups[3].Topics = nil // all that it has
	got := ask[*kmsg.OffsetFetchResponse](c, fetch, 8).Groups
	if len(got) != 2 || got[0].Group != "g" || got[1].Group != "other" || len(got[0].Topics) != 1 || len(got[1].Topics) != 0 {
		t.Fatalf("got %+v", got)
	}
	var order []int32
	for _, p := range got[0].Topics[0].Partitions {
		order = append(order, p.Partition)
	}
	if !slices.Equal(order, []int32{1, 0, 3, 2}) || got[0].Topics[0].Partitions[0].Offset != 42 {
		t.Errorf("got the partitions %v: %+v", order, got[0])
	}

	topic := func(names ...string) kmsg.DescribeConfigsRequestResource {
		return kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceType(admin.TopicResource), ResourceName: "orders", ConfigNames: names}
	}
	described := func(resources ...kmsg.DescribeConfigsRequestResource) int {
		r := ask[*kmsg.DescribeConfigsResponse](c, &kmsg.DescribeConfigsRequest{Resources: resources}, 4).Resources
		if len(r) != 1 || r[0].ErrorCode != 0 {
			t.Fatalf("got %+v", r)
		}
		return len(r[0].Configs)
	}
	if n := described(topic("retention.ms"), topic("retention.bytes", "retention.ms")); n != 2 {
		t.Errorf("%d settings of the 2 that were asked for", n)
	}
	for _, all := range [][]kmsg.DescribeConfigsRequestResource{{topic("retention.ms"), topic()}, {topic(), topic("retention.ms")}} {
		if n := described(all...); n <= 2 {
			t.Errorf("%d settings where all were asked for", n)
		}
	}
}

// Groups need not exist, so there is no end of names with settings: what goes beyond a bound is refused, each for itself.
func TestManyConfigsAreRefused(t *testing.T) {
	a := newOnceAPI(t)
	const most, names = 100_000, 1000
	q := &kmsg.DescribeConfigsRequest{IncludeDocumentation: true, IncludeSynonyms: true}
	for i := range names {
		q.Resources = append(q.Resources, kmsg.DescribeConfigsRequestResource{
			ResourceType: kmsg.ConfigResourceType(admin.GroupResource), ResourceName: "group" + strconv.Itoa(i)})
	}
	q.SetVersion(4)
	resp := describeConfigs(a, q, most)
	if first := &resp.Resources[0]; first.ErrorCode != 0 || len(first.Configs) == 0 {
		t.Errorf("got %+v", first)
	}
	last := &resp.Resources[names-1]
	if kafkaproto.Code(last.ErrorCode) != kafkaproto.InvalidRequest || len(last.Configs) > 0 || last.ResourceName != "group999" {
		t.Errorf("got %+v", last)
	}
	resp.SetVersion(4)
	one := *resp
	one.Resources = resp.Resources[:1]
	if all, first, refusals := len(resp.AppendTo(nil)), len(one.AppendTo(nil)), 200*names; all > most+first+refusals {
		t.Errorf("%d bytes are told, one group has %d", all, first)
	}
}
