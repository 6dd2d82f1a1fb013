package share

// MaxRuns bounds the runs of one share-partition, whatever its members acknowledge: only a batch that compaction has left with
// a wide range of offsets can come near it. It also bounds the durable state, to about half a megabyte.
const MaxRuns = 20_000

const (
	// maxTracked bounds the share-partitions that a node has in memory.
	maxTracked = 100_000
	// maxSessionPartitions bounds the partitions of all sessions of a node together.
	maxSessionPartitions = 1 << 20
	// DefaultSessions is Kafka's default of group.share.max.share.sessions.
	DefaultSessions = 2000
	// DefaultMaxBytes is Kafka's fetch.max.bytes: the most that one answer holds, but for a first batch that is larger.
	DefaultMaxBytes = 55 << 20
	// maxMemberID is the length of a member id in bytes: that of a UUID's text form.
	maxMemberID = 36
)
