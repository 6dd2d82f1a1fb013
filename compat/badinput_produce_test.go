package compat

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// Kafka's error codes, as far as bad input meets them.
const (
	codeOffsetOutOfRange         = 1
	codeCorruptMessage           = 2
	codeUnknownPartition         = 3
	codeNotLeader                = 6
	codeMessageTooLarge          = 10
	codeInvalidTopic             = 17
	codeRecordListTooLarge       = 18
	codeInvalidRequiredAcks      = 21
	codeInvalidGroup             = 24
	codeUnknownMember            = 25
	codeTopicAuthorization       = 29
	codeInvalidTimestamp         = 32
	codeUnsupportedVersion       = 35
	codeUnsupportedSASLMechanism = 33
	codeIllegalSASLState         = 34
	codeSecurityDisabled         = 54
	codeResourceNotFound         = 91
	codeTopicExists              = 36
	codeInvalidPartitions        = 37
	codeInvalidReplicas          = 39
	codeElectionNotNeeded        = 84
	codeNotRegistered            = 102
	codeInvalidReplicationFactor = 38
	codeInvalidReplicaAssignment = 39
	codeInvalidConfig            = 40
	codeInvalidRequest           = 42
	codeOutOfOrderSequence       = 45
	codeInvalidProducerEpoch     = 47
	codeTransactionalID          = 53
	codeStorage                  = 56
	codeGroupNotFound            = 69
	codeSessionNotFound          = 70
	codeSessionEpoch             = 71
	codeFencedLeaderEpoch        = 74
	codeUnknownLeaderEpoch       = 75
	codeUnsupportedCodec         = 76
	codeMemberIDRequired         = 79
	codeInvalidRecord            = 87
	codeInvalidUpdateVersion     = 95
	codeUnknownTopicID           = 100
	codeShareSessionEpoch        = 123
	codeNotCoordinator           = 16
	codeRequestTimedOut          = 7
	codeLoading                  = 14
	codeSessionTopicID           = 106
)

// badBatch is a batch that Kafka refuses, and its reason.
type badBatch struct {
	records []byte
	want    int16
}

func sealed(b *rawBatch, change func(*rawBatch)) []byte { return b.with(change).encode() }

