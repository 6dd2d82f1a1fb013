package batch

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var kgoCodecs = map[Codec]kgo.CompressionCodec{
	None: kgo.NoCompression(), Gzip: kgo.GzipCompression(), Snappy: kgo.SnappyCompression(), LZ4: kgo.Lz4Compression(), Zstd: kgo.ZstdCompression(),
}

// interopRecords are records as an application sends them, small and large, that fill several windows.
func interopRecords() []Record {
	rng := newRand()
	var out []Record
	for i := range 300 {
		r := Record{Timestamp: 1_700_000_000_000 + int64(i*7%50), Value: text(rng, rng.IntN(3000))}
		if i%3 == 0 {
			r.Key = fmt.Appendf(nil, "key-%d", i)
		}
		if i%5 == 0 {
			r.Headers = []RecordHeader{{Key: "trace", Value: noise(rng, 16)}, {Key: "empty", Value: []byte{}}, {Key: "null"}}
		}
		if i == 100 {
			r.Value = nil
		}
		out = append(out, r)
	}
	return append(out, Record{Timestamp: 1_700_000_000_000, Key: []byte("big"), Value: text(rng, 300_000)})
}

// kmsgBatch encodes with kmsg and kgo's compressor: no code of ours takes part.
func kmsgBatch(t *testing.T, codec Codec, records []Record) []byte {
	t.Helper()
	var content []byte
	var last int64
	for i, r := range records {
		k := kmsg.NewRecord()
		k.TimestampDelta64, k.OffsetDelta, k.Key, k.Value = r.Timestamp-records[0].Timestamp, int32(i), r.Key, r.Value
		for _, h := range r.Headers {
			k.Headers = append(k.Headers, kmsg.Header{Key: h.Key, Value: h.Value})
		}
		k.Length = int32(len(k.AppendTo(nil)) - 1) // the length itself is written as one byte while it is 0
		content = k.AppendTo(content)
		last = max(last, r.Timestamp)
	}
	if codec != None {
		c, err := kgo.DefaultCompressor(kgoCodecs[codec])
		if err != nil {
			t.Fatal(err)
		}
		packed, used := c.Compress(new(bytes.Buffer), content)
		if Codec(used) != codec {
			t.Fatalf("kgo used codec %d", used)
		}
		content = bytes.Clone(packed)
	}
	b := kmsg.RecordBatch{
		FirstOffset: 0, PartitionLeaderEpoch: -1, Magic: 2, Attributes: int16(codec), LastOffsetDelta: int32(len(records) - 1),
		FirstTimestamp: records[0].Timestamp, MaxTimestamp: last, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: int32(len(records)), Records: content, Length: int32(49 + len(content)),
	}
	b.CRC = int32(crc32.Checksum(b.AppendTo(nil)[21:], crc32.MakeTable(crc32.Castagnoli)))
	return b.AppendTo(nil)
}

// What franz-go's parts encode, we validate and read; what we build is the same, byte for byte, before compression.
func TestReadWhatFranzWrites(t *testing.T) {
	records := interopRecords()
	everyCodec(t, func(t *testing.T, c Codec) {
		frame := kmsgBatch(t, c, records)
		info := mustValidate(t, frame)
		if info.MaxTimestamp != info.Header.MaxTimestamp || int(info.NumRecords) != len(records) {
			t.Errorf("%+v", info)
		}
		Stamp(frame, Unstamped, NoEpoch)
		equalRecords(t, mustIterate(t, frame), records)
		ours := mustBuild(t, BuildOptions{Codec: c}, records...)
		plain, err := Recompress(frame, None, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		oursPlain, err := Recompress(ours, None, 0, 0)
		if err != nil || !bytes.Equal(plain, oursPlain) {
			t.Errorf("kmsg and we encode the same records differently (%v)", err)
		}
	})
}

// What we build, franz-go's consumer decodes, CRC check included.
func TestFranzReadsWhatWeWrite(t *testing.T) {
	records := interopRecords()
	levels := map[Codec][]int{None: {0}, Snappy: {0}, Gzip: {-1, 1, 9}, LZ4: {-1, 1, 9, 17}, Zstd: {-1, -100, 3, 9, 22}}
	everyCodec(t, func(t *testing.T, c Codec) {
		for _, level := range levels[c] {
			frame := mustBuild(t, BuildOptions{Codec: c, Level: level, Producer: &Producer{77, 3, 9}}, records...)
			Stamp(frame, 5000, 12)
			p := kmsg.NewFetchResponseTopicPartition()
			p.RecordBatches, p.HighWatermark, p.LastStableOffset = frame, 1<<40, 1<<40
			got, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Topic: "t"}, &p, kgo.DefaultDecompressor(), nil)
			if got.Err != nil || int(next) != 5000+len(records) || len(got.Records) != len(records) {
				t.Fatalf("level %d: %d records, next offset %d, %v", level, len(got.Records), next, got.Err)
			}
			var back []Record
			for i, r := range got.Records {
				o := Record{Offset: Unstamped + Offset(r.Offset-5000), Timestamp: r.Timestamp.UnixMilli(), Key: r.Key, Value: r.Value}
				for _, h := range r.Headers {
					o.Headers = append(o.Headers, RecordHeader{Key: h.Key, Value: h.Value})
				}
				if r.LeaderEpoch != 12 || r.ProducerID != 77 || r.ProducerEpoch != 3 {
					t.Fatalf("record %d: epoch %d, producer %d/%d", i, r.LeaderEpoch, r.ProducerID, r.ProducerEpoch)
				}
				back = append(back, o)
			}
			equalRecords(t, back, records)
		}
	})
}

