package log

import (
	"bytes"
	"errors"
	"fmt"
	"path"

	"github.com/quorlog/quorlog/log/vfs"
)

// Recovery brings the log back from whatever a stop left, in the order below. It reads frames only behind the checkpoint
// or, where the checkpoint lies in an older segment, those of the last segment: all others were fsynced and their index
// sealed by the roll.
//
//  1. a reset under way is finished (reset.go)
//  2. segments below the checkpoint's first index are garbage; those left must be without a hole
//  3. the append view begins at the checkpoint, or at the last segment's .state if that lies later
//  4. frames from there on are checked: form, CRC, chain, and the slot where there is one that proves itself
//  5. the first frame that fails ends the log. It is a torn write, and cut off, unless some slot proves that a frame at or
//     behind it was durable once: then stored data is damaged (ErrCorrupt) or missing (ErrDataLoss), and nothing is changed
//  6. what was read is fsynced: after kill -9 it may only ever have been in the page cache
//  7. the applied view is the checkpoint's; Raft applies what follows its commit index again
//
// Slots are written after the fsync of their frames, and cut off durably before their frames are (truncate.go). So a slot
// can never speak for a frame that was not durable or that was meant to go.
type recovery struct {
	l    *Log
	ckpt *checkpoint
	dir  *directory

	seg    *segment // the last one
	size   Position // of its .log
	head   indexHead
	raw    []byte // the slots found in its .index
	sealed bool   // a roll had begun: the .index has a footer
	intact bool   // the index file's header is sound, so slots can be put behind it

	slots   slots
	builder tableBuilder
	facts   facts
	chain   chain
	from    Position // where the scan begins
	begun   Index    // the entry there
	same    int      // slots at the front of the file that are as they must be
}

func (r *recovery) run() error {
	l := r.l
	r.seg = r.dir.segments[len(r.dir.segments)-1]
	l.mu.segments = r.dir.segments
	if err := r.checkSealed(); err != nil {
		return err
	}
	if err := r.start(); err != nil {
		return err
	}
	sc, err := r.scan()
	if err != nil {
		return err
	}
	if err := r.persist(sc); err != nil {
		return err
	}
	if err := l.removeFiles(r.dir.orphans); err != nil {
		return err
	}
	return r.adopt(sc)
}

// checkSealed looks at the ends of the sealed segments: a hole in the list shows, and retention learns their times.
func (r *recovery) checkSealed() error {
	segments := r.dir.segments
	for i, s := range segments[:len(segments)-1] {
		info, err := r.l.o.FS.Stat(s.path(logSuffix))
		if err != nil {
			return err
		}
		s.size.Store(info.Size())
		s.verified.unknown()
		next := segmentEnd{offset: segments[i+1].base, index: segments[i+1].first}
		// A damaged footer is no reason to stay offline: the index is made anew from the frames when it is needed.
		ft, err := s.peekFooter()
		if err := refuseFormat(err); err != nil && !isNotExist(err) {
			return err
		}
		if ft != nil && ft.logSize != info.Size() {
			return fmt.Errorf("%w: %s has %d bytes, it was sealed with %d", ErrDataLoss, s.name()+logSuffix, info.Size(), ft.logSize)
		}
		if ft != nil && ft.end != next {
			return fmt.Errorf("%w: segment %s ends at offset %d, index %d, but %s follows", ErrDataLoss,
				s.name(), ft.end.offset, ft.end.index, segments[i+1].name())
		}
	}
	return nil
}

