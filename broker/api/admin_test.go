package api

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func metadataFor(topics ...string) *kmsg.MetadataRequest {
	q := kmsg.NewPtrMetadataRequest()
	q.Topics = []kmsg.MetadataRequestTopic{}
	for _, name := range topics {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = &name
		q.Topics = append(q.Topics, rt)
	}
	return q
}

func TestMetadata(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 3)
	n.createTopic(broker.OffsetsTopic, 1)
	c := newClient(t, n.api)
	resp := ask[*kmsg.MetadataResponse](c, metadataFor("orders", broker.OffsetsTopic), 13)
	if len(resp.Brokers) != 1 || resp.Brokers[0].NodeID != 1 || resp.Brokers[0].Host != "127.0.0.1" || resp.Brokers[0].Port != 9092 {
		t.Errorf("brokers %+v", resp.Brokers)
	}
	if resp.ControllerID != 1 || *resp.ClusterID != n.clusterID || resp.ErrorCode != 0 {
		t.Errorf("controller %d, cluster %s", resp.ControllerID, *resp.ClusterID)
	}
	orders, offsets := resp.Topics[0], resp.Topics[1]
	if *orders.Topic != "orders" || orders.TopicID != id || orders.IsInternal || len(orders.Partitions) != 3 || !offsets.IsInternal {
		t.Errorf("topics %+v", resp.Topics)
	}
	for i, p := range orders.Partitions {
		if p.Partition != int32(i) || p.Leader != 1 || p.LeaderEpoch < 1 || len(p.Replicas) != 1 || len(p.ISR) != 1 || len(p.OfflineReplicas) != 0 || p.ErrorCode != 0 {
			t.Errorf("partition %+v", p)
		}
	}
	if orders.AuthorizedOperations != notAsked {
		t.Errorf("operations %d", orders.AuthorizedOperations)
	}
}

func TestMetadataOfAllAndNone(t *testing.T) {
	n := newNode(t)
	n.createTopic("b", 1)
	n.createTopic("a", 1)
	c := newClient(t, n.api)
	count := func(version int16, topics []kmsg.MetadataRequestTopic) int {
		q := kmsg.NewPtrMetadataRequest()
		q.Topics = topics
		return len(ask[*kmsg.MetadataResponse](c, q, version).Topics)
	}
	if got := count(0, []kmsg.MetadataRequestTopic{}); got != 2 {
		t.Errorf("empty list at version 0: %d topics", got)
	}
	for _, version := range []int16{1, 8, 9, 13} {
		if got := count(version, []kmsg.MetadataRequestTopic{}); got != 0 {
			t.Errorf("empty list at version %d: %d topics", version, got)
		}
		if got := count(version, nil); got != 2 {
			t.Errorf("null at version %d: %d topics", version, got)
		}
	}
}

func TestMetadataByID(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	c := newClient(t, n.api)
	at := func(version int16, name *string, id replication.TopicID) (int16, *string) {
		q := metadataFor()
		q.Topics = append(q.Topics, kmsg.MetadataRequestTopic{Topic: name, TopicID: id})
		topic := ask[*kmsg.MetadataResponse](c, q, version).Topics[0]
		return topic.ErrorCode, topic.Topic
	}
	if got, name := at(12, nil, id); got != 0 || name == nil || *name != "orders" {
		t.Errorf("%v, %v", kafkaproto.Code(got), name)
	}
	if got, name := at(12, nil, replication.TopicID{9}); got != int16(kafkaproto.UnknownTopicID) || name != nil {
		t.Errorf("%v, %v", kafkaproto.Code(got), name)
	}
	empty := ""
	if got, _ := at(10, &empty, id); got != int16(kafkaproto.InvalidRequest) {
		t.Errorf("id at version 10: %v", kafkaproto.Code(got))
	}
	if got, _ := at(12, nil, replication.TopicID{}); got != int16(kafkaproto.InvalidRequest) {
		t.Errorf("neither: %v", kafkaproto.Code(got))
	}
}

