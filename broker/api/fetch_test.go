package api

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchOf asks for some partitions of a topic from an offset on, without waiting.
func fetchOf(topic string, id replication.TopicID, offset int64, partitions ...int32) *kmsg.FetchRequest {
	q := kmsg.NewPtrFetchRequest()
	q.MaxBytes, q.ReplicaID, q.SessionEpoch = 1<<20, -1, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic, id
	for _, p := range partitions {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = p, offset, 1<<20
		rt.Partitions = append(rt.Partitions, rp)
	}
	q.Topics = append(q.Topics, rt)
	return q
}

func (n *node) fill(c *client, topic string, id replication.TopicID, batches int) {
	c.t.Helper()
	for range batches {
		if got := ask[*kmsg.ProduceResponse](c, produceRequest(topic, id, testBatch(c.t, "k", "v", "l", "w")), 12); errorCodeOf(got) != 0 {
			c.t.Fatal(kafkaproto.Code(errorCodeOf(got)))
		}
	}
}

func TestFetchEveryVersion(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 2)
	c := newClient(t, n.api)
	n.fill(c, "orders", id, 3)
	for version := fetchRow.Min; version <= fetchRow.Max; version++ {
		// Offset 3 lies inside the second batch, which comes whole.
		q := fetchOf("orders", id, 3, 0)
		q.IsolationLevel = int8(version % 2)
		resp := ask[*kmsg.FetchResponse](c, q, version)
		p := resp.Topics[0].Partitions[0]
		if p.ErrorCode != 0 || p.HighWatermark != 6 || p.LastStableOffset != 6 || resp.SessionID != 0 {
			t.Errorf("version %d: %+v", version, p)
		}
		if (p.AbortedTransactions != nil) != (q.IsolationLevel == readCommitted) {
			t.Errorf("version %d: aborted %v", version, p.AbortedTransactions)
		}
		frames, err := batch.Split(p.RecordBatches)
		if err != nil || len(frames) != 2 {
			t.Fatalf("version %d: %v, %d batches", version, err, len(frames))
		}
		if h, _ := batch.ParseHeader(frames[0]); h.BaseOffset != 2 || h.LeaderEpoch < 1 {
			t.Errorf("version %d: %+v", version, h)
		}
		if version >= fetchTopicIDs != (resp.Topics[0].TopicID == id) || version >= fetchTopicIDs == (resp.Topics[0].Topic == "orders") {
			t.Errorf("version %d: %+v", version, resp.Topics[0])
		}
	}
}

func TestFetchSessionsOverTheWire(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 3)
	c := newClient(t, n.api)
	n.fill(c, "orders", id, 1)
	q := fetchOf("orders", id, 0, 0, 1, 2)
	q.SessionEpoch = fetch.InitialEpoch
	first := ask[*kmsg.FetchResponse](c, q, 13)
	if first.SessionID == 0 || len(first.Topics) != 1 || len(first.Topics[0].Partitions) != 3 {
		t.Fatalf("%+v", first)
	}
	next := kmsg.NewPtrFetchRequest()
	next.MaxBytes, next.SessionID, next.SessionEpoch = 1<<20, first.SessionID, 1
	change := fetchOf("orders", id, 2, 0)
	next.Topics = change.Topics
	if got := ask[*kmsg.FetchResponse](c, next, 13); got.SessionID != first.SessionID || len(got.Topics) != 0 || got.ErrorCode != 0 {
		t.Fatalf("%+v", got)
	}
	next.SessionEpoch, next.Topics = 2, nil
	next.ForgottenTopics = []kmsg.FetchRequestForgottenTopic{{TopicID: id, Partitions: []int32{1, 2}}}
	n.fill(c, "orders", id, 1)
	if got := ask[*kmsg.FetchResponse](c, next, 13); len(got.Topics) != 1 || got.Topics[0].Partitions[0].HighWatermark != 4 {
		t.Fatalf("%+v", got)
	}
	for name, tc := range map[string]struct {
		id, epoch int32
		version   int16
		want      kafkaproto.Code
	}{
		"wrong epoch":     {first.SessionID, 9, 13, kafkaproto.InvalidFetchSessionEpoch},
		"unknown session": {first.SessionID ^ 1, 3, 13, kafkaproto.FetchSessionIDNotFound},
		"names, not ids":  {first.SessionID, 3, 12, kafkaproto.FetchSessionTopicIDError},
	} {
		q := kmsg.NewPtrFetchRequest()
		q.SessionID, q.SessionEpoch = tc.id, tc.epoch
		if got := ask[*kmsg.FetchResponse](c, q, tc.version); got.ErrorCode != int16(tc.want) || got.SessionID != 0 {
			t.Errorf("%s: %v, want %v", name, kafkaproto.Code(got.ErrorCode), tc.want)
		}
	}
	closing := kmsg.NewPtrFetchRequest()
	closing.SessionID, closing.SessionEpoch = first.SessionID, fetch.FinalEpoch
	if got := ask[*kmsg.FetchResponse](c, closing, 13); got.ErrorCode != 0 || got.SessionID != 0 {
		t.Errorf("%+v", got)
	}
	closing.SessionEpoch = 3
	if got := ask[*kmsg.FetchResponse](c, closing, 13); got.ErrorCode != int16(kafkaproto.FetchSessionIDNotFound) {
		t.Errorf("%v", kafkaproto.Code(got.ErrorCode))
	}
}

