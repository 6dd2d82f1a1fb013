package native

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/replication/controller"
)

// One cluster for all: each part has topics of its own.
func TestNative(t *testing.T) {
	w := newWorld(t, 3)
	for name, part := range map[string]func(*world){
		"gRPC writes, Kafka reads":  kafkaReads,
		"Kafka writes, gRPC reads":  grpcReads,
		"any node takes records":    anyNode,
		"keys go where Kafka's go":  keys,
		"streams":                   streams,
		"a stream follows":          follow,
		"a stream begins small":     beginsSmall,
		"a client spreads":          clientSpreads,
		"readers are shared":        readersShared,
		"where to begin":            starts,
		"transactions":              transactions,
		"idempotence":               idempotence,
		"topics":                    topics,
		"groups":                    groups,
		"bad input":                 badInput,
		"HTTP":                      web,
		"HTTP stream":               webStream,
		"nothing but what is there": strangers,
		"where there is no replica": elsewhere,
		"what decompresses to much": bombs,
	} {
		t.Run(name, func(t *testing.T) { w.part(t, part) })
	}
	// Last, because after a drain leaderships go back, and whoever asks meanwhile may have to ask again.
	t.Run("leader changes", func(t *testing.T) { w.part(t, leaderChanges) })
	t.Run("cluster", func(t *testing.T) { w.part(t, cluster) })
}

// odd are records of every shape.
func odd() []*quorlogv1.Record {
	return []*quorlogv1.Record{
		{Key: []byte("key"), Value: []byte("value"), TimestampMs: ptr(int64(1_700_000_000_123))},
		{Value: []byte("no key"), TimestampMs: ptr(int64(1_700_000_000_000))},
		{Key: []byte("tombstone"), TimestampMs: ptr(int64(1_700_000_000_001))},
		{Key: []byte{}, Value: []byte{}, TimestampMs: ptr(int64(1_700_000_000_002))},
		{Key: []byte{0, 255}, Value: []byte{1}, TimestampMs: ptr(int64(1_700_000_000_003)), Headers: []*quorlogv1.Header{
			{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "null"}, {Key: "", Value: []byte{}},
		}},
	}
}

// shape is a record in words: what is null and what is empty shows.
func shape(key, value []byte, ms int64, headers []string) string {
	return fmt.Sprintf("%#v %#v %d %v", key, value, ms, headers)
}

func shapeOf(r *quorlogv1.Record) string {
	var headers []string
	for _, h := range r.GetHeaders() {
		headers = append(headers, fmt.Sprintf("%s=%#v", h.GetKey(), h.Value))
	}
	return shape(r.Key, r.Value, r.GetTimestampMs(), headers)
}

func shapeOfKafka(r *kgo.Record) string {
	var headers []string
	for _, h := range r.Headers {
		headers = append(headers, fmt.Sprintf("%s=%#v", h.Key, h.Value))
	}
	return shape(r.Key, r.Value, r.Timestamp.UnixMilli(), headers)
}

func kafkaReads(w *world) {
	w.topic("to-kafka", 1)
	got, err := w.records(0).Produce(w.ctx, &quorlogv1.ProduceRequest{Topic: "to-kafka", Records: odd()})
	w.must(err)
	if b := got.GetBatches(); len(b) != 1 || b[0].GetBaseOffset() != 0 || b[0].GetAppendTimeMs() != -1 {
		w.Errorf("%v", got)
	}
	cl := w.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"to-kafka": {0: kgo.NewOffset().AtStart()}}))
	want := odd()
	for n := 0; n < len(want); {
		fetches := cl.PollFetches(w.ctx)
		w.must(fetches.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			if got, want := shapeOfKafka(r), shapeOf(want[n]); got != want || r.Offset != int64(n) {
				w.Errorf("%d: %s, want %s", r.Offset, got, want)
			}
			n++
		})
	}
}

func grpcReads(w *world) {
	w.topic("from-kafka", 1)
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.ZstdCompression(), kgo.Lz4Compression(), kgo.SnappyCompression(), kgo.GzipCompression()} {
		cl := w.client(kgo.ProducerBatchCompression(codec))
		var records []*kgo.Record
		for _, r := range odd() {
			k := &kgo.Record{Topic: "from-kafka", Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.GetTimestampMs())}
			for _, h := range r.GetHeaders() {
				k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.GetKey(), Value: h.Value})
			}
			records = append(records, k)
		}
		w.must(cl.ProduceSync(w.ctx, records...).FirstErr())
	}
	want := odd()
	for _, most := range []int32{0, 1, 2, 7} {
		var all []*quorlogv1.Record
		for next := int64(0); next < int64(5*len(want)); {
			got, err := w.records(w.leader("from-kafka", 0)).Consume(w.ctx, &quorlogv1.ConsumeRequest{
				Topic: "from-kafka", Start: &quorlogv1.ConsumeRequest_Offset{Offset: next}, MaxRecords: most,
			})
			w.must(err)
			if most > 0 && len(got.GetRecords()) > int(most) || len(got.GetRecords()) == 0 {
				w.Fatalf("%d records of %d", len(got.GetRecords()), most)
			}
			all, next = append(all, got.GetRecords()...), got.GetNextOffset()
		}
		for i, r := range all {
			if got, want := shapeOf(r), shapeOf(want[i%len(want)]); got != want || r.GetOffset() != int64(i) {
				w.Errorf("%d: %s, want %s", r.GetOffset(), got, want)
			}
		}
	}
}