func TestAutoCreation(t *testing.T) {
	n := newNode(t)
	c := newClient(t, n.api)
	at := func(version int16, name string, allow bool) kmsg.MetadataResponseTopic {
		q := metadataFor(name)
		q.AllowAutoTopicCreation = allow
		return ask[*kmsg.MetadataResponse](c, q, version).Topics[0]
	}
	if got := at(13, "later", false); got.ErrorCode != int16(kafkaproto.UnknownTopicOrPartition) {
		t.Errorf("not asked for: %v", kafkaproto.Code(got.ErrorCode))
	}
	for i, version := range []int16{3, 4, 13} {
		got := at(version, fmt.Sprintf("auto-%d", i), version >= metadataMayCreate)
		if got.ErrorCode != 0 || len(got.Partitions) != 1 || got.Partitions[0].Leader != 1 {
			t.Errorf("version %d: %+v", version, got)
		}
	}
	if got := at(13, "no/good", true); got.ErrorCode != int16(kafkaproto.InvalidTopicException) {
		t.Errorf("bad name: %v", kafkaproto.Code(got.ErrorCode))
	}
	if got := at(13, broker.MetadataTopic, true); got.ErrorCode != int16(kafkaproto.UnknownTopicOrPartition) {
		t.Errorf("the metadata group: %v, %d partitions", kafkaproto.Code(got.ErrorCode), len(got.Partitions))
	}
	// The coordinators' topics are made as coordinators make them, and only by them.
	for i, version := range []int16{3, 13} {
		made := at(version, broker.TransactionTopic, version >= metadataMayCreate)
		topic := n.ctl.Image().Topics[broker.TransactionTopic]
		if made.ErrorCode != 0 || !made.IsInternal || len(made.Partitions) != 3 || topic.Config["cleanup.policy"] != "compact" {
			t.Errorf("%d: %+v, %v", i, made, topic.Config)
		}
		if got := at(version, broker.ShareStateTopic, version >= metadataMayCreate); got.ErrorCode != int16(kafkaproto.UnknownTopicOrPartition) {
			t.Errorf("of a coordinator that this node does not have: %v", kafkaproto.Code(got.ErrorCode))
		}
	}
	n.setBroker("auto.create.topics.enable", "false")
	if got := at(13, "never", true); got.ErrorCode != int16(kafkaproto.UnknownTopicOrPartition) {
		t.Errorf("switched off: %v", kafkaproto.Code(got.ErrorCode))
	}
}