func TestFetchErrors(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	c := newClient(t, n.api)
	n.fill(c, "orders", id, 1)
	part := func(fn func(*kmsg.FetchRequestTopicPartition)) func(*kmsg.FetchRequest) {
		return func(q *kmsg.FetchRequest) { fn(&q.Topics[0].Partitions[0]) }
	}
	for name, tc := range map[string]struct {
		version int16
		change  func(*kmsg.FetchRequest)
		want    kafkaproto.Code
	}{
		"unknown topic":     {12, func(q *kmsg.FetchRequest) { q.Topics[0].Topic = "nope" }, kafkaproto.UnknownTopicOrPartition},
		"no topic":          {12, func(q *kmsg.FetchRequest) { q.Topics[0].Topic = "" }, kafkaproto.UnknownTopicOrPartition},
		"unknown id":        {13, func(q *kmsg.FetchRequest) { q.Topics[0].TopicID = replication.TopicID{9} }, kafkaproto.UnknownTopicID},
		"no id":             {13, func(q *kmsg.FetchRequest) { q.Topics[0].TopicID = replication.TopicID{} }, kafkaproto.UnknownTopicID},
		"unknown partition": {13, part(func(p *kmsg.FetchRequestTopicPartition) { p.Partition = 1 }), kafkaproto.UnknownTopicOrPartition},
		"beyond the end":    {12, part(func(p *kmsg.FetchRequestTopicPartition) { p.FetchOffset = 3 }), kafkaproto.OffsetOutOfRange},
		"negative":          {12, part(func(p *kmsg.FetchRequestTopicPartition) { p.FetchOffset = -1 }), kafkaproto.OffsetOutOfRange},
		"future epoch":      {12, part(func(p *kmsg.FetchRequestTopicPartition) { p.CurrentLeaderEpoch = 1000 }), kafkaproto.UnknownLeaderEpoch},
		"past epoch":        {16, part(func(p *kmsg.FetchRequestTopicPartition) { p.CurrentLeaderEpoch = 0 }), kafkaproto.FencedLeaderEpoch},
		"a replica":         {14, func(q *kmsg.FetchRequest) { q.ReplicaID = 2 }, kafkaproto.TopicAuthorizationFailed},
		"a newer replica":   {15, func(q *kmsg.FetchRequest) { q.ReplicaState.ID = 2 }, kafkaproto.TopicAuthorizationFailed},
	} {
		q := fetchOf("orders", id, 0, 0)
		tc.change(q)
		resp := ask[*kmsg.FetchResponse](c, q, tc.version)
		p := resp.Topics[0].Partitions[0]
		if p.ErrorCode != int16(tc.want) || len(p.RecordBatches) != 0 {
			t.Errorf("%s: %v, want %v", name, kafkaproto.Code(p.ErrorCode), tc.want)
		}
		if name == "past epoch" && (p.CurrentLeader.LeaderID != 1 || len(resp.Brokers) != 1 || resp.Brokers[0].Port != 9092) {
			t.Errorf("%s: leader %+v, brokers %+v", name, p.CurrentLeader, resp.Brokers)
		}
	}
}

func TestFetchWaitsForRecords(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	c := newClient(t, n.api)
	q := fetchOf("orders", id, 0, 0)
	q.MinBytes, q.MaxWaitMillis = 1, 600_000
	call := c.start(q, 13)
	answer := make(chan *kmsg.FetchResponse, 1)
	go func() {
		defer close(answer)
		resp, err := c.finish(call, q)
		if err != nil {
			t.Error(err)
			return
		}
		answer <- resp.(*kmsg.FetchResponse)
	}()
	n.fill(newClient(t, n.api), "orders", id, 1)
	resp, answered := <-answer
	if !answered {
		t.FailNow()
	}
	if got := resp.Topics[0].Partitions[0]; got.HighWatermark != 2 || len(got.RecordBatches) == 0 {
		t.Errorf("%+v", got)
	}
}

