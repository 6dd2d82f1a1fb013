package api

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// granted is an authorizer whose rules the test changes while requests are under way.
type granted struct {
	rules atomic.Pointer[controller.ACLs]
}

func (g *granted) only(list ...controller.ACL) { g.rules.Store(&controller.ACLs{Rules: list}) }

func (g *granted) authorizer() broker.Authorizer {
	return auth.NewACLs(auth.ACLOptions{
		Rules: func() (*controller.ACLs, bool) { return g.rules.Load(), true }, SuperUsers: []broker.Principal{"User:root"},
	})
}

// watched is share.Logs that tell of looks.
type watched struct {
	share.Logs
	looked chan struct{} // of one: it was found out where a partition stands
}

func (w watched) Find(tp share.TopicPartition) (share.Log, error) {
	l, err := w.Logs.Find(tp)
	return watchedLog{l, w.looked}, err
}

type watchedLog struct {
	share.Log
	looked chan struct{}
}

func (l watchedLog) Offsets(epoch batch.Epoch) (partition.Offsets, error) {
	o, err := l.Log.Offsets(epoch)
	select {
	case l.looked <- struct{}{}:
	default:
	}
	return o, err
}

// TestShareFetchAsks: for the group with each request; for the topics at each look, whatever the session began with.
func TestShareFetchAsks(t *testing.T) {
	looked := make(chan struct{}, 1)
	a, _, id := newShareAPIOver(t, func(l share.Logs) share.Logs { return watched{l, looked} })
	ask[*kmsg.ProduceResponse](newClient(t, a), produceRequest("orders", id, testBatch(t, "a", "1", "b", "2")), 13)
	var may granted
	may.only()
	a.Authorizer = may.authorizer()
	c, root := newClient(t, a), newClient(t, a)
	c.session.SetPrincipal("User:alice")
	root.session.SetPrincipal("User:root")
	group, topic := allow(broker.Read, broker.Group("g")), allow(broker.Read, broker.Topic("orders"))
	fetch := func(epoch int32, wait time.Duration, alter func(*kmsg.ShareFetchRequest)) *kmsg.ShareFetchResponse {
		q := shareFetch(id, epoch)
		if q.MaxWaitMillis = int32(wait.Milliseconds()); epoch > 0 {
			q.Topics = nil // as in the session
		}
		if alter != nil {
			alter(q)
		}
		return ask[*kmsg.ShareFetchResponse](c, q, 2)
	}
	refused := func(what string, got *kmsg.ShareFetchResponse) {
		t.Helper()
		if len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1 {
			t.Fatalf("%s: %+v", what, got)
		}
		p := &got.Topics[0].Partitions[0]
		wantError(t, what, p.ErrorCode, kafkaproto.TopicAuthorizationFailed)
		if len(p.Records) > 0 || len(p.AcquiredRecords) > 0 {
			t.Errorf("%s: records %v", what, p.AcquiredRecords)
		}
	}
	may.only(topic)
	wantError(t, "the topic only", fetch(0, 0, nil).ErrorCode, kafkaproto.GroupAuthorizationFailed)
	may.only(group, allow(broker.Describe, broker.Topic("orders")))
	refused("describe only", fetch(0, time.Hour, nil))
	may.only(group, topic)
	allowed := fetch(1, time.Minute, nil)
	if len(allowed.Topics) != 1 || len(allowed.Topics[0].Partitions[0].AcquiredRecords) != 1 || allowed.Topics[0].Partitions[0].AcquiredRecords[0].LastOffset != 1 {
		t.Fatalf("allowed by now: %+v", allowed)
	}
	may.only(group)
	accept := func(q *kmsg.ShareFetchRequest) {
		q.Topics = shareFetch(id, 0).Topics
		b := kmsg.NewShareFetchRequestTopicPartitionAcknowledgementBatch()
		b.LastOffset, b.AcknowledgeTypes = 1, []int8{1}
		q.Topics[0].Partitions[0].AcknowledgementBatches = append(q.Topics[0].Partitions[0].AcknowledgementBatches, b)
	}
	got := fetch(2, time.Hour, accept)
	refused("taken away", got)
	wantError(t, "acknowledged there", got.Topics[0].Partitions[0].AcknowledgeErrorCode, kafkaproto.TopicAuthorizationFailed)
	may.only(group, topic)
	wantError(t, "acknowledged later", fetch(3, 0, accept).Topics[0].Partitions[0].AcknowledgeErrorCode, 0)

	<-looked // of a fetch before
	waiting := make(chan *kmsg.ShareFetchResponse, 1)
	go func() {
		defer close(waiting)
		waiting <- fetch(4, time.Hour, nil)
	}()
	select {
	case <-looked: // with the right to see records, and there were none
	case got := <-waiting:
		t.Fatalf("no long poll: %+v", got)
	}
	may.only(group)
	ask[*kmsg.ProduceResponse](root, produceRequest("orders", id, testBatch(t, "c", "3")), 13)
	late, answered := <-waiting
	if !answered {
		t.FailNow()
	}
	refused("taken away in a long poll", late)
	may.only(topic)
	wantError(t, "without the group", fetch(5, 0, nil).ErrorCode, kafkaproto.GroupAuthorizationFailed)
}

