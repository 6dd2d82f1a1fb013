package log

import (
	"errors"
	"math"
	"syscall"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// rewriting makes the successor of a group of segments. Its frames stand in the files of the group's first segment, under
// names with cleanSuffix, until the swap.
type rewriting struct {
	*cleaning
	group []part
	seg   *segment // the successor
	out   vfs.File
	buf   []byte
	pos   Position // of the next frame, what is in buf included
	room  int64    // by how much the successor may still become larger than the group
	slots slots
	table tableBuilder
	gap   gapRun
	open  map[int64]bool // producers that a batch of an undecided transaction was seen of, in this group or its .state
	drop  map[Offset]bool
	txns  []txnRecord
	same  bool // nothing was removed or changed
}

// gapRun is a run of removed entries that may still grow.
type gapRun struct {
	first     Index
	entries   uint32
	base, end Offset
	term      Epoch
}

// cleanSuffix marks a file of a successor that is not swapped in yet. Open removes such files, unless a swap is under way.
const cleanSuffix = ".clean"

// writeBuffer is how much of a successor is written at once.
const writeBuffer = 1 << 20

// rewrite replaces a group of segments by one that holds what stays.
func (c *cleaning) rewrite(group []part) error {
	w := &rewriting{cleaning: c, group: group, same: true, open: make(map[int64]bool), drop: make(map[Offset]bool)}
	first := group[0].seg
	w.room = mostPosition
	for i := range group {
		w.room -= int64(group[i].end)
	}
	w.seg = newSegment(first.fs, first.dir, first.base, first.first)
	w.table = tableBuilder{slots: &w.slots, base: first.base, first: first.first, maxTS: noTimestamp}
	err := w.write()
	if err == nil && !w.needless() {
		return w.swap() // which takes the files, or fails for good
	}
	return w.abandon(err)
}

// needless reports that the segment is clean and stays as it is.
func (w *rewriting) needless() bool {
	if len(w.group) > 1 || !w.same {
		return false
	}
	ft, err := w.group[0].seg.sealedFooter(w.group[0].next)
	return err == nil && ft.cleaned(min(w.latest, w.group[0].next.offset))
}

// abandon removes what was written. A full disk is no failure of the log: nothing that counts was to be written yet. After a
// failure the disk is left alone; Open removes the files.
func (w *rewriting) abandon(err error) error {
	w.seg.release()
	if w.log.Err() != nil {
		return err
	}
	var names []string
	for _, suffix := range []string{logSuffix, indexSuffix, txnSuffix} {
		names = append(names, w.seg.name()+suffix+cleanSuffix)
	}
	if rerr := w.log.removeFiles(names); rerr != nil {
		return errors.Join(err, rerr)
	}
	return err
}

// failed is the error of a write to a successor's files.
func (w *rewriting) failed(op string, err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return w.log.fail(op, err)
}

func (w *rewriting) write() error {
	state, err := readState(w.seg.fs, w.seg)
	if err != nil {
		return err
	}
	for i := range state.Producers {
		if p := &state.Producers[i]; p.CurrentTxnStart >= 0 {
			w.open[p.ID] = true
		}
	}
	if w.out, err = createAnew(w.seg.fs, w.seg.path(logSuffix)+cleanSuffix); err != nil {
		return w.failed("create successor", err)
	}
	w.seg.mu.file = w.out
	for i := range w.group {
		if err := w.scan(&w.group[i], w.frame); err != nil {
			return err
		}
	}
	if err := w.flushGap(w.group[len(w.group)-1].next.offset); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.out.Sync(); err != nil {
		return w.failed("sync successor", err)
	}
	if err := w.writeTxns(); err != nil {
		return err
	}
	return w.writeIndex()
}

// createAnew creates a file over what an earlier pass may have left.
func createAnew(fs vfs.FS, name string) (vfs.File, error) {
	if err := fs.Remove(name); err != nil && !isNotExist(err) {
		return nil, err
	}
	return fs.Create(name)
}

// frame takes the next frame of the group: what stays of it is written, and what does not becomes part of a gap.
func (w *rewriting) frame(sc *scanner) error {
	stays, err := w.stays(sc)
	switch {
	case err != nil:
		return err
	case stays == nil:
		return w.remove(sc)
	}
	w.same = w.same && &stays[0] == &sc.frame[0]
	if err := w.flushGap(sc.at.offset); err != nil {
		return err
	}
	return w.put(stays, sc.at.offset, sc.at.index)
}

// stays returns what stays of a frame: all of it, a smaller one, or nil.
func (w *rewriting) stays(sc *scanner) ([]byte, error) {
	p := &sc.p
	switch p.kind {
	case KindBatch:
		if p.IsControl() {
			return w.marker(sc)
		}
		return w.batch(sc)
	case KindConfiguration:
		return sc.frame, nil
	case KindLogStart:
		if start, err := DecodeLogStart(p.payload); err != nil || start >= w.logStart {
			return sc.frame, err
		}
	case KindEpoch:
		if p.LeaderEpoch == w.state.Term {
			return sc.frame, nil
		}
	}
	return nil, nil
}

// batch returns what stays of a batch with data.
func (w *rewriting) batch(sc *scanner) ([]byte, error) {
	h := &sc.p.Header
	if h.IsTransactional() {
		w.open[h.ProducerID] = true
	}
	aborted := w.isAborted(h)
	if h.BaseOffset >= w.latest && !aborted {
		return sc.frame, nil
	}
	set, past := w.horizonOf(sc)
	var kept picks
	tombstones := false
	err := batch.ScanKeys(sc.frame, func(r *batch.Glance) error {
		w.result.Records++
		keep := !aborted && (r.Offset >= w.latest || w.newest(r) && (r.HasValue || !past))
		kept.add(keep)
		tombstones = tombstones || keep && !r.HasValue && r.Offset < w.latest
		return nil
	})
	w.result.Kept += int64(kept.kept)
	switch {
	case err != nil:
		return nil, err
	case kept.kept == 0:
		return w.husk(sc)
	case tombstones && !set:
		return w.rebuild(sc.frame, &kept, w.horizon())
	case kept.kept == int(h.NumRecords):
		return sc.frame, nil
	}
	return w.rebuild(sc.frame, &kept, -1)
}

// picks tells of each record of a batch whether it is kept.
type picks struct {
	bits    []uint64
	n, kept int
}

func (p *picks) add(keep bool) {
	if p.n%64 == 0 {
		p.bits = append(p.bits, 0)
	}
	if keep {
		p.bits[p.n/64] |= 1 << (p.n % 64)
		p.kept++
	}
	p.n++
}

func (p *picks) has(place int) bool { return p.bits[place/64]>>(place%64)&1 != 0 }

// A batch may grow by what others compress better than we do, to so many times its size and so many bytes more. One that would grow by
// more stays as it is: it is nothing that a client means to write, and the memory would be that of what it unpacks to.
const mostGrowth, leastRoom = 4, 1 << 20

// rebuild returns what is kept of a batch, or all of it where that would be much larger, or leave no room in the segment.
func (w *rewriting) rebuild(frame []byte, kept *picks, horizon int64) ([]byte, error) {
	most := int64(mostGrowth*len(frame) + leastRoom)
	out, err := batch.Rebuild(frame, kept.has, horizon, int(min(most, int64(len(frame))+w.room)))
	if errors.Is(err, batch.ErrTooLarge) {
		return frame, nil
	}
	w.room -= max(0, int64(len(out)-len(frame)))
	return out, err
}

// newest tells that no newer record of the same key is known.
func (w *rewriting) newest(r *batch.Glance) bool {
	return r.HasKey && r.Offset >= w.keys.newest(idOf(r))
}

// horizon is the delete horizon of what is found to be deletable now.
func (w *rewriting) horizon() int64 { return w.now + max(w.o.DeleteRetention.Milliseconds(), 0) }

// horizonOf tells whether a batch has a delete horizon, and whether what it holds back may go now.
func (w *rewriting) horizonOf(sc *scanner) (set, past bool) {
	horizon, set := sc.p.DeleteHorizon()
	return set, set && w.now >= horizon && sc.at.index <= w.o.Everywhere
}

// husk returns the header of a batch without records where it must stay, else nil.
func (w *rewriting) husk(sc *scanner) ([]byte, error) {
	h := &sc.p.Header
	needed := h.NextOffset() == w.end.offset
	if p := w.producers[h.ProducerID]; p != nil && h.HasProducer() {
		for _, b := range p.Batches() {
			needed = needed || b.BaseOffset == h.BaseOffset
		}
	}
	switch {
	case !needed:
		return nil, nil
	case h.NumRecords == 0:
		return sc.frame, nil
	}
	return batch.Rebuild(sc.frame, nil, -1, 0)
}

// marker returns what stays of a marker.
func (w *rewriting) marker(sc *scanner) ([]byte, error) {
	h := &sc.p.Header
	c, err := batch.ParseControl(sc.frame)
	if err != nil || (c.Type != batch.ControlAbort && c.Type != batch.ControlCommit) {
		return sc.frame, nil // none that we know: not ours to remove
	}
	data := w.open[h.ProducerID]
	delete(w.open, h.ProducerID)
	if p := w.producers[h.ProducerID]; p != nil && p.n == 0 && p.Epoch == h.ProducerEpoch {
		return sc.frame, nil
	}
	set, past := w.horizonOf(sc)
	switch {
	case data || h.NextOffset() == w.end.offset:
		return sc.frame, nil
	case !set:
		return batch.Rebuild(sc.frame, func(int) bool { return true }, w.horizon(), 0)
	case !past:
		return sc.frame, nil
	}
	w.drop[h.BaseOffset] = true
	return nil, nil
}

// remove makes a frame part of the gap, which ends where the terms or the numbers do.
func (w *rewriting) remove(sc *scanner) error {
	p, g := &sc.p, &w.gap
	if g.entries > 0 && (g.term != p.LeaderEpoch || p.NextOffset()-g.base > math.MaxInt32 || g.entries > math.MaxInt32) {
		if err := w.flushGap(sc.at.offset); err != nil {
			return err
		}
	}
	w.same = w.same && p.kind == KindGap && g.entries == 0
	if g.entries == 0 {
		*g = gapRun{first: sc.at.index, base: sc.at.offset, term: p.LeaderEpoch}
	}
	g.entries += p.indexes
	g.end = p.NextOffset()
	return nil
}

// flushGap writes the gap, if there is one, in front of an offset.
func (w *rewriting) flushGap(next Offset) error {
	g := w.gap
	if g.entries == 0 {
		return nil
	}
	w.gap = gapRun{}
	if next-g.base <= math.MaxInt32 {
		g.end = next
	}
	return w.put(stampedGap(g.entries, g.base, g.end, g.term), g.base, g.first)
}

// put writes a frame in its place.
func (w *rewriting) put(frame []byte, base Offset, index Index) error {
	p, err := parseFrame(frame)
	if err != nil {
		return err
	}
	w.table.add(frame, p, chainPoint{pos: w.pos, offset: base, index: index})
	w.buf = append(w.buf, frame...)
	w.pos += Position(len(frame))
	if len(w.buf) >= writeBuffer {
		return w.flush()
	}
	return nil
}

func (w *rewriting) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	if err := w.pace(int64(len(w.buf))); err != nil {
		return err
	}
	if _, err := w.out.WriteAt(w.buf, int64(w.pos)-int64(len(w.buf))); err != nil {
		return w.failed("write successor", err)
	}
	w.result.Written += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}

