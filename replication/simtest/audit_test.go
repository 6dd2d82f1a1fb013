package simtest

import (
	"path"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// audit asks, of one partition, what a power cut of all machines at this moment would leave: at least a majority of disks must
// hold everything that is committed, exactly. Committed data of before is still held later, so that no moment is needed at
// which all stand still.
func (w *world) audit(i int) {
	t := w.truths[i]
	high := t.high()
	holders := 0
	for _, m := range w.machines {
		if m.holds(t, high) {
			holders++
		}
	}
	w.book.checked(majorityHolds, 1)
	if holders <= replicaCount/2 {
		w.book.violate(majorityHolds, "partition %d: %d of %d disks hold what is committed, up to %d", i, holders, replicaCount, high)
	}
}

// holds opens what a power cut would leave of a replica, and compares it with what is known to be committed. A disk that a
// crash froze counts as it is.
func (m *machine) holds(t *truth, high log.Offset) bool {
	disk := m.image.Load()
	if disk == nil || !m.up {
		disk = m.disk.CrashClone(nil, vfs.CrashOptions{})
	}
	dir := path.Join("/d/partitions", t.id.String())
	if _, err := disk.Stat(dir); err != nil {
		return false
	}
	l, err := log.Open(log.Options{FS: disk.CrashClone(nil, vfs.CrashOptions{}), Dir: dir, SegmentBytes: 4 << 10})
	if err != nil {
		m.w.book.violate(storageHolds, "node %d, partition %d: what a power cut would leave can't be opened: %v", m.node, t.n, err)
		return false
	}
	defer l.Close()
	if l.Offsets().LogEnd < high {
		return false
	}
	boundary, _ := l.Boundary()
	t.mu.Lock()
	defer t.mu.Unlock()
	for at := boundary + 1; at <= l.LastIndex(); at++ {
		e, err := l.Entry(at)
		if err != nil {
			m.w.book.violate(storageHolds, "node %d, partition %d: entry %d of what a power cut would leave: %v", m.node, t.n, at, err)
			return false
		}
		if e.Kind != log.KindBatch {
			continue
		}
		base := baseOf(e.Frame)
		if base >= high {
			break
		}
		if sum, known := t.frames[base]; known && sum != hashOf(e.Frame) {
			return false
		}
	}
	return true
}

// baseOf is a frame's first offset.
func baseOf(frame []byte) log.Offset {
	h, err := batch.ParseHeader(frame)
	if err != nil {
		return 0
	}
	return h.BaseOffset
}