// badHeaders are batches whose header lies.
func badHeaders() map[string]badBatch {
	two := func() *rawBatch { return batchOf(plainRecord(0), plainRecord(1)) }
	header := func(change func(*rawBatch)) []byte { return sealed(two(), change) }
	all := map[string]badBatch{
		"wrong CRC":             {header(func(b *rawBatch) { b.crcBy = 1 }), codeCorruptMessage},
		"CRC of zero":           {header(func(b *rawBatch) { b.crcBy = math.MinInt32 }), codeCorruptMessage},
		"one record too few":    {header(func(b *rawBatch) { b.NumRecords, b.LastOffsetDelta = 3, 2 }), codeInvalidRecord},
		"one record too many":   {header(func(b *rawBatch) { b.NumRecords, b.LastOffsetDelta = 1, 0 }), codeInvalidRecord},
		"count 0":               {header(func(b *rawBatch) { b.NumRecords, b.LastOffsetDelta = 0, -1 }), codeInvalidRecord},
		"count -1":              {header(func(b *rawBatch) { b.NumRecords, b.LastOffsetDelta = -1, -2 }), codeInvalidRecord},
		"count 2^31-1":          {header(func(b *rawBatch) { b.NumRecords, b.LastOffsetDelta = math.MaxInt32, math.MaxInt32-1 }), codeInvalidRecord},
		"count wraps":           {header(func(b *rawBatch) { b.NumRecords, b.LastOffsetDelta = math.MinInt32, math.MaxInt32 }), codeInvalidRecord},
		"no records, count 0":   {sealed(batchOf(), func(*rawBatch) {}), codeInvalidRecord},
		"no records, count 1":   {sealed(batchOf(), func(b *rawBatch) { b.NumRecords, b.LastOffsetDelta = 1, 0 }), codeInvalidRecord},
		"last delta too small":  {header(func(b *rawBatch) { b.LastOffsetDelta = 0 }), codeInvalidRecord},
		"last delta too large":  {header(func(b *rawBatch) { b.LastOffsetDelta = 5 }), codeInvalidRecord},
		"last delta negative":   {header(func(b *rawBatch) { b.LastOffsetDelta = -1 }), codeInvalidRecord},
		"base offset 7":         {header(func(b *rawBatch) { b.FirstOffset = 7 }), codeInvalidRecord},
		"base offset -1":        {header(func(b *rawBatch) { b.FirstOffset = -1 }), codeInvalidRecord},
		"control bit":           {header(func(b *rawBatch) { b.Attributes = 1 << 5 }), codeInvalidRecord},
		"a real commit marker":  {controlBatch(), codeTransactionalID},
		"transactional, no id":  {header(func(b *rawBatch) { b.Attributes, b.ProducerID, b.ProducerEpoch, b.FirstSequence = 1<<4, 1, 0, 0 }), codeTransactionalID},
		"internal bit 15":       {header(func(b *rawBatch) { b.Attributes = math.MinInt16 }), codeInvalidRecord},
		"a log start entry":     {internalBatch(), codeInvalidRecord},
		"producer id -2":        {header(func(b *rawBatch) { b.ProducerID, b.ProducerEpoch, b.FirstSequence = -2, 0, 0 }), codeInvalidRecord},
		"producer epoch -1":     {header(func(b *rawBatch) { b.ProducerID, b.ProducerEpoch, b.FirstSequence = 5, -1, 0 }), codeInvalidRecord},
		"sequence -1":           {header(func(b *rawBatch) { b.ProducerID, b.ProducerEpoch, b.FirstSequence = 5, 0, -1 }), codeInvalidRecord},
		"magic 3":               {header(func(b *rawBatch) { b.Magic = 3 }), codeCorruptMessage},
		"magic -1":              {header(func(b *rawBatch) { b.Magic = -1 }), codeCorruptMessage},
		"magic 0":               {legacyMessage(0), codeInvalidRecord},
		"magic 1":               {legacyMessage(1), codeInvalidRecord},
		"magic 1 in a v2 batch": {header(func(b *rawBatch) { b.Magic = 1 }), codeInvalidRecord},
		"length -1":             {length(two(), -1), codeCorruptMessage},
		"length -2^31":          {length(two(), math.MinInt32), codeCorruptMessage},
		"length 0":              {length(two(), 0), codeCorruptMessage},
		"length 13":             {length(two(), 13), codeCorruptMessage},
		"length 2^31-1":         {length(two(), math.MaxInt32), codeInvalidRecord},
		"one byte longer":       {header(func(b *rawBatch) { b.lengthBy = 1 }), codeInvalidRecord},
		"one byte shorter":      {header(func(b *rawBatch) { b.lengthBy = -1 }), codeInvalidRecord},
		"a header alone, of 48": {length(batchOf(), 48), codeInvalidRecord},
		"null":                  {nil, codeInvalidRecord},
		"nothing":               {[]byte{}, codeInvalidRecord},
		"five bytes":            {[]byte("bytes"), codeInvalidRecord},
		"half a header":         {goodBatch().encode()[:30], codeInvalidRecord},
		"half a batch":          {goodBatch().encode()[:70], codeInvalidRecord},
		"two batches":           {append(goodBatch().encode(), goodBatch().encode()...), codeInvalidRecord},
		"a batch and rubbish":   {append(goodBatch().encode(), "rubbish"...), codeInvalidRecord},
		"a batch and a magic 1": {append(goodBatch().encode(), legacyMessage(1)...), codeInvalidRecord},
		"base time + delta wraps": {header(func(b *rawBatch) {
			b.FirstTimestamp = math.MaxInt64
			b.Records = bytesOf(timedRecord(0, 1), timedRecord(1, 1))
		}), codeInvalidRecord},
		"zeros": {make([]byte, 200), codeCorruptMessage},
	}
	for bit := 6; bit < 15; bit++ {
		all["reserved bit "+string(rune('0'+bit/10))+string(rune('0'+bit%10))] = badBatch{header(func(b *rawBatch) { b.Attributes = 1 << bit }), codeInvalidRecord}
	}
	for codec := int16(5); codec < 8; codec++ {
		all["codec "+string(rune('0'+codec))] = badBatch{header(func(b *rawBatch) { b.Attributes = codec }), codeUnsupportedCodec}
	}
	return all
}

func bytesOf(records ...[]byte) []byte { return batchOf(records...).Records }

// length makes a batch claim another length.
func length(b *rawBatch, claim int32) []byte {
	raw := b.encode()
	binary.BigEndian.PutUint32(raw[posBatchLength:], uint32(claim))
	return raw
}

