package vfs

import (
	"maps"
	"math/rand/v2"
	"path"
	"slices"
)

// CrashOptions says what a crash leaves of what was not synced. The zero value is the harshest clean one: nothing.
type CrashOptions struct {
	// Survive is the chance in percent that an unsynced sector, length or name survives, each on its own. Below 100, a
	// sector or length may also survive in a state that it had between the last Sync and the crash. Negative draws the
	// chance anew for the names and for each file: 0, 50, 100, or anything in between.
	Survive int
	// Kill is a killed process instead of a power cut: everything written survives, in the operating system's memory. It
	// is still not durable: a power cut that follows may take it.
	Kill bool
	// Garbage fills sectors that a surviving length uncovers, but whose data was lost, with random bytes instead of zeros,
	// as file systems without ordered data do.
	Garbage bool
	// Flips is how many bits, durable or not, change their value: a disk that rots. Only in files that FlipIn accepts; nil
	// accepts all.
	Flips  int
	FlipIn func(path string) bool
}

// Crash ends this file system, as a power cut does, and returns what is found after the restart. All that is found is
// durable. From then on every call on the old one, and on files opened through it, fails with ErrCrashed, so that a writer
// left over from before the crash can't reach the new one. Equal histories and equal seeds give equal results. rng may be
// nil where nothing is left to chance: Survive 0 or 100 and neither Garbage nor Flips.
func (m *Mem) Crash(rng *rand.Rand, opt CrashOptions) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.crashed = true
	if opt.Kill {
		return m.takeOverLocked()
	}
	return m.cloneLocked(rng, opt)
}

// CrashClone is what Crash would return; this file system goes on. Kill has no meaning here and counts as Survive 100.
func (m *Mem) CrashClone(rng *rand.Rand, opt CrashOptions) *Mem {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if opt.Kill {
		opt.Survive = 100
	}
	return m.cloneLocked(rng, opt)
}

// takeOverLocked gives the tree, with all that is known of what was synced, to a new file system.
func (m *Mem) takeOverLocked() *Mem {
	out := newMem(m.mu.root)
	out.mu.names = m.mu.names
	for _, f := range out.filesLocked() {
		f.content.handles = 0 // a dead process has no open files
		out.mu.used += int64(len(f.content.data))
	}
	out.mu.capacity = m.mu.capacity
	return out
}

func (m *Mem) cloneLocked(rng *rand.Rand, opt CrashOptions) *Mem {
	c := &crasher{rng: rng, opt: opt}
	chance := c.chance()
	c.entries = m.mu.names.survivors(func() bool { return c.lucky(chance) })
	out := newMem(c.dir(m.mu.root))
	files := out.filesLocked()
	for _, f := range files {
		out.mu.used += int64(len(f.content.data))
	}
	out.mu.capacity = m.mu.capacity
	c.flip(files)
	return out
}

// crasher copies a tree as a crash leaves it.
type crasher struct {
	rng     *rand.Rand
	opt     CrashOptions
	entries map[*memDir]map[string]*memNode // of directories with surviving changes
}

func (c *crasher) chance() int {
	if c.opt.Survive >= 0 {
		return c.opt.Survive
	}
	return [...]int{0, 50, 100, c.rng.IntN(101)}[c.rng.IntN(4)]
}

func (c *crasher) lucky(chance int) bool {
	return chance >= 100 || chance > 0 && c.rng.IntN(100) < chance
}

func (c *crasher) dir(d *memDir) *memDir {
	entries, changed := c.entries[d]
	if !changed {
		entries = d.durable
	}
	out := newDir()
	for _, name := range slices.Sorted(maps.Keys(entries)) { // sorted, or the seed would not decide alone
		node := entries[name]
		if node.dir != nil {
			out.now[name] = &memNode{dir: c.dir(node.dir)}
		} else {
			out.now[name] = &memNode{file: c.file(node.file)}
		}
	}
	out.durable = maps.Clone(out.now)
	return out
}

