package log

import (
	"time"

	"github.com/quorlog/quorlog/log/vfs"
)

// Steps of a roll from segment A to B. Commit point: the name of B.log.
//
//  1. footer behind A.index, fsync: A is sealed. All of A.log was fsynced by its appends.
//  2. B.state: temporary file, fsync, rename
//  3. B.index with its header, fsync
//  4. fsync of the directory
//  5. create B.log, fsync of the directory
//
// Recovery: a B without .log never was; its files are removed and A goes on as the active segment, footer ignored. A B.log
// has state and index, because step 4 comes before it.

// rollBeforeLocked rolls if the active segment has no room for what comes, or is too old. An empty one is never rolled.
func (l *Log) rollBeforeLocked(bytes int64, entries int) error {
	n := int64(l.w.slots.n)
	if n == 0 {
		return nil
	}
	lim := l.limits()
	seg := l.activeLocked()
	switch {
	case int64(l.mu.end)+bytes > lim.SegmentBytes:
	case indexHeadSize+(n+int64(entries))*slotSize > lim.SegmentIndexBytes:
	case int64(l.mu.next.offset-seg.base) > maxSegmentSpan || int64(l.mu.next.index-seg.first) > maxSegmentSpan:
	case l.nowMs()-l.w.firstWrite >= lim.SegmentAge.Milliseconds():
	default:
		return nil
	}
	return l.rollLocked()
}

// Roll seals the active segment if it is older than the segment age, or if all of its records lie below the log start, so
// that retention can take a partition that is no longer written to. It reports whether it did.
func (l *Log) Roll(now time.Time) (bool, error) {
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writableLocked(); err != nil {
		return false, err
	}
	if l.w.slots.n == 0 {
		return false, nil
	}
	o := l.Offsets()
	old := now.UnixMilli()-l.w.firstWrite >= l.limits().SegmentAge.Milliseconds()
	gone := o.LogStart == o.LogEnd && l.activeLocked().base < o.LogStart
	if !old && !gone {
		return false, nil
	}
	return true, l.rollLocked()
}

func (l *Log) rollLocked() error {
	a := l.activeLocked()
	ft := footer{
		slots: uint32(l.w.slots.n), crc: l.w.slots.crc, logSize: int64(l.mu.end), maxTS: l.mu.maxTS, sealed: l.nowMs(),
		end: segmentEnd{offset: l.mu.next.offset, index: l.mu.next.index},
	}
	if _, err := l.w.index.WriteAt(ft.encode(), indexHeadSize+int64(l.w.slots.n)*slotSize); err != nil {
		return l.fail("seal index", err)
	}
	if err := l.w.index.Sync(); err != nil {
		return l.fail("sync index", err)
	}
	l.forgetExpiredLocked()
	state := l.mu.facts.state(l.mu.next, l.expiry())
	created := l.nowMs()
	b, index, err := createSegment(l.o.FS, l.o.Dir, &state, created)
	if err != nil {
		return l.fail("create segment", err)
	}
	l.w.index.Close()
	a.size.Store(int64(l.mu.end))
	old := l.w.slots.mapped
	l.w.index, l.w.slots, l.w.created, l.w.firstWrite = index, slots{}, created, 0

	l.mu.Lock()
	l.mu.segments = withSegment(l.mu.segments, b)
	l.mu.active, l.mu.end, l.mu.maxTS = table{}, 0, noTimestamp
	l.mu.Unlock()
	old.release()
	l.stats.rolls.Add(1)
	return nil
}

// forgetExpiredLocked drops idle producers from the append view, and those beyond what is remembered. w is held.
func (l *Log) forgetExpiredLocked() {
	before := l.expiry()
	many := l.mu.facts.producers.longestSilent(maxProducers) // only the holder of w changes them
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, p := range l.mu.facts.producers {
		if p.expired(before) {
			delete(l.mu.facts.producers, id)
		}
	}
	for _, id := range many {
		delete(l.mu.facts.producers, id)
	}
}

// createSegment makes an empty segment that begins after a state, and returns it with its open index.
func createSegment(fs vfs.FS, dir string, state *State, created int64) (*segment, vfs.File, error) {
	s := newSegment(fs, dir, state.Offset, state.Index+1)
	if err := replaceFile(fs, s.path(stateSuffix), state.Encode()); err != nil {
		return nil, nil, err
	}
	index, err := createIndex(fs, s, created)
	if err != nil {
		return nil, nil, err
	}
	if err := createLog(fs, dir, s); err != nil {
		index.Close()
		return nil, nil, err
	}
	return s, index, nil
}

func createIndex(fs vfs.FS, s *segment, created int64) (vfs.File, error) {
	name := s.path(indexSuffix)
	if err := fs.Remove(name); err != nil && !isNotExist(err) {
		return nil, err
	}
	index, err := fs.Create(name)
	if err != nil {
		return nil, err
	}
	if _, err := index.WriteAt(indexHead{base: s.base, first: s.first, created: created}.encode(), 0); err != nil {
		index.Close()
		return nil, err
	}
	if err := index.Sync(); err != nil {
		index.Close()
		return nil, err
	}
	return index, nil
}

// createLog makes the .log, whose name makes the segment exist.
func createLog(fs vfs.FS, dir string, s *segment) error {
	if err := fs.SyncDir(dir); err != nil {
		return err
	}
	file, err := fs.Create(s.path(logSuffix))
	if err != nil {
		return err
	}
	s.mu.file = file
	return fs.SyncDir(dir)
}
