package log

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// directory is what a partition's directory holds, as far as the names tell.
type directory struct {
	segments []*segment // those with a .log, ascending
	txns     map[Index]bool
	orphans  []string // side files of segments without .log, and temporary files
}

// Open opens the log in o.Dir, and creates or recovers it: see recover.go. It returns once everything that it found is
// durable. ErrCorrupt, ErrDataLoss and ErrFormat change nothing on disk.
func Open(o Options) (*Log, error) {
	o = o.withDefaults()
	l := &Log{o: o}
	l.tail.budget, l.tail.limit = o.Tail, o.TailBytes
	l.mu.limits = o.limits()
	started := o.Now()
	if err := l.open(); err != nil {
		l.closeFilesLocked()
		return nil, fmt.Errorf("open %s: %w", o.Dir, err)
	}
	l.stats.openNanos.Store(int64(o.Now().Sub(started)))
	return l, nil
}

func (l *Log) open() error {
	if err := l.o.FS.MkdirAll(l.o.Dir); err != nil {
		return err
	}
	// What a killed process renamed or removed shows, but may not be durable. Nothing is built on it before it is.
	if err := l.syncNames(); err != nil {
		return err
	}
	if err := l.finishReset(); err != nil {
		return err
	}
	if err := finishSwap(l.o.FS, l.o.Dir); err != nil {
		return err
	}
	ckpt, err := readCheckpoint(l.o.FS, l.o.Dir)
	if err != nil {
		return err
	}
	dir, err := l.readDirectory()
	if err != nil {
		return err
	}
	if err := dir.check(ckpt); err != nil {
		return err
	}
	if len(dir.segments) == 0 {
		return l.create(dir)
	}
	r := recovery{l: l, ckpt: ckpt, dir: dir}
	return r.run()
}

// syncNames makes the names in the directory durable, and the directory's own: the process that made it may have been
// killed before it came to that.
func (l *Log) syncNames() error {
	for _, dir := range []string{l.o.Dir, path.Dir(l.o.Dir)} {
		if err := l.o.FS.SyncDir(dir); err != nil {
			return l.fail("sync directory", err)
		}
	}
	return nil
}

// readDirectory sorts the names. Names that are none of ours are left alone: the partition's owner may keep files here.
func (l *Log) readDirectory() (*directory, error) {
	names, err := l.o.FS.List(l.o.Dir)
	if err != nil {
		return nil, err
	}
	d := &directory{txns: make(map[Index]bool)}
	logs := make(map[string]bool)
	for _, name := range names {
		if base, first, suffix, ok := parseSegmentName(name); ok && suffix == logSuffix {
			logs[name[:nameLen]] = true
			d.segments = append(d.segments, newSegment(l.o.FS, l.o.Dir, base, first))
		}
	}
	for _, name := range names {
		whole := strings.TrimSuffix(strings.TrimSuffix(name, tmpSuffix), cleanSuffix)
		_, first, suffix, ok := parseSegmentName(whole)
		switch {
		case ok && (name != whole || !logs[name[:nameLen]]), isHalfWritten(name):
			d.orphans = append(d.orphans, name)
		case ok && suffix == txnSuffix:
			d.txns[first] = true
		}
	}
	slices.SortFunc(d.segments, func(a, b *segment) int { return cmp.Compare(a.first, b.first) })
	return d, nil
}

// isHalfWritten tells the temporary files of a directory's own.
func isHalfWritten(name string) bool {
	return name == checkpointName+tmpSuffix || name == resetName+tmpSuffix || name == swapName+tmpSuffix
}

// check holds the list of segments against the checkpoint. Segments below the checkpoint's first index were given up before
// it was written: only their removal is missing.
func (d *directory) check(ckpt *checkpoint) error {
	first := Index(1)
	if ckpt != nil {
		first = ckpt.first
	}
	kept := d.segments[:0]
	for _, s := range d.segments {
		if s.first >= first {
			kept = append(kept, s)
		} else {
			for _, suffix := range []string{logSuffix, indexSuffix, stateSuffix, txnSuffix} {
				d.orphans = append(d.orphans, s.name()+suffix)
			}
		}
	}
	d.segments = kept
	if len(kept) == 0 {
		if ckpt != nil {
			return fmt.Errorf("%w: there is a checkpoint, but no segment", ErrDataLoss)
		}
		return d.checkNew()
	}
	if kept[0].first != first {
		return fmt.Errorf("%w: the first segment is %s, the log begins at index %d", ErrDataLoss, kept[0].name(), first)
	}
	for i := 1; i < len(kept); i++ {
		if kept[i].base < kept[i-1].base {
			return fmt.Errorf("%w: segment %s follows %s", ErrCorrupt, kept[i].name(), kept[i-1].name())
		}
	}
	return nil
}

// checkNew refuses to begin anew where later segments once were: a crash while the first segment is made leaves files of
// that one only.
func (d *directory) checkNew() error {
	for _, name := range d.orphans {
		if base, first, _, ok := parseSegmentName(strings.TrimSuffix(name, tmpSuffix)); ok && (base != 0 || first != 1) {
			return fmt.Errorf("%w: %s is there, but no segment", ErrDataLoss, name)
		}
	}
	return nil
}

// create makes the first segment of a new log.
func (l *Log) create(d *directory) error {
	if err := l.removeFiles(d.orphans); err != nil {
		return err
	}
	state := State{}
	created := l.nowMs()
	s, index, err := createSegment(l.o.FS, l.o.Dir, &state, created)
	if err != nil {
		return l.fail("create segment", err)
	}
	l.begin(s, &state)
	l.w.index, l.w.created = index, created
	return nil
}

// begin sets both views to the beginning of a log that holds nothing but one empty segment.
func (l *Log) begin(s *segment, state *State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.segments = []*segment{s}
	l.mu.active, l.mu.end, l.mu.maxTS = table{}, 0, noTimestamp
	l.mu.next = s.beginning(state.Term)
	l.mu.facts = newFacts(state)
	l.mu.boundary = EpochStart{Epoch: state.Term, Index: state.Index, Offset: state.Offset}
	l.applyState(state)
}

// applyState sets the applied view to a state's. mu is held, and so is applied or nobody else has the log yet.
func (l *Log) applyState(state *State) {
	l.openTxns = openAt(state)
	l.mu.applied = state.Index
	// A start that was stored at or below the state is not above its end: nothing is left of what it kept.
	l.mu.offsets = appliedOffsets{start: state.Offset, high: state.Offset, stable: state.Offset}
	l.mu.committed = state.Index
}

// removeFiles removes files that are not there for certain, and makes that durable.
func (l *Log) removeFiles(names []string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		if err := l.o.FS.Remove(path.Join(l.o.Dir, name)); err != nil && !isNotExist(err) {
			return l.fail("remove", err)
		}
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return l.fail("sync directory", err)
	}
	return nil
}
