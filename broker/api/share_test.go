package api

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/group"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/broker/share/keeper"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// memShares keeps the states of share-partitions in memory. It is a share.Store and a ShareOffsets.
type memShares struct {
	node *node
	mu   sync.Mutex
	all  map[share.Key]*share.Durable
}

func (m *memShares) Read(_ context.Context, k share.Key, _ batch.Epoch) (*share.Durable, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all[k] == nil {
		m.all[k] = &share.Durable{Start: keeper.Unset}
	}
	d := *m.all[k]
	return &d, nil
}

func (m *memShares) Write(_ context.Context, k share.Key, _ batch.Epoch, d *share.Durable) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all[k] = d
	return nil
}

func (m *memShares) Topic(name string) (id replication.TopicID, partitions int32, ok bool) {
	t := m.node.ctl.Image().Topics[name]
	if t == nil {
		return id, 0, false
	}
	return t.ID, int32(len(t.Partitions)), true
}

func (m *memShares) Name(id replication.TopicID) (string, bool) {
	t := m.node.ctl.Image().ByID[id]
	if t == nil {
		return "", false
	}
	return t.Name, true
}

// List tells of two at most, as a list may be cut off.
func (m *memShares) List(_ context.Context, group string) (out []keeper.Listed, _ error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, d := range m.all {
		if k.Group == group && len(out) < 2 {
			out = append(out, keeper.Listed{Key: k, Position: keeper.PositionOf(d)})
		}
	}
	return out, nil
}

// Ask does the last first: side by side there is no order.
func (m *memShares) Ask(_ context.Context, all []*keeper.Request) []keeper.Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]keeper.Result, len(all))
	for i, q := range slices.Backward(all) {
		switch q.Op {
		case keeper.Set:
			m.all[q.Key] = &share.Durable{Start: q.Start}
		case keeper.Delete:
			delete(m.all, q.Key)
		}
		out[i].State = m.all[q.Key]
	}
	return out
}

// Ends knows that of the first partitions only.
func (m *memShares) Ends(_ context.Context, of []replication.PartitionID) map[replication.PartitionID]batch.Offset {
	out := map[replication.PartitionID]batch.Offset{}
	for _, id := range of {
		if id.Partition == 0 {
			out[id] = 20
		}
	}
	return out
}

// newShareAPI is an API over a node with the topic "orders", for the keys of share groups.
func newShareAPI(t *testing.T) (*API, *node, replication.TopicID) {
	t.Helper()
	return newShareAPIOver(t, func(l share.Logs) share.Logs { return l })
}

