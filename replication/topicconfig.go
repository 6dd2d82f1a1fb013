package replication

import "time"

// TimestampType says which clock stamps a topic's records (message.timestamp.type).
type TimestampType uint8

const (
	// CreateTime keeps the producer's timestamps.
	CreateTime TimestampType = iota
	// LogAppendTime stamps each batch when it is appended.
	LogAppendTime
)

// CleanupPolicy is a set: delete, compact, or both.
type CleanupPolicy uint8

const (
	// CleanupDelete drops old segments by time and size.
	CleanupDelete CleanupPolicy = 1 << iota
	// CleanupCompact keeps the newest record of each key.
	CleanupCompact
)

// TopicConfig is the effective configuration of a topic, parsed: topic override, else the broker's default, else the
// built-in one. Names and defaults are Kafka's.
type TopicConfig struct {
	CleanupPolicy      CleanupPolicy
	RetentionTime      time.Duration // retention.ms; negative = for ever
	RetentionBytes     int64         // retention.bytes; negative = without limit
	SegmentBytes       int64         // segment.bytes
	SegmentAge         time.Duration // segment.ms
	SegmentIndexBytes  int64         // segment.index.bytes
	MaxMessageBytes    int           // max.message.bytes, of a batch as it is sent
	MinInsyncReplicas  int           // min.insync.replicas
	Compression        string        // compression.type: producer, uncompressed, gzip, snappy, lz4, zstd
	CompressionLevel   int           // of the chosen codec; -1 = the codec's default
	TimestampType      TimestampType // message.timestamp.type
	TimestampBeforeMax time.Duration // message.timestamp.before.max.ms
	TimestampAfterMax  time.Duration // message.timestamp.after.max.ms
	DeleteRetention    time.Duration // delete.retention.ms
	MinCompactionLag   time.Duration // min.compaction.lag.ms
	MaxCompactionLag   time.Duration // max.compaction.lag.ms
	MinCleanableRatio  float64       // min.cleanable.dirty.ratio
	FileDeleteDelay    time.Duration // file.delete.delay.ms
}