func TestFetchEndsWithTheConnection(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	q := fetchOf("orders", id, 0, 0)
	q.MinBytes, q.MaxWaitMillis = 1, 600_000
	call := newClient(t, n.api).start(q, 13)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := call.Finish(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestListOffsets(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	c := newClient(t, n.api)
	base := time.Now().UnixMilli() - 1000
	for i, ts := range []int64{base, base + 500, base + 100} {
		f, err := batch.Build(batch.BuildOptions{}, batch.Record{Value: []byte{byte(i)}, Timestamp: ts}, batch.Record{Value: []byte{byte(i)}, Timestamp: ts + 1})
		if err != nil {
			t.Fatal(err)
		}
		batch.Stamp(f, 0, batch.NoEpoch)
		ask[*kmsg.ProduceResponse](c, produceRequest("orders", id, f), 12)
	}
	for _, tc := range []struct {
		version   int16
		timestamp int64
		code      kafkaproto.Code
		offset    int64
		found     int64
	}{
		{1, -1, 0, 6, -1}, {1, -2, 0, 0, -1}, {11, -1, 0, 6, -1}, {4, -2, 0, 0, -1},
		{6, -3, kafkaproto.UnsupportedVersion, -1, -1}, {7, -3, 0, 3, base + 501},
		{7, -4, kafkaproto.UnsupportedVersion, -1, -1}, {8, -4, 0, 0, -1},
		{8, -5, kafkaproto.UnsupportedVersion, -1, -1}, {9, -5, 0, -1, -1},
		{10, -6, kafkaproto.UnsupportedVersion, -1, -1}, {11, -6, 0, -1, -1},
		{11, -7, kafkaproto.UnsupportedVersion, -1, -1},
		{5, base - 10, 0, 0, base}, {5, base + 1, 0, 1, base + 1}, {5, base + 2, 0, 2, base + 500},
		{5, base + 501, 0, 3, base + 501}, {5, base + 502, 0, -1, -1},
	} {
		q := minimal(t, kafkaproto.KeyListOffsets, tc.version, "orders", id).(*kmsg.ListOffsetsRequest)
		q.Topics[0].Partitions[0].Timestamp = tc.timestamp
		p := ask[*kmsg.ListOffsetsResponse](c, q, tc.version).Topics[0].Partitions[0]
		if p.ErrorCode != int16(tc.code) || p.Offset != tc.offset || p.Timestamp != tc.found {
			t.Errorf("%d at version %d: %v, %d of %d; want %+v", tc.timestamp-base, tc.version, kafkaproto.Code(p.ErrorCode), p.Offset, p.Timestamp, tc)
		}
		if tc.version >= 4 && tc.offset >= 0 && p.LeaderEpoch < 1 {
			t.Errorf("%d at version %d: epoch %d", tc.timestamp, tc.version, p.LeaderEpoch)
		}
	}
	twice := minimal(t, kafkaproto.KeyListOffsets, 7, "orders", id).(*kmsg.ListOffsetsRequest)
	twice.Topics[0].Partitions = append(twice.Topics[0].Partitions, twice.Topics[0].Partitions[0])
	if got := ask[*kmsg.ListOffsetsResponse](c, twice, 7); errorCodeOf(got) != int16(kafkaproto.InvalidRequest) {
		t.Errorf("%v", kafkaproto.Code(errorCodeOf(got)))
	}
}

func TestOffsetForLeaderEpoch(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	c := newClient(t, n.api)
	n.fill(c, "orders", id, 2)
	epoch := ask[*kmsg.MetadataResponse](c, metadataFor("orders"), 12).Topics[0].Partitions[0].LeaderEpoch
	for _, tc := range []struct {
		current, epoch int32
		code           kafkaproto.Code
		got            int32
		end            int64
	}{
		{-1, epoch, 0, epoch, 4},
		{epoch, epoch, 0, epoch, 4},
		{epoch + 1, epoch, kafkaproto.UnknownLeaderEpoch, -1, -1},
		{epoch - 1, epoch, kafkaproto.FencedLeaderEpoch, -1, -1},
		{-1, epoch + 5, 0, -1, -1},
	} {
		q := minimal(t, kafkaproto.KeyOffsetForLeaderEpoch, 3, "orders", id).(*kmsg.OffsetForLeaderEpochRequest)
		q.Topics[0].Partitions[0].CurrentLeaderEpoch, q.Topics[0].Partitions[0].LeaderEpoch = tc.current, tc.epoch
		p := ask[*kmsg.OffsetForLeaderEpochResponse](c, q, 3).Topics[0].Partitions[0]
		if p.ErrorCode != int16(tc.code) || p.LeaderEpoch != tc.got || p.EndOffset != tc.end {
			t.Errorf("%+v: %+v", tc, p)
		}
	}
}

// BenchmarkFetch is one incremental fetch after the other of a partition with much to read, without a network: what a
// request costs the broker beside the socket.
func BenchmarkFetch(b *testing.B) {
	n := newNode(b)
	id := n.createTopic("orders", 1)
	c := newClient(b, n.api)
	kv := make([]string, 0, 128)
	for range 64 {
		kv = append(kv, "", strings.Repeat("x", 1024))
	}
	for range 16 {
		ask[*kmsg.ProduceResponse](c, produceRequest("orders", id, testBatch(b, kv...)), 12)
	}
	q := fetchOf("orders", id, 0, 0)
	q.SessionEpoch = fetch.InitialEpoch
	session := ask[*kmsg.FetchResponse](c, q, 13).SessionID
	epoch := int32(1)
	b.ReportAllocs()
	for b.Loop() {
		q := fetchOf("orders", id, 0, 0)
		q.SessionID, q.SessionEpoch = session, epoch
		reply, err := c.start(q, 13).Finish(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(reply.Body.Size))
		reply.Body.Release()
		epoch++
	}
}