// newShareAPIOver is one whose share groups see the partitions through wrap.
func newShareAPIOver(t *testing.T, wrap func(share.Logs) share.Logs) (*API, *node, replication.TopicID) {
	t.Helper()
	n := newNode(t)
	id := n.createTopic("orders", 2)
	m := &memShares{node: n, all: map[share.Key]*share.Durable{}}
	s, err := share.New(share.Options{
		Logs: wrap(share.Local(admin.NewPartitions(n.ctl, n.manager, nil))), Store: m,
		Settings: func(string) share.GroupSettings {
			return share.GroupSettings{Settings: share.DefaultSettings(), Reset: share.Reset{Earliest: true}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	groups, err := group.New(group.Options{Logs: &memOffsets{}, Cluster: oneNode{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(groups.Close)
	groups.LeaderChanged(0, 1, true)
	for {
		if _, err := groups.List(group.ListRequest{}); err == nil {
			break // loaded
		}
	}
	services := n.api.Services
	services.Share, services.ShareOffsets, services.Group = s, m, groups
	return New(services), n, id
}

func shareFetch(id replication.TopicID, epoch int32) *kmsg.ShareFetchRequest {
	q := kmsg.NewPtrShareFetchRequest()
	q.GroupID, q.MemberID, q.ShareSessionEpoch = kmsg.StringPtr("g"), kmsg.StringPtr("m"), epoch
	q.MaxRecords, q.MaxWaitMillis = 10, int32(time.Minute.Milliseconds())
	t := kmsg.NewShareFetchRequestTopic()
	t.TopicID = id
	t.Partitions = append(t.Partitions, kmsg.NewShareFetchRequestTopicPartition())
	q.Topics = append(q.Topics, t)
	return q
}

func shareAcks(id replication.TopicID, epoch int32, first, last int64, types ...int8) *kmsg.ShareAcknowledgeRequest {
	q := kmsg.NewPtrShareAcknowledgeRequest()
	q.GroupID, q.MemberID, q.ShareSessionEpoch = kmsg.StringPtr("g"), kmsg.StringPtr("m"), epoch
	t := kmsg.NewShareAcknowledgeRequestTopic()
	t.TopicID = id
	p := kmsg.NewShareAcknowledgeRequestTopicPartition()
	b := kmsg.NewShareAcknowledgeRequestTopicPartitionAcknowledgementBatch()
	b.FirstOffset, b.LastOffset, b.AcknowledgeTypes = first, last, types
	p.AcknowledgementBatches = append(p.AcknowledgementBatches, b)
	t.Partitions = append(t.Partitions, p)
	q.Topics = append(q.Topics, t)
	return q
}

func wantError(t *testing.T, what string, got int16, want kafkaproto.Code) {
	t.Helper()
	if kafkaproto.Code(got) != want {
		t.Errorf("%s: %v, expected %v", what, kafkaproto.Code(got), want)
	}
}

func TestShareFetchAndAcknowledge(t *testing.T) {
	for _, version := range []int16{1, 2} {
		a, _, id := newShareAPI(t)
		ask[*kmsg.ProduceResponse](newClient(t, a), produceRequest("orders", id, testBatch(t, "a", "1", "b", "2", "c", "3")), 13)
		got := send[*kmsg.ShareFetchResponse](t, a, version, shareFetch(id, 0))
		wantError(t, "fetch", got.ErrorCode, 0)
		p := got.Topics[0].Partitions[0]
		if len(p.AcquiredRecords) != 1 || p.AcquiredRecords[0].LastOffset != 2 || p.AcquiredRecords[0].DeliveryCount != 1 || len(p.Records) == 0 {
			t.Fatalf("version %d: %+v", version, p)
		}
		if got.AcquisitionLockTimeoutMillis != 30_000 || p.CurrentLeader.LeaderID != -1 {
			t.Errorf("version %d: %+v", version, got)
		}
		ack := func(q *kmsg.ShareAcknowledgeRequest) (all, one int16) {
			r := send[*kmsg.ShareAcknowledgeResponse](t, a, version, q)
			if len(r.Topics) > 0 {
				one = r.Topics[0].Partitions[0].ErrorCode
			}
			return r.ErrorCode, one
		}
		_, one := ack(shareAcks(id, 1, 0, 1, 1))
		wantError(t, "accept", one, 0)
		_, one = ack(shareAcks(id, 2, 0, 1, 1))
		wantError(t, "accepted twice", one, kafkaproto.InvalidRecordState)
		all, _ := ack(shareAcks(id, 3, 2, 1, 1))
		wantError(t, "backwards", all, kafkaproto.InvalidRequest)
		all, _ = ack(shareAcks(id, 3, 2, 2, 9))
		wantError(t, "an unknown type", all, kafkaproto.InvalidRequest)
		all, _ = ack(shareAcks(id, 3, 2, 2, 4))
		wantError(t, "a renewal that is not announced", all, kafkaproto.InvalidRequest)
		all, _ = ack(shareAcks(id, 7, 2, 2, 1))
		wantError(t, "a wrong epoch", all, kafkaproto.InvalidShareSessionEpoch)
		_, one = ack(shareAcks(replication.TopicID{9}, 3, 2, 2, 1))
		wantError(t, "an unknown topic", one, kafkaproto.UnknownTopicID)
		_, one = ack(shareAcks(id, -1, 2, 2, 2))
		wantError(t, "the last request", one, 0)
		all, _ = ack(shareAcks(id, 4, 2, 2, 1))
		wantError(t, "no session", all, kafkaproto.ShareSessionNotFound)
	}
}

func TestShareFetchRefused(t *testing.T) {
	a, _, id := newShareAPI(t)
	fetch := func(what string, want kafkaproto.Code, alter func(q *kmsg.ShareFetchRequest)) {
		t.Helper()
		q := shareFetch(id, 0)
		q.MaxWaitMillis = 0
		alter(q)
		wantError(t, what, send[*kmsg.ShareFetchResponse](t, a, 2, q).ErrorCode, want)
	}
	fetch("no group", kafkaproto.InvalidRequest, func(q *kmsg.ShareFetchRequest) { q.GroupID = nil })
	fetch("no member", kafkaproto.InvalidRequest, func(q *kmsg.ShareFetchRequest) { q.MemberID = nil })
	fetch("no session", kafkaproto.ShareSessionNotFound, func(q *kmsg.ShareFetchRequest) { q.ShareSessionEpoch = 5 })
	fetch("a renewal without acknowledgements", kafkaproto.InvalidRequest, func(q *kmsg.ShareFetchRequest) { q.IsRenewAck = true })
	fetch("negative limits", 0, func(q *kmsg.ShareFetchRequest) {
		q.MaxBytes, q.MaxRecords, q.BatchSize, q.MaxWaitMillis = -1, -1, -1, -1
	})
	q := shareFetch(id, 0)
	q.Topics[0].Partitions[0].Partition = 7
	got := send[*kmsg.ShareFetchResponse](t, a, 2, q)
	wantError(t, "an unknown partition", got.Topics[0].Partitions[0].ErrorCode, kafkaproto.UnknownTopicOrPartition)
}

func TestShareOffsets(t *testing.T) {
	a, _, _ := newShareAPI(t)
	set := func(group, topic string, partition int32, start int64) *kmsg.AlterShareGroupOffsetsResponse {
		q := kmsg.NewPtrAlterShareGroupOffsetsRequest()
		q.GroupID = group
		q.Topics = []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: topic,
			Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{Partition: partition, StartOffset: start}}}}
		return send[*kmsg.AlterShareGroupOffsetsResponse](t, a, 0, q)
	}
	wantError(t, "set", set("g", "orders", 1, 5).Topics[0].Partitions[0].ErrorCode, 0)
	wantError(t, "an unknown partition", set("g", "orders", 2, 5).Topics[0].Partitions[0].ErrorCode, kafkaproto.UnknownTopicOrPartition)
	wantError(t, "an unknown topic", set("g", "none", 0, 5).Topics[0].Partitions[0].ErrorCode, kafkaproto.UnknownTopicOrPartition)
	wantError(t, "a negative offset", set("g", "orders", 0, -1).Topics[0].Partitions[0].ErrorCode, kafkaproto.InvalidRequest)
	wantError(t, "no group", set("", "orders", 0, 1).ErrorCode, kafkaproto.InvalidGroupID)

	starts := func(topics []kmsg.DescribeShareGroupOffsetsRequestGroupTopic) map[int32]int64 {
		q := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
		q.Groups = []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: "g", Topics: topics}}
		got := send[*kmsg.DescribeShareGroupOffsetsResponse](t, a, 0, q).Groups[0]
		wantError(t, "describe", got.ErrorCode, 0)
		out := map[int32]int64{}
		for _, rt := range got.Topics {
			for _, p := range rt.Partitions {
				out[p.Partition] = p.StartOffset
			}
		}
		return out
	}
	if got := starts(nil); len(got) != 1 || got[1] != 5 {
		t.Errorf("all: %v", got)
	}
	again := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	again.GroupID = "g"
	again.Topics = []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: "orders",
		Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{Partition: 1, StartOffset: 9}, {Partition: 1, StartOffset: 5}}}}
	for _, p := range send[*kmsg.AlterShareGroupOffsetsResponse](t, a, 0, again).Topics[0].Partitions {
		wantError(t, "set twice", p.ErrorCode, 0)
	}
	named := []kmsg.DescribeShareGroupOffsetsRequestGroupTopic{{Topic: "orders", Partitions: []int32{0, 1, 8}}}
	if got := starts(named); len(got) != 3 || got[0] != -1 || got[1] != 5 || got[8] != -1 {
		t.Errorf("named: %v", got)
	}
	q := kmsg.NewPtrDeleteShareGroupOffsetsRequest()
	q.GroupID = "g"
	q.Topics = []kmsg.DeleteShareGroupOffsetsRequestTopic{{Topic: "orders"}, {Topic: "none"}}
	gone := send[*kmsg.DeleteShareGroupOffsetsResponse](t, a, 0, q)
	wantError(t, "delete", gone.Topics[0].ErrorCode, 0)
	wantError(t, "delete of an unknown topic", gone.Topics[1].ErrorCode, kafkaproto.UnknownTopicOrPartition)
	if got := starts(nil); len(got) != 0 {
		t.Errorf("after the deletion: %v", got)
	}
}