// start finds where to begin: append view, slots and position.
func (r *recovery) start() error {
	file, err := r.seg.log()
	if err != nil {
		return err
	}
	size, err := file.Size()
	if err != nil {
		return err
	}
	r.size = Position(size)
	if r.head, r.raw, r.sealed, err = readSlots(r.l.o.FS, r.seg.path(indexSuffix)); err != nil {
		return err
	}
	r.intact = r.head.first == r.seg.first && r.head.base == r.seg.base
	if !r.intact {
		r.raw = nil
	}
	r.builder = tableBuilder{slots: &r.slots, base: r.seg.base, first: r.seg.first, maxTS: noTimestamp}
	if r.ckpt != nil && r.ckpt.segment >= r.seg.first {
		return r.startAtCheckpoint()
	}
	state, err := readState(r.l.o.FS, r.seg)
	if err != nil {
		return err
	}
	if r.ckpt != nil && !r.hasSegment(r.ckpt.segment) {
		return fmt.Errorf("%w: the checkpoint's segment is missing", ErrDataLoss)
	}
	r.chain = r.seg.beginning(state.Term)
	r.facts = newFacts(&state)
	return nil
}

func (r *recovery) hasSegment(first Index) bool {
	for _, s := range r.dir.segments {
		if s.first == first {
			return true
		}
	}
	return false
}

func (r *recovery) startAtCheckpoint() error {
	c := r.ckpt
	if c.segment != r.seg.first || c.base != r.seg.base {
		return fmt.Errorf("%w: the checkpoint lies in segment %s, the last one is %s", ErrDataLoss,
			segmentName(c.base, c.segment), r.seg.name())
	}
	if r.size < c.pos {
		return fmt.Errorf("%w: %s has %d bytes, %d were durable at the checkpoint (commit index %d)", ErrDataLoss,
			r.seg.name()+logSuffix, r.size, c.pos, c.commit)
	}
	r.facts = newFacts(&c.end)
	r.chain = chain{offset: c.end.Offset, index: c.end.Index + 1, term: c.end.Term}
	r.from, r.builder.maxTS = c.pos, c.maxTS
	n := int(c.slots)
	if len(r.raw) >= n*slotSize && checksum(r.raw[:n*slotSize]) == c.slotsCRC {
		t := flatTable(r.raw, n)
		r.slots = heapSlots(&t, n)
		r.same = n
		return nil
	}
	return r.rebuild()
}

// rebuild makes the slots below the checkpoint from the frames, when the index was damaged. The frames must be whole: they
// were durable when the checkpoint was written.
func (r *recovery) rebuild() error {
	r.l.o.Logger.Warn("index is damaged; making it anew", "segment", r.seg.name())
	file, err := r.seg.log()
	if err != nil {
		return err
	}
	r.builder.maxTS = noTimestamp
	sc := newScanner(file, r.seg, 0, r.ckpt.pos, r.seg.beginning(0))
	for sc.next() {
		r.builder.add(sc.frame, sc.p, sc.at)
	}
	r.l.stats.openScanned.Add(sc.bytes)
	if sc.err != nil {
		return fmt.Errorf("segment %s: %w", r.seg.name(), sc.err)
	}
	if sc.chain.offset != r.chain.offset || sc.chain.index != r.chain.index {
		return fmt.Errorf("%w: segment %s and the checkpoint disagree", ErrCorrupt, r.seg.name())
	}
	r.intact = false
	return nil
}

