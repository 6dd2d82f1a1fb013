package log

import (
	"fmt"
	"slices"
)

// Steps of a truncation from index i on. Each step is durable before the next; the commit point is the cut of .log.
//
//  1. if the checkpoint covers i: a new checkpoint at i-1. It is true of the longer log as well.
//  2. segments that begin behind i are removed, the newest first, their .log first, each with an fsync of the directory
//  3. the slots from i on are cut off the .index and that is fsynced. What readers have mapped must not shrink: where that
//     is more, a shorter index, without footer, takes the name.
//  4. .log is cut, and fsynced
//
// Recovery: a crash before step 4 leaves frames that nobody speaks for any more; they are whole, so they are kept, and Raft
// truncates again. Slots go before frames, because a slot without its frame means lost data.

// cut is where a truncation ends the log.
type cut struct {
	k     int // the segment that holds the first entry to go
	slots slots
	pos   Position
	maxTS int64
	facts facts
	chain chain
}

// TruncateSuffix removes the entries from an index on, durably: Raft's DeleteRange of a tail. The append view goes back to
// what it was. Entries that are applied or that the checkpoint counts as committed are refused with ErrCommitted.
func (l *Log) TruncateSuffix(from Index) error {
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writableLocked(); err != nil {
		return err
	}
	if from >= l.mu.next.index {
		return nil
	}
	if c := max(l.AppliedIndex(), l.CheckpointedCommit(), l.mu.boundary.Index); from <= c {
		return fmt.Errorf("%w: from index %d, committed is %d", ErrCommitted, from, c)
	}
	c, err := l.planCutLocked(from)
	if err != nil {
		return err
	}
	l.cutting.Store(true)
	l.cuts.Add(1)
	defer l.cutting.Store(false)
	if l.w.checkpoint.last >= from {
		if err := l.moveCheckpointLocked(c); err != nil {
			return err
		}
	}
	if err := l.removeBehindLocked(c.k); err != nil {
		return err
	}
	if c.k == len(l.mu.segments)-1 && c.slots.mapped == l.w.slots.mapped {
		err = l.cutActiveLocked(c)
	} else {
		err = l.cutMappedLocked(c)
	}
	if err != nil {
		return err
	}
	l.tail.truncate(from)
	return nil
}

// planCutLocked finds where the cut lies and what is true there.
func (l *Log) planCutLocked(from Index) (*cut, error) {
	c := &cut{k: segmentOfIndex(l.mu.segments, from), maxTS: noTimestamp}
	p := l.partLocked(c.k)
	defer p.release()
	if err := p.load(); err != nil {
		return nil, err
	}
	rel := uint32(from - p.seg.first)
	n := p.table.findIndex(rel)
	if n < 0 || p.table.relIndex(n) != rel {
		return nil, fmt.Errorf("%w: index %d lies in a gap", ErrCommitted, from)
	}
	if n > 0 {
		c.pos, c.maxTS = p.table.at(n-1).end(), p.table.maxTS(n-1)
	}
	if p.active {
		c.slots = l.w.slots.cut(n)
	} else {
		c.slots = heapSlots(&p.table, n)
	}
	return c, l.replayLocked(c, &p, n)
}

// replayLocked rebuilds the append view in front of slot n, from the checkpoint if it lies in the segment and below the
// cut, else from the segment's .state, and the headers from there on.
func (l *Log) replayLocked(c *cut, p *part, n int) error {
	state, at, err := l.nearestStateLocked(p, p.seg.first+Index(c.slots.n))
	if err != nil {
		return err
	}
	c.facts = newFacts(&state)
	c.chain = chain{offset: state.Offset, index: state.Index + 1, term: state.Term, loose: p.table.looseAt(at, p.seg)}
	now := l.nowMs()
	for i := at; i < n; i++ {
		q, err := p.stored(i)
		if err != nil {
			return err
		}
		point := chainPoint{offset: max(c.chain.offset, q.BaseOffset), index: c.chain.index}
		if err := c.chain.step(&q); err != nil {
			return fmt.Errorf("%w: segment %s, slot %d: %w", ErrCorrupt, p.seg.name(), i, err)
		}
		if err := c.facts.absorb(&q, point, c.facts.producers, now); err != nil {
			return err
		}
	}
	for id, st := range c.facts.producers {
		if old, ok := l.mu.facts.producers[id]; ok {
			st.LastSeen = old.LastSeen
		}
	}
	return nil
}

// nearestStateLocked returns the newest recorded state in the part's segment that lies below index from, and its slot.
func (l *Log) nearestStateLocked(p *part, from Index) (State, int, error) {
	if at := l.w.checkpoint; at.last > 0 && at.last < from && at.segment == p.seg.first {
		c, err := readCheckpoint(l.o.FS, l.o.Dir)
		if err != nil {
			return State{}, 0, err
		}
		if c != nil && c.end.Index == at.last {
			return c.end, int(c.slots), nil
		}
	}
	state, err := readState(l.o.FS, p.seg)
	return state, 0, err
}