// controlBatch is a marker that would end a transaction.
func controlBatch() []byte {
	marker := sized([]byte{0}, varint(0), varint(0), varint(4), []byte{0, 0, 0, 1}, varint(6), []byte{0, 0, 0, 0, 0, 0}, varint(0))
	return sealed(batchOf(marker), func(b *rawBatch) { b.Attributes, b.ProducerID, b.ProducerEpoch = 1<<5|1<<4, 1, 0 })
}

// internalBatch is what this broker's own log holds between batches (log/FORMAT.md): an entry that moves the log start.
func internalBatch() []byte {
	b := batchOf()
	b.Attributes, b.Records = math.MinInt16, append([]byte{5, 1}, 0, 0, 0, 0, 0, 0, 0, 99)
	return b.encode()
}

func timedRecord(delta, timestampDelta int64) []byte {
	return sized([]byte{0}, varint(timestampDelta), varint(delta), varint(1), []byte("k"), varint(1), []byte("v"), varint(0))
}

// badRecords are records that lie, each in a batch whose header and CRC are right. They are refused as they are and
// compressed, in which case the broker reads them as a stream.
func badRecords() map[string][]byte {
	body := func(parts ...[]byte) []byte { return sized(parts...) }
	at0, start := varint(0), []byte{0}
	endless := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	good := plainRecord(0)
	return map[string][]byte{
		"offset delta 1 first":   plainRecord(1),
		"offset delta -1":        plainRecord(-1),
		"offset delta 2^31":      plainRecord(1 << 31),
		"record length -1":       append(varint(-1), good[1:]...),
		"record length 0":        append(varint(0), good[1:]...),
		"record length 2^31-1":   append(varint(math.MaxInt32), good[1:]...),
		"record length 2^40":     append(varint(1<<40), good[1:]...),
		"record length too long": append(varint(int64(len(good))), good[1:]...),
		"record length short":    append(varint(int64(len(good)-2)), good[1:]...),
		"endless record length":  append(endless, good...),
		"endless delta":          body(start, at0, endless, varint(-1), varint(-1), at0),
		"key longer than record": body(start, at0, at0, varint(100), []byte("k"), varint(-1), at0),
		"key of -2 bytes":        body(start, at0, at0, varint(-2), varint(-1), at0),
		"value of 2^31-1 bytes":  body(start, at0, at0, varint(-1), varint(math.MaxInt32), []byte("v"), at0),
		"value of -2 bytes":      body(start, at0, at0, varint(-1), varint(-2), at0),
		"2^31-1 headers":         body(start, at0, at0, varint(-1), varint(-1), varint(math.MaxInt32)),
		"-1 headers":             body(start, at0, at0, varint(-1), varint(-1), varint(-1)),
		"one header missing":     body(start, at0, at0, varint(-1), varint(-1), varint(1)),
		"header without a key":   body(start, at0, at0, varint(-1), varint(-1), varint(1), varint(-1), varint(-1)),
		"header key too long":    body(start, at0, at0, varint(-1), varint(-1), varint(1), varint(50), []byte("h"), varint(-1)),
		"header value too long":  body(start, at0, at0, varint(-1), varint(-1), varint(1), varint(1), []byte("h"), varint(99)),
		"bytes in the record":    body(start, at0, at0, varint(-1), varint(-1), at0, []byte("more")),
		"bytes behind":           append(plainRecord(0), "more"...),
		"a record behind":        append(plainRecord(0), plainRecord(1)...),
		"cut off":                good[:len(good)-3],
		"attributes alone":       body(start),
	}
}