// What is set for a group that nobody has joined makes the group: it is listed, and its deletion leaves nothing behind.
func TestShareOffsetsOfAGroupThatNobodyJoined(t *testing.T) {
	a, _, _ := newShareAPI(t)
	forget := func(group string, topics ...string) *kmsg.DeleteShareGroupOffsetsResponse {
		q := kmsg.NewPtrDeleteShareGroupOffsetsRequest()
		q.GroupID = group
		for _, topic := range topics {
			q.Topics = append(q.Topics, kmsg.DeleteShareGroupOffsetsRequestTopic{Topic: topic})
		}
		return send[*kmsg.DeleteShareGroupOffsetsResponse](t, a, 0, q)
	}
	remove := func() int16 {
		q := kmsg.NewPtrDeleteGroupsRequest()
		q.Groups = []string{"g"}
		return send[*kmsg.DeleteGroupsResponse](t, a, 2, q).Groups[0].ErrorCode
	}
	wantError(t, "offsets of an unknown group", forget("g", "orders").ErrorCode, kafkaproto.GroupIDNotFound)
	wantError(t, "an unknown group", remove(), kafkaproto.GroupIDNotFound)
	q := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	q.GroupID = "g"
	q.Topics = []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: "orders", Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{Partition: 1, StartOffset: 5}}}}
	alter := func() {
		t.Helper()
		got := send[*kmsg.AlterShareGroupOffsetsResponse](t, a, 0, q)
		wantError(t, "the group", got.ErrorCode, 0)
		wantError(t, "set", got.Topics[0].Partitions[0].ErrorCode, 0)
	}
	alter()
	listed := send[*kmsg.ListGroupsResponse](t, a, 5, kmsg.NewPtrListGroupsRequest()).Groups
	if len(listed) != 1 || listed[0].Group != "g" || listed[0].GroupType != group.ShareType || listed[0].GroupState != "Empty" {
		t.Errorf("the groups are %+v", listed)
	}
	wantError(t, "offsets", forget("g", "orders").Topics[0].ErrorCode, 0)
	twice := forget("g", "orders")
	wantError(t, "the group, which is still there", twice.ErrorCode, 0)
	wantError(t, "offsets that are gone", twice.Topics[0].ErrorCode, kafkaproto.UnknownTopicOrPartition)
	alter()
	a.ShareOffsets.(*memShares).Write(t.Context(), share.Key{Group: "g", Partition: 5}, 0, &share.Durable{}) // more than one list holds
	a.ShareOffsets.(*memShares).Write(t.Context(), share.Key{Group: "g", Partition: 6}, 0, &share.Durable{})
	wantError(t, "the deletion of the group", remove(), 0)
	if left, _ := a.ShareOffsets.List(t.Context(), "g"); len(left) != 0 {
		t.Errorf("of a group that is gone %+v is left", left)
	}
	wantError(t, "offsets of a group that is gone", forget("g", "orders").ErrorCode, kafkaproto.GroupIDNotFound)
}