func TestCreateTopics(t *testing.T) {
	n := newNode(t)
	c := newClient(t, n.api)
	create := func(change func(*kmsg.CreateTopicsRequest)) kmsg.CreateTopicsResponseTopic {
		q := kmsg.NewPtrCreateTopicsRequest()
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = "t", 2, 1
		q.Topics = append(q.Topics, rt)
		change(q)
		return ask[*kmsg.CreateTopicsResponse](c, q, 7).Topics[0]
	}
	first := func(fn func(*kmsg.CreateTopicsRequestTopic)) func(*kmsg.CreateTopicsRequest) {
		return func(q *kmsg.CreateTopicsRequest) { fn(&q.Topics[0]) }
	}
	if got := create(func(q *kmsg.CreateTopicsRequest) { q.ValidateOnly = true }); got.ErrorCode != 0 {
		t.Errorf("validate only: %+v", got)
	}
	got := create(first(func(t *kmsg.CreateTopicsRequestTopic) {
		t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: "retention.ms", Value: kmsg.StringPtr("1234")})
	}))
	if got.ErrorCode != 0 || got.NumPartitions != 2 || got.ReplicationFactor != 1 || got.TopicID == (replication.TopicID{}) {
		t.Fatalf("%+v", got)
	}
	if i := slices.IndexFunc(got.Configs, func(c kmsg.CreateTopicsResponseTopicConfig) bool { return c.Name == "retention.ms" }); i < 0 ||
		*got.Configs[i].Value != "1234" || got.Configs[i].Source != int8(kmsg.ConfigSourceDynamicTopicConfig) {
		t.Errorf("configs %+v", got.Configs)
	}
	for name, tc := range map[string]struct {
		change func(*kmsg.CreateTopicsRequest)
		want   kafkaproto.Code
	}{
		"exists":             {func(*kmsg.CreateTopicsRequest) {}, kafkaproto.TopicAlreadyExists},
		"twice":              {func(q *kmsg.CreateTopicsRequest) { q.Topics = append(q.Topics, q.Topics[0]) }, kafkaproto.InvalidRequest},
		"bad name":           {first(func(t *kmsg.CreateTopicsRequestTopic) { t.Topic = "a b" }), kafkaproto.InvalidTopicException},
		"dots":               {first(func(t *kmsg.CreateTopicsRequestTopic) { t.Topic = ".." }), kafkaproto.InvalidTopicException},
		"the metadata group": {first(func(t *kmsg.CreateTopicsRequestTopic) { t.Topic = broker.MetadataTopic }), kafkaproto.InvalidRequest},
		"0 partitions":       {first(func(t *kmsg.CreateTopicsRequestTopic) { t.Topic, t.NumPartitions = "u", 0 }), kafkaproto.InvalidPartitions},
		"3 replicas":         {first(func(t *kmsg.CreateTopicsRequestTopic) { t.Topic, t.ReplicationFactor = "u", 3 }), kafkaproto.InvalidReplicationFactor},
		"bad config": {first(func(t *kmsg.CreateTopicsRequestTopic) {
			t.Topic = "u"
			t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: "retention.ms", Value: kmsg.StringPtr("soon")})
		}), kafkaproto.InvalidConfig},
		"null config": {first(func(t *kmsg.CreateTopicsRequestTopic) {
			t.Topic = "u"
			t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: "retention.ms"})
		}), kafkaproto.InvalidConfig},
		"assignment and count": {first(func(t *kmsg.CreateTopicsRequestTopic) {
			t.Topic = "u"
			t.ReplicaAssignment = append(t.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Replicas: []int32{1}})
		}), kafkaproto.InvalidRequest},
		"assignment to a stranger": {first(func(t *kmsg.CreateTopicsRequestTopic) {
			t.Topic, t.NumPartitions, t.ReplicationFactor = "u", -1, -1
			t.ReplicaAssignment = append(t.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Replicas: []int32{9}})
		}), kafkaproto.InvalidReplicaAssignment},
		"partition assigned twice": {first(func(t *kmsg.CreateTopicsRequestTopic) {
			t.Topic, t.NumPartitions, t.ReplicationFactor = "u", -1, -1
			a := kmsg.CreateTopicsRequestTopicReplicaAssignment{Replicas: []int32{1}}
			t.ReplicaAssignment = append(t.ReplicaAssignment, a, a)
		}), kafkaproto.InvalidReplicaAssignment},
	} {
		if got := create(tc.change); got.ErrorCode != int16(tc.want) || got.ErrorMessage == nil {
			t.Errorf("%s: %v, want %v", name, kafkaproto.Code(got.ErrorCode), tc.want)
		}
	}
	assigned := create(first(func(t *kmsg.CreateTopicsRequestTopic) {
		t.Topic, t.NumPartitions, t.ReplicationFactor = "assigned", -1, -1
		t.ReplicaAssignment = append(t.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Replicas: []int32{1}})
	}))
	if assigned.ErrorCode != 0 || assigned.NumPartitions != 1 {
		t.Errorf("assigned by hand: %+v", assigned)
	}
}

