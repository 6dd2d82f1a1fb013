package vfs

import "slices"

const (
	// maxVersions bounds, per sector, how many older unsynced contents a crash may choose from.
	maxVersions = 3
	// maxLengths bounds, per file, how many older unsynced lengths a crash may choose from.
	maxLengths = 32
)

// memContent is a file's content, twice: as a reader sees it, and as the disk surely holds it.
//
// Between two Syncs the operating system writes back what it likes, when it likes, in any order. So after a power cut each
// sector written since the last Sync holds, on its own, what it held then, or its newest content, or one that it had in
// between; and the length is, on its own, one of those that the file had since. A sector inside the length that was never
// written back reads as zeros: a journal keeps other files' old bytes out of it.
type memContent struct {
	data    []byte
	durable []byte
	dirty   sectorSet // written since the last Sync
	// lost are sectors whose Sync failed: the kernel takes them for clean, so no later Sync writes them unless they are
	// written again. They may have reached the disk.
	lost    sectorSet
	lengths []int64            // lengths left behind since the last Sync, oldest first
	older   map[int64][][]byte // contents of dirty sectors that were overwritten since the last Sync, oldest first

	names   int // directory entries, 0 or 1
	handles int // open files
}

// unsynced tells whether a crash could find something else than what a reader sees.
func (c *memContent) unsynced() bool {
	return !c.dirty.empty() || !c.lost.empty() || len(c.lengths) > 0 || len(c.data) != len(c.durable)
}

// resize sets the length of b. New bytes are zero, as in a hole.
func resize(b []byte, size int64) []byte {
	old := int64(len(b))
	if size <= old {
		return b[:size]
	}
	b = slices.Grow(b, int(size-old))[:size]
	clear(b[old:])
	return b
}

func (c *memContent) setLength(size int64) {
	if size == int64(len(c.data)) {
		return
	}
	if len(c.lengths) == maxLengths {
		// Every second one still spans the same range.
		for i := range maxLengths / 2 {
			c.lengths[i] = c.lengths[2*i]
		}
		c.lengths = c.lengths[:maxLengths/2]
	}
	c.lengths = append(c.lengths, int64(len(c.data)))
	c.data = resize(c.data, size)
}

func (c *memContent) write(p []byte, off int64) {
	end := off + int64(len(p))
	c.remember(off, end)
	if end > int64(len(c.data)) {
		c.setLength(end)
	}
	copy(c.data[off:end], p)
	c.dirty.add(off, end)
	c.lost.drop(off, end)
}

// remember keeps what is about to be overwritten in sectors that are dirty already: it may have been written back.
func (c *memContent) remember(from, to int64) {
	for s := from / SectorSize; s*SectorSize < to; s++ {
		if !c.dirty.has(s) {
			continue
		}
		if c.older == nil {
			c.older = map[int64][][]byte{}
		}
		versions := append(c.older[s], slices.Clone(sectorOf(c.data, s)))
		c.older[s] = versions[max(0, len(versions)-maxVersions):]
	}
}

func (c *memContent) truncate(size int64) {
	old := int64(len(c.data))
	c.setLength(size)
	// What was cut off reads as zeros if the file grows again, and that, too, only Sync makes sure of.
	c.dirty.add(size, old)
	c.lost.drop(size, old)
}

func (c *memContent) sync() {
	c.durable = resize(c.durable, int64(len(c.data)))
	// Only what changed is copied: a log that grows by small synced writes would be quadratic otherwise.
	for s := range c.dirty.all() {
		copy(sectorOf(c.durable, s), sectorOf(c.data, s))
	}
	c.dirty.clear()
	c.lengths = c.lengths[:0]
	clear(c.older)
}

// forget is what a failed Sync does: see lost. Lengths belong to the file system's journal and stay unsynced.
func (c *memContent) forget() {
	c.lost.merge(&c.dirty)
	c.dirty.clear()
}

// sectorOf is one sector of b, short or empty at its end.
func sectorOf(b []byte, sector int64) []byte {
	size := int64(len(b))
	return b[min(sector*SectorSize, size):min((sector+1)*SectorSize, size)]
}
