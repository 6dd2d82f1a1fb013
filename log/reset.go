package log

import (
	"fmt"
	"path"

	"github.com/quorlog/quorlog/log/vfs"
)

// Steps of a reset to a state. Commit point: the name of the file "reset".
//
//  1. "reset" with the state: temporary file, fsync, rename, fsync of the directory
//  2. remove checkpoint and all segments, fsync of the directory
//  3. make the segment that begins behind the state, and a checkpoint in it whose commit index is the state's index
//  4. remove "reset", fsync of the directory
//
// Recovery: where "reset" stands, Open begins again at step 2. It stands until everything after it is durable, and is gone
// for good before the first append.

// Reset throws all entries away and begins anew behind a state: what a replica does that was sent another's StartState.
// Readers that are under way keep what they have. The state's index may not be 1: a log that begins at index 2 would make
// Raft take the boundary for an entry (it never asks for the term of index 0 + 1).
func (l *Log) Reset(s State) error {
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writableLocked(); err != nil {
		return err
	}
	if s.Index == 1 || s.Offset < 0 || s.Term < 0 || s.ConfigIndex > s.Index {
		return fmt.Errorf("%w: index %d, term %d, offset %d, configuration %d", ErrBoundary, s.Index, s.Term, s.Offset, s.ConfigIndex)
	}
	fs, dir := l.o.FS, l.o.Dir
	if err := replaceFile(fs, path.Join(dir, resetName), s.Encode()); err != nil {
		return l.fail("write reset", err)
	}
	if err := fs.SyncDir(dir); err != nil {
		return l.fail("sync directory", err)
	}
	for _, s := range l.mu.segments {
		s.gone.Store(true)
	}
	created := l.nowMs()
	seg, index, place, err := resetFiles(fs, dir, &s, created)
	if err != nil {
		return l.fail("reset", err)
	}
	l.tail.truncate(0)
	l.w.index.Close()
	l.w.index, l.w.created, l.w.firstWrite = index, created, 0
	mapped, old := l.w.slots.mapped, l.mu.segments
	l.w.slots, l.w.checkpoint, l.w.unsaved = slots{}, place, volume{}
	l.applied.Lock()
	l.begin(seg, &s)
	l.applied.Unlock()
	mapped.release()
	for _, o := range old {
		o.release()
	}
	return nil
}

// finishReset does what a reset that was cut short by a crash has left to do.
func (l *Log) finishReset() error {
	b, err := readFile(l.o.FS, path.Join(l.o.Dir, resetName))
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	s, err := decodeState(resetName, b)
	if err != nil {
		return err
	}
	seg, index, _, err := resetFiles(l.o.FS, l.o.Dir, &s, l.nowMs())
	if err != nil {
		return l.fail("reset", err)
	}
	index.Close()
	seg.release()
	return nil
}

// resetFiles does steps 2 to 4.
func resetFiles(fs vfs.FS, dir string, s *State, created int64) (*segment, vfs.File, checkpointPlace, error) {
	var none checkpointPlace
	if err := removeLog(fs, dir); err != nil {
		return nil, nil, none, err
	}
	seg, index, err := createSegment(fs, dir, s, created)
	if err != nil {
		return nil, nil, none, err
	}
	c := checkpoint{
		first: seg.first, base: seg.base, segment: seg.first, maxTS: noTimestamp, end: *s,
		commit: s.Index, high: s.Offset, start: s.Offset, open: openAt(s),
	}
	if err = replaceFile(fs, path.Join(dir, checkpointName), c.encode()); err == nil {
		err = fs.SyncDir(dir)
	}
	if err == nil {
		err = fs.Remove(path.Join(dir, resetName))
	}
	if err == nil {
		err = fs.SyncDir(dir)
	}
	if err != nil {
		index.Close()
		seg.release()
		return nil, nil, none, err
	}
	return seg, index, c.place(), nil
}

// removeLog removes the checkpoint and every segment's files.
func removeLog(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		_, _, _, ok := parseSegmentName(name)
		if !ok && name != checkpointName {
			continue
		}
		if err := fs.Remove(path.Join(dir, name)); err != nil && !isNotExist(err) {
			return err
		}
	}
	return fs.SyncDir(dir)
}
