// Package batch knows Kafka's RecordBatch v2 (KIP-98): it reads and stamps headers in place, validates what clients send,
// iterates over records, and builds batches. A *frame* is the bytes of exactly one batch, as on the wire and on disk.
//
// Work is split by cost. Header functions look at 61 bytes and allocate nothing. Validate reads everything once, decompressing
// in a bounded stream, and is meant to run on the connection's goroutine, outside every lock. Scan and Rebuild stream as well: they
// are for whoever must get through any batch that is stored. Iterate decompresses a whole batch into memory of its own and is meant
// for tools and tests; coordinators and readers give it a limit.
//
// Bytes of a batch come from clients or from disk: no content makes these functions panic, run without bound, or allocate
// more than a small multiple of what the content really holds. The package starts no goroutine. It has one lock, wide, which is the
// innermost: it is held while a batch is decoded that takes much memory for it, over the calls of Scan's fn too.
package batch

// Offset is a Kafka offset: the position of a record in a partition. Offsets are never reused for other content.
type Offset int64

// Epoch is a leader epoch, which in Quorlog is the Raft term under which an entry was stored.
type Epoch int32

// NoEpoch is what a request carries that knows no leader epoch (KIP-320).
const NoEpoch Epoch = -1

// Unstamped is the base offset of a batch that no leader has stored yet.
const Unstamped Offset = -1

// UnstampedAnew is Unstamped for a batch whose producer may begin with any sequence: its leader knows nothing of it, and has
// turned away nothing that it sent before.
const UnstampedAnew Offset = -2
