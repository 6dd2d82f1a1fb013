package api

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// testBatch builds what a client sends: records of alternating keys and values.
func testBatch(t testing.TB, keysAndValues ...string) []byte {
	return producerBatch(t, batch.BuildOptions{}, keysAndValues...)
}

func producerBatch(t testing.TB, opt batch.BuildOptions, keysAndValues ...string) []byte {
	t.Helper()
	b := batch.NewBuilder(opt)
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		b.Add(batch.Record{Key: []byte(keysAndValues[i]), Value: []byte(keysAndValues[i+1]), Timestamp: time.Now().UnixMilli()})
	}
	frame, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	batch.Stamp(frame, 0, batch.NoEpoch)
	return frame
}

// produceRequest sends one batch to each of some partitions of a topic.
func produceRequest(topic string, id replication.TopicID, frames ...[]byte) *kmsg.ProduceRequest {
	q := kmsg.NewPtrProduceRequest()
	q.Acks, q.TimeoutMillis = -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, id
	for i, f := range frames {
		rt.Partitions = append(rt.Partitions, kmsg.ProduceRequestTopicPartition{Partition: int32(i), Records: f})
	}
	q.Topics = append(q.Topics, rt)
	return q
}

func TestProduceAnswers(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 2)
	c := newClient(t, n.api)
	resp := ask[*kmsg.ProduceResponse](c, produceRequest("orders", id, testBatch(t, "a", "1", "b", "2"), testBatch(t, "c", "3")), 12)
	resp2 := ask[*kmsg.ProduceResponse](c, produceRequest("orders", id, testBatch(t, "d", "4")), 13)
	for i, p := range []kmsg.ProduceResponseTopicPartition{resp.Topics[0].Partitions[0], resp.Topics[0].Partitions[1], resp2.Topics[0].Partitions[0]} {
		want := []int64{0, 0, 2}[i]
		if p.ErrorCode != 0 || p.BaseOffset != want || p.LogAppendTime != -1 || p.LogStartOffset != 0 {
			t.Errorf("batch %d: %+v", i, p)
		}
	}
	if resp.Topics[0].Topic != "orders" || resp2.Topics[0].TopicID != id {
		t.Errorf("topics %q and %v", resp.Topics[0].Topic, resp2.Topics[0].TopicID)
	}
}