func TestDeleteTopics(t *testing.T) {
	n := newNode(t)
	n.createTopic("a", 1)
	id := n.createTopic("b", 1)
	c := newClient(t, n.api)
	name, nope := "a", "nope"
	q := kmsg.NewPtrDeleteTopicsRequest()
	q.Topics = []kmsg.DeleteTopicsRequestTopic{
		{Topic: &name}, {TopicID: id}, {Topic: &nope}, {TopicID: replication.TopicID{9}}, {Topic: &name, TopicID: id},
	}
	want := []kafkaproto.Code{0, 0, kafkaproto.UnknownTopicOrPartition, kafkaproto.UnknownTopicID, kafkaproto.InvalidRequest}
	got := ask[*kmsg.DeleteTopicsResponse](c, q, 6).Topics
	for i := range want {
		if got[i].ErrorCode != int16(want[i]) {
			t.Errorf("topic %d: %v, want %v", i, kafkaproto.Code(got[i].ErrorCode), want[i])
		}
	}
	if got[1].Topic == nil || *got[1].Topic != "b" || got[3].Topic != nil {
		t.Errorf("%+v", got)
	}
	id = n.createTopic("c", 1)
	q.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: kmsg.StringPtr("c")}, {TopicID: id}}
	for i, rt := range ask[*kmsg.DeleteTopicsResponse](c, q, 6).Topics {
		if rt.ErrorCode != int16(kafkaproto.InvalidRequest) {
			t.Errorf("by name and by id, topic %d: %v", i, kafkaproto.Code(rt.ErrorCode))
		}
	}
	if left := ask[*kmsg.MetadataResponse](c, metadataFor("c"), 12).Topics; left[0].ErrorCode != 0 {
		t.Errorf("named by name and by id, it was deleted: %+v", left)
	}
	if left := ask[*kmsg.MetadataResponse](c, metadataFor("a", "b"), 12).Topics; left[0].ErrorCode != int16(kafkaproto.UnknownTopicOrPartition) ||
		left[1].ErrorCode != int16(kafkaproto.UnknownTopicOrPartition) {
		t.Errorf("%+v", left)
	}
	old := kmsg.NewPtrDeleteTopicsRequest()
	old.TopicNames = []string{"x", "x"}
	if got := ask[*kmsg.DeleteTopicsResponse](c, old, 3).Topics; len(got) != 2 || got[0].ErrorCode != int16(kafkaproto.InvalidRequest) {
		t.Errorf("%+v", got)
	}
}

// A topic that is named twice is not made, even if it would be refused for another reason one of the times.
func TestCreateTwiceWithAFault(t *testing.T) {
	n := newNode(t)
	c := newClient(t, n.api)
	q := kmsg.NewPtrCreateTopicsRequest()
	for range 2 {
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = "t", 1, 1
		q.Topics = append(q.Topics, rt)
	}
	q.Topics[0].Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "retention.ms"}}
	for i, rt := range ask[*kmsg.CreateTopicsResponse](c, q, 7).Topics {
		if rt.ErrorCode != int16(kafkaproto.InvalidRequest) {
			t.Errorf("topic %d: %v", i, kafkaproto.Code(rt.ErrorCode))
		}
	}
	if got := ask[*kmsg.MetadataResponse](c, metadataFor("t"), 12).Topics[0]; got.ErrorCode != int16(kafkaproto.UnknownTopicOrPartition) {
		t.Errorf("it is there: %+v", got)
	}
}

func TestDeletionCanBeForbidden(t *testing.T) {
	n := newNodeOn(t, vfs.OS{}, map[string]string{"delete.topic.enable": "false"})
	n.createTopic("made-2", 1)
	n.createTopic("made-3", 1)
	c := newClient(t, n.api)
	for version, want := range map[int16]kafkaproto.Code{2: kafkaproto.InvalidRequest, 3: kafkaproto.TopicDeletionDisabled} {
		q := minimal(t, kafkaproto.KeyDeleteTopics, version, "", [16]byte{})
		if got := errorCodeOf(ask[*kmsg.DeleteTopicsResponse](c, q, version)); got != int16(want) {
			t.Errorf("version %d: %v, want %v", version, kafkaproto.Code(got), want)
		}
	}
}