// stored reads what the append view needs of slot i: a batch's header, or a whole internal frame or marker.
func (p *part) stored(i int) (parsed, error) {
	v := p.table.at(i)
	if v.kind != KindBatch || v.flags&flagControl != 0 {
		_, q, err := p.frame(i, nil)
		return q, err
	}
	h, err := p.header(v)
	return parsed{Header: h, indexes: 1, coordinator: -1}, err
}

// moveCheckpointLocked puts the checkpoint in front of the cut.
func (l *Log) moveCheckpointLocked(c *cut) error {
	seg := l.mu.segments[c.k]
	if c.k == len(l.mu.segments)-1 {
		if err := l.w.index.Sync(); err != nil {
			return l.fail("sync index", err)
		}
	}
	return l.saveCheckpointLocked(&checkpoint{
		first: l.mu.boundary.Index + 1, base: seg.base, segment: seg.first, pos: c.pos,
		slots: uint32(c.slots.n), slotsCRC: c.slots.crc, maxTS: c.maxTS, end: c.facts.state(c.chain, l.expiry()),
	})
}

// removeBehindLocked removes the segments behind number k, the newest first, and of each the .log first: a crash leaves
// neither a hole nor a segment without its state.
func (l *Log) removeBehindLocked(k int) error {
	var side []string
	for _, s := range slices.Backward(l.mu.segments[k+1:]) {
		s.gone.Store(true)
		if err := l.removeFiles([]string{s.name() + logSuffix}); err != nil {
			return err
		}
		side = append(side, s.name()+indexSuffix, s.name()+stateSuffix, s.name()+txnSuffix)
	}
	return l.removeFiles(side)
}

// cutActiveLocked cuts within the active segment.
func (l *Log) cutActiveLocked(c *cut) error {
	if err := l.w.index.Truncate(indexHeadSize + int64(c.slots.n)*slotSize); err != nil {
		return l.fail("cut index", err)
	}
	if err := l.w.index.Sync(); err != nil {
		return l.fail("sync index", err)
	}
	if err := l.cutLogLocked(l.mu.segments[c.k], c.pos); err != nil {
		return err
	}
	if c.slots.n == 0 {
		l.w.firstWrite = 0
	}
	l.publishCutLocked(c, l.mu.segments)
	return nil
}

func (l *Log) cutLogLocked(s *segment, pos Position) error {
	file, err := s.log()
	if err != nil {
		return l.fail("open log", err)
	}
	if err := file.Truncate(int64(pos)); err != nil {
		return l.fail("cut log", err)
	}
	if err := file.Sync(); err != nil {
		return l.fail("sync log", err)
	}
	return nil
}

// cutMappedLocked cuts where readers have the index mapped: within a sealed segment, whose successors are gone and which
// becomes the active one again, or below the mapped part of the active one.
func (l *Log) cutMappedLocked(c *cut) error {
	old := l.mu.segments[c.k]
	old.gone.Store(true)
	gone := l.mu.segments[c.k:]
	s := newSegment(l.o.FS, l.o.Dir, old.base, old.first)
	s.verified.unverifiedBelow(c.slots.n)
	now := l.nowMs()
	b := indexHead{base: s.base, first: s.first, created: now}.encode()
	for _, run := range c.slots.runs(nil, 0, c.slots.n) {
		b = append(b, run...)
	}
	if err := replaceFile(l.o.FS, s.path(indexSuffix), b); err != nil {
		return l.fail("write index", err)
	}
	if err := l.o.FS.SyncDir(l.o.Dir); err != nil {
		return l.fail("sync directory", err)
	}
	index, err := l.o.FS.Open(s.path(indexSuffix))
	if err != nil {
		return l.fail("open index", err)
	}
	l.w.index.Close()
	l.w.index, l.w.created, l.w.firstWrite = index, now, now
	if err := l.cutLogLocked(s, c.pos); err != nil {
		return err
	}
	// Apply may be adding an aborted transaction to the old one; it goes on in the new one.
	l.applied.Lock()
	s.txn.takeOver(&old.txn)
	l.publishCutLocked(c, append(slices.Clone(l.mu.segments[:c.k]), s))
	l.applied.Unlock()
	for _, g := range gone {
		g.release()
	}
	return nil
}

func (l *Log) publishCutLocked(c *cut, segments []*segment) {
	mapped := l.w.slots.mapped
	l.w.slots = c.slots
	l.mu.Lock()
	l.mu.segments = segments
	l.mu.active, l.mu.end, l.mu.maxTS = c.slots.table, c.pos, c.maxTS
	l.mu.next, l.mu.facts = c.chain, c.facts
	l.mu.Unlock()
	if mapped != c.slots.mapped {
		mapped.release()
	}
}