// anyNode: whoever is asked, the leader stores it.
func anyNode(w *world) {
	const partitions = 6
	w.topic("any", partitions)
	for node := range w.conns {
		for p := range int32(partitions) {
			got, err := w.records(node).Produce(w.ctx, &quorlogv1.ProduceRequest{
				Topic: "any", Partition: &p, Records: []*quorlogv1.Record{{Value: []byte(strconv.Itoa(node))}},
			})
			w.must(err)
			b := got.GetBatches()[0]
			if b.GetBaseOffset() != int64(node) || b.GetPartition() != p {
				w.Errorf("node %d, partition %d: %v", node, p, b)
			}
			// Who has taken a way round learns the short one.
			if l, at := b.GetLeader(), w.leader("any", p); at == node && l != nil || at != node && (l.GetLeader() != int32(at+1) || l.GetAddress() != w.addrs[at]) {
				w.Errorf("node %d, partition %d, which node %d leads: %v", node, p, at, l)
			}
		}
	}
	for node := range w.conns { // each has a replica of all
		for p := range int32(partitions) {
			var n int
			for next := int64(0); n < len(w.conns); {
				got, err := w.records(node).Consume(w.ctx, &quorlogv1.ConsumeRequest{
					Topic: "any", Partition: p, Start: &quorlogv1.ConsumeRequest_Offset{Offset: next}, MaxWaitMs: 1000,
				})
				w.must(err)
				n, next = n+len(got.GetRecords()), got.GetNextOffset()
			}
			latest, err := w.records(node).Consume(w.ctx, &quorlogv1.ConsumeRequest{
				Topic: "any", Partition: p, Start: &quorlogv1.ConsumeRequest_Edge{Edge: quorlogv1.Edge_EDGE_LATEST},
			})
			w.must(err)
			if latest.GetNextOffset() != int64(len(w.conns)) {
				w.Errorf("node %d says that partition %d ends at %d", node, p, latest.GetNextOffset())
			}
		}
	}
}

func keys(w *world) {
	w.topic("keys", 5)
	var records []*quorlogv1.Record
	for i := range 100 {
		records = append(records, &quorlogv1.Record{Key: []byte(strings.Repeat("k", i%9) + strconv.Itoa(i)), Value: []byte{byte(i)}})
	}
	got, err := w.records(1).Produce(w.ctx, &quorlogv1.ProduceRequest{Topic: "keys", Records: records})
	w.must(err)
	partitioner := kgo.StickyKeyPartitioner(nil).ForTopic("keys") // Kafka's murmur2
	seen := 0
	for _, b := range got.GetBatches() {
		for _, i := range b.GetPositions() {
			seen++
			if want := partitioner.Partition(&kgo.Record{Key: records[i].Key}, 5); int32(want) != b.GetPartition() {
				w.Errorf("%s went to %d, Kafka's go to %d", records[i].Key, b.GetPartition(), want)
			}
		}
	}
	if seen != len(records) {
		w.Errorf("%d of %d", seen, len(records))
	}
}

// streams: many batches under way at once, through a node that leads some of their partitions; bad ones in between.
func streams(w *world) {
	w.topic("streams", 3)
	stream, err := w.records(0).ProduceStream(w.ctx)
	w.must(err)
	const batches = 300
	go func() {
		for i := range batches {
			req := &quorlogv1.ProduceRequest{Topic: "streams", Partition: ptr(int32(i % 3)), Records: []*quorlogv1.Record{{Value: []byte(strconv.Itoa(i))}, {}}}
			if i%10 == 9 {
				req.Topic = "no such topic!"
			}
			if stream.Send(&quorlogv1.ProduceStreamRequest{Id: uint64(i), Batch: req}) != nil {
				return // Recv tells why
			}
		}
		_ = stream.CloseSend()
	}()
	var stored [3]int64
	for i := range batches {
		got, err := stream.Recv()
		w.must(err)
		switch {
		case got.GetId() != uint64(i):
			w.Fatalf("answer %d is of %d", i, got.GetId())
		case i%10 == 9:
			if e := got.GetError(); e.GetReason() != "INVALID_TOPIC_EXCEPTION" || codes.Code(e.GetCode()) != codes.InvalidArgument {
				w.Errorf("%d: %v", i, got)
			}
		case got.GetError() != nil || len(got.GetProduced().GetBatches()) != 1:
			w.Fatalf("%d: %v", i, got)
		case got.GetProduced().GetBatches()[0].GetBaseOffset() != stored[i%3]:
			w.Errorf("%d: %v, want offset %d", i, got, stored[i%3])
			stored[i%3] = got.GetProduced().GetBatches()[0].GetBaseOffset() + 2
		default:
			stored[i%3] += 2
		}
	}
	if _, err := stream.Recv(); err == nil {
		w.Error("one answer too many")
	}
}