func TestProduceErrors(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	n.createTopicWith("compacted", 1, map[string]string{"cleanup.policy": "compact"})
	n.createTopicWith("tiny", 1, map[string]string{"max.message.bytes": "100"})
	n.createTopicWith("strict", 1, map[string]string{"message.timestamp.after.max.ms": "1000"})
	damaged := testBatch(t, "k", "v")
	damaged[len(damaged)-1] ^= 1
	legacy := testBatch(t, "k", "v")
	legacy[16] = 1
	control := testBatch(t, "k", "v")
	batch.SetAttributes(control, batch.AttrControl)
	batch.Reseal(control)
	future, err := batch.Build(batch.BuildOptions{}, batch.Record{Value: []byte("v"), Timestamp: time.Now().Add(time.Hour).UnixMilli()})
	if err != nil {
		t.Fatal(err)
	}
	batch.Stamp(future, 0, batch.NoEpoch)
	inTransaction := batch.BuildOptions{Producer: &batch.Producer{ID: 5}, Transactional: true}
	keyless, _ := batch.Build(batch.BuildOptions{}, batch.Record{Value: []byte("v"), Timestamp: time.Now().UnixMilli()})
	batch.Stamp(keyless, 0, batch.NoEpoch)
	for name, tc := range map[string]struct {
		q       *kmsg.ProduceRequest
		version int16
		want    kafkaproto.Code
	}{
		"unknown topic":             {produceRequest("nope", id, testBatch(t, "k", "v")), 12, kafkaproto.UnknownTopicOrPartition},
		"unknown partition":         {produceRequest("orders", id, testBatch(t, "k", "v")), 12, kafkaproto.UnknownTopicOrPartition},
		"unknown id":                {produceRequest("orders", replication.TopicID{9}, testBatch(t, "k", "v")), 13, kafkaproto.UnknownTopicID},
		"no id":                     {produceRequest("orders", replication.TopicID{}, testBatch(t, "k", "v")), 13, kafkaproto.UnknownTopicID},
		"wrong acks":                {produceRequest("orders", id, testBatch(t, "k", "v")), 12, kafkaproto.InvalidRequiredAcks},
		"null records":              {produceRequest("orders", id, nil), 12, kafkaproto.InvalidRecord},
		"damage":                    {produceRequest("orders", id, damaged), 12, kafkaproto.CorruptMessage},
		"magic 1":                   {produceRequest("orders", id, legacy), 3, kafkaproto.InvalidRecord},
		"control batch":             {produceRequest("orders", id, control), 12, kafkaproto.InvalidRecord},
		"zstd before v7":            {produceRequest("orders", id, producerBatch(t, batch.BuildOptions{Codec: batch.Zstd}, "k", "v")), 6, kafkaproto.UnsupportedCompressionType},
		"too large":                 {produceRequest("tiny", id, testBatch(t, "k", strings.Repeat("v", 100))), 12, kafkaproto.MessageTooLarge},
		"keyless":                   {produceRequest("compacted", id, keyless), 12, kafkaproto.InvalidRecord},
		"too new":                   {produceRequest("strict", id, future), 12, kafkaproto.InvalidTimestamp},
		"transaction without an id": {produceRequest("orders", id, producerBatch(t, inTransaction, "k", "v")), 12, kafkaproto.TransactionalIDAuthorizationFailed},
		"transaction not begun":     {produceRequest("orders", id, producerBatch(t, inTransaction, "k", "v")), 12, kafkaproto.NotEnoughReplicas},
	} {
		switch name {
		case "wrong acks":
			tc.q.Acks = 2
		case "unknown partition":
			tc.q.Topics[0].Partitions[0].Partition = 1
		case "transaction not begun":
			tc.q.TransactionID = kmsg.StringPtr("tx")
		}
		c := newClient(t, n.api)
		p := ask[*kmsg.ProduceResponse](c, tc.q, tc.version).Topics[0].Partitions[0]
		if p.ErrorCode != int16(tc.want) || p.BaseOffset != -1 || p.LogAppendTime != -1 {
			t.Errorf("%s: %v, want %v; %+v", name, kafkaproto.Code(p.ErrorCode), tc.want, p)
		}
		if tc.version >= 8 && p.ErrorMessage == nil {
			t.Errorf("%s: no message", name)
		}
		if named := name == "keyless" || name == "too new"; named != (len(p.ErrorRecords) == 1) {
			t.Errorf("%s: records %+v", name, p.ErrorRecords)
		}
		// acks=0: nobody would read an error, so the connection ends.
		if tc.q.Acks == -1 {
			tc.q.Acks = 0
			if _, err := c.finish(c.start(tc.q, tc.version), tc.q); !errors.Is(err, errAcksNone) {
				t.Errorf("%s with acks=0: %v", name, err)
			}
		}
	}
}

func TestInternalTopicsTakeNoClientRecords(t *testing.T) {
	n := newNode(t)
	n.createTopic(broker.OffsetsTopic, 1)
	c := newClient(t, n.api)
	q := produceRequest(broker.OffsetsTopic, replication.TopicID{}, testBatch(t, "k", "v"))
	if got := ask[*kmsg.ProduceResponse](c, q, 12); errorCodeOf(got) != int16(kafkaproto.InvalidTopicException) {
		t.Error(kafkaproto.Code(errorCodeOf(got)))
	}
	c.id = "__admin_client"
	if got := ask[*kmsg.ProduceResponse](c, q, 12); errorCodeOf(got) != 0 {
		t.Error(kafkaproto.Code(errorCodeOf(got)))
	}
}

func TestProduceWithoutAcks(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	c := newClient(t, n.api)
	for range 3 {
		q := produceRequest("orders", id, testBatch(t, "k", "v"))
		q.Acks = 0
		if _, err := c.finish(c.start(q, 12), q); !errors.Is(err, errNoAnswer) {
			t.Fatal(err)
		}
	}
	if got := n.latest(c, "orders", 0); got != 3 {
		t.Errorf("%d records", got)
	}
}

