package group

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

const (
	loadChunkBytes = 1 << 20                // read at once: the memory that loading takes beside the groups themselves
	loadRetry      = 500 * time.Millisecond // after a failed read
	loadPoll       = 10 * time.Millisecond  // while entries of before are still being committed
)

// load reads the partition and makes its groups ready. It reports false if the context ended or the attempt failed, after
// a pause.
func (sh *shard) load(ctx context.Context) bool {
	started := time.Now()
	l := loader{groups: map[string]*loaded{}}
	if err := l.read(ctx, sh); err != nil {
		if ctx.Err() == nil {
			sh.logger.Warn("The groups could not be loaded; trying again.", "error", err)
			pause(ctx, loadRetry)
		}
		return false
	}
	if l.unknown+l.damaged > 0 {
		sh.logger.Warn("Skipped records that are not of a known form.",
			"unknown_kind", l.unknown, "damaged", l.damaged, "example", l.example)
	}
	if !sh.publish(ctx, &l) {
		return false
	}
	sh.logger.Info("Loaded groups.", "groups", len(l.groups), "records", l.records, "took", time.Since(started))
	return true
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

// publish gives the loaded groups to the shard.
func (sh *shard) publish(ctx context.Context, l *loader) bool {
	now := time.Now()
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.mu.phase != loading || ctx.Err() != nil {
		return false
	}
	for id, g := range l.groups {
		m := g.machine(id, now, &sh.service.limits)
		if m.Blank() {
			delete(l.groups, id)
			continue
		}
		e := &entry{machine: m, place: -1}
		sh.mu.groups[id] = e
		sh.scheduleLocked(e)
	}
	sh.service.addGroups(len(l.groups))
	sh.mu.phase = ready
	return true
}

// loaded is what the log says of a group.
type loaded struct {
	offsets  offsetTable
	metadata *Metadata
}

func (g *loaded) machine(id string, now time.Time, limits *Limits) *Machine {
	m := NewMachine(id, limits)
	m.offsets = g.offsets
	if g.metadata != nil {
		m.Restore(now, g.metadata)
	}
	return m
}

// loader replays records; of each key the newest wins.
type loader struct {
	groups  map[string]*loaded
	records int
	unknown int   // records of kinds that this package does not write
	damaged int   // records that could not be decoded
	example error // why the first of the damaged could not be
}

// read replays the whole log. Entries that were under way when this node became leader are waited for: nobody may see a
// group without a commit that its coordinator before answered, or is about to.
func (l *loader) read(ctx context.Context, sh *shard) error {
	log, err := sh.service.logs.Open(sh.partition, sh.epoch)
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

// chunk replays a run of frames.
func (l *loader) chunk(frames []byte) error {
	for len(frames) > 0 {
		h, err := batch.ParseHeader(frames)
		if err != nil {
			return err
		}
		if h.Size() > len(frames) {
			return fmt.Errorf("%w: a frame of %d bytes in %d", replication.ErrCorrupt, h.Size(), len(frames))
		}
		if !h.IsControl() && h.NumRecords > 0 {
			err := batch.Iterate(frames[:h.Size()], func(r batch.Record) error {
				l.record(r.Key, r.Value)
				return nil
			})
			if err != nil {
				return err
			}
		}
		frames = frames[h.Size():]
	}
	return nil
}

// record replays one record. One that can't be understood is skipped: others must not suffer for what somebody wrote to
// the topic by hand.
func (l *loader) record(key, value []byte) {
	l.records++
	r, err := decodeRecord(key, value)
	switch {
	case errors.Is(err, errUnknownKind):
		l.unknown++
	case err != nil:
		if l.damaged++; l.example == nil {
			l.example = err
		}
	default:
		l.apply(&r)
	}
}

func (l *loader) apply(r *Record) {
	g := l.groups[r.Group]
	if g == nil {
		g = &loaded{}
		l.groups[r.Group] = g
	}
	switch {
	case r.Key == nil:
		g.metadata = r.Metadata
	case r.Offset == nil:
		g.offsets.drop(*r.Key)
	default:
		g.offsets.put(*r.Key, *r.Offset)
	}
	if g.metadata == nil && g.offsets.len() == 0 {
		delete(l.groups, r.Group)
	}
}
