package api

import (
	"strings"
	"testing"

	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func joiningConsumer(group, member string) *kmsg.ConsumerGroupHeartbeatRequest {
	q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	q.Group, q.MemberID, q.RebalanceTimeoutMillis = group, member, 60_000
	q.SubscribedTopicNames, q.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	return q
}

// A member joins, is shown, commits in its epoch, and leaves, at both versions.
func TestConsumerGroups(t *testing.T) {
	for v := range int16(2) {
		a := newGroupAPI(t)
		id := "m"
		if v == 0 {
			id = "" // the broker makes one
		}
		join := send[*kmsg.ConsumerGroupHeartbeatResponse](t, a, v, joiningConsumer("g", id))
		wantCode(t, "join", v, join.ErrorCode, kafkaproto.None)
		if join.MemberID == nil || *join.MemberID == "" || join.MemberEpoch != 1 || join.HeartbeatIntervalMillis != 5000 ||
			join.Assignment == nil || len(join.Assignment.Topics) != 1 || len(join.Assignment.Topics[0].Partitions) != 4 {
			t.Fatalf("got %+v", join)
		}
		id = *join.MemberID

		describe := kmsg.NewPtrConsumerGroupDescribeRequest()
		describe.Groups = []string{"g", "nobody"}
		d := send[*kmsg.ConsumerGroupDescribeResponse](t, a, v, describe)
		g := d.Groups[0]
		if g.State != "Stable" || g.Epoch != 1 || g.AssignmentEpoch != 1 || g.AssignorName != "uniform" || len(g.Members) != 1 {
			t.Fatalf("got %+v", g)
		}
		m := g.Members[0]
		if m.MemberID != id || m.MemberEpoch != 1 || m.ClientHost != "/127.0.0.1" || m.Assignment.TopicPartitions[0].Topic != "t" || m.SubscribedTopics[0] != "t" {
			t.Fatalf("got %+v", m)
		}
		wantCode(t, "describe nobody", v, d.Groups[1].ErrorCode, kafkaproto.GroupIDNotFound)
		old := kmsg.NewPtrDescribeGroupsRequest()
		old.Groups = []string{"g"}
		wantCode(t, "describe as classic", 6, send[*kmsg.DescribeGroupsResponse](t, a, 6, old).Groups[0].ErrorCode, kafkaproto.GroupIDNotFound)
		list := kmsg.NewPtrListGroupsRequest()
		list.TypesFilter = []string{"consumer"}
		l := send[*kmsg.ListGroupsResponse](t, a, 5, list)
		if len(l.Groups) != 1 || l.Groups[0].GroupType != "Consumer" || l.Groups[0].GroupState != "Stable" || l.Groups[0].ProtocolType != "consumer" {
			t.Fatalf("got %+v", l)
		}
		consumersOffsets(t, a, id)

		leave := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		leave.Group, leave.MemberID, leave.MemberEpoch = "g", id, -1
		left := send[*kmsg.ConsumerGroupHeartbeatResponse](t, a, v, leave)
		wantCode(t, "leave", v, left.ErrorCode, kafkaproto.None)
		if left.MemberEpoch != -1 {
			t.Fatalf("got %+v", left)
		}
	}
}

// consumersOffsets commits and asks for offsets in several epochs of the member of TestConsumerGroups, which is in 1.
func consumersOffsets(t *testing.T, a *API, member string) {
	t.Helper()
	for epoch, want := range map[int32]kafkaproto.Code{0: kafkaproto.StaleMemberEpoch, 1: kafkaproto.None, 2: kafkaproto.StaleMemberEpoch} {
		commit := kmsg.NewPtrOffsetCommitRequest()
		commit.Group, commit.MemberID, commit.Generation = "g", member, epoch
		commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 7}}}}
		wantCode(t, "commit", 9, send[*kmsg.OffsetCommitResponse](t, a, 9, commit).Topics[0].Partitions[0].ErrorCode, want)
		fetch := kmsg.NewPtrOffsetFetchRequest()
		fetch.Groups = []kmsg.OffsetFetchRequestGroup{{Group: "g", MemberID: &member, MemberEpoch: epoch}}
		wantCode(t, "fetch", 9, send[*kmsg.OffsetFetchResponse](t, a, 9, fetch).Groups[0].ErrorCode, want)
	}
}

