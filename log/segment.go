package log

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/quorlog/quorlog/log/vfs"
)

// File names within a partition's directory.
const (
	logSuffix      = ".log"
	indexSuffix    = ".index"
	stateSuffix    = ".state"
	txnSuffix      = ".txnindex"
	tmpSuffix      = ".tmp"
	checkpointName = "checkpoint"
	resetName      = "reset"

	nameDigits = 20
	nameLen    = 2*nameDigits + 1
)

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// refuseFormat keeps ErrFormat and I/O errors and drops ErrCorrupt: for files that can be made anew from the log.
func refuseFormat(err error) error {
	if errors.Is(err, ErrCorrupt) {
		return nil
	}
	return err
}

// segmentName is the common part of a segment's file names.
func segmentName(base Offset, first Index) string {
	return fmt.Sprintf("%0*d-%0*d", nameDigits, int64(base), nameDigits, uint64(first))
}

// parseSegmentName takes a file name apart. ok is false for a file that is none of ours.
func parseSegmentName(file string) (base Offset, first Index, suffix string, ok bool) {
	if len(file) <= nameLen || file[nameDigits] != '-' {
		return 0, 0, "", false
	}
	b, err1 := strconv.ParseInt(file[:nameDigits], 10, 64)
	i, err2 := strconv.ParseUint(file[nameDigits+1:nameLen], 10, 64)
	suffix = file[nameLen:]
	if err1 != nil || err2 != nil || b < 0 || segmentName(Offset(b), Index(i)) != file[:nameLen] {
		return 0, 0, "", false
	}
	switch suffix {
	case logSuffix, indexSuffix, stateSuffix, txnSuffix:
		return Offset(b), Index(i), suffix, true
	}
	return 0, 0, "", false
}

// segment is one run of the log. The last one of a log is active: it alone grows, and its slots, length and end live in
// Log.mu. All others are sealed: what they hold never changes.
//
// A segment is reference-counted: the log holds one reference while it lists the segment, every reader one while it looks
// at it or while its bytes are being sent. The files are closed with the last reference; retention unlinks them before.
type segment struct {
	fs    vfs.FS
	dir   string
	base  Offset
	first Index
	refs  atomic.Int32
	gone  atomic.Bool // its files are being removed or replaced; set before the first of them is
	// size is the .log's length once the segment is sealed.
	size     atomic.Int64
	verified verified
	txn      txnIndex

	// mu guards what is loaded at first use. It is held over that I/O, so it is taken by readers of sealed segments only,
	// never with Log.mu held.
	mu struct {
		sync.Mutex
		file    vfs.File
		table   table
		mapping vfs.Mapping
		footer  *footer
		loaded  bool
	}
}

func newSegment(fsys vfs.FS, dir string, base Offset, first Index) *segment {
	s := &segment{fs: fsys, dir: dir, base: base, first: first}
	s.refs.Store(1)
	s.txn.init(s)
	return s
}

func (s *segment) name() string              { return segmentName(s.base, s.first) }
func (s *segment) path(suffix string) string { return path.Join(s.dir, s.name()+suffix) }

func (s *segment) acquire() { s.refs.Add(1) }

func (s *segment) release() {
	if s.refs.Add(-1) > 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.mapping != nil {
		s.mu.mapping.Close()
		s.mu.mapping, s.mu.table = nil, table{}
	}
	if s.mu.file != nil {
		s.mu.file.Close()
		s.mu.file = nil
	}
	s.txn.close()
}

// log returns the open .log.
func (s *segment) log() (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logLocked()
}

func (s *segment) logLocked() (vfs.File, error) {
	if s.mu.file != nil {
		return s.mu.file, nil
	}
	f, err := s.fs.Open(s.path(logSuffix))
	if err != nil {
		return nil, s.missing(err)
	}
	s.mu.file = f
	return f, nil
}

// errGone: the segment was removed, or replaced, while a reader looked at it. The reader looks again: see again.
var errGone = errors.New("the segment is gone")

// again calls f until it is not in the way of a change of the segments. Such a change is under way for a few fsyncs at
// most: retention lists what is left before it removes, truncations and resets are rare.
func again[T any](l *Log, f func() (T, error)) (T, error) {
	for {
		v, err := f()
		if !errors.Is(err, errGone) || l.Err() != nil {
			return v, err
		}
		runtime.Gosched()
	}
}

// missing turns a vanished file of a segment that we list into corruption.
func (s *segment) missing(err error) error {
	if s.gone.Load() && isNotExist(err) {
		return errGone
	}
	if isNotExist(err) {
		return fmt.Errorf("%w: a file of segment %s has vanished: %w", ErrCorrupt, s.name(), err)
	}
	return err
}