// scan checks the frames behind the start and decides what the end is.
func (r *recovery) scan() (*scanner, error) {
	file, err := r.seg.log()
	if err != nil {
		return nil, err
	}
	r.seg.verified.unverifiedBelow(r.slots.n)
	r.chain.loose = r.slots.looseAt(r.slots.n, r.seg)
	now := r.l.nowMs()
	sc := newScanner(file, r.seg, r.from, r.size, r.chain)
	r.begun = r.chain.index
	for sc.next() {
		v := r.builder.slot(sc.frame, sc.p, sc.at)
		flags, err := r.holdAgainst(v)
		if err != nil {
			return nil, err
		}
		v.flags |= flags
		r.slots.appendSlot(v)
		if err := r.facts.absorb(&sc.p, sc.at, r.facts.producers, now); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	r.l.stats.openScanned.Add(sc.bytes)
	r.chain = sc.chain
	if sc.err != nil && !errors.Is(sc.err, ErrCorrupt) {
		return nil, fmt.Errorf("segment %s: %w", r.seg.name(), sc.err)
	}
	return sc, r.checkEnd(sc)
}

// evidence returns slot n of the file if it proves itself and can speak for an entry here: no entry is ever missing between
// two of an unsealed index, so slot number and index keep their distance. Whatever else the bytes are (zeros, garbage, half
// a slot), they say nothing.
func (r *recovery) evidence(n int, distance uint32) (slot, bool) {
	if (n+1)*slotSize > len(r.raw) {
		return slot{}, false
	}
	b := r.raw[n*slotSize : (n+1)*slotSize]
	v := getSlot(b)
	return v, v.relIndex-uint32(n) == distance && slotProves(b)
}

// holdAgainst compares a frame that passed every check with the slot found for it. They can only disagree in what the
// batch CRC does not cover, and no torn write explains it.
func (r *recovery) holdAgainst(v slot) (flags uint8, err error) {
	n := r.slots.n
	found, ok := r.evidence(n, v.relIndex-uint32(n))
	if !ok {
		return 0, nil
	}
	want := v
	want.flags |= found.flags & flagFirst
	if found != want {
		return 0, fmt.Errorf("%w: segment %s: the frame at position %d is not the one that was indexed", ErrCorrupt, r.seg.name(), v.pos)
	}
	if r.same == n {
		r.same++
	}
	return found.flags & flagFirst, nil
}

// checkEnd decides whether the log may end where the scan did.
func (r *recovery) checkEnd(sc *scanner) error {
	distance := uint32(sc.chain.index-r.seg.first) - uint32(r.slots.n)
	for n := r.slots.n; (n+1)*slotSize <= len(r.raw); n++ {
		v, ok := r.evidence(n, distance)
		if !ok || Position(v.pos) < sc.pos {
			continue
		}
		if sc.err != nil {
			return fmt.Errorf("%w: segment %s: what was written here was durable once (slot %d): %w", ErrCorrupt, r.seg.name(), n, sc.err)
		}
		return fmt.Errorf("%w: segment %s ends at position %d, but slot %d was written behind it", ErrDataLoss, r.seg.name(), sc.pos, n)
	}
	return nil
}

// persist cuts a torn tail and makes everything that was found durable: frames first, then slots.
func (r *recovery) persist(sc *scanner) error {
	l := r.l
	file, err := r.seg.log()
	if err != nil {
		return err
	}
	if sc.pos < r.size {
		l.o.Logger.Warn("cutting a torn write", "segment", r.seg.name(), "position", int64(sc.pos), "bytes", int64(r.size-sc.pos), "cause", sc.err)
		l.stats.openCut.Add(int64(r.size - sc.pos))
		if err := file.Truncate(int64(sc.pos)); err != nil {
			return l.fail("cut log", err)
		}
	}
	// Also where nothing was read: a killed truncation shows its cut, but a power cut may still take that back.
	if err := file.Sync(); err != nil {
		return l.fail("sync log", err)
	}
	return r.persistIndex()
}

// persistIndex opens the index for appending and makes it what the frames say.
func (r *recovery) persistIndex() error {
	l := r.l
	name := r.seg.path(indexSuffix)
	created := r.head.created
	if !r.intact {
		created = l.nowMs()
		var b bytes.Buffer
		b.Write(indexHead{base: r.seg.base, first: r.seg.first, created: created}.encode())
		for _, run := range r.slots.runs(nil, 0, r.slots.n) {
			b.Write(run)
		}
		if err := replaceFile(l.o.FS, name, b.Bytes()); err != nil {
			return l.fail("write index", err)
		}
		if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
			return l.fail("sync directory", err)
		}
	}
	index, err := l.o.FS.Open(name)
	if err != nil {
		return err
	}
	l.w.index, l.w.created = index, created
	if r.slots.n > 0 {
		l.w.firstWrite = created
	}
	if !r.intact {
		return nil
	}
	// The cut comes first: a footer of a roll that was not finished must not stay behind the slots.
	if r.sealed || len(r.raw) != r.same*slotSize {
		if err := index.Truncate(indexHeadSize + int64(r.same)*slotSize); err != nil {
			return l.fail("cut index", err)
		}
	}
	if r.same < r.slots.n {
		if err := index.WriteVec(r.slots.runs(nil, r.same, r.slots.n), indexHeadSize+int64(r.same)*slotSize); err != nil {
			return l.fail("write index", err)
		}
	}
	if err := index.Sync(); err != nil {
		return l.fail("sync index", err)
	}
	return nil
}