// TestProduceRefuses: each bad batch gets Kafka's own error code, and nothing of it is stored: the high watermark stays, and
// consumers find the good batches alone.
func TestProduceRefuses(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	w := dialWire(t, node)
	w.createTopic("bad", 1)
	good := 0
	// A good batch behind every few bad ones: the connection and the partition work on.
	refuse := func(name string, version int16, records []byte, want int16) {
		t.Helper()
		got, err := w.produceTo("bad", version, records)
		if err != nil {
			t.Fatalf("%s v%d: %v", name, version, err)
		}
		if got.ErrorCode != want || got.BaseOffset != -1 {
			t.Errorf("%s v%d: error code %d, base offset %d; want code %d", name, version, got.ErrorCode, got.BaseOffset, want)
		}
		if high := w.highWatermark("bad"); high != int64(good) {
			t.Fatalf("%s v%d: the high watermark is %d, %d good records were sent", name, version, high, good)
		}
	}
	accept := func() {
		t.Helper()
		if got, err := w.produceTo("bad", 9, goodBatch().encode()); err != nil || got.ErrorCode != 0 || got.BaseOffset != int64(good) {
			t.Fatalf("a good batch: %+v, %v", got, err)
		}
		good++
	}
	for name, bad := range badHeaders() {
		for _, version := range []int16{3, 9, 12} {
			refuse(name, version, bad.records, bad.want)
		}
		accept()
	}
	for name, record := range badRecords() {
		refuse(name, 9, batchOf(record).encode(), codeInvalidRecord)
		for codec := codecGzip; codec <= codecZstd; codec++ {
			refuse(name+", compressed", 9, sealed(batchOf(compress(codec, record)), func(b *rawBatch) { b.Attributes = int16(codec) }), codeInvalidRecord)
		}
		accept()
	}
	for name, payload := range badPayloads() {
		refuse(name, 9, sealed(batchOf(payload.records), func(b *rawBatch) { b.Attributes = payload.codec }), payload.want)
	}
	accept()
	refuse("zstd before version 7", 6, sealed(batchOf(compress(codecZstd, plainRecord(0))), func(b *rawBatch) { b.Attributes = codecZstd }), codeUnsupportedCodec)
	t.Logf("%d kinds of bad batches", len(badHeaders())+len(badRecords())*5+len(badPayloads())+1)

	for i, value := range consumeAll(t, node, "bad", good) {
		if value != "value" {
			t.Errorf("record %d is %q", i, value)
		}
	}
	unharmed(t, node)
}

// payload is what a batch says is compressed.
type payload struct {
	codec   int16
	records []byte
	want    int16
}

// badPayloads are compressed records that don't decompress, or that lie about what they become.
func badPayloads() map[string]payload {
	all := map[string]payload{
		// 2^32-1 bytes, in a block of ten
		"snappy of 4 GiB": {codecSnappy, []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0}, codeInvalidRecord},
		// the same in the framing of Java clients
		"framed snappy of 4 GiB":            {codecSnappy, append(append([]byte{}, xerialHeader...), 0, 0, 0, 10, 0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0), codeInvalidRecord},
		"snappy block of -1 bytes":          {codecSnappy, append(append([]byte{}, xerialHeader...), 0xff, 0xff, 0xff, 0xff), codeInvalidRecord},
		"snappy block of 2 GiB":             {codecSnappy, append(append([]byte{}, xerialHeader...), 0x7f, 0xff, 0xff, 0xff, 1, 2, 3), codeInvalidRecord},
		"zstd that needs a window of 2 GiB": {codecZstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 1, 0, 0}, codeMessageTooLarge},
		"zstd of 2^60 bytes":                {codecZstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0}, codeMessageTooLarge},
		"lz4 with a linked block":           {codecLZ4, []byte{0x04, 0x22, 0x4d, 0x18, 0x40, 0x70, 0xdf, 0xff, 0xff, 0xff, 0x7f}, codeInvalidRecord},
	}
	for codec := int16(codecGzip); codec <= codecZstd; codec++ {
		whole := compress(int(codec), plainRecord(0))
		name := []string{codecGzip: "gzip", codecSnappy: "snappy", codecLZ4: "lz4", codecZstd: "zstd"}[codec]
		all[name+": nothing"] = payload{codec, nil, codeInvalidRecord}
		all[name+": rubbish"] = payload{codec, []byte(strings.Repeat("rubbish", 9)), codeInvalidRecord}
		all[name+": plain records"] = payload{codec, plainRecord(0), codeInvalidRecord}
		all[name+": cut off"] = payload{codec, whole[:len(whole)-2], codeInvalidRecord}
		all[name+": bytes behind"] = payload{codec, append(append([]byte{}, whole...), "more"...), codeInvalidRecord}
	}
	return all
}

// batchOfSize is a good batch of so many bytes.
func batchOfSize(size int) []byte {
	value := size
	for {
		batch := batchOf(valueRecord(0, make([]byte, value))).encode()
		if len(batch) <= size {
			return batch
		}
		value -= len(batch) - size
	}
}