// KIP-1226: the lag counts what the group has not finished, up to the partition's end.
func TestShareLag(t *testing.T) {
	a, _, id := newShareAPI(t)
	m := a.ShareOffsets.(*memShares)
	m.all[share.Key{Group: "g", Topic: id}] = &share.Durable{Start: 5, LeaderEpoch: 3, Runs: []share.Run{
		{First: 5, Last: 6, Count: 1}, {First: 7, Last: 9, State: share.Acknowledged, Count: 1}, {First: 10, Last: 10, State: share.Archived, Count: 5},
	}}
	m.all[share.Key{Group: "g", Topic: id, Partition: 1}] = &share.Durable{Start: 5}
	m.all[share.Key{Group: "ahead", Topic: id}] = &share.Durable{Start: 30}
	lags := func(version int16, group string, topics []kmsg.DescribeShareGroupOffsetsRequestGroupTopic) map[int32]int64 {
		q := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
		q.Groups = []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: group, Topics: topics}}
		out := map[int32]int64{}
		for _, rt := range send[*kmsg.DescribeShareGroupOffsetsResponse](t, a, version, q).Groups[0].Topics {
			for _, p := range rt.Partitions {
				out[p.Partition] = p.Lag
			}
		}
		return out
	}
	named := []kmsg.DescribeShareGroupOffsetsRequestGroupTopic{{Topic: "orders", Partitions: []int32{0, 1, 0}}}
	for name, got := range map[string]map[int32]int64{"all": lags(1, "g", nil), "named": lags(1, "g", named)} {
		if want := map[int32]int64{0: 11, 1: -1}; !maps.Equal(got, want) {
			t.Errorf("%s: %v, expected %v", name, got, want)
		}
	}
	if got := lags(0, "g", nil); got[0] != -1 {
		t.Errorf("version 0: %v", got)
	}
	if got := lags(1, "ahead", nil); got[0] != 0 {
		t.Errorf("beyond the end: %v", got)
	}
	if got := lags(1, "nobody", named); got[0] != -1 || got[1] != -1 {
		t.Errorf("of a group that has not begun: %v", got)
	}
}

