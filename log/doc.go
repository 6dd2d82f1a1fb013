// Package log stores one partition: a run of segments whose frames are at once the entries of the partition's Raft log and
// the batches that consumers fetch. Records are written once, fsynced once, and served from the same file. The files and
// the steps of every durable operation are drawn in FORMAT.md.
//
// Two views move over the same bytes. The append view lies at the log's end: what may be appended next, the producers'
// sequences, the epochs, the newest Raft configuration. It follows from the stored entries alone, moves in Append, and goes
// back in TruncateSuffix. The applied view lies at the high watermark: open transactions, last stable offset, aborted
// transactions, log start. It moves only in Apply and never goes back.
//
// # Who may call what
//
// The package starts no goroutine. Append, TruncateSuffix, Checkpoint, Roll, DropSegments, Reset and Close change files and
// exclude each other. A Cleaner reads and writes beside them and excludes them while it swaps segments. Apply comes from one goroutine, in index order. Everything else may be called by anyone at any time
// and waits for no disk, except for the reads that it does itself.
//
// # Locks
//
// In this order; a lock is never taken while one to its right is held:
//
//		Cleaner.busy -> Log.w -> Log.applied -> txnIndex.io -> segment.mu -> Log.mu -> tail.mu -> TailBudget.mu
//
//	  - w: the writer's state. Held over writes and fsyncs. Readers never take it.
//	  - applied: orders Apply against Checkpoint. Held over unsynced writes to .txnindex.
//	  - txnIndex.io, segment.mu: first use of a sealed segment's files. Held over the reads of that first use.
//	  - mu: what readers see. Never held over I/O.
//	  - tail.mu, TailBudget.mu: memory only. TailBudget.mu is never held while a tail's is taken.
//
// # Failure
//
// The first error of a write, fsync, truncate or rename poisons the log: it wraps ErrFailed, every later change is refused
// with it, nothing is retried, and nothing is undone. The process must end (DESIGN 3); what is on disk is sorted out by
// the next Open. Damage to stored bytes is ErrCorrupt, and leaves the bytes as they are.
package log