// TestProduceTopicRules: what only the settings of a topic forbid.
func TestProduceTopicRules(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	w := dialWire(t, node)
	now := time.Now().UnixMilli()
	at := func(ms int64) []byte {
		return sealed(goodBatch(), func(b *rawBatch) { b.FirstTimestamp, b.MaxTimestamp = ms, ms })
	}
	hour := time.Hour.Milliseconds()
	for name, tc := range map[string]struct {
		configs []string
		records []byte
		want    int16
	}{
		"too large":             {nil, batchOf(valueRecord(0, make([]byte, 2<<20))).encode(), codeMessageTooLarge},
		"one byte too large":    {[]string{"max.message.bytes", "1000"}, batchOfSize(1001), codeMessageTooLarge},
		"just not too large":    {[]string{"max.message.bytes", "1000"}, batchOfSize(1000), 0},
		"larger than a segment": {[]string{"segment.bytes", "1048576", "max.message.bytes", "4000000"}, batchOf(valueRecord(0, make([]byte, 2<<20))).encode(), codeRecordListTooLarge},
		"grows by recompression": {[]string{"compression.type", "uncompressed"}, sealed(batchOf(compress(codecGzip, valueRecord(0, make([]byte, 2<<20)))),
			func(b *rawBatch) { b.Attributes = codecGzip }), codeMessageTooLarge},
		"two hours ahead":           {nil, at(now + 2*hour), codeInvalidTimestamp},
		"max. time":                 {nil, at(math.MaxInt64), codeInvalidTimestamp},
		"two hours old, one is":     {[]string{"message.timestamp.before.max.ms", "3600000"}, at(now - 2*hour), codeInvalidTimestamp},
		"time -5":                   {[]string{"message.timestamp.before.max.ms", "3600000"}, at(-5), codeInvalidTimestamp},
		"no time":                   {[]string{"message.timestamp.before.max.ms", "3600000"}, at(-1), 0},
		"ahead, but broker's clock": {[]string{"message.timestamp.type", "LogAppendTime"}, at(now + 2*hour), 0},
		"says it is LogAppendTime":  {[]string{"message.timestamp.type", "LogAppendTime"}, sealed(goodBatch(), func(b *rawBatch) { b.Attributes = 1 << 3 }), codeInvalidTimestamp},
		"no key, compacted":         {[]string{"cleanup.policy", "compact"}, batchOf(plainRecord(0), valueRecord(1, []byte("v"))).encode(), codeInvalidRecord},
		"no key, both policies":     {[]string{"cleanup.policy", "compact,delete"}, batchOf(valueRecord(0, []byte("v"))).encode(), codeInvalidRecord},
		"key, compacted":            {[]string{"cleanup.policy", "compact"}, goodBatch().encode(), 0},
	} {
		t.Run(name, func(t *testing.T) {
			topic := strings.Map(func(r rune) rune {
				if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
					return r
				}
				return '-'
			}, strings.ToLower(name))
			w.createTopic(topic, 1, tc.configs...)
			for _, version := range []int16{3, 9} {
				before := w.highWatermark(topic)
				got, err := w.produceTo(topic, version, tc.records)
				if err != nil || got.ErrorCode != tc.want {
					t.Errorf("v%d: error code %d, %v; want %d", version, got.ErrorCode, err, tc.want)
				}
				stored := int64(0)
				if tc.want == 0 {
					stored = 1
				}
				if high := w.highWatermark(topic); high != before+stored {
					t.Errorf("v%d: the high watermark went from %d to %d", version, before, high)
				}
			}
		})
	}
	// KIP-467: the answer names the records at fault.
	got, err := w.produceTo("no-key--compacted", 9, batchOf(plainRecord(0), valueRecord(1, nil), plainRecord(2), valueRecord(3, nil)).encode())
	if err != nil || len(got.ErrorRecords) != 2 || got.ErrorRecords[0].RelativeOffset != 1 || got.ErrorRecords[1].RelativeOffset != 3 {
		t.Errorf("records at fault: %+v, %v", got.ErrorRecords, err)
	}
	unharmed(t, node)
}

