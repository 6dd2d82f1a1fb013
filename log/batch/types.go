package batch

// Offset is a Kafka offset: the position of a record in a partition. Offsets are never reused for other content.
type Offset int64

// Epoch is a leader epoch, which in Quorlog is the Raft term under which an entry was stored.
type Epoch int32

// NoEpoch is what a request carries that knows no leader epoch (KIP-320).
const NoEpoch Epoch = -1

// Unstamped is the base offset of a batch that no leader has stored yet.
const Unstamped Offset = -1
