package api

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// listen serves a node on a real socket and makes clients find it there.
func (n *node) listen() string {
	n.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(l.Addr().String())
	number, _ := strconv.Atoi(port)
	if err := n.ctl.RegisterNode(context.Background(), replication.Node{ID: 1, Host: host, Port: int32(number)}); err != nil {
		n.t.Fatal(err)
	}
	server := conn.NewServer(conn.Options{Dispatcher: n.api, Logger: slog.New(slog.DiscardHandler)})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(l)
	}()
	n.t.Cleanup(func() {
		server.Close()
		<-ended
	})
	return l.Addr().String()
}

func (n *node) kgo(opts ...kgo.Opt) *kgo.Client {
	n.t.Helper()
	client, err := kgo.NewClient(opts...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(client.Close)
	return client
}

// franz-go with its defaults (idempotent, acks=all) writes with every codec and reads back the same, with sessions, from
// files by sendfile.
func TestFranzGoWritesAndReads(t *testing.T) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	n := newNode(t)
	addr := n.listen()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	const records, partitions = 5000, 3
	for name, codec := range codecs {
		topic := "with-" + name
		n.createTopic(topic, partitions)
		rng := rand.New(rand.NewPCG(1, 2))
		producer := n.kgo(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codec))
		written := make(map[string][32]byte)
		for i := range records {
			value := make([]byte, 200+rng.IntN(400))
			for j := range value {
				value[j] = byte(rng.IntN(1 << (1 + i%8))) // from well compressible to not at all
			}
			key := fmt.Sprintf("%s-%d", name, i)
			written[key] = sha256.Sum256(value)
			producer.Produce(ctx, kgo.KeySliceRecord([]byte(key), value), func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := producer.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		consumer := n.kgo(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.FetchMaxPartitionBytes(100<<10), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		next := make([]int64, partitions)
		for read := 0; read < records; {
			fetches := consumer.PollFetches(ctx)
			for _, e := range fetches.Errors() {
				t.Fatal(e.Err)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				if r.Offset != next[r.Partition] {
					t.Errorf("offset %d of partition %d, want %d", r.Offset, r.Partition, next[r.Partition])
				}
				next[r.Partition] = r.Offset + 1
				if sha256.Sum256(r.Value) != written[string(r.Key)] {
					t.Errorf("%s came back changed", r.Key)
				}
				delete(written, string(r.Key))
				read++
			})
		}
		if len(written) != 0 {
			t.Errorf("%s: %d records are missing", name, len(written))
		}
	}
}

// A topic is made when a producer that asks for it first writes.
func TestFranzGoCreatesTopics(t *testing.T) {
	n := newNode(t)
	client := n.kgo(kgo.SeedBrokers(n.listen()), kgo.AllowAutoTopicCreation())
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := client.ProduceSync(ctx, &kgo.Record{Topic: "fresh", Value: []byte("v")}).First()
	if err != nil || r.Offset != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
}

// A request whose appends hang is answered when its time is over: the outcome is not known.
func TestProduceTimesOut(t *testing.T) {
	disk := vfs.Inject(vfs.OS{})
	n := newNodeOn(t, disk, nil)
	id := n.createTopic("orders", 1)
	c := newClient(t, n.api)
	goOn := make(chan struct{})
	disk.Add(vfs.Rule{Op: vfs.OpSync, Path: ".log", Hang: goOn})
	q := produceRequest("orders", id, testBatch(t, "k", "v"))
	q.TimeoutMillis = 20
	if got := errorCodeOf(ask[*kmsg.ProduceResponse](c, q, 12)); got != int16(kafkaproto.RequestTimedOut) {
		t.Error(kafkaproto.Code(got))
	}
	close(goOn)
	// It was stored nevertheless, in front of what follows.
	q = produceRequest("orders", id, testBatch(t, "k", "v"))
	if p := ask[*kmsg.ProduceResponse](c, q, 12).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.BaseOffset != 1 {
		t.Errorf("%+v", p)
	}
}