// Settings of groups are stored, checked and listed.
func TestGroupSettings(t *testing.T) {
	a, _, _ := newShareAPI(t)
	set := func(name, key, value string) int16 {
		q := kmsg.NewPtrIncrementalAlterConfigsRequest()
		r := kmsg.NewIncrementalAlterConfigsRequestResource()
		r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeGroupConfig, name
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Value = key, &value
		r.Configs = append(r.Configs, c)
		q.Resources = append(q.Resources, r)
		return send[*kmsg.IncrementalAlterConfigsResponse](t, a, 1, q).Resources[0].ErrorCode
	}
	wantError(t, "set", set("g", "share.auto.offset.reset", "earliest"), 0)
	wantError(t, "a duration", set("g", "share.auto.offset.reset", "by_duration:PT1H"), 0)
	wantError(t, "nonsense", set("g", "share.auto.offset.reset", "never"), kafkaproto.InvalidConfig)
	wantError(t, "an unknown setting", set("g", "share.nothing", "1"), kafkaproto.InvalidConfig)
	wantError(t, "no group", set("", "share.auto.offset.reset", "latest"), kafkaproto.InvalidRequest)
	wantError(t, "a time", set("g", "consumer.session.timeout.ms", "46000"), 0)
	wantError(t, "less than group.consumer.min.session.timeout.ms", set("g", "consumer.session.timeout.ms", "44999"), kafkaproto.InvalidConfig)
	wantError(t, "more than group.share.max.heartbeat.interval.ms", set("g", "share.heartbeat.interval.ms", "15001"), kafkaproto.InvalidConfig)

	d := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = kmsg.ConfigResourceTypeGroupConfig, "g", []string{"share.auto.offset.reset"}
	d.Resources = append(d.Resources, r)
	got := send[*kmsg.DescribeConfigsResponse](t, a, 4, d).Resources[0]
	if got.ErrorCode != 0 || len(got.Configs) != 1 || *got.Configs[0].Value != "by_duration:PT1H" {
		t.Errorf("%+v", got)
	}
	list := func(kinds ...int8) *kmsg.ListConfigResourcesResponse {
		q := kmsg.NewPtrListConfigResourcesRequest()
		q.ResourceTypes = kinds
		return send[*kmsg.ListConfigResourcesResponse](t, a, 1, q)
	}
	if got := list(32).ConfigResources; len(got) != 1 || got[0].Name != "g" || got[0].Type != 32 {
		t.Errorf("groups: %+v", got)
	}
	if got := list().ConfigResources; len(got) != 4 { // with the loggers of the node
		t.Errorf("all: %+v", got)
	}
	wantError(t, "an unknown kind", list(77).ErrorCode, kafkaproto.UnsupportedVersion)
}