// beginsSmall: who opens many streams and takes nothing costs little. The more a client takes the more comes at once, up to what it wants.
func beginsSmall(w *world) {
	w.topic("small", 1)
	const records, wanted = 4096, 512 << 10
	for range records {
		w.kafka.Produce(w.ctx, &kgo.Record{Topic: "small", Value: make([]byte, 1024)}, nil)
	}
	w.must(w.kafka.Flush(w.ctx))
	stream, err := w.records(w.leader("small", 0)).ConsumeStream(w.ctx, &quorlogv1.ConsumeRequest{Topic: "small", MaxBytes: wanted})
	w.must(err)
	var sizes []int
	for seen := 0; seen < records; {
		got, err := stream.Recv()
		w.must(err)
		seen += len(got.GetRecords())
		sizes = append(sizes, proto.Size(got))
	}
	if sizes[0] > 64<<10 || slices.Max(sizes) < wanted/2 || slices.Max(sizes) > wanted {
		w.Errorf("answers of %d bytes", sizes)
	}
}

// follow: a stream on every node, leader or not, brings each record once.
func follow(w *world) {
	w.topic("follow", 1)
	const records = 200
	done := make(chan error, len(w.conns))
	for node := range w.conns {
		stream, err := w.records(node).ConsumeStream(w.ctx, &quorlogv1.ConsumeRequest{Topic: "follow"})
		w.must(err)
		go func() {
			for next := int64(0); next < records; {
				got, err := stream.Recv()
				if err != nil {
					done <- err
					return
				}
				for _, r := range got.GetRecords() {
					if r.GetOffset() != next || string(r.Value) != strconv.FormatInt(next, 10) {
						done <- fmt.Errorf("%d: %s", r.GetOffset(), r.Value)
						return
					}
					next++
				}
			}
			done <- nil
		}()
	}
	for i := range records {
		_, err := w.records(i%3).Produce(w.ctx, &quorlogv1.ProduceRequest{Topic: "follow", Records: []*quorlogv1.Record{{Value: []byte(strconv.Itoa(i))}}})
		w.must(err)
	}
	for range w.conns {
		w.must(<-done)
	}
}

func starts(w *world) {
	w.topic("starts", 1)
	var records []*quorlogv1.Record
	for i := range int64(10) {
		records = append(records, &quorlogv1.Record{Value: []byte("v"), TimestampMs: ptr(1_700_000_000_000 + i*1000)})
	}
	_, err := w.records(0).Produce(w.ctx, &quorlogv1.ProduceRequest{Topic: "starts", Records: records})
	w.must(err)
	_, err = w.admin.DeleteRecords(w.ctx, offsetsAt("starts", 3))
	w.must(err)
	for node := range w.conns {
		for _, c := range []struct {
			start *quorlogv1.ConsumeRequest
			want  int64
		}{
			{&quorlogv1.ConsumeRequest{}, 3},
			{&quorlogv1.ConsumeRequest{Start: &quorlogv1.ConsumeRequest_Edge{Edge: quorlogv1.Edge_EDGE_EARLIEST}}, 3},
			{&quorlogv1.ConsumeRequest{Start: &quorlogv1.ConsumeRequest_TimestampMs{TimestampMs: 1_700_000_004_500}}, 5},
			{&quorlogv1.ConsumeRequest{Start: &quorlogv1.ConsumeRequest_Offset{Offset: 9}}, 9},
		} {
			c.start.Topic, c.start.MaxRecords, c.start.MaxWaitMs = "starts", 1, 10_000
			got, err := w.records(node).Consume(w.ctx, c.start)
			w.must(err)
			if len(got.GetRecords()) != 1 || got.GetRecords()[0].GetOffset() != c.want {
				w.Errorf("node %d, %v: %v", node, c.start, got)
			}
		}
	}
	leader := w.leader("starts", 0)
	for node := range w.conns {
		for _, at := range []int64{2, 1000} {
			if at == 1000 && node != leader {
				continue // the leader may well have it
			}
			w.eventually(func() bool { // followers learn of the new start a moment later
				_, err = w.records(node).Consume(w.ctx, &quorlogv1.ConsumeRequest{Topic: "starts", Start: &quorlogv1.ConsumeRequest_Offset{Offset: at}})
				return err != nil
			})
			st := w.refused(err, codes.OutOfRange, "OFFSET_OUT_OF_RANGE")
			if r := detail[*quorlogv1.OffsetRange](st); r.GetLogStartOffset() != 3 || r.GetEndOffset() != 10 {
				w.Errorf("node %d: range %v", node, r)
			}
		}
	}
}

