package share

// MaxRuns bounds the runs of one share-partition, whatever its members acknowledge: only a batch that compaction has left with
// a wide range of offsets can come near it. It also bounds the durable state, to about half a megabyte.
const MaxRuns = 20_000