func TestBadConsumerHeartbeats(t *testing.T) {
	a := newGroupAPI(t)
	empty, unknown, bad, bomb := "", "best", "(", strings.Repeat("a{1000}", 500)
	long := string(make([]byte, 5000))
	for name, c := range map[string]struct {
		change func(*kmsg.ConsumerGroupHeartbeatRequest)
		want   kafkaproto.Code
	}{
		"no group":         {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.Group = "" }, kafkaproto.InvalidRequest},
		"no member":        {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.MemberID = "" }, kafkaproto.InvalidRequest},
		"long member":      {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.MemberID = long }, kafkaproto.InvalidGroupID},
		"empty instance":   {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.InstanceID = &empty }, kafkaproto.InvalidRequest},
		"empty rack":       {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.RackID = &empty }, kafkaproto.InvalidRequest},
		"no timeout":       {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.RebalanceTimeoutMillis = -1 }, kafkaproto.InvalidRequest},
		"owned not told":   {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.Topics = nil }, kafkaproto.InvalidRequest},
		"no subscription":  {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.SubscribedTopicNames = nil }, kafkaproto.InvalidRequest},
		"illegal epoch":    {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.MemberEpoch = -3 }, kafkaproto.InvalidRequest},
		"static, unnamed":  {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.MemberEpoch = -2 }, kafkaproto.InvalidRequest},
		"unknown assignor": {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.ServerAssignor = &unknown }, kafkaproto.UnsupportedAssignor},
		"bad regex":        {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.SubscribedTopicRegex = &bad }, kafkaproto.InvalidRegularExpression},
		"long regex":       {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.SubscribedTopicRegex = &long }, kafkaproto.InvalidRegularExpression},
		"regex bomb":       {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.SubscribedTopicRegex = &bomb }, kafkaproto.InvalidRegularExpression},
		"unknown group":    {func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.MemberEpoch = 1 }, kafkaproto.GroupIDNotFound},
	} {
		q := joiningConsumer("bad", "m")
		c.change(q)
		got := send[*kmsg.ConsumerGroupHeartbeatResponse](t, a, 1, q)
		if kafkaproto.Code(got.ErrorCode) != c.want {
			t.Errorf("%s: got %v, want %v", name, kafkaproto.Code(got.ErrorCode), c.want)
		}
	}
}

// Members of a share group may share partitions; the group is of no other type.
func TestShareGroups(t *testing.T) {
	a := newGroupAPI(t)
	join := kmsg.NewPtrShareGroupHeartbeatRequest()
	join.GroupID, join.MemberID, join.SubscribedTopicNames = "s", "m", []string{"t"}
	got := send[*kmsg.ShareGroupHeartbeatResponse](t, a, 1, join)
	wantCode(t, "join", 1, got.ErrorCode, kafkaproto.None)
	if got.MemberEpoch != 1 || got.Assignment == nil || len(got.Assignment.TopicPartitions[0].Partitions) != 4 {
		t.Fatalf("got %+v", got)
	}
	wantCode(t, "as consumer", 1, send[*kmsg.ConsumerGroupHeartbeatResponse](t, a, 1, joiningConsumer("s", "n")).ErrorCode, kafkaproto.GroupIDNotFound)
	describe := kmsg.NewPtrShareGroupDescribeRequest()
	describe.GroupIDs = []string{"s", "nobody"}
	d := send[*kmsg.ShareGroupDescribeResponse](t, a, 1, describe)
	if g := d.Groups[0]; g.GroupState != "Stable" || g.Assignor != "simple" || len(g.Members) != 1 || g.Members[0].Assignment.TopicPartitions[0].Topic != "t" {
		t.Fatalf("got %+v", g)
	}
	wantCode(t, "describe nobody", 1, d.Groups[1].ErrorCode, kafkaproto.GroupIDNotFound)
	for epoch, want := range map[int32]kafkaproto.Code{9: kafkaproto.FencedMemberEpoch, -2: kafkaproto.InvalidRequest} {
		join.MemberEpoch = epoch
		wantCode(t, "epoch", 1, send[*kmsg.ShareGroupHeartbeatResponse](t, a, 1, join).ErrorCode, want)
	}
	join.MemberEpoch = -1
	wantCode(t, "leave", 1, send[*kmsg.ShareGroupHeartbeatResponse](t, a, 1, join).ErrorCode, kafkaproto.None)
}
