package api

import (
	"testing"
	"time"

	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/log/batch"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A compacted topic takes no batch with a record without a key, in whatever version it comes and however it is made. An empty key is
// one. The answer names the records, and nothing is stored.
func TestCompactedTopicsTakeNoRecordsWithoutKeys(t *testing.T) {
	n := newNode(t)
	id := n.createTopicWith("compacted", 1, map[string]string{"cleanup.policy": "compact"})
	producer := &batch.Producer{ID: 5}
	var base int64
	for version := int16(3); version <= produceRow.Max; version++ {
		for name, o := range map[string]batch.BuildOptions{
			"plain": {}, "gzip": {Codec: batch.Gzip}, "snappy": {Codec: batch.Snappy}, "lz4": {Codec: batch.LZ4}, "zstd": {Codec: batch.Zstd},
			"idempotent": {Producer: producer},
		} {
			if o.Codec == batch.Zstd && version < 7 {
				continue // refused for that
			}
			send := func(keys ...[]byte) kmsg.ProduceResponseTopicPartition {
				b := batch.NewBuilder(o)
				for _, k := range keys {
					b.Add(batch.Record{Key: k, Value: []byte("v"), Timestamp: time.Now().UnixMilli()})
				}
				frame, err := b.Build()
				if err != nil {
					t.Fatal(err)
				}
				batch.Stamp(frame, 0, batch.NoEpoch)
				return ask[*kmsg.ProduceResponse](newClient(t, n.api), produceRequest("compacted", id, frame), version).Topics[0].Partitions[0]
			}
			p := send([]byte("k"), nil, []byte("k"), nil)
			if p.ErrorCode != int16(kafkaproto.InvalidRecord) || p.BaseOffset != -1 {
				t.Errorf("%s, version %d: %+v", name, version, p)
			}
			if named := p.ErrorRecords; version >= 8 && (len(named) != 2 || named[0].RelativeOffset != 1 || named[1].RelativeOffset != 3) {
				t.Errorf("%s, version %d names the records %+v", name, version, named)
			}
			if p := send([]byte{}); p.ErrorCode != 0 || p.BaseOffset != base {
				t.Errorf("%s, version %d, an empty key: %+v, expected offset %d", name, version, p, base)
			}
			base++
		}
		producer.Sequence++
	}
}
