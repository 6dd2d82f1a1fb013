package log

import (
	"fmt"
	"path"
	"slices"

	"github.com/quorlog/quorlog/log/vfs"
)

// Steps of the swap of segments A to M for one that takes the name of A. Commit point: the name of the file "swap".
//
//  1. A.log.clean, A.index.clean with footer and, where there are aborted transactions, A.txnindex.clean; fsync each, then
//     the directory
//  2. "swap", which lists the segments: temporary file, fsync, rename, fsync of the directory
//  3. rename the .clean files over A's; remove A.txnindex if it has no successor, and all files of the other segments; fsync
//     of the directory. A.state stays as it is: what was true before A is true before its successor
//  4. remove "swap", fsync of the directory
//
// Recovery: where "swap" stands, Open does steps 3 and 4 again: a .clean file that is not there was renamed already. Where it
// does not, .clean files are removed.
//
// Neither the segment of the checkpoint nor the active one is ever swapped, and all their entries lie below the checkpointed
// commit index. How many aborted transactions a successor lists is in its footer; the checkpoint may still count those of
// its predecessors.

const (
	swapName  = "swap"
	swapMagic = "QLOGSWAP"
)

// swapped is one segment in the list of a swap: A first.
type swapped struct {
	base  Offset
	first Index
}

func encodeSwap(list []swapped, txns bool) []byte {
	var e encoder
	e.begin(swapMagic)
	has := uint8(0)
	if txns {
		has = 1
	}
	e.u8(has)
	e.u32(uint32(len(list)))
	for _, s := range list {
		e.offset(s.base)
		e.index(s.first)
	}
	return e.finish()
}

func decodeSwap(b []byte) (list []swapped, txns bool, err error) {
	d, err := openEnvelope(swapName, swapMagic, b)
	if err != nil {
		return nil, false, err
	}
	txns = d.u8() != 0
	for range d.count(16) {
		list = append(list, swapped{base: d.offset(), first: d.index()})
	}
	if !d.done() || len(list) == 0 {
		return nil, false, fmt.Errorf("%w: %s: malformed", ErrCorrupt, swapName)
	}
	return list, txns, nil
}

// swap puts a successor in the place of its group.
func (w *rewriting) swap() error {
	l := w.log
	l.w.Lock()
	defer l.w.Unlock()
	if err := l.writableLocked(); err != nil {
		return w.abandon(err)
	}
	k := w.placeLocked()
	if k < 0 {
		return w.abandon(errOutdated)
	}
	list := make([]swapped, len(w.group))
	for i := range w.group {
		list[i] = swapped{base: w.group[i].seg.base, first: w.group[i].seg.first}
		// Readers of the old segments keep to what is open and mapped: slots, frames, aborted transactions. All was loaded to
		// be rewritten.
		w.group[i].seg.gone.Store(true)
	}
	fs, dir := l.o.FS, l.o.Dir
	if err := fs.SyncDir(dir); err != nil {
		return l.fail("sync directory", err)
	}
	if err := replaceFile(fs, path.Join(dir, swapName), encodeSwap(list, len(w.txns) > 0)); err != nil {
		return l.fail("write swap", err)
	}
	if err := fs.SyncDir(dir); err != nil {
		return l.fail("sync directory", err)
	}
	if err := swapFiles(fs, dir, list, len(w.txns) > 0); err != nil {
		return l.fail("swap segments", err)
	}
	w.publishLocked(k)
	return nil
}

// placeLocked returns where the group lies in the list of segments, -1 where it no longer does: retention or a reset came
// first. The log's w is held.
func (w *rewriting) placeLocked() int {
	l, group := w.log, w.group
	k := slices.Index(l.mu.segments, group[0].seg)
	if k < 0 || k+len(group) >= len(l.mu.segments) || l.w.checkpoint.segment <= group[len(group)-1].seg.first {
		return -1
	}
	for i := range group {
		if l.mu.segments[k+i] != group[i].seg {
			return -1
		}
	}
	return k
}

// publishLocked shows the successor to readers. The log's w is held.
func (w *rewriting) publishLocked(k int) {
	l := w.log
	w.seg.size.Store(int64(w.pos))
	w.seg.txn.durable = len(w.txns)
	w.seg.txn.records.Store(&w.txns)
	old := l.mu.segments[k : k+len(w.group)]
	segments := append(slices.Clone(l.mu.segments[:k]), w.seg)
	segments = append(segments, l.mu.segments[k+len(w.group):]...)
	l.mu.Lock()
	l.stats.swaps.Add(1) // together with the list: see Swaps
	l.mu.segments = segments
	l.mu.Unlock()
	for _, s := range old {
		w.result.Before += s.size.Load()
		s.release()
	}
	w.result.After += int64(w.pos)
	w.result.Segments += len(old)
	l.stats.cleaned.Add(int64(len(old)))
}

// finishSwap does what a swap that was cut short by a crash has left to do.
func finishSwap(fs vfs.FS, dir string) error {
	b, err := readFile(fs, path.Join(dir, swapName))
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	list, txns, err := decodeSwap(b)
	if err != nil {
		return err
	}
	return swapFiles(fs, dir, list, txns)
}

// swapFiles does steps 3 and 4.
func swapFiles(fs vfs.FS, dir string, list []swapped, txns bool) error {
	name := path.Join(dir, segmentName(list[0].base, list[0].first))
	for _, suffix := range []string{logSuffix, indexSuffix, txnSuffix} {
		if err := fs.Rename(name+suffix+cleanSuffix, name+suffix); err != nil && !isNotExist(err) {
			return err
		}
	}
	var gone []string
	if !txns {
		gone = append(gone, name+txnSuffix)
	}
	for _, s := range list[1:] {
		name := path.Join(dir, segmentName(s.base, s.first))
		gone = append(gone, name+logSuffix, name+indexSuffix, name+stateSuffix, name+txnSuffix)
	}
	for _, name := range gone {
		if err := fs.Remove(name); err != nil && !isNotExist(err) {
			return err
		}
	}
	if err := fs.SyncDir(dir); err != nil {
		return err
	}
	if err := fs.Remove(path.Join(dir, swapName)); err != nil {
		return err
	}
	return fs.SyncDir(dir)
}