// TestTransactionsHaveNoInternalTopics: a client's transaction may not write its end where coordinators keep their state.
func TestTransactionsHaveNoInternalTopics(t *testing.T) {
	n := newNode(t)
	for who, a := range map[string]broker.Authorizer{"anybody": broker.Everyone{}, "root": rules()} {
		n.api.Authorizer = a
		q := &kmsg.AddPartitionsToTxnRequest{TransactionalID: "t", Topics: []kmsg.AddPartitionsToTxnRequestTopic{
			{Topic: broker.TransactionTopic, Partitions: []int32{0}}, {Topic: "orders", Partitions: []int32{0}}, {Topic: broker.OffsetsTopic, Partitions: []int32{1}},
		}}
		var codes []kafkaproto.Code
		for _, t := range ask[*kmsg.AddPartitionsToTxnResponse](n.as(who), q, 3).Topics {
			codes = append(codes, kafkaproto.Code(t.Partitions[0].ErrorCode))
		}
		if want := []kafkaproto.Code{kafkaproto.TopicAuthorizationFailed, kafkaproto.OperationNotAttempted, kafkaproto.TopicAuthorizationFailed}; !slices.Equal(codes, want) {
			t.Errorf("%s: %v", who, codes)
		}
	}
}

// TestHiddenGroups: of a group with topics that the caller may not see nothing is told but that.
func TestHiddenGroups(t *testing.T) {
	n := newNode(t)
	n.api.Authorizer = rules(allow(broker.Describe, broker.Group("g")), allow(broker.Describe, broker.Topic("seen")))
	g := &gate{n.api, broker.Caller{Principal: "User:alice"}}
	assigned := func(topic string) kmsg.Assignment {
		return kmsg.Assignment{TopicPartitions: []kmsg.AssignmentTopicPartition{{Topic: topic}}}
	}
	for name, tc := range map[string]struct {
		subscribed, has, gets string
		hidden                bool
	}{
		"all seen": {"seen", "seen", "seen", false}, "subscribed": {"secret", "seen", "seen", true},
		"has": {"seen", "secret", "seen", true}, "gets": {"seen", "seen", "secret", true},
	} {
		consumers, err := guardConsumerGroupDescribe(g, &kmsg.ConsumerGroupDescribeRequest{Groups: []string{"g"}}, func() (*kmsg.ConsumerGroupDescribeResponse, error) {
			return &kmsg.ConsumerGroupDescribeResponse{Groups: []kmsg.ConsumerGroupDescribeResponseGroup{{
				Group: "g", State: "Stable", Epoch: 7, AssignmentEpoch: 7, AssignorName: "uniform",
				Members: []kmsg.ConsumerGroupDescribeResponseGroupMember{
					{}, {SubscribedTopics: []string{tc.subscribed}, Assignment: assigned(tc.has), TargetAssignment: assigned(tc.gets)},
				},
			}}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		one := &consumers.Groups[0]
		if told := one.State != "" || one.Epoch != 0 || one.AssignorName != "" || len(one.Members) > 0; one.Group != "g" || told == tc.hidden || (one.ErrorCode == topicDeniedCode) != tc.hidden {
			t.Errorf("%s, consumers: %+v", name, one)
		}
		if tc.has == "seen" && tc.gets != "seen" {
			continue // share groups have no target
		}
		shares, err := guardShareGroupDescribe(g, &kmsg.ShareGroupDescribeRequest{GroupIDs: []string{"g"}}, func() (*kmsg.ShareGroupDescribeResponse, error) {
			return &kmsg.ShareGroupDescribeResponse{Groups: []kmsg.ShareGroupDescribeResponseGroup{{
				GroupID: "g", GroupState: "Stable", GroupEpoch: 7,
				Members: []kmsg.ShareGroupDescribeResponseGroupMember{{}, {SubscribedTopicNames: []string{tc.subscribed}, Assignment: kmsg.ShareGroupDescribeResponseGroupMemberAssignment{
					TopicPartitions: []kmsg.ShareGroupDescribeResponseGroupMemberAssignmentTopicPartition{{Topic: tc.has}},
				}}},
			}}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		share := &shares.Groups[0]
		if told := share.GroupState != "" || share.GroupEpoch != 0 || len(share.Members) > 0; share.GroupID != "g" || told == tc.hidden || (share.ErrorCode == topicDeniedCode) != tc.hidden {
			t.Errorf("%s, shares: %+v", name, share)
		}
	}
}

// TestRegularExpressionsMatchWhatIsSeen: a member of a consumer group gets no topic that it may not describe.
func TestRegularExpressionsMatchWhatIsSeen(t *testing.T) {
	for _, sees := range []bool{false, true} {
		a := newGroupAPI(t)
		list := []controller.ACL{allow(broker.Read, broker.Group("g"))}
		if sees {
			list = append(list, allow(broker.Describe, broker.Topic(topicT.Name)))
		}
		a.Authorizer = rules(list...)
		c, all := newClient(t, a), ".*"
		c.session.SetPrincipal("User:alice")
		q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		q.Group, q.MemberID, q.RebalanceTimeoutMillis, q.SubscribedTopicRegex, q.Topics = "g", "m", 60_000, &all, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		got := ask[*kmsg.ConsumerGroupHeartbeatResponse](c, q, 1)
		wantError(t, "heartbeat", got.ErrorCode, 0)
		if topics := len(got.Assignment.Topics); (topics > 0) != sees {
			t.Errorf("sees %v, gets %+v", sees, got.Assignment)
		}
	}
}

// TestPagesOfDeniedTopics: what is denied by name is told once, in its place.
func TestPagesOfDeniedTopics(t *testing.T) {
	n := newNode(t)
	n.createTopic("a", 1)
	n.createTopic("c", 1)
	n.api.Authorizer = rules(allow(broker.Describe, broker.Topic("a")), allow(broker.Describe, broker.Topic("c")))
	q := kmsg.NewPtrDescribeTopicPartitionsRequest()
	q.Cursor = &kmsg.DescribeTopicPartitionsRequestCursor{Topic: "c"}
	for _, name := range []string{"a", "b", "c", "d"} {
		q.Topics = append(q.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: name})
	}
	var names []string
	for _, t := range ask[*kmsg.DescribeTopicPartitionsResponse](n.as("alice"), q, 0).Topics {
		names = append(names, *t.Topic)
	}
	if !slices.Equal(names, []string{"c", "d"}) {
		t.Errorf("%v", names)
	}
}

// TestTopicsByIDOnly: versions that know ids answer for a denied one by its id, and never tell its name.
func TestTopicsByIDOnly(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("secret", 1)
	n.createTopic("mine", 1)
	c, mine := n.as("alice"), "mine"
	n.api.Authorizer = rules(allow(broker.AllOperations, broker.Topic("mine")))
	for _, version := range []int16{10, 12, 13} {
		got := ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{{TopicID: id}}}, version)
		if len(got.Topics) != 1 || got.Topics[0].Topic != nil && *got.Topics[0].Topic != "" || len(got.Topics[0].Partitions) > 0 || got.Topics[0].ErrorCode == 0 {
			t.Errorf("version %d: %+v", version, got.Topics)
		}
		// By the name of a topic that is seen and the id of one that is not.
		both := ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Topics: []kmsg.MetadataRequestTopic{{Topic: &mine, TopicID: id}}}, version)
		for _, t2 := range both.Topics {
			if t2.TopicID == id && len(t2.Partitions) > 0 || t2.Topic != nil && *t2.Topic == "secret" {
				t.Errorf("version %d: %+v", version, t2)
			}
		}
	}
	deleted := ask[*kmsg.DeleteTopicsResponse](c, &kmsg.DeleteTopicsRequest{Topics: []kmsg.DeleteTopicsRequestTopic{{Topic: &mine, TopicID: id}, {TopicID: id}}}, 6)
	for i, want := range []kafkaproto.Code{kafkaproto.InvalidRequest, kafkaproto.TopicAuthorizationFailed} {
		if got := deleted.Topics[i]; kafkaproto.Code(got.ErrorCode) != want || i == 1 && got.Topic != nil {
			t.Errorf("%+v", got)
		}
	}
	if n.ctl.Image().ByID[id] == nil || n.ctl.Image().Topics["mine"] == nil {
		t.Error("deleted")
	}
}