// transactions: what is aborted is not read, and what is open not before it ends.
func transactions(w *world) {
	w.topic("txn", 1)
	cl := w.client(kgo.TransactionalID("native"))
	write := func(value string, how kgo.TransactionEndTry) {
		w.Helper()
		w.must(cl.BeginTransaction())
		w.must(cl.ProduceSync(w.ctx, &kgo.Record{Topic: "txn", Value: []byte(value)}).FirstErr())
		w.must(cl.EndTransaction(w.ctx, how))
	}
	write("1", kgo.TryCommit)
	write("lost", kgo.TryAbort)
	write("2", kgo.TryCommit)
	read := func(i quorlogv1.Isolation, n int) (out []string) {
		for next := int64(0); len(out) < n; {
			got, err := w.records(w.leader("txn", 0)).Consume(w.ctx, &quorlogv1.ConsumeRequest{
				Topic: "txn", Isolation: i, Start: &quorlogv1.ConsumeRequest_Offset{Offset: next}, MaxWaitMs: 5000,
			})
			w.must(err)
			for _, r := range got.GetRecords() {
				out = append(out, string(r.Value))
			}
			next = got.GetNextOffset()
		}
		return out
	}
	if got := read(quorlogv1.Isolation_ISOLATION_READ_COMMITTED, 2); fmt.Sprint(got) != "[1 2]" {
		w.Errorf("committed: %v", got)
	}
	if got := read(quorlogv1.Isolation_ISOLATION_READ_UNCOMMITTED, 3); fmt.Sprint(got) != "[1 lost 2]" {
		w.Errorf("all: %v", got)
	}
	w.must(cl.BeginTransaction())
	w.must(cl.ProduceSync(w.ctx, &kgo.Record{Topic: "txn", Value: []byte("open")}).FirstErr())
	at := &quorlogv1.ConsumeRequest{Topic: "txn", Start: &quorlogv1.ConsumeRequest_Offset{Offset: 6}, MaxWaitMs: 1}
	got, err := w.records(w.leader("txn", 0)).Consume(w.ctx, at)
	w.must(err)
	if len(got.GetRecords()) != 0 || got.GetLastStableOffset() != 6 || got.GetHighWatermark() != 7 {
		w.Errorf("%v", got)
	}
	w.must(cl.EndTransaction(w.ctx, kgo.TryCommit))
}

// idempotence: a batch that is sent twice is stored once, through whatever node.
func idempotence(w *world) {
	w.topic("twice", 1)
	id, err := w.records(0).InitProducer(w.ctx, &quorlogv1.InitProducerRequest{})
	w.must(err)
	req := &quorlogv1.ProduceRequest{
		Topic: "twice", Partition: ptr(int32(0)), Records: []*quorlogv1.Record{{Value: []byte("once")}},
		Producer: &quorlogv1.ProducerIdentity{ProducerId: id.GetProducerId(), ProducerEpoch: id.GetProducerEpoch()},
	}
	for node := range w.conns {
		got, err := w.records(node).Produce(w.ctx, req)
		w.must(err)
		if o := got.GetBatches()[0].GetBaseOffset(); o != 0 {
			w.Errorf("node %d: stored at %d", node, o)
		}
	}
	req.Producer.BaseSequence = 7
	for node := range w.conns {
		_, err = w.records(node).Produce(w.ctx, req)
		w.refused(err, codes.FailedPrecondition, "OUT_OF_ORDER_SEQUENCE_NUMBER")
	}
}

// changed checks the answer to a change of a topic, and waits until every node tells the same: whoever is asked next may not have
// applied it if the answer has waited for all nodes as long as it may.
func (w *world) changed(began time.Time, answer *quorlogv1.Topic, is func(*quorlogv1.Topic) bool) {
	w.Helper()
	if took := time.Since(began); !is(answer) && took < controller.DefaultSpreadPatience {
		w.Errorf("after %v: %v", took, answer)
	}
	for node := range w.conns {
		w.eventually(func() bool {
			got, err := w.topics(node).DescribeTopic(w.ctx, &quorlogv1.DescribeTopicRequest{Name: answer.GetName()})
			return err == nil && is(got)
		})
	}
}