// A marker of ours must mean to franz-go what it means to us.
func TestFranzReadsOurMarkers(t *testing.T) {
	for _, typ := range []ControlType{ControlAbort, ControlCommit} {
		frame := BuildControl(Control{Type: typ, ProducerID: 5, ProducerEpoch: 6, CoordinatorEpoch: 7, Timestamp: 8})
		Stamp(frame, 10, 1)
		p := kmsg.NewFetchResponseTopicPartition()
		p.RecordBatches = frame
		got, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{KeepControlRecords: true}, &p, kgo.DefaultDecompressor(), nil)
		if got.Err != nil || len(got.Records) != 1 || !got.Records[0].Attrs.IsControl() || !got.Records[0].Attrs.IsTransactional() {
			t.Fatalf("%+v", got)
		}
		key, value := kmsg.NewControlRecordKey(), kmsg.NewEndTxnMarker()
		if err := key.ReadFrom(got.Records[0].Key); err != nil || key.Type != kmsg.ControlRecordKeyType(typ) || key.Version != 0 {
			t.Errorf("key %+v, %v", key, err)
		}
		if err := value.ReadFrom(got.Records[0].Value); err != nil || value.CoordinatorEpoch != 7 || value.Version != 0 {
			t.Errorf("value %+v, %v", value, err)
		}
	}
}

// The batches that a real client sends over a connection: idempotent and not, with its own batching.
func TestValidateRealClient(t *testing.T) {
	records := interopRecords()
	everyCodec(t, func(t *testing.T, c Codec) {
		for _, idempotent := range []bool{true, false} {
			frames := produced(t, c, idempotent, records)
			var got []Record
			sequence := int32(0)
			for _, f := range frames {
				info := mustValidate(t, f)
				if info.HasProducer() != idempotent || idempotent && info.BaseSequence != sequence {
					t.Errorf("producer %d, sequence %d, want %d", info.ProducerID, info.BaseSequence, sequence)
				}
				sequence = AddSequence(info.LastSequence(), 1)
				Stamp(f, Unstamped+Offset(len(got)), 0)
				got = append(got, mustIterate(t, f)...)
			}
			equalRecords(t, got, records)
		}
	})
}

// produced sends the records to kfake and returns copies of the batches that passed over the wire.
func produced(t *testing.T, c Codec, idempotent bool, records []Record) [][]byte {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	var mu sync.Mutex
	var frames [][]byte
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		mu.Lock()
		defer mu.Unlock()
		for _, topic := range req.(*kmsg.ProduceRequest).Topics {
			for _, p := range topic.Partitions {
				split, err := Split(bytes.Clone(p.Records))
				if err != nil {
					t.Error(err)
				}
				frames = append(frames, split...)
			}
		}
		return nil, nil, false
	})
	opts := []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(kgoCodecs[c])}
	if !idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var send []*kgo.Record
	for _, r := range records {
		k := &kgo.Record{Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}
		for _, h := range r.Headers {
			k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		send = append(send, k)
	}
	if err := client.ProduceSync(context.Background(), send...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(frames)
}
