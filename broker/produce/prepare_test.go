package produce

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

var testNow = time.UnixMilli(1_700_000_000_000)

// topicConfig is Kafka's defaults, as far as they matter here.
func topicConfig() replication.TopicConfig {
	return replication.TopicConfig{
		CleanupPolicy: replication.CleanupDelete, SegmentBytes: 1 << 30, MaxMessageBytes: 1048588,
		Compression: "producer", TimestampBeforeMax: math.MaxInt64, TimestampAfterMax: time.Hour,
	}
}

func record(key, value string, ts int64) batch.Record {
	r := batch.Record{Value: []byte(value), Timestamp: ts}
	if key != "" {
		r.Key = []byte(key)
	}
	return r
}

// frame builds what a client sends: base offset 0, no leader epoch.
func frame(t testing.TB, opt batch.BuildOptions, records ...batch.Record) []byte {
	t.Helper()
	f, err := batch.Build(opt, records...)
	if err != nil {
		t.Fatal(err)
	}
	batch.Stamp(f, 0, batch.NoEpoch)
	return f
}

func plain(t testing.TB) []byte {
	return frame(t, batch.BuildOptions{}, record("k", "v", testNow.UnixMilli()), record("l", "w", testNow.UnixMilli()))
}

// edit changes a good batch and makes its CRC right again.
func edit(f []byte, fn func(f []byte)) []byte {
	fn(f)
	batch.Reseal(f)
	return f
}

func put16(f []byte, pos int, v uint16) { binary.BigEndian.PutUint16(f[pos:], v) }
func put32(f []byte, pos int, v uint32) { binary.BigEndian.PutUint32(f[pos:], v) }
func put64(f []byte, pos int, v uint64) { binary.BigEndian.PutUint64(f[pos:], v) }

// Positions in a batch's header, see log/FORMAT.md.
const (
	posCRC, posAttributes, posLastDelta                  = 17, 21, 23
	posProducerID, posProducerEpoch, posSequence, posNum = 43, 51, 53, 57
)

func prepared(f []byte, cfg replication.TopicConfig, change ...func(*Request)) ([]byte, error) {
	s := New(Options{Now: func() time.Time { return testNow }, MaxDecompressed: 1 << 20})
	r := Request{Acks: AcksAll, ZstdAllowed: true, FrameSize: len(f)}
	for _, fn := range change {
		fn(&r)
	}
	b, err := s.prepare(context.Background(), testNow, &r, cfg, f)
	return b.Frame, err
}

