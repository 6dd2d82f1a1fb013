package log

import (
	"sync/atomic"
	"time"
)

// Stats count what a log did since it was opened.
type Stats struct {
	OpenScannedBytes int64         // .log bytes that Open read
	OpenCutBytes     int64         // torn bytes that Open cut off
	OpenDuration     time.Duration // by Options.Now
	Appends          int64         // Append calls that stored something
	AppendedEntries  int64
	AppendedBytes    int64
	RefusedEntries   int64
	Rolls            int64
	Checkpoints      int64
	TailHits         int64 // Entry calls answered from memory
	TailMisses       int64 // Entry calls that read the disk
	// Swaps of cleaned segments. What was read before and after one may not fit together: a marker's entry in the list of
	// aborted transactions goes with the marker.
	Swaps           int64
	CleanedSegments int64 // segments that were swapped out
}

// Add adds another log's counts.
func (s *Stats) Add(o Stats) {
	s.OpenScannedBytes += o.OpenScannedBytes
	s.OpenCutBytes += o.OpenCutBytes
	s.OpenDuration += o.OpenDuration
	s.Appends += o.Appends
	s.AppendedEntries += o.AppendedEntries
	s.AppendedBytes += o.AppendedBytes
	s.RefusedEntries += o.RefusedEntries
	s.Rolls += o.Rolls
	s.Checkpoints += o.Checkpoints
	s.TailHits += o.TailHits
	s.TailMisses += o.TailMisses
	s.Swaps += o.Swaps
	s.CleanedSegments += o.CleanedSegments
}

type counters struct {
	openScanned, openCut, openNanos  atomic.Int64
	appends, entries, bytes, refused atomic.Int64
	rolls, checkpoints, hits, misses atomic.Int64
	swaps, cleaned                   atomic.Int64
}

// Stats returns the counts so far.
func (l *Log) Stats() Stats {
	c := &l.stats
	return Stats{
		OpenScannedBytes: c.openScanned.Load(), OpenCutBytes: c.openCut.Load(), OpenDuration: time.Duration(c.openNanos.Load()),
		Appends: c.appends.Load(), AppendedEntries: c.entries.Load(), AppendedBytes: c.bytes.Load(), RefusedEntries: c.refused.Load(),
		Rolls: c.rolls.Load(), Checkpoints: c.checkpoints.Load(), TailHits: c.hits.Load(), TailMisses: c.misses.Load(),
		Swaps: c.swaps.Load(), CleanedSegments: c.cleaned.Load(),
	}
}