// sealedTable returns the slots of a sealed segment, mapped and proven at first use. next tells where the segment must
// end: the following segment's base offset and first index.
func (s *segment) sealedTable(next segmentEnd) (table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.loaded {
		return s.mu.table, nil
	}
	t, ft, m, err := mapIndex(s.fs, s.path(indexSuffix), s.base, s.first, s.size.Load(), next)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) && !isNotExist(err) {
			return table{}, err
		}
		// The index can be made anew from the frames, which prove themselves; the frames cannot.
		if t, ft, err = s.rebuildTable(next); err != nil {
			return table{}, err
		}
	}
	s.mu.table, s.mu.footer, s.mu.mapping, s.mu.loaded = t, &ft, m, true
	return t, nil
}

// rebuildTable makes the slots of a sealed segment from its frames, checking all of them.
func (s *segment) rebuildTable(next segmentEnd) (table, footer, error) {
	f, err := s.logLocked()
	if err != nil {
		return table{}, footer{}, err
	}
	var ss slots
	b := tableBuilder{slots: &ss, base: s.base, first: s.first, maxTS: noTimestamp}
	sc := newScanner(f, s, 0, Position(s.size.Load()), s.beginning(0))
	for sc.next() {
		b.add(sc.frame, sc.p, sc.at)
	}
	if err := sc.err; err != nil {
		return table{}, footer{}, fmt.Errorf("segment %s: %w", s.name(), err)
	}
	if sc.chain.offset != next.offset || sc.chain.index != next.index {
		return table{}, footer{}, fmt.Errorf("%w: segment %s ends at offset %d, index %d; the next begins at %d, %d",
			ErrCorrupt, s.name(), sc.chain.offset, sc.chain.index, next.offset, next.index)
	}
	s.verified.setAll()
	ft := footer{slots: uint32(ss.n), crc: ss.crc, logSize: s.size.Load(), maxTS: b.maxTS, sealed: s.written(), end: next}
	return ss.table, ft, nil
}

// written is when the .log was last written, which stands for the time of sealing once that is lost. notSealed where the file system
// does not tell.
func (s *segment) written() int64 {
	info, err := s.fs.Stat(s.path(logSuffix))
	if err != nil {
		return notSealed
	}
	return max(info.ModTime().UnixMilli(), notSealed)
}

// peekFooter reads the footer of a sealed segment and nothing else; an error or nil where it is not sound.
func (s *segment) peekFooter() (*footer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.footer != nil {
		return s.mu.footer, nil
	}
	f, err := s.fs.Open(s.path(indexSuffix))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ft, err := readFooter(f, s.name()+indexSuffix)
	if err != nil {
		return nil, err
	}
	s.mu.footer = &ft
	return &ft, nil
}

// sealedFooter returns the facts of a sealed segment, reading no more than the footer where that is sound.
func (s *segment) sealedFooter(next segmentEnd) (footer, error) {
	ft, err := s.peekFooter()
	if ft != nil {
		return *ft, nil
	}
	if err != nil && !errors.Is(err, ErrCorrupt) && !isNotExist(err) {
		return footer{}, err
	}
	if _, err := s.sealedTable(next); err != nil {
		return footer{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.mu.footer, nil
}

// segmentEnd is where a segment ends: one past its last offset and Raft index.
type segmentEnd struct {
	offset Offset
	index  Index
}

// noTimestamp is the timestamp of frames that have none.
const noTimestamp = int64(-1)

// notSealed is the time of sealing where that is not known: no age to go by.
const notSealed = int64(0)

// tableBuilder makes slots from frames, in Append and wherever an index is rebuilt.
type tableBuilder struct {
	slots *slots
	base  Offset
	first Index
	maxTS int64
}

// add makes the slot of one stamped frame at pos. The caller has checked the chain.
func (b *tableBuilder) add(frame []byte, p parsed, at chainPoint) {
	b.slots.appendSlot(b.slot(frame, p, at))
}

func (b *tableBuilder) slot(frame []byte, p parsed, at chainPoint) slot {
	if p.kind == KindBatch && p.NumRecords > 0 && p.MaxTimestamp > b.maxTS {
		b.maxTS = p.MaxTimestamp
	}
	v := slot{
		pos: uint32(at.pos), size: uint32(len(frame)), relOff: uint32(at.offset - b.base),
		relIndex: uint32(at.index - b.first), maxTS: b.maxTS, headCRC: checksum(frame[:headSize]), kind: p.kind,
	}
	if p.kind == KindBatch && p.IsControl() {
		v.flags |= flagControl
	}
	return v
}