// adopt publishes what was found.
func (r *recovery) adopt(sc *scanner) error {
	l := r.l
	boundary, err := readState(l.o.FS, r.dir.segments[0])
	if err != nil {
		return err
	}
	l.w.slots = r.slots
	l.mapActiveLocked(r.seg)
	l.w.unsaved = volume{bytes: int64(sc.pos - r.from), entries: int64(r.chain.index - r.begun)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.active, l.mu.end, l.mu.maxTS = l.w.slots.table, sc.pos, r.builder.maxTS
	l.mu.next, l.mu.facts = r.chain, r.facts
	l.mu.boundary = EpochStart{Epoch: boundary.Term, Index: boundary.Index, Offset: boundary.Offset}
	if r.ckpt == nil {
		l.applyState(&boundary)
		return nil
	}
	return r.adoptCheckpoint()
}

// adoptCheckpoint takes the applied view from the checkpoint. mu is held.
func (r *recovery) adoptCheckpoint() error {
	l, c := r.l, r.ckpt
	if last := l.mu.next.index - 1; c.commit > last {
		return fmt.Errorf("%w: entries up to %d were committed, the log ends at %d", ErrDataLoss, c.commit, last)
	}
	l.w.checkpoint = c.place()
	l.openTxns = c.open
	l.mu.applied, l.mu.committed = c.commit, c.commit
	l.mu.offsets = appliedOffsets{start: c.start, high: c.high, stable: max(c.start, c.open.stable(c.high))}
	counts := make(map[Index]int, len(c.aborted))
	for _, t := range c.aborted {
		counts[t.first] = int(t.n)
	}
	for _, s := range l.mu.segments {
		s.txn.durable = counts[s.first]
	}
	return r.countCleaned()
}

// countCleaned counts the aborted transactions of segments that compaction wrote after the checkpoint. Their footers tell;
// where a footer is damaged, the file itself does, because such segments were whole when they were swapped in.
func (r *recovery) countCleaned() error {
	segments := r.l.mu.segments
	for i, s := range segments[:len(segments)-1] {
		ft := s.mu.footer // nobody else has the log yet
		switch {
		case ft != nil && ft.cleanedAt > 0:
			s.txn.durable = int(ft.txns)
		case ft == nil && segments[i+1].first-1 <= r.ckpt.commit:
			recs, err := readTxns(s.fs, s.path(txnSuffix), s.name()+txnSuffix, -1)
			if err != nil && !isNotExist(err) {
				return err
			}
			s.txn.durable = len(recs)
		}
	}
	return nil
}

// readState reads a segment's .state.
func readState(fs vfs.FS, s *segment) (State, error) {
	name := s.path(stateSuffix)
	b, err := readFile(fs, name)
	if err != nil {
		return State{}, s.missing(err)
	}
	state, err := decodeState(path.Base(name), b)
	if err != nil {
		return State{}, err
	}
	if state.Offset != s.base || state.Index+1 != s.first {
		return State{}, fmt.Errorf("%w: %s is the state at offset %d, index %d", ErrCorrupt, path.Base(name), state.Offset, state.Index)
	}
	return state, nil
}