func topics(w *world) {
	began := time.Now()
	made, err := w.topics(0).CreateTopic(w.ctx, &quorlogv1.CreateTopicRequest{Name: "made", Partitions: 2, Config: map[string]string{"retention.ms": "12345"}})
	w.must(err)
	w.changed(began, made, func(t *quorlogv1.Topic) bool {
		return len(t.GetPartitions()) == 2 && t.GetConfig()["retention.ms"] == "12345" && t.GetId() != ""
	})
	_, err = w.topics(1).CreateTopic(w.ctx, &quorlogv1.CreateTopicRequest{Name: "made"})
	w.refused(err, codes.AlreadyExists, "TOPIC_ALREADY_EXISTS")
	_, err = w.topics(1).CreateTopic(w.ctx, &quorlogv1.CreateTopicRequest{Name: "never", ValidateOnly: true})
	w.must(err)
	began = time.Now()
	altered, err := w.topics(1).AlterTopic(w.ctx, &quorlogv1.AlterTopicRequest{
		Name: "made", Set: map[string]string{"cleanup.policy": "compact"}, Reset_: []string{"retention.ms"}, Partitions: 3,
	})
	w.must(err)
	w.changed(began, altered, func(t *quorlogv1.Topic) bool {
		c := t.GetConfig()
		return len(t.GetPartitions()) == 3 && c["cleanup.policy"] == "compact" && c["retention.ms"] != "12345"
	})
	_, err = w.topics(1).AlterTopic(w.ctx, &quorlogv1.AlterTopicRequest{Name: "made", Set: map[string]string{"cleanup.policy": "burn"}})
	w.refused(err, codes.InvalidArgument, "INVALID_CONFIG")
	_, err = w.topics(1).AlterTopic(w.ctx, &quorlogv1.AlterTopicRequest{Name: "made", Partitions: 1})
	w.refused(err, codes.InvalidArgument, "INVALID_PARTITIONS")
	list, err := w.topics(2).ListTopics(w.ctx, &quorlogv1.ListTopicsRequest{})
	w.must(err)
	names := map[string]bool{}
	for _, topic := range list.GetTopics() {
		names[topic.GetName()] = true
	}
	if !names["made"] || names["never"] || names["__consumer_offsets"] {
		w.Errorf("%v", names)
	}
	_, err = w.topics(2).DeleteTopic(w.ctx, &quorlogv1.DeleteTopicRequest{Name: "made"})
	w.must(err)
	w.eventually(func() bool {
		_, err = w.topics(2).DescribeTopic(w.ctx, &quorlogv1.DescribeTopicRequest{Name: "made"})
		return status.Code(err) == codes.NotFound
	})
	_, err = w.topics(2).DeleteTopic(w.ctx, &quorlogv1.DeleteTopicRequest{Name: "made"})
	w.refused(err, codes.NotFound, "UNKNOWN_TOPIC_OR_PARTITION")
}

// groups: offsets that are committed here are those that Kafka's clients see, and the other way round.
func groups(w *world) {
	w.topic("grouped", 2)
	w.eventually(func() bool { // the topic with the groups is made first
		err := w.admin.FindGroupCoordinators(w.ctx, "g").Error()
		return err == nil
	})
	node := 0
	w.eventually(func() bool {
		_, err := w.groups(node).CommitOffsets(w.ctx, &quorlogv1.CommitOffsetsRequest{
			Group: "g", Offsets: []*quorlogv1.GroupOffset{{Topic: "grouped", Offset: 17, Metadata: "note"}, {Topic: "nowhere", Offset: 1}},
		})
		if err != nil {
			node = (node + 1) % len(w.conns)
		}
		return err == nil
	})
	seen, err := w.admin.FetchOffsets(w.ctx, "g")
	w.must(err)
	if o, ok := seen.Lookup("grouped", 0); !ok || o.At != 17 || o.Metadata != "note" {
		w.Errorf("Kafka sees %v", seen)
	}
	w.must(w.admin.CommitAllOffsets(w.ctx, "g", offsetsAt("grouped", 23)))
	got, err := w.groups(node).FetchOffsets(w.ctx, &quorlogv1.FetchOffsetsRequest{Group: "g", Topic: "grouped"})
	w.must(err)
	if o := got.GetOffsets(); len(o) != 1 || o[0].GetOffset() != 23 {
		w.Errorf("%v", got)
	}
	for other := range w.conns { // any node has the coordinator answer
		committed, err := w.groups(other).CommitOffsets(w.ctx, &quorlogv1.CommitOffsetsRequest{
			Group: "g", Offsets: []*quorlogv1.GroupOffset{{Topic: "nowhere", Offset: 1}, {Topic: "grouped", Offset: int64(30 + other)}, {Topic: "grouped", Offset: -1}},
		})
		w.must(err)
		if r := committed.GetResults(); len(r) != 3 || r[0].GetReason() != "UNKNOWN_TOPIC_OR_PARTITION" || r[1].GetReason() != "" || r[2].GetReason() != "INVALID_REQUEST" {
			w.Errorf("%v", committed)
		}
		got, err := w.groups(other).FetchOffsets(w.ctx, &quorlogv1.FetchOffsetsRequest{Group: "g"})
		w.must(err)
		if o := got.GetOffsets(); len(o) != 1 || o[0].GetOffset() != int64(30+other) {
			w.Errorf("%v", got)
		}
		described, err := w.groups(other).DescribeGroup(w.ctx, &quorlogv1.DescribeGroupRequest{Group: "g"})
		w.must(err)
		if described.GetType() != "classic" || described.GetState() != "Empty" {
			w.Errorf("%v", described)
		}
		_, err = w.groups(other).DeleteGroup(w.ctx, &quorlogv1.DeleteGroupRequest{Group: "no such group"})
		w.refused(err, codes.NotFound, "GROUP_ID_NOT_FOUND")
	}
	described, err := w.groups(node).DescribeGroup(w.ctx, &quorlogv1.DescribeGroupRequest{Group: "g"})
	w.must(err)
	if described.GetState() != "Empty" {
		w.Errorf("%v", described)
	}
	for node := range w.conns { // each lists the cluster's
		times := 0
		for _, g := range w.listed(node).GetGroups() {
			if g.GetGroup() == "g" {
				times++
			}
		}
		if times != 1 {
			w.Errorf("node %d lists the group %d times", node, times)
		}
	}
	_, err = w.groups((node+1)%3).DeleteGroup(w.ctx, &quorlogv1.DeleteGroupRequest{Group: "g"})
	w.must(err)
	_, err = w.groups(node).DescribeGroup(w.ctx, &quorlogv1.DescribeGroupRequest{Group: "g"})
	w.refused(err, codes.NotFound, "GROUP_ID_NOT_FOUND")
}