func (c *crasher) file(f *memContent) *memContent {
	chance := c.chance()
	size := c.length(f, chance)
	out := &memContent{data: make([]byte, size), names: 1}
	copy(out.data, f.durable)
	var open sectorSet
	open.merge(&f.dirty)
	open.merge(&f.lost)
	for s := range open.all() {
		to := sectorOf(out.data, s)
		switch {
		case len(to) == 0:
		case c.lucky(chance):
			clear(to)
			copy(to, c.version(f, s, chance))
		case c.opt.Garbage && s*SectorSize >= int64(len(f.durable)):
			for i := range to {
				to[i] = byte(c.rng.Uint32())
			}
		}
	}
	out.durable = slices.Clone(out.data)
	return out
}

// length chooses among the lengths that the file had. A file that grew may also be found at any sector in between: the
// length on disk follows the data that was written back.
func (c *crasher) length(f *memContent, chance int) int64 {
	newest, durable := int64(len(f.data)), int64(len(f.durable))
	switch {
	case len(f.lengths) == 0 && newest == durable:
		return newest
	case !c.lucky(chance):
		return durable
	case chance >= 100 || c.rng.IntN(2) == 0:
		return newest
	}
	size := append(f.lengths[:len(f.lengths):len(f.lengths)], newest)[c.rng.IntN(len(f.lengths)+1)]
	if size > durable && c.rng.IntN(2) == 0 {
		size = durable + c.rng.Int64N(size-durable)
		size -= size % SectorSize
		size = max(size, durable)
	}
	return size
}

// version chooses among the contents that an unsynced sector had: mostly the newest.
func (c *crasher) version(f *memContent, sector int64, chance int) []byte {
	if old := f.older[sector]; chance < 100 && len(old) > 0 && c.rng.IntN(4) == 0 {
		return old[c.rng.IntN(len(old))]
	}
	return sectorOf(f.data, sector)
}

func (c *crasher) flip(files []memPath) {
	if c.opt.Flips == 0 {
		return
	}
	var total int64
	files = slices.DeleteFunc(files, func(f memPath) bool {
		return c.opt.FlipIn != nil && !c.opt.FlipIn(f.path)
	})
	for _, f := range files {
		total += int64(len(f.content.data))
	}
	if total == 0 {
		return
	}
	for range c.opt.Flips {
		at := c.rng.Int64N(total)
		for _, f := range files {
			size := int64(len(f.content.data))
			if at < size {
				bit := byte(1) << c.rng.IntN(8)
				f.content.data[at] ^= bit
				f.content.durable[at] ^= bit
				break
			}
			at -= size
		}
	}
}

// memPath is a file with its path.
type memPath struct {
	path    string
	content *memContent
}

// filesLocked lists all files in the order of their paths.
func (m *Mem) filesLocked() []memPath {
	var out []memPath
	var walk func(at string, d *memDir)
	walk = func(at string, d *memDir) {
		for _, name := range slices.Sorted(maps.Keys(d.now)) {
			node := d.now[name]
			if node.dir != nil {
				walk(path.Join(at, name), node.dir)
			} else {
				out = append(out, memPath{path.Join(at, name), node.file})
			}
		}
	}
	walk("/", m.mu.root)
	return out
}

// Unsynced lists what a power cut could still take: paths of files with unsynced content and of unsynced names, sorted.
// After a clean stop it should be empty.
func (m *Mem) Unsynced() []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var out []string
	for _, f := range m.filesLocked() {
		if f.content.unsynced() {
			out = append(out, f.path)
		}
	}
	var walk func(at string, d *memDir)
	walk = func(at string, d *memDir) {
		for name, node := range d.now {
			if d.durable[name] != node {
				out = append(out, path.Join(at, name))
			}
			if node.dir != nil {
				walk(path.Join(at, name), node.dir)
			}
		}
		for name := range d.durable {
			if d.now[name] == nil {
				out = append(out, path.Join(at, name))
			}
		}
	}
	walk("/", m.mu.root)
	slices.Sort(out)
	return slices.Compact(out)
}
