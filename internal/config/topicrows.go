package config

const (
	maxInt  = 1<<31 - 1
	maxLong = 1<<63 - 1
)

// codecs are the values of compression.type.
var codecs = []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"}

func topicRow(name string, t Type, def, bounds, doc string, check func(string) error, synonyms ...string) Setting {
	return Setting{Name: name, Scope: Topic, Type: t, Default: def, Range: bounds, Doc: doc, check: check, Synonyms: synonyms, Dynamic: true}
}

// inert marks a row that changes nothing.
func inert(s Setting) Setting {
	s.Inert, s.Doc = true, "Accepted for compatibility, without effect. "+s.Doc
	return s
}

// hidden marks a row that is not listed.
func hidden(s Setting) Setting {
	s.Hidden = true
	return s
}

func topicRows() []Setting {
	return append(cleaningRows(), append(segmentRows(), append(messageRows(), acceptedRows()...)...)...)
}

func cleaningRows() []Setting {
	return []Setting{
		topicRow("cleanup.policy", List, "delete", "delete, compact or both", "How old data goes: delete removes whole segments by age and size, compact keeps the newest record of each key.", eachOf("delete", "compact"), "log.cleanup.policy"),
		topicRow("retention.ms", Long, "604800000", "-1 or more", "How long records are kept under delete. -1 keeps them for ever.", integer(-1, maxLong), "log.retention.ms", "log.retention.minutes", "log.retention.hours"),
		topicRow("retention.bytes", Long, "-1", "-1 or more", "How many bytes of each partition are kept under delete. -1 sets no limit.", integer(-1, maxLong), "log.retention.bytes"),
		topicRow("delete.retention.ms", Long, "86400000", "0 or more", "How long compaction keeps tombstones.", integer(0, maxLong), "log.cleaner.delete.retention.ms"),
		topicRow("min.compaction.lag.ms", Long, "0", "0 or more", "Younger records are not compacted.", integer(0, maxLong), "log.cleaner.min.compaction.lag.ms"),
		topicRow("max.compaction.lag.ms", Long, "9223372036854775807", "1 or more", "Older records are compacted whatever the dirty ratio.", integer(1, maxLong), "log.cleaner.max.compaction.lag.ms"),
		topicRow("min.cleanable.dirty.ratio", Double, "0.5", "0 to 1", "The share of not yet compacted bytes at which compaction begins.", fraction, "log.cleaner.min.cleanable.ratio"),
		inert(topicRow("file.delete.delay.ms", Long, "60000", "0 or more", "Files that are still being read stay readable without a delay.", integer(0, maxLong), "log.segment.delete.delay.ms")),
	}
}

func segmentRows() []Setting {
	return []Setting{
		topicRow("segment.bytes", Int, "1073741824", "1048576 or more", "The size at which a segment is closed and the next begun.", integer(1<<20, maxInt), "log.segment.bytes"),
		hidden(topicRow("internal.segment.bytes", Int, "", "for tests", "Overrides segment.bytes without its minimum; for tests. Kafka has the same back door.", optional(integer(1, maxInt)))),
		topicRow("segment.ms", Long, "604800000", "1 or more", "The age at which a segment is closed, so that retention can take it.", integer(1, maxLong), "log.roll.ms", "log.roll.hours"),
		inert(topicRow("segment.jitter.ms", Long, "0", "0 or more", "Segments of different partitions do not roll together here.", integer(0, maxLong), "log.roll.jitter.ms")),
		topicRow("segment.index.bytes", Int, "10485760", "4096 or more", "The size of a segment's index at which it is closed.", integer(4096, maxInt), "log.index.size.max.bytes"),
		inert(topicRow("index.interval.bytes", Int, "4096", "0 or more", "The index has a slot for each batch.", integer(0, maxInt), "log.index.interval.bytes")),
		inert(topicRow("preallocate", Boolean, "false", "", "Segments grow as they are written.", boolean, "log.preallocate")),
		inert(topicRow("flush.messages", Long, "9223372036854775807", "1 or more", "Every write is fsynced before it is acknowledged, always.", integer(1, maxLong), "log.flush.interval.messages")),
		inert(topicRow("flush.ms", Long, "9223372036854775807", "0 or more", "Every write is fsynced before it is acknowledged, always.", integer(0, maxLong), "log.flush.interval.ms")),
	}
}

func messageRows() []Setting {
	return []Setting{
		topicRow("max.message.bytes", Int, "1048588", "0 or more", "The largest batch that is taken, in bytes as it is sent. Decompressed it may have 128 times as many, and always 128 MiB, but at most 1 GiB.", integer(0, maxInt), "message.max.bytes"),
		topicRow("min.insync.replicas", Int, "1", "1 or more", "acks=all is refused while fewer replicas are in sync. A record is committed by a majority in any case.", integer(1, maxInt), "min.insync.replicas"),
		topicRow("compression.type", String, "producer", "producer, uncompressed, gzip, snappy, lz4, zstd", "The codec that batches are stored in; producer keeps the producer's.", oneOf(codecs...), "compression.type"),
		topicRow("compression.gzip.level", Int, "-1", "-1, or 1 to 9", "The level of gzip where the broker compresses; -1 is the codec's default.", integer(-1, 9), "compression.gzip.level"),
		topicRow("compression.lz4.level", Int, "9", "1 to 17", "The level of lz4 where the broker compresses.", integer(1, 17), "compression.lz4.level"),
		topicRow("compression.zstd.level", Int, "3", "-131072 to 22", "The level of zstd where the broker compresses.", integer(-131072, 22), "compression.zstd.level"),
		topicRow("message.timestamp.type", String, "CreateTime", "CreateTime, LogAppendTime", "Whose clock stamps records: the producer's or the broker's.", oneOf("CreateTime", "LogAppendTime"), "log.message.timestamp.type"),
		topicRow("message.timestamp.before.max.ms", Long, "9223372036854775807", "0 or more", "How far a record's timestamp may lie before the broker's clock.", integer(0, maxLong), "log.message.timestamp.before.max.ms"),
		topicRow("message.timestamp.after.max.ms", Long, "3600000", "0 or more", "How far a record's timestamp may lie after the broker's clock.", integer(0, maxLong), "log.message.timestamp.after.max.ms"),
	}
}

func acceptedRows() []Setting {
	return []Setting{
		topicRow("unclean.leader.election.enable", Boolean, "false", "false", "Always false: a replica that lacks committed records is never elected.", never("false", "a Raft group never elects a replica that lacks committed records"), "unclean.leader.election.enable"),
		topicRow("remote.storage.enable", Boolean, "false", "false", "Tiered storage is not there.", never("false", "tiered storage is not supported")),
		topicRow("remote.log.copy.disable", Boolean, "false", "false", "Tiered storage is not there.", never("false", "tiered storage is not supported")),
		topicRow("remote.log.delete.on.disable", Boolean, "false", "false", "Tiered storage is not there.", never("false", "tiered storage is not supported")),
		inert(topicRow("local.retention.ms", Long, "-2", "-2 or more", "Tiered storage is not there, so retention.ms is what counts.", integer(-2, maxLong))),
		inert(topicRow("local.retention.bytes", Long, "-2", "-2 or more", "Tiered storage is not there, so retention.bytes is what counts.", integer(-2, maxLong))),
		inert(topicRow("leader.replication.throttled.replicas", List, "", "", "Replication is not throttled by replica.", anything)),
		inert(topicRow("follower.replication.throttled.replicas", List, "", "", "Replication is not throttled by replica.", anything)),
	}
}