func cluster(w *world) {
	w.topic("led", 9)
	got, err := w.cluster(0).GetServers(w.ctx, &quorlogv1.GetServersRequest{Topics: []string{"led"}})
	w.must(err)
	if got.GetClusterId() == "" || len(got.GetServers()) != 3 {
		w.Fatalf("%v", got)
	}
	for i, s := range got.GetServers() {
		if len(s.GetLeads())+len(s.GetFollows()) != 9 || !s.GetAlive() || s.GetAddress() != w.addrs[i] {
			w.Errorf("%v", s)
		}
	}
	if got.GetPartitions()["led"] != 9 || len(got.GetPartitions()) != 1 {
		w.Errorf("%v", got.GetPartitions())
	}
	alone, err := w.cluster(0).GetServers(w.ctx, &quorlogv1.GetServersRequest{ServersOnly: true})
	w.must(err)
	if len(alone.GetServers()) != 3 || len(alone.GetServers()[0].GetLeads()) != 0 || len(alone.GetPartitions()) != 0 {
		w.Errorf("%v", alone)
	}
	made, err := w.cluster(0).GetServers(w.ctx, &quorlogv1.GetServersRequest{Topics: []string{"wanted", "led", "not a name"}, Create: true})
	w.must(err)
	if p := made.GetPartitions(); len(p) != 2 || p["wanted"] < 1 || p["led"] != 9 {
		w.Errorf("%v", p)
	}
	w.eventually(func() bool {
		status, err := w.cluster(1).GetStatus(w.ctx, &quorlogv1.GetStatusRequest{})
		return err == nil && status.GetHealth() == quorlogv1.Health_HEALTH_HEALTHY && status.GetNodes() == 3
	})
	_, err = w.cluster(0).Drain(w.ctx, &quorlogv1.DrainRequest{Node: 3, Drain: true})
	w.must(err)
	leads := func() int { // of what others have, too
		got, err := w.cluster(0).GetServers(w.ctx, &quorlogv1.GetServersRequest{Topics: []string{"led"}})
		w.must(err)
		return len(got.GetServers()[2].GetLeads())
	}
	w.eventually(func() bool { return leads() == 0 })
	_, err = w.cluster(0).Drain(w.ctx, &quorlogv1.DrainRequest{Node: 3})
	w.must(err)
	_, err = w.cluster(0).Drain(w.ctx, &quorlogv1.DrainRequest{Node: 99, Drain: true})
	w.refused(err, codes.InvalidArgument, "INVALID_REQUEST")
	health, err := healthv1.NewHealthClient(w.conns[0]).Check(w.ctx, &healthv1.HealthCheckRequest{})
	w.must(err)
	if health.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		w.Errorf("%v", health)
	}
}