// forbids is a controller that has heard of delete.topic.enable=false before this node.
type forbids struct{ *controller.Controller }

func (forbids) DeleteTopics(_ context.Context, topics []controller.TopicRef) []error {
	return slices.Repeat([]error{controller.ErrTopicDeletionDisabled}, len(topics))
}

// Clients that do not know the code are told another one, whoever it was that forbade it.
func TestDeletionThatTheControllerForbids(t *testing.T) {
	n := newNode(t)
	n.createTopic("made-2", 1)
	n.createTopic("made-3", 1)
	c := newClient(t, New(Services{Admin: admin.New(admin.Options{Node: 1, Images: n.ctl, Controller: forbids{n.ctl}, Local: n.manager})}))
	for version, want := range map[int16]kafkaproto.Code{2: kafkaproto.InvalidRequest, 3: kafkaproto.TopicDeletionDisabled} {
		q := minimal(t, kafkaproto.KeyDeleteTopics, version, "", [16]byte{})
		if got := errorCodeOf(ask[*kmsg.DeleteTopicsResponse](c, q, version)); got != int16(want) {
			t.Errorf("version %d: %v, want %v", version, kafkaproto.Code(got), want)
		}
	}
}

func TestCreatePartitions(t *testing.T) {
	n := newNode(t)
	n.createTopic("grows", 1)
	n.createTopic(broker.OffsetsTopic, 1)
	c := newClient(t, n.api)
	grow := func(topic string, count int32, validateOnly bool) kafkaproto.Code {
		q := kmsg.NewPtrCreatePartitionsRequest()
		rt := kmsg.NewCreatePartitionsRequestTopic()
		rt.Topic, rt.Count = topic, count
		q.Topics, q.ValidateOnly = append(q.Topics, rt), validateOnly
		return kafkaproto.Code(ask[*kmsg.CreatePartitionsResponse](c, q, 3).Topics[0].ErrorCode)
	}
	for _, tc := range []struct {
		topic    string
		count    int32
		validate bool
		want     kafkaproto.Code
		then     int
	}{
		{"grows", 3, true, 0, 1},
		{"grows", 3, false, 0, 3},
		{"grows", 3, false, kafkaproto.InvalidPartitions, 3},
		{"grows", 2, false, kafkaproto.InvalidPartitions, 3},
		{"nope", 2, false, kafkaproto.UnknownTopicOrPartition, 3},
		{broker.OffsetsTopic, 2, false, kafkaproto.PolicyViolation, 3},
		{broker.OffsetsTopic, 2, true, kafkaproto.PolicyViolation, 3},
	} {
		if got := grow(tc.topic, tc.count, tc.validate); got != tc.want {
			t.Errorf("%s to %d: %v, want %v", tc.topic, tc.count, got, tc.want)
		}
		parts := ask[*kmsg.MetadataResponse](c, metadataFor("grows"), 12).Topics[0].Partitions
		if len(parts) != tc.then || parts[len(parts)-1].Leader != 1 {
			t.Errorf("%s to %d: then %+v", tc.topic, tc.count, parts)
		}
	}
}

