package log

import (
	"fmt"
	"path"

	"github.com/quorlog/quorlog/log/vfs"
)

// A checkpoint is one file in the envelope of codec.go. Its payload:
//
//	first stored index 8
//	segment: base offset 8 | first index 8 | position 8 | slots 4 | slots CRC 4 | max timestamp 8
//	append view at that position, as in a .state
//	commit index 8 | high watermark 8 | log start 8
//	open transactions: count 4, each producer id 8, first offset 8
//	aborted transactions: count 4 of segments that have any, each first index 8, records 4
//
// Steps: fsync the .txnindex files that grew and the active .index; write a temporary file, fsync, rename, fsync the
// directory. Commit point: the rename. Recovery: the newest checkpoint that was renamed counts, whole.
const checkpointMagic = "QLOGCKPT"

// checkpointPlace says where a checkpoint lies in the log.
type checkpointPlace struct {
	segment Index    // first index of the segment
	pos     Position // end of the last frame that it covers
	last    Index    // index of that frame
	commit  Index
	first   Index // first stored index: segments below it are garbage
}

// txnCount is how many aborted transactions a segment's .txnindex holds.
type txnCount struct {
	first Index
	n     uint32
}

// checkpoint is the decoded file.
type checkpoint struct {
	first    Index
	base     Offset
	segment  Index
	pos      Position
	slots    uint32
	slotsCRC uint32
	maxTS    int64
	end      State // the append view at pos; Index, Term and Offset are those of the log's end there
	commit   Index
	high     Offset
	start    Offset
	open     openTxns
	aborted  []txnCount
}

func (c *checkpoint) place() checkpointPlace {
	return checkpointPlace{segment: c.segment, pos: c.pos, last: c.end.Index, commit: c.commit, first: c.first}
}

func (c *checkpoint) encode() []byte {
	var e encoder
	e.begin(checkpointMagic)
	e.index(c.first)
	e.offset(c.base)
	e.index(c.segment)
	e.i64(int64(c.pos))
	e.u32(c.slots)
	e.u32(c.slotsCRC)
	e.i64(c.maxTS)
	c.end.encode(&e)
	e.index(c.commit)
	e.offset(c.high)
	e.offset(c.start)
	e.u32(uint32(len(c.open)))
	for _, t := range c.open {
		e.i64(t.producer)
		e.offset(t.first)
	}
	e.u32(uint32(len(c.aborted)))
	for _, t := range c.aborted {
		e.index(t.first)
		e.u32(t.n)
	}
	return e.finish()
}

func decodeCheckpoint(name string, b []byte) (*checkpoint, error) {
	d, err := openEnvelope(name, checkpointMagic, b)
	if err != nil {
		return nil, err
	}
	c := &checkpoint{first: d.index(), base: d.offset(), segment: d.index(), pos: Position(d.i64())}
	c.slots, c.slotsCRC, c.maxTS = d.u32(), d.u32(), d.i64()
	c.end = decodeStateBody(d)
	c.commit, c.high, c.start = d.index(), d.offset(), d.offset()
	for range d.count(16) {
		c.open = append(c.open, openTxn{producer: d.i64(), first: d.offset()})
	}
	for range d.count(12) {
		c.aborted = append(c.aborted, txnCount{first: d.index(), n: d.u32()})
	}
	if !d.done() || c.pos < 0 || c.commit > c.end.Index || c.segment > c.end.Index+1 || c.high > c.end.Offset {
		return nil, fmt.Errorf("%w: %s: malformed", ErrCorrupt, name)
	}
	return c, nil
}

// readCheckpoint returns the checkpoint of a directory, nil where there is none.
func readCheckpoint(fs vfs.FS, dir string) (*checkpoint, error) {
	b, err := readFile(fs, path.Join(dir, checkpointName))
	if isNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeCheckpoint(checkpointName, b)
}

// Checkpoint makes the log's facts durable, so that a restart reads only what comes later, and so that Raft begins behind
// the applied entries. The commit index that it records is that of the last applied entry, which is all that the applied
// view speaks for. Raft's own, which the caller passes, may be ahead of it, or behind right after a start, when Raft does
// not know yet what was committed; neither changes what is recorded.
func (l *Log) Checkpoint(_ Index) error {
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writableLocked(); err != nil {
		return err
	}
	return l.checkpointLocked()
}

// checkpointLocked writes a checkpoint at the log's end. Nothing is written where nothing changed.
func (l *Log) checkpointLocked() error {
	at := l.w.checkpoint
	if at.pos == l.mu.end && at.segment == l.activeLocked().first && at.commit == l.AppliedIndex() && at.last > 0 &&
		at.first == l.mu.boundary.Index+1 {
		return nil
	}
	l.forgetExpiredLocked()
	seg := l.activeLocked()
	c := &checkpoint{
		first: l.mu.boundary.Index + 1, base: seg.base, segment: seg.first, pos: l.mu.end,
		slots: uint32(l.w.slots.n), slotsCRC: l.w.slots.crc, maxTS: l.mu.maxTS, end: l.mu.facts.state(l.mu.next, l.expiry()),
	}
	if err := l.w.index.Sync(); err != nil {
		return l.fail("sync index", err)
	}
	l.mapActiveLocked(seg)
	return l.saveCheckpointLocked(c)
}

// saveCheckpointLocked adds the applied view to a checkpoint and makes it the one. The slots that it counts are durable
// already. w is held.
func (l *Log) saveCheckpointLocked(c *checkpoint) error {
	if err := c.addApplied(l); err != nil {
		return err
	}
	if err := replaceFile(l.o.FS, path.Join(l.o.Dir, checkpointName), c.encode()); err != nil {
		return l.fail("write checkpoint", err)
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return l.fail("sync directory", err)
	}
	l.w.checkpoint = c.place()
	l.w.unsaved = volume{}
	l.stats.checkpoints.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.committed = c.commit
	return nil
}

// addApplied takes the log's applied view as of one moment, and makes the .txnindex records that it counts durable.
func (c *checkpoint) addApplied(l *Log) error {
	l.applied.Lock()
	defer l.applied.Unlock()
	c.commit, c.high, c.start = l.mu.applied, l.mu.offsets.high, l.mu.offsets.start
	c.open = append(c.open, l.openTxns...)
	created := false
	for _, s := range l.mu.segments {
		n := s.txn.count()
		if n == 0 || s.first < c.first {
			continue
		}
		c.aborted = append(c.aborted, txnCount{first: s.first, n: uint32(n)})
		synced, err := s.txn.sync()
		if err != nil {
			return l.fail("sync txnindex", err)
		}
		created = created || synced
	}
	// Their names must not be lost while the checkpoint's is kept.
	if created {
		if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
			return l.fail("sync directory", err)
		}
	}
	return nil
}