func badInput(w *world) {
	w.topic("bad", 2)
	one := []*quorlogv1.Record{{Value: []byte("v")}}
	for _, c := range []struct {
		req    *quorlogv1.ProduceRequest
		code   codes.Code
		reason string
	}{
		{&quorlogv1.ProduceRequest{}, codes.InvalidArgument, "INVALID_TOPIC_EXCEPTION"},
		{&quorlogv1.ProduceRequest{Topic: "bad"}, codes.InvalidArgument, "INVALID_REQUEST"},
		{&quorlogv1.ProduceRequest{Topic: "__consumer_offsets", Partition: ptr(int32(0)), Records: one}, codes.InvalidArgument, "INVALID_TOPIC_EXCEPTION"},
		{&quorlogv1.ProduceRequest{Topic: "bad", Partition: ptr(int32(2)), Records: one}, codes.NotFound, "UNKNOWN_TOPIC_OR_PARTITION"},
		{&quorlogv1.ProduceRequest{Topic: "bad", Partition: ptr(int32(-1)), Records: one}, codes.NotFound, "UNKNOWN_TOPIC_OR_PARTITION"},
		{&quorlogv1.ProduceRequest{Topic: "bad", Records: one, Producer: &quorlogv1.ProducerIdentity{}}, codes.InvalidArgument, "INVALID_REQUEST"},
		{&quorlogv1.ProduceRequest{Topic: "bad", Records: []*quorlogv1.Record{{TimestampMs: ptr(int64(-2))}}}, codes.InvalidArgument, "INVALID_TIMESTAMP"},
		{&quorlogv1.ProduceRequest{Topic: "bad", Records: []*quorlogv1.Record{{Value: make([]byte, 2<<20)}}}, codes.InvalidArgument, "MESSAGE_TOO_LARGE"},
	} {
		_, err := w.records(0).Produce(w.ctx, c.req)
		w.refused(err, c.code, c.reason)
	}
	_, err := w.records(0).Produce(w.ctx, &quorlogv1.ProduceRequest{Topic: "bad", Records: []*quorlogv1.Record{{Value: make([]byte, 5<<20)}}})
	w.refused(err, codes.ResourceExhausted, "")
	_, err = w.records(0).Produce(w.ctx, &quorlogv1.ProduceRequest{Topic: "bad", Records: make100k()})
	w.refused(err, codes.Internal, "") // gRPC's own, for what could not be decoded
	for _, c := range []struct {
		req    *quorlogv1.ConsumeRequest
		code   codes.Code
		reason string
	}{
		{&quorlogv1.ConsumeRequest{Topic: "nope"}, codes.NotFound, "UNKNOWN_TOPIC_OR_PARTITION"},
		{&quorlogv1.ConsumeRequest{Topic: "bad", Partition: 7}, codes.NotFound, "UNKNOWN_TOPIC_OR_PARTITION"},
		{&quorlogv1.ConsumeRequest{Topic: "bad", Start: &quorlogv1.ConsumeRequest_Offset{Offset: -1}}, codes.InvalidArgument, "INVALID_REQUEST"},
		{&quorlogv1.ConsumeRequest{Topic: "bad", Start: &quorlogv1.ConsumeRequest_TimestampMs{TimestampMs: -5}}, codes.InvalidArgument, "INVALID_REQUEST"},
		{&quorlogv1.ConsumeRequest{Topic: "bad", Start: &quorlogv1.ConsumeRequest_Edge{Edge: 77}}, codes.InvalidArgument, "INVALID_REQUEST"},
	} {
		_, err := w.records(0).Consume(w.ctx, c.req)
		w.refused(err, c.code, c.reason)
		stream, err := w.records(0).ConsumeStream(w.ctx, c.req)
		w.must(err)
		_, err = stream.Recv()
		w.refused(err, c.code, c.reason)
	}
}

func make100k() []*quorlogv1.Record {
	all := make([]*quorlogv1.Record, 100_001)
	for i := range all {
		all[i] = &quorlogv1.Record{}
	}
	return all
}