func TestDeleteRecords(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	n.createTopicWith("compacted", 1, map[string]string{"cleanup.policy": "compact"})
	n.createTopic(broker.OffsetsTopic, 1)
	c := newClient(t, n.api)
	for range 4 {
		ask[*kmsg.ProduceResponse](c, produceRequest("orders", id, testBatch(t, "k", "v")), 12)
	}
	cut := func(topic string, partition int32, offset int64) (kafkaproto.Code, int64) {
		q := minimal(t, kafkaproto.KeyDeleteRecords, 2, topic, id).(*kmsg.DeleteRecordsRequest)
		q.Topics[0].Partitions[0].Partition, q.Topics[0].Partitions[0].Offset = partition, offset
		p := ask[*kmsg.DeleteRecordsResponse](c, q, 2).Topics[0].Partitions[0]
		return kafkaproto.Code(p.ErrorCode), p.LowWatermark
	}
	for _, tc := range []struct {
		topic     string
		partition int32
		offset    int64
		want      kafkaproto.Code
		low       int64
	}{
		{"orders", 0, 2, 0, 2},
		{"orders", 0, 1, 0, 2},
		{"orders", 0, 5, kafkaproto.OffsetOutOfRange, -1},
		{"orders", 0, -2, kafkaproto.OffsetOutOfRange, -1},
		{"orders", 1, 0, kafkaproto.UnknownTopicOrPartition, -1},
		{"nope", 0, 0, kafkaproto.UnknownTopicOrPartition, -1},
		{"compacted", 0, 0, kafkaproto.PolicyViolation, -1},
		{broker.OffsetsTopic, 0, 0, kafkaproto.InvalidTopicException, -1},
		{"orders", 0, -1, 0, 4},
	} {
		if got, low := cut(tc.topic, tc.partition, tc.offset); got != tc.want || low != tc.low {
			t.Errorf("%s-%d to %d: %v at %d, want %v at %d", tc.topic, tc.partition, tc.offset, got, low, tc.want, tc.low)
		}
	}
	if got := n.fetch(c, "orders", 0, 0).Topics[0].Partitions[0]; got.ErrorCode != int16(kafkaproto.OffsetOutOfRange) {
		t.Errorf("%+v", got)
	}
}

func TestInitProducerID(t *testing.T) {
	n := newNode(t)
	c := newClient(t, n.api)
	seen := make(map[int64]bool)
	for range 2500 { // more than two of the controller's blocks
		got := ask[*kmsg.InitProducerIDResponse](c, kmsg.NewPtrInitProducerIDRequest(), 5)
		if got.ErrorCode != 0 || got.ProducerEpoch != 0 || got.ProducerID < 0 || seen[got.ProducerID] {
			t.Fatalf("%+v", got)
		}
		seen[got.ProducerID] = true
	}
	for name, tc := range map[string]struct {
		change func(*kmsg.InitProducerIDRequest)
		want   kafkaproto.Code
	}{
		"transactional": {func(q *kmsg.InitProducerIDRequest) {
			q.TransactionalID, q.TransactionTimeoutMillis = kmsg.StringPtr("tx"), 1000
		}, kafkaproto.NotCoordinator},
		"no timeout": {func(q *kmsg.InitProducerIDRequest) { q.TransactionalID = kmsg.StringPtr("tx") }, kafkaproto.InvalidTransactionTimeout},
		"empty":      {func(q *kmsg.InitProducerIDRequest) { q.TransactionalID = kmsg.StringPtr("") }, kafkaproto.InvalidRequest},
		"id only":    {func(q *kmsg.InitProducerIDRequest) { q.ProducerID = 5 }, kafkaproto.InvalidRequest},
		"epoch only": {func(q *kmsg.InitProducerIDRequest) { q.ProducerEpoch = 5 }, kafkaproto.InvalidRequest},
		"has one":    {func(q *kmsg.InitProducerIDRequest) { q.ProducerID, q.ProducerEpoch = 5, 5 }, kafkaproto.None},
	} {
		q := kmsg.NewPtrInitProducerIDRequest()
		tc.change(q)
		got := ask[*kmsg.InitProducerIDResponse](c, q, 5)
		if got.ErrorCode != int16(tc.want) || tc.want != 0 && got.ProducerID != -1 {
			t.Errorf("%s: %v, want %v", name, kafkaproto.Code(got.ErrorCode), tc.want)
		}
	}
}