// Requests that overlap keep their order, and a producer's retries change nothing.
func TestIdempotentProducer(t *testing.T) {
	n := newNode(t)
	id := n.createTopic("orders", 1)
	c := newClient(t, n.api)
	init := ask[*kmsg.InitProducerIDResponse](c, kmsg.NewPtrInitProducerIDRequest(), 4)
	send := func(sequence int32) *kmsg.ProduceRequest {
		f := producerBatch(t, batch.BuildOptions{Producer: &batch.Producer{ID: init.ProducerID, Epoch: init.ProducerEpoch, Sequence: sequence}}, "a", "1", "b", "2")
		return produceRequest("orders", id, f)
	}
	answer := func(call conn.Call, q *kmsg.ProduceRequest, code kafkaproto.Code, base int64) {
		t.Helper()
		resp, err := c.finish(call, q)
		if err != nil {
			t.Fatal(err)
		}
		if p := resp.(*kmsg.ProduceResponse).Topics[0].Partitions[0]; p.ErrorCode != int16(code) || p.BaseOffset != base {
			t.Errorf("%v at %d, want %v at %d", kafkaproto.Code(p.ErrorCode), p.BaseOffset, code, base)
		}
	}
	qs := []*kmsg.ProduceRequest{send(0), send(2), send(4), send(2)}
	var calls []conn.Call
	for _, q := range qs {
		calls = append(calls, c.start(q, 12))
	}
	for i, base := range []int64{0, 2, 4, 2} {
		answer(calls[i], qs[i], kafkaproto.None, base)
	}
	retry, gap := send(0), send(8)
	answer(c.start(retry, 12), retry, kafkaproto.None, 0)
	answer(c.start(gap, 12), gap, kafkaproto.OutOfOrderSequenceNumber, -1)
	if got := n.latest(c, "orders", 0); got != 6 {
		t.Errorf("%d records", got)
	}
	states := ask[*kmsg.DescribeProducersResponse](c, minimal(t, kafkaproto.KeyDescribeProducers, 0, "orders", id), 0).Topics[0].Partitions[0].ActiveProducers
	if len(states) != 1 || states[0].ProducerID != init.ProducerID || states[0].LastSequence != 5 {
		t.Errorf("producers %+v", states)
	}
}

func TestLogAppendTime(t *testing.T) {
	n := newNode(t)
	id := n.createTopicWith("stamped", 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	c := newClient(t, n.api)
	before := time.Now().UnixMilli()
	p := ask[*kmsg.ProduceResponse](c, produceRequest("stamped", id, testBatch(t, "k", "v")), 12).Topics[0].Partitions[0]
	if p.ErrorCode != 0 || p.LogAppendTime < before || p.LogAppendTime > time.Now().UnixMilli() {
		t.Fatalf("%+v", p)
	}
	records := n.fetchAll(c, "stamped", 0)
	if len(records) != 1 || records[0].Timestamp != p.LogAppendTime {
		t.Errorf("%+v", records)
	}
}

func TestBrokerCompresses(t *testing.T) {
	n := newNode(t)
	id := n.createTopicWith("packed", 1, map[string]string{"compression.type": "lz4"})
	c := newClient(t, n.api)
	big := strings.Repeat("v", 10_000)
	if got := ask[*kmsg.ProduceResponse](c, produceRequest("packed", id, testBatch(t, "k", big)), 12); errorCodeOf(got) != 0 {
		t.Fatal(kafkaproto.Code(errorCodeOf(got)))
	}
	data := n.fetch(c, "packed", 0, 0).Topics[0].Partitions[0].RecordBatches
	h, err := batch.ParseHeader(data)
	if err != nil || h.Codec() != batch.LZ4 || len(data) > 1000 {
		t.Errorf("%v, %+v, %d bytes", err, h, len(data))
	}
}

func TestProduceWithoutTopics(t *testing.T) {
	n := newNode(t)
	q := kmsg.NewPtrProduceRequest()
	q.Acks = -1
	if got := ask[*kmsg.ProduceResponse](newClient(t, n.api), q, 12); len(got.Topics) != 0 {
		t.Errorf("%+v", got)
	}
}

// BenchmarkProduce is one request of one batch after the other, without a network: what a request costs the broker
// beside the socket.
func BenchmarkProduce(b *testing.B) {
	n := newNode(b)
	id := n.createTopic("orders", 1)
	c := newClient(b, n.api)
	kv := make([]string, 0, 128)
	for range 64 {
		kv = append(kv, "", strings.Repeat("x", 1024))
	}
	q := produceRequest("orders", id, testBatch(b, kv...))
	b.SetBytes(int64(len(q.Topics[0].Partitions[0].Records)))
	b.ReportAllocs()
	pipelined(b, c, q)
}
