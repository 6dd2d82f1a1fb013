package api

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// oracle is a connection to kfake, the in-memory broker of franz-go, whose error codes follow Kafka's.
type oracle struct {
	t    *testing.T
	conn net.Conn
}

func newOracle(t *testing.T) *oracle {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	conn, err := net.Dial("tcp", cluster.ListenAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &oracle{t: t, conn: conn}
}

// ask sends a request at a version over the wire.
func (o *oracle) ask(req kmsg.Request, version int16) kmsg.Response {
	o.t.Helper()
	req.SetVersion(version)
	frame := kmsg.NewRequestFormatter(kmsg.FormatterClientID("test")).AppendRequest(nil, req, 1)
	if _, err := o.conn.Write(frame); err != nil {
		o.t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(o.conn, size[:]); err != nil {
		o.t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(o.conn, body); err != nil {
		o.t.Fatal(err)
	}
	body = body[4:]
	if kafkaproto.FlexibleResponse(kafkaproto.Key(req.Key()), version) {
		body = body[1:]
	}
	resp := req.ResponseKind()
	resp.SetVersion(version)
	if err := resp.ReadFrom(body); err != nil {
		o.t.Fatal(err)
	}
	return resp
}

// The same requests get the same error codes from kfake and from here. What differs on purpose is listed with its reason.
func TestErrorCodesAsKfake(t *testing.T) {
	n := newNode(t)
	c, o := newClient(t, n.api), newOracle(t)
	ids := make(map[string][2]replication.TopicID)
	for name, configs := range map[string]map[string]string{"orders": nil, "tiny": {"max.message.bytes": "100"}} {
		q := kmsg.NewPtrCreateTopicsRequest()
		rt := kmsg.NewCreateTopicsRequestTopic()
		rt.Topic, rt.NumPartitions, rt.ReplicationFactor = name, 1, 1
		for k, v := range configs {
			rt.Configs = append(rt.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: k, Value: &v})
		}
		q.Topics = append(q.Topics, rt)
		ours, theirs := ask[*kmsg.CreateTopicsResponse](c, q, 7), o.ask(q, 7).(*kmsg.CreateTopicsResponse)
		if errorCodeOf(ours) != 0 || errorCodeOf(theirs) != 0 {
			t.Fatalf("%v and %v", errorCodeOf(ours), errorCodeOf(theirs))
		}
		ids[name] = [2]replication.TopicID{ours.Topics[0].TopicID, theirs.Topics[0].TopicID}
	}
	min := func(key kafkaproto.Key, change func(kmsg.Request)) func(topic string, id replication.TopicID) kmsg.Request {
		return func(topic string, id replication.TopicID) kmsg.Request {
			req := minimal(t, key, kmsg.RequestForKey(int16(key)).MaxVersion(), topic, id)
			change(req)
			return req
		}
	}
	none := func(kmsg.Request) {}
	produce := func(frame []byte) func(kmsg.Request) {
		return func(r kmsg.Request) { r.(*kmsg.ProduceRequest).Topics[0].Partitions[0].Records = frame }
	}
	fetch := func(fn func(*kmsg.FetchRequestTopicPartition)) func(kmsg.Request) {
		return func(r kmsg.Request) { fn(&r.(*kmsg.FetchRequest).Topics[0].Partitions[0]) }
	}
	list := func(fn func(*kmsg.ListOffsetsRequestTopicPartition)) func(kmsg.Request) {
		return func(r kmsg.Request) { fn(&r.(*kmsg.ListOffsetsRequest).Topics[0].Partitions[0]) }
	}
	damaged := testBatch(t, "k", "v")
	damaged[len(damaged)-1] ^= 1
	const produceKey, fetchKey, listKey = kafkaproto.KeyProduce, kafkaproto.KeyFetch, kafkaproto.KeyListOffsets
	for _, tc := range []struct {
		name, topic string
		version     int16
		req         func(topic string, id replication.TopicID) kmsg.Request
		differs     string // why the codes are not the same
	}{
		{name: "produce", topic: "orders", version: 12, req: min(produceKey, none)},
		{name: "produce by id", topic: "orders", version: 13, req: min(produceKey, none)},
		{name: "produce to an unknown topic", topic: "nope", version: 12, req: min(produceKey, none)},
		{name: "produce to an unknown id", topic: "nope", version: 13, req: min(produceKey, none)},
		{name: "produce too much", topic: "tiny", version: 12, req: min(produceKey, produce(testBatch(t, "k", strings.Repeat("v", 200))))},
		{name: "produce damage", topic: "orders", version: 12, req: min(produceKey, produce(damaged))},
		{name: "produce with wrong acks", topic: "orders", version: 12, req: min(produceKey, func(r kmsg.Request) { r.(*kmsg.ProduceRequest).Acks = 5 })},
		{name: "produce out of order", topic: "orders", version: 12, req: min(produceKey,
			produce(producerBatch(t, batch.BuildOptions{Producer: &batch.Producer{ID: 1, Epoch: 0, Sequence: 5}}, "k", "v")))},
		{name: "fetch", topic: "orders", version: 12, req: min(fetchKey, none)},
		{name: "fetch by id", topic: "orders", version: 18, req: min(fetchKey, none)},
		{name: "fetch from an unknown topic", topic: "nope", version: 12, req: min(fetchKey, none)},
		{name: "fetch from an unknown id", topic: "nope", version: 17, req: min(fetchKey, none)},
		{name: "fetch beyond the end", topic: "orders", version: 12, req: min(fetchKey, fetch(func(p *kmsg.FetchRequestTopicPartition) { p.FetchOffset = 1000 }))},
		{name: "fetch in a future epoch", topic: "orders", version: 12, req: min(fetchKey, fetch(func(p *kmsg.FetchRequestTopicPartition) { p.CurrentLeaderEpoch = 1000 }))},
		{name: "fetch in an unknown session", topic: "orders", version: 12, req: min(fetchKey, func(r kmsg.Request) {
			q := r.(*kmsg.FetchRequest)
			q.SessionID, q.SessionEpoch = 4711, 3
		})},
		{name: "list latest", topic: "orders", version: 7, req: min(listKey, none)},
		{name: "list of an unknown topic", topic: "nope", version: 7, req: min(listKey, none)},
		{name: "list in a future epoch", topic: "orders", version: 7, req: min(listKey, list(func(p *kmsg.ListOffsetsRequestTopicPartition) { p.CurrentLeaderEpoch = 1000 }))},
		{name: "epoch end", topic: "orders", version: 4, req: min(kafkaproto.KeyOffsetForLeaderEpoch, none)},
		{name: "epoch end of an unknown topic", topic: "nope", version: 4, req: min(kafkaproto.KeyOffsetForLeaderEpoch, none)},
		{name: "metadata of an unknown topic", topic: "nope", version: 12, req: min(kafkaproto.KeyMetadata, none)},
		{name: "delete an unknown topic", topic: "nope", version: 6, req: min(kafkaproto.KeyDeleteTopics, none)},
		{name: "delete records", topic: "orders", version: 2, req: min(kafkaproto.KeyDeleteRecords, none)},
		{name: "delete records of an unknown topic", topic: "nope", version: 2, req: min(kafkaproto.KeyDeleteRecords, none)},
		{name: "grow an unknown topic", topic: "nope", version: 3, req: min(kafkaproto.KeyCreatePartitions, none)},
		{name: "describe an unknown topic", topic: "nope", version: 0, req: min(kafkaproto.KeyDescribeTopicPartitions, none)},
		{name: "configs of an unknown topic", topic: "nope", version: 4, req: min(kafkaproto.KeyDescribeConfigs, none)},
		{name: "alter an unknown topic", topic: "nope", version: 1, req: min(kafkaproto.KeyIncrementalAlterConfigs, none)},
		{name: "producers of an unknown topic", topic: "nope", version: 0, req: min(kafkaproto.KeyDescribeProducers, none)},
	} {
		id := ids[tc.topic]
		if tc.topic == "nope" {
			id = [2]replication.TopicID{{9}, {9}}
		}
		req := tc.req(tc.topic, id[0])
		ours, err := c.finish(c.start(req, tc.version), req)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		got, want := kafkaproto.Code(errorCodeOf(ours)), kafkaproto.Code(errorCodeOf(o.ask(tc.req(tc.topic, id[1]), tc.version)))
		if got != want && tc.differs == "" {
			t.Errorf("%s: %v, kfake says %v", tc.name, got, want)
		}
		if got == want && tc.differs != "" {
			t.Errorf("%s: both say %v, but it is listed as different: %s", tc.name, got, tc.differs)
		}
	}
}