// web: what curl does.
func web(w *world) {
	base := "http://" + w.addrs[0] + "/v1"
	status, text := w.http(http.MethodPost, base+"/topics", strings.NewReader(`{"name":"web","partitions":1}`))
	if status != http.StatusOK {
		w.Fatal(status, text)
	}
	status, text = w.http(http.MethodPost, base+"/topics/web/records", strings.NewReader(`{"records":[{"key":"aw==","value":"dmFsdWU="},{"value":"Mg=="}]}`))
	if status != http.StatusOK || !strings.Contains(text, `"baseOffset":"0"`) {
		w.Fatal(status, text)
	}
	status, text = w.http(http.MethodGet, "http://"+w.addrs[w.leader("web", 0)]+"/v1/topics/web/partitions/0/records?offset=0", nil)
	var got struct {
		Records    []struct{ Key, Value []byte }
		NextOffset string
	}
	w.must(json.Unmarshal([]byte(text), &got))
	if status != http.StatusOK || len(got.Records) != 2 || string(got.Records[0].Value) != "value" || string(got.Records[0].Key) != "k" || got.NextOffset != "2" {
		w.Error(status, text)
	}
	w.listed(0)
	for path, want := range map[string]int{
		"/topics/web": 200, "/topics/nope": 404, "/topics/web/partitions/9/records": 404, "/topics/web/partitions/x/records": 400,
		"/servers": 200, "/cluster": 200, "/groups": 200, "/nothing": 404, "/openapi.json": 200,
	} {
		if status, text := w.http(http.MethodGet, base+path, nil); status != want || !json.Valid([]byte(text)) {
			w.Errorf("%s: %d %s", path, status, text)
		}
	}
	status, text = w.http(http.MethodGet, "http://"+w.addrs[w.leader("web", 0)]+"/v1/topics/web/partitions/0/records?offset=99", nil)
	w.outOfRange(status, text, "0", "2")
	for _, body := range []string{"", "{", `{"records":1}`, `{"unknown":true}`, `[]`} {
		status, text := w.http(http.MethodPost, base+"/topics/web/records", strings.NewReader(body))
		var refusal struct {
			Code    codes.Code
			Message string
		}
		if err := json.Unmarshal([]byte(text), &refusal); err != nil || status != http.StatusBadRequest || refusal.Code != codes.InvalidArgument || refusal.Message == "" {
			w.Errorf("%q: %d %s", body, status, text)
		}
	}
	if status, text := w.http(http.MethodDelete, base+"/topics/web", nil); status != http.StatusOK {
		w.Error(status, text)
	}
}

// outOfRange checks the answer to a read behind the end: what failed, and in its details why and which offsets there are.
func (w *world) outOfRange(status int, text, first, end string) {
	w.Helper()
	type detail struct {
		Type           string `json:"@type"`
		Reason, Domain string
		LogStartOffset string
		EndOffset      string
	}
	var got struct {
		Code    codes.Code
		Message string
		Details []detail
	}
	err := json.Unmarshal([]byte(text), &got)
	const google, own = "type.googleapis.com/google.rpc.ErrorInfo", "type.googleapis.com/quorlog.v1.OffsetRange"
	want := []detail{{Type: google, Reason: "OFFSET_OUT_OF_RANGE", Domain: "quorlog"}, {Type: own, LogStartOffset: first, EndOffset: end}}
	if err != nil || status != http.StatusBadRequest || got.Code != codes.OutOfRange || got.Message == "" || !slices.Equal(got.Details, want) {
		w.Error(status, text, err)
	}
}

// webStream: a line of JSON for each answer, as records come.
func webStream(w *world) {
	w.topic("lines", 1)
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.addrs[w.leader("lines", 0)]+"/v1/topics/lines/partitions/0/stream", nil)
	w.must(err)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	type result struct {
		resp *http.Response
		err  error
	}
	answer := make(chan result, 1)
	go func() {
		resp, err := (&http.Client{Transport: transport}).Do(req)
		answer <- result{resp, err}
	}()
	for i := range 3 {
		_, err := w.records(0).Produce(w.ctx, &quorlogv1.ProduceRequest{Topic: "lines", Records: []*quorlogv1.Record{{Value: []byte(strconv.Itoa(i))}}})
		w.must(err)
	}
	r := <-answer
	w.must(r.err)
	defer func() { _ = r.resp.Body.Close() }()
	lines := bufio.NewScanner(r.resp.Body)
	for n := 0; n < 3; {
		if !lines.Scan() {
			w.Fatal(lines.Err())
		}
		var line struct{ Result struct{ Records []any } }
		w.must(json.Unmarshal(lines.Bytes(), &line))
		n += len(line.Result.Records)
	}
}

// strangers: what a client says of itself, by whatever header, does not make it somebody else.
func strangers(w *world) {
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, "http://"+w.addrs[0]+"/v1/cluster", nil)
	w.must(err)
	req.Header.Set("Grpc-Metadata-Quorlog-Caller-Bin", "e30=")
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	w.must(err)
	w.must(resp.Body.Close())
	if resp.StatusCode != http.StatusOK {
		w.Errorf("%s: the header was looked at", resp.Status)
	}
	if err := w.conns[0].Invoke(w.ctx, "/quorlog.v1.Records/Nothing", &quorlogv1.InitProducerRequest{}, &quorlogv1.InitProducerResponse{}); err == nil {
		w.Error("there is a method Nothing")
	}
	if _, err := w.records(0).Consume(canceled(), &quorlogv1.ConsumeRequest{Topic: "x"}); !errors.Is(err, context.Canceled) {
		w.refused(err, codes.Canceled, "")
	}
}

func offsetsAt(topic string, at int64) kadm.Offsets {
	o := kadm.Offsets{}
	o.AddOffset(topic, 0, at, -1)
	return o
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func second[T any](_ T, err error) error { return err }

// detail finds a detail of an error.
func detail[T proto.Message](st interface{ Details() []any }) (none T) {
	for _, d := range st.Details() {
		if found, ok := d.(T); ok {
			return found
		}
	}
	return none
}