// writeTxns gathers the aborted transactions of the group, without those whose markers went.
func (w *rewriting) writeTxns() error {
	b := encodeTxnHead(w.seg.base, w.seg.first)
	for i := range w.group {
		recs, err := w.group[i].seg.txn.load()
		if err != nil {
			return err
		}
		for _, r := range recs {
			if !w.drop[r.LastOffset] {
				w.txns = append(w.txns, r)
				b = append(b, r.encode()...)
			}
		}
	}
	if len(w.txns) == 0 {
		return nil
	}
	return w.writeSide(txnSuffix, b)
}

// writeIndex writes the successor's index, sealed.
func (w *rewriting) writeIndex() error {
	last := &w.group[len(w.group)-1]
	ft := footer{
		slots: uint32(w.slots.n), crc: w.slots.crc, logSize: int64(w.pos), maxTS: w.table.maxTS, end: last.next,
		cleanedAt: w.now, cleanTo: min(w.latest, last.next.offset), txns: uint32(len(w.txns)),
	}
	for i := range w.group {
		old, err := w.group[i].seg.sealedFooter(w.group[i].next)
		if err != nil {
			return err
		}
		if old.sealed == notSealed {
			old.sealed = w.now // an age to go by from now on; that of an older segment of the group would be too high
		}
		ft.sealed = max(ft.sealed, old.sealed)
	}
	b := indexHead{base: w.seg.base, first: w.seg.first, created: w.now}.encode()
	for _, run := range w.slots.runs(nil, 0, w.slots.n) {
		b = append(b, run...)
	}
	return w.writeSide(indexSuffix, append(b, ft.encode()...))
}

func (w *rewriting) writeSide(suffix string, b []byte) error {
	f, err := createAnew(w.seg.fs, w.seg.path(suffix)+cleanSuffix)
	if err != nil {
		return w.failed("create successor", err)
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return w.failed("write successor", err)
	}
	return nil
}