func TestDescribeCluster(t *testing.T) {
	n := newNode(t)
	c := newClient(t, n.api)
	for endpoint, want := range map[int8]kafkaproto.Code{1: 0, 2: kafkaproto.MismatchedEndpointType, 3: kafkaproto.UnsupportedEndpointType} {
		q := kmsg.NewPtrDescribeClusterRequest()
		q.EndpointType = endpoint
		got := ask[*kmsg.DescribeClusterResponse](c, q, 2)
		if got.ErrorCode != int16(want) || want == 0 && (len(got.Brokers) != 1 || got.ClusterID != n.clusterID || got.ControllerID != 1) {
			t.Errorf("endpoint type %d: %+v", endpoint, got)
		}
	}
}

func TestDescribeTopicPartitionsInPages(t *testing.T) {
	n := newNode(t)
	n.createTopic("a", 3)
	n.createTopic("b", 2)
	c := newClient(t, n.api)
	var pages []string
	var next *kmsg.DescribeTopicPartitionsRequestCursor
	for {
		q := kmsg.NewPtrDescribeTopicPartitionsRequest()
		q.ResponsePartitionLimit, q.Cursor = 2, next
		resp := ask[*kmsg.DescribeTopicPartitionsResponse](c, q, 0)
		page := ""
		for _, topic := range resp.Topics {
			for _, p := range topic.Partitions {
				page += fmt.Sprintf("%s%d ", *topic.Topic, p.Partition)
				if p.EligibleLeaderReplicas == nil || p.LastKnownELR == nil {
					t.Error("null lists of eligible leaders: the Java client fails on them")
				}
			}
		}
		pages = append(pages, page)
		if resp.NextCursor == nil {
			break
		}
		cursor := kmsg.NewDescribeTopicPartitionsRequestCursor()
		cursor.Topic, cursor.Partition = resp.NextCursor.Topic, resp.NextCursor.Partition
		next = &cursor
	}
	if want := []string{"a0 a1 ", "a2 b0 ", "b1 "}; !slices.Equal(pages, want) {
		t.Errorf("%q, want %q", pages, want)
	}
	q := kmsg.NewPtrDescribeTopicPartitionsRequest()
	q.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{{Topic: "nope"}, {Topic: "a"}, {Topic: "a"}}
	resp := ask[*kmsg.DescribeTopicPartitionsResponse](c, q, 0)
	if len(resp.Topics) != 2 || *resp.Topics[0].Topic != "a" || resp.Topics[1].ErrorCode != int16(kafkaproto.UnknownTopicOrPartition) {
		t.Errorf("%+v", resp.Topics)
	}
}

func TestDescribeLogDirs(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 2)
	c := newClient(t, n.api)
	ask[*kmsg.ProduceResponse](c, produceRequest("orders", id, testBatch(t, "k", "v")), 12)
	q := kmsg.NewPtrDescribeLogDirsRequest()
	dir := ask[*kmsg.DescribeLogDirsResponse](c, q, 5).Dirs[0]
	if len(dir.Topics) != 1 || len(dir.Topics[0].Partitions) != 2 || dir.Topics[0].Partitions[0].Size <= 0 || dir.TotalBytes <= 0 || dir.UsableBytes <= 0 {
		t.Errorf("%+v", dir)
	}
	q.Topics = []kmsg.DescribeLogDirsRequestTopic{{Topic: "orders", Partitions: []int32{1, 7}}, {Topic: "nope", Partitions: []int32{0}}}
	if dir = ask[*kmsg.DescribeLogDirsResponse](c, q, 1).Dirs[0]; len(dir.Topics) != 1 || len(dir.Topics[0].Partitions) != 1 {
		t.Errorf("%+v", dir)
	}
	q.Topics = []kmsg.DescribeLogDirsRequestTopic{}
	if dir = ask[*kmsg.DescribeLogDirsResponse](c, q, 2).Dirs[0]; len(dir.Topics) != 0 {
		t.Errorf("%+v", dir)
	}
}
