package coordinator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

const (
	loadChunkBytes = 1 << 20                // read at once: the memory that loading takes beside the machines themselves
	loadExpanded   = 32 << 20               // that a batch may decompress to: others than a coordinator's own, which compresses nothing
	loadRetry      = 500 * time.Millisecond // after a failed read
	loadPoll       = 10 * time.Millisecond  // while entries of before are still being committed
)

// load reads the partition and makes its machines ready. It reports false if the context ended or the attempt failed, after
// a pause.
func (sh *shard[M, E, F]) load(ctx context.Context) bool {
	started := time.Now()
	l := replay[M]{loader: sh.runtime.o.Kind.NewLoader()}
	if err := sh.read(ctx, &l); err != nil {
		if ctx.Err() == nil {
			sh.logger.Warn("The partition could not be loaded; trying again.", "error", err)
			pause(ctx, loadRetry)
		}
		return false
	}
	if l.unknown+l.damaged > 0 {
		sh.logger.Warn("Skipped records that are not of a known form.",
			"unknown_kind", l.unknown, "damaged", l.damaged, "example", l.example)
	}
	n, ok := sh.publish(ctx, &l)
	if ok {
		sh.logger.Info("Loaded.", "keys", n, "records", l.records, "took", time.Since(started))
	}
	return ok
}

// pause waits; it reports false if the context ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// publish gives the loaded machines to the shard, and tells how many there are.
func (sh *shard[M, E, F]) publish(ctx context.Context, l *replay[M]) (int, bool) {
	now := time.Now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.mu.phase != loading || ctx.Err() != nil {
		return 0, false
	}
	for i := range sh.mu.ends {
		l.loader.Marker(sh.mu.ends[i].marker)
	}
	sh.mu.ends = nil
	for key, m := range l.loader.Machines(now) {
		if m.Blank() {
			continue
		}
		e := &entry[M]{key: key, machine: m, place: -1}
		sh.mu.machines[key] = e
		sh.scheduleLocked(e)
	}
	sh.runtime.addKeys(len(sh.mu.machines))
	sh.mu.phase = ready
	return len(sh.mu.machines), true
}

// read replays the whole log. Entries that were under way when this node became leader are waited for: nobody may see a
// key without a change that its coordinator before answered, or is about to.
func (sh *shard[M, E, F]) read(ctx context.Context, l *replay[M]) error {
	log, err := sh.runtime.o.Logs.Open(sh.partition, sh.epoch)
	if err != nil {
		return err
	}
	b, err := log.Bounds()
	if err != nil {
		return err
	}
	end := b.End
	for at := b.Start; at < end; {
		if at >= b.Committed {
			if !pause(ctx, loadPoll) {
				return ctx.Err()
			}
			if b, err = log.Bounds(); err != nil {
				return err
			}
			continue
		}
		chunk, err := log.Read(at, loadChunkBytes)
		if err != nil {
			return fmt.Errorf("reading at offset %d: %w", at, err)
		}
		if err := l.chunk(chunk.Frames); err != nil {
			return err
		}
		if chunk.Next <= at {
			return fmt.Errorf("%w: no progress at offset %d", replication.ErrCorrupt, at)
		}
		at = chunk.Next
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// replay gives a partition's records to a loader.
type replay[M any] struct {
	loader  Loader[M]
	records int
	unknown int   // records of kinds that the coordinator does not write
	damaged int   // records that could not be decoded
	example error // why the first of the damaged could not be
}

// chunk replays a run of frames.
func (l *replay[M]) chunk(frames []byte) error {
	for len(frames) > 0 {
		h, err := batch.ParseHeader(frames)
		if err != nil {
			return err
		}
		if h.Size() > len(frames) {
			return fmt.Errorf("%w: a frame of %d bytes in %d", replication.ErrCorrupt, h.Size(), len(frames))
		}
		if err := l.frame(&h, frames[:h.Size()]); err != nil {
			return err
		}
		frames = frames[h.Size():]
	}
	return nil
}

func (l *replay[M]) frame(h *batch.Header, frame []byte) error {
	switch {
	case h.NumRecords <= 0:
		return nil
	case h.IsControl():
		if c, err := batch.ParseControl(frame); err == nil && h.IsTransactional() {
			l.loader.Marker(Marker{ProducerID: h.ProducerID, Epoch: h.ProducerEpoch, Commit: c.Type == batch.ControlCommit})
		}
		return nil
	}
	err := batch.IterateUpTo(frame, loadExpanded, func(r batch.Record) error {
		l.record(h, r.Key, r.Value)
		return nil
	})
	if errors.Is(err, batch.ErrTooLarge) {
		l.skip(err)
		return nil
	}
	return err
}

// record replays one record. One that can't be understood is skipped: others must not suffer for what somebody wrote to
// the topic by hand.
func (l *replay[M]) record(h *batch.Header, key, value []byte) {
	l.records++
	switch err := l.loader.Record(h, key, value); {
	case err == nil:
	case errors.Is(err, ErrUnknownKind):
		l.unknown++
	default:
		l.skip(err)
	}
}

func (l *replay[M]) skip(err error) {
	if l.damaged++; l.example == nil {
		l.example = err
	}
}

// Replay gives the records of a run of frames to a loader, as a shard does with its partition. It tells how many there were.
// Tests and tools use it.
func Replay[M any](loader Loader[M], frames []byte) (records int, err error) {
	l := replay[M]{loader: loader}
	err = l.chunk(frames)
	return l.records, err
}