// TestProduceWrongPlace: topics, partitions, ids and acks that do not exist.
func TestProduceWrongPlace(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	s := newSample(t, node)
	w := dialWire(t, node)
	request := func(version int16, change func(*kmsg.ProduceRequest)) *kmsg.ProduceRequest {
		req := s.request(int16(kmsg.Produce), version, filled).(*kmsg.ProduceRequest)
		change(req)
		return req
	}
	topic := func(name string) func(*kmsg.ProduceRequest) {
		return func(r *kmsg.ProduceRequest) { r.Topics[0].Topic = name }
	}
	partition := func(n int32) func(*kmsg.ProduceRequest) {
		return func(r *kmsg.ProduceRequest) { r.Topics[0].Partitions[0].Partition = n }
	}
	id := func(id [16]byte) func(*kmsg.ProduceRequest) {
		return func(r *kmsg.ProduceRequest) { r.Topics[0].TopicID = id }
	}
	for name, tc := range map[string]struct {
		version int16
		change  func(*kmsg.ProduceRequest)
		want    int16
	}{
		"unknown topic":       {9, topic("nowhere"), codeUnknownPartition},
		"empty topic":         {9, topic(""), codeUnknownPartition},
		"illegal topic":       {9, topic("../../etc/passwd"), codeUnknownPartition},
		"topic of 32,767":     {9, topic(strings.Repeat("x", 32767)), codeUnknownPartition},
		"topic not in UTF-8":  {9, topic("\xff\xfe\x00"), codeUnknownPartition},
		"internal topic":      {9, topic("__consumer_offsets"), codeInvalidTopic},
		"unknown partition":   {9, partition(1), codeUnknownPartition},
		"partition -1":        {9, partition(-1), codeUnknownPartition},
		"partition 2^31-1":    {9, partition(math.MaxInt32), codeUnknownPartition},
		"partition -2^31":     {3, partition(math.MinInt32), codeUnknownPartition},
		"unknown id":          {13, id([16]byte{1, 2, 3}), codeUnknownTopicID},
		"no id":               {13, id([16]byte{}), codeUnknownTopicID},
		"id, but partition 1": {13, partition(1), codeUnknownPartition},
		"acks 2":              {9, func(r *kmsg.ProduceRequest) { r.Acks = 2 }, codeInvalidRequiredAcks},
		"acks -2":             {9, func(r *kmsg.ProduceRequest) { r.Acks = -2 }, codeInvalidRequiredAcks},
	} {
		p := w.ask(request(tc.version, tc.change)).(*kmsg.ProduceResponse).Topics[0].Partitions[0]
		if p.ErrorCode != tc.want {
			t.Errorf("%s: error code %d, want %d", name, p.ErrorCode, tc.want)
		}
	}
	if high := w.highWatermark(s.topic); high != 0 {
		t.Errorf("%d records were stored", high)
	}

	// acks=0 hears nothing, so a bad batch ends the connection; a good one before it was stored.
	silent := dialWire(t, node)
	quiet := request(9, func(r *kmsg.ProduceRequest) { r.Acks = 0 })
	wrong := request(9, func(r *kmsg.ProduceRequest) { r.Acks = 0; r.Topics[0].Partitions[0].Records[posCRC] ^= 1 })
	silent.refused(append(requestFrame(quiet, 1), requestFrame(wrong, 2)...))
	if high := w.highWatermark(s.topic); high != 1 {
		t.Errorf("the high watermark is %d after one good batch with acks=0", high)
	}
	unharmed(t, node)
}

// TestProduceWrongSequence: what an idempotent producer must not send once it is known.
func TestProduceWrongSequence(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	w := dialWire(t, node)
	w.createTopic("sequences", 1)
	send := func(epoch int16, sequence int32) kmsg.ProduceResponseTopicPartition {
		t.Helper()
		got, err := w.produceTo("sequences", 9, sealed(goodBatch(), func(b *rawBatch) { b.ProducerID, b.ProducerEpoch, b.FirstSequence = 7, epoch, sequence }))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for sequence := range int32(2) {
		if got := send(1, sequence); got.ErrorCode != 0 || got.BaseOffset != int64(sequence) {
			t.Fatalf("sequence %d: %+v", sequence, got)
		}
	}
	for name, tc := range map[string]struct {
		epoch    int16
		sequence int32
		want     int16
	}{
		"a gap":            {1, 3, codeOutOfOrderSequence},
		"far ahead":        {1, 1 << 29, codeOutOfOrderSequence},
		"before the first": {1, math.MaxInt32, codeOutOfOrderSequence}, // 0 follows 2^31-1
		"an old epoch":     {0, 2, codeInvalidProducerEpoch},
		"a new epoch at 5": {2, 5, codeOutOfOrderSequence},
	} {
		if got := send(tc.epoch, tc.sequence); got.ErrorCode != tc.want {
			t.Errorf("%s: error code %d, want %d", name, got.ErrorCode, tc.want)
		}
	}
	if got := send(1, 0); got.ErrorCode != 0 || got.BaseOffset != 0 {
		t.Errorf("a repetition: %+v, want the first answer", got)
	}
	if high := w.highWatermark("sequences"); high != 2 {
		t.Errorf("the high watermark is %d, two records were good", high)
	}
	unharmed(t, node)
}
