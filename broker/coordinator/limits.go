package coordinator

// Limits bound what clients can make a coordinator hold. Kafka has no such bounds.
type Limits struct {
	MaxKeys        int // that one node coordinates
	MaxCalls       int // requests that wait in one shard
	MaxQueuedBytes int // records that wait in one shard for the batch under way
	MaxBatchBytes  int // records that are appended at once
}

// DefaultLimits is what the zero value of Limits stands for.
func DefaultLimits() Limits {
	return Limits{MaxKeys: 100_000, MaxCalls: 100_000, MaxQueuedBytes: 64 << 20, MaxBatchBytes: 1 << 20}
}