func TestRefusals(t *testing.T) {
	now := testNow.UnixMilli()
	compacted := func(c *replication.TopicConfig) { c.CleanupPolicy = replication.CleanupCompact }
	for name, tc := range map[string]struct {
		frame  []byte
		config func(*replication.TopicConfig)
		old    bool
		want   error
	}{
		"good":                    {frame: plain(t)},
		"empty field":             {frame: nil, want: broker.ErrInvalidRecord},
		"a few bytes":             {frame: make([]byte, 16), want: broker.ErrInvalidRecord},
		"zeros":                   {frame: make([]byte, 80), want: replication.ErrCorrupt},
		"magic 0":                 {frame: edit(plain(t), func(f []byte) { f[posMagic] = 0 }), want: broker.ErrInvalidRecord},
		"magic 1":                 {frame: edit(plain(t), func(f []byte) { f[posMagic] = 1 }), want: broker.ErrInvalidRecord},
		"magic 3":                 {frame: edit(plain(t), func(f []byte) { f[posMagic] = 3 }), want: replication.ErrCorrupt},
		"negative magic":          {frame: edit(plain(t), func(f []byte) { f[posMagic] = 0xff }), want: replication.ErrCorrupt},
		"negative length":         {frame: edit(plain(t), func(f []byte) { put32(f, posLength, 1<<31) }), want: replication.ErrCorrupt},
		"length below the header": {frame: plain(t)[:61][:12+20], want: broker.ErrInvalidRecord},
		"cut off":                 {frame: plain(t)[:70], want: broker.ErrInvalidRecord},
		"two batches":             {frame: append(plain(t), plain(t)...), want: broker.ErrInvalidRecord},
		"trailing byte":           {frame: append(plain(t), 0), want: broker.ErrInvalidRecord},
		"wrong CRC":               {frame: func() []byte { f := plain(t); f[posCRC] ^= 1; return f }(), want: replication.ErrCorrupt},
		"flipped record byte":     {frame: func() []byte { f := plain(t); f[len(f)-1] ^= 1; return f }(), want: replication.ErrCorrupt},
		"base offset":             {frame: edit(plain(t), func(f []byte) { put64(f, 0, 5) }), want: broker.ErrInvalidRecord},
		"no records":              {frame: edit(plain(t), func(f []byte) { put32(f, posNum, 0) }), want: broker.ErrInvalidRecord},
		"count above content":     {frame: edit(plain(t), func(f []byte) { put32(f, posNum, 3); put32(f, posLastDelta, 2) }), want: broker.ErrInvalidRecord},
		"count below content":     {frame: edit(plain(t), func(f []byte) { put32(f, posNum, 1); put32(f, posLastDelta, 0) }), want: broker.ErrInvalidRecord},
		"count and delta differ":  {frame: edit(plain(t), func(f []byte) { put32(f, posLastDelta, 5) }), want: broker.ErrInvalidRecord},
		"control bit":             {frame: edit(plain(t), func(f []byte) { put16(f, posAttributes, 1<<5) }), want: broker.ErrInvalidRecord},
		"internal bit":            {frame: edit(plain(t), func(f []byte) { put16(f, posAttributes, 1<<15) }), want: broker.ErrInvalidRecord},
		"delete horizon bit":      {frame: edit(plain(t), func(f []byte) { put16(f, posAttributes, 1<<6) }), want: broker.ErrInvalidRecord},
		"transactional":           {frame: edit(plain(t), func(f []byte) { put16(f, posAttributes, 1<<4) }), want: broker.ErrNoTransactionalID},
		"unknown codec":           {frame: edit(plain(t), func(f []byte) { put16(f, posAttributes, 5) }), want: broker.ErrUnsupportedCompression},
		"not gzip":                {frame: edit(plain(t), func(f []byte) { put16(f, posAttributes, 1) }), want: broker.ErrInvalidRecord},
		"producer without sequence": {frame: edit(plain(t), func(f []byte) {
			put64(f, posProducerID, 7)
			put16(f, posProducerEpoch, 0)
			put32(f, posSequence, math.MaxUint32)
		}), want: broker.ErrInvalidRecord},
		"zstd too early": {frame: frame(t, batch.BuildOptions{Codec: batch.Zstd}, record("k", "v", now)), old: true, want: broker.ErrUnsupportedCompression},
		"zstd":           {frame: frame(t, batch.BuildOptions{Codec: batch.Zstd}, record("k", "v", now))},
		"gzip early":     {frame: frame(t, batch.BuildOptions{Codec: batch.Gzip}, record("k", "v", now)), old: true},
		"too large": {frame: plain(t), config: func(c *replication.TopicConfig) { c.MaxMessageBytes = 60 },
			want: broker.ErrMessageTooLarge},
		"larger than a segment": {frame: plain(t), config: func(c *replication.TopicConfig) { c.SegmentBytes = 60 },
			want: ErrBatchExceedsSegment},
		"decompression bomb": {frame: frame(t, batch.BuildOptions{Codec: batch.Gzip}, record("", strings.Repeat("0", 2<<20), now)),
			want: broker.ErrMessageTooLarge},
		"too large after recompression": {frame: frame(t, batch.BuildOptions{Codec: batch.Gzip}, record("", strings.Repeat("0", 4096), now)),
			config: func(c *replication.TopicConfig) { c.Compression, c.MaxMessageBytes = "uncompressed", 1000 },
			want:   broker.ErrMessageTooLarge},
		"keyless":              {frame: frame(t, batch.BuildOptions{}, record("", "v", now)), config: compacted, want: broker.ErrInvalidRecord},
		"keys":                 {frame: plain(t), config: compacted},
		"compact and delete":   {frame: frame(t, batch.BuildOptions{}, record("", "v", now)), config: func(c *replication.TopicConfig) { c.CleanupPolicy |= replication.CleanupCompact }, want: broker.ErrInvalidRecord},
		"too new":              {frame: frame(t, batch.BuildOptions{}, record("k", "v", now+3_600_001)), want: broker.ErrInvalidTimestamp},
		"just not too new":     {frame: frame(t, batch.BuildOptions{}, record("k", "v", now+3_600_000))},
		"old":                  {frame: frame(t, batch.BuildOptions{}, record("k", "v", 0))},
		"too old":              {frame: frame(t, batch.BuildOptions{}, record("k", "v", now-1001)), config: oneSecond, want: broker.ErrInvalidTimestamp},
		"none is not too old":  {frame: frame(t, batch.BuildOptions{}, record("k", "v", -1)), config: oneSecond},
		"append time claimed":  {frame: edit(plain(t), func(f []byte) { put16(f, posAttributes, 8) }), config: appendTime, want: broker.ErrInvalidTimestamp},
		"append time, any age": {frame: frame(t, batch.BuildOptions{}, record("k", "v", 0)), config: func(c *replication.TopicConfig) { oneSecond(c); appendTime(c) }},
		"unknown compression":  {frame: plain(t), config: func(c *replication.TopicConfig) { c.Compression = "rar" }, want: replication.ErrInvalidConfig},
	} {
		cfg := topicConfig()
		if tc.config != nil {
			tc.config(&cfg)
		}
		_, err := prepared(tc.frame, cfg, func(r *Request) { r.ZstdAllowed = !tc.old })
		if !errors.Is(err, tc.want) || (err != nil) != (tc.want != nil) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

func oneSecond(c *replication.TopicConfig)  { c.TimestampBeforeMax = time.Second }
func appendTime(c *replication.TopicConfig) { c.TimestampType = replication.LogAppendTime }

func TestRecordErrorsNameTheRecords(t *testing.T) {
	now := testNow.UnixMilli()
	f := frame(t, batch.BuildOptions{Codec: batch.Snappy}, record("k", "v", now), record("", "v", now-5000), record("k", "v", now), record("", "v", -1))
	cfg := topicConfig()
	oneSecond(&cfg)
	var e *RecordsError
	if _, err := prepared(f, cfg); !errors.As(err, &e) || len(e.Records) != 1 || e.Records[0].Index != 1 || !errors.Is(err, broker.ErrInvalidTimestamp) {
		t.Errorf("%v: %+v", err, e)
	}
	cfg.CleanupPolicy = replication.CleanupCompact
	if _, err := prepared(f, cfg); !errors.As(err, &e) || len(e.Records) != 2 || e.Records[0].Index != 1 || e.Records[1].Index != 3 {
		t.Errorf("%v: %+v", err, e)
	}
	many := make([]batch.Record, 1000)
	for i := range many {
		many[i] = record("", "v", now)
	}
	if _, err := prepared(frame(t, batch.BuildOptions{}, many...), cfg); !errors.As(err, &e) || len(e.Records) != maxRecordErrors {
		t.Errorf("%v: %d named", err, len(e.Records))
	}
}

func TestTimestampTypes(t *testing.T) {
	ts := testNow.UnixMilli() - 1000
	f, err := prepared(frame(t, batch.BuildOptions{}, record("k", "v", ts)), func() replication.TopicConfig { c := topicConfig(); appendTime(&c); return c }())
	if err != nil {
		t.Fatal(err)
	}
	h := header(t, f)
	if !h.IsLogAppendTime() || h.MaxTimestamp != testNow.UnixMilli() {
		t.Errorf("append time: %+v", h)
	}
	// A wrong maximum and a claim of LogAppendTime are put right for a topic of CreateTime.
	f, err = prepared(edit(frame(t, batch.BuildOptions{}, record("k", "v", ts)), func(f []byte) {
		put16(f, posAttributes, 8)
		batch.SetMaxTimestamp(f, -1)
	}), topicConfig())
	if err != nil {
		t.Fatal(err)
	}
	if h := header(t, f); h.IsLogAppendTime() || h.MaxTimestamp != ts {
		t.Errorf("create time: %+v", h)
	}
}

func header(t *testing.T, f []byte) batch.Header {
	t.Helper()
	if err := batch.CheckCRC(f); err != nil {
		t.Fatal(err)
	}
	h, err := batch.ParseHeader(f)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestCompressionType(t *testing.T) {
	codecs := map[string]batch.Codec{
		"uncompressed": batch.None, "gzip": batch.Gzip, "snappy": batch.Snappy, "lz4": batch.LZ4, "zstd": batch.Zstd,
	}
	for _, from := range codecs {
		for name, to := range codecs {
			cfg := topicConfig()
			cfg.Compression, cfg.CompressionLevel = name, -1
			opt := batch.BuildOptions{Codec: from}
			f, err := prepared(frame(t, opt, record("k", "v", 5), record("l", strings.Repeat("w", 100), 6)), cfg)
			if err != nil {
				t.Fatalf("%v to %v: %v", from, to, err)
			}
			if h := header(t, f); h.Codec() != to || h.NumRecords != 2 || h.MaxTimestamp != 6 {
				t.Errorf("%v to %v: %+v", from, to, h)
			}
			n := 0
			if err := batch.Iterate(f, func(r batch.Record) error { n++; return nil }); err != nil || n != 2 {
				t.Errorf("%v to %v: %d records, %v", from, to, n, err)
			}
		}
		// producer keeps what was sent, byte for byte.
		in := frame(t, batch.BuildOptions{Codec: from}, record("k", "v", 5))
		sent := string(in)
		if f, err := prepared(in, topicConfig()); err != nil || string(f) != sent {
			t.Errorf("producer changed a %v batch: %v", from, err)
		}
	}
}

func TestSmallFramesAreCopiedOut(t *testing.T) {
	in := plain(t)
	for size, copied := range map[int]bool{len(in): false, len(in) * 4: false, len(in)*4 + 1: true, 1 << 20: true} {
		f, err := prepared(in, topicConfig(), func(r *Request) { r.FrameSize = size })
		if err != nil {
			t.Fatal(err)
		}
		if got := &f[0] != &in[0]; got != copied {
			t.Errorf("in a buffer of %d: copied %v", size, got)
		}
	}
}

func TestInternalTopicsAreNotForClients(t *testing.T) {
	for name, want := range map[string]bool{
		broker.OffsetsTopic: true, broker.TransactionTopic: true, broker.ShareStateTopic: true, "__mine": false, "": false,
	} {
		if broker.IsInternalTopic(name) != want {
			t.Errorf("%q", name)
		}
	}
}

func FuzzPrepare(f *testing.F) {
	f.Add(plain(f))
	f.Add([]byte{})
	f.Add(make([]byte, 61))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg := topicConfig()
		cfg.CleanupPolicy = replication.CleanupCompact
		cfg.Compression = "snappy"
		out, err := prepared(data, cfg)
		if err == nil && header(t, out).Codec() != batch.Snappy {
			t.Fatal("not recompressed")
		}
	})
}
