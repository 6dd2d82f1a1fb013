package vfs

import (
	"maps"
	"slices"
)

// memNode is what a name stands for: exactly one of the two.
type memNode struct {
	dir  *memDir
	file *memContent
}

// memDir is a directory, twice: as a reader sees it, and as the disk surely holds it.
type memDir struct {
	now     map[string]*memNode
	durable map[string]*memNode
}

func newDir() *memDir {
	return &memDir{now: map[string]*memNode{}, durable: map[string]*memNode{}}
}

// slot is a place for a name.
type slot struct {
	dir  *memDir
	name string
}

// assignment says what a slot holds from now on; nil means nothing.
type assignment struct {
	slot
	node *memNode
}

// nameChange is one change of directories that happens as a whole or not at all: a creation or a removal has one
// assignment, a rename has two.
type nameChange []assignment

// memNames are the changes of names that were not synced, oldest first.
//
// After a power cut each of them has happened or not, on its own, with one rule: changes that touch the same slot survive
// in order, so that what happened is never seen without what had to happen before. Hence a rename never leaves its file
// without a name, and "create a.tmp, rename it to a" shows the old a, the old a beside an a.tmp, or the new a.
type memNames struct {
	pending []nameChange
}

func (n *memNames) apply(c nameChange) {
	for _, a := range c {
		set(a.dir.now, a.name, a.node)
	}
	n.pending = append(n.pending, c)
}

func set(entries map[string]*memNode, name string, node *memNode) {
	if node == nil {
		delete(entries, name)
		return
	}
	entries[name] = node
}

// sync makes durable what touches dir, and whatever that depends on. A rename from another directory is one change: it
// becomes durable with either of the two.
func (n *memNames) sync(dir *memDir) {
	needed := map[slot]bool{}
	durable := make([]bool, len(n.pending))
	for i, c := range slices.Backward(n.pending) {
		if !slices.ContainsFunc(c, func(a assignment) bool { return a.dir == dir || needed[a.slot] }) {
			continue
		}
		durable[i] = true
		for _, a := range c {
			needed[a.slot] = true
		}
	}
	rest := n.pending[:0]
	for i, c := range n.pending {
		if !durable[i] {
			rest = append(rest, c)
			continue
		}
		for _, a := range c {
			set(a.dir.durable, a.name, a.node)
		}
	}
	clear(n.pending[len(rest):])
	n.pending = rest
}

// forgetUnreachable drops changes inside directories that no crash can bring back, or they would pile up.
func (n *memNames) forgetUnreachable(root *memDir) {
	live := map[*memDir]bool{}
	var walk func(d *memDir)
	walk = func(d *memDir) {
		if live[d] {
			return
		}
		live[d] = true
		for _, entries := range []map[string]*memNode{d.now, d.durable} {
			for _, node := range entries {
				if node.dir != nil {
					walk(node.dir)
				}
			}
		}
	}
	walk(root)
	n.pending = slices.DeleteFunc(n.pending, func(c nameChange) bool {
		return !slices.ContainsFunc(c, func(a assignment) bool { return live[a.dir] })
	})
}

// survivors chooses which pending changes a crash finds done, and returns what each directory holds then. Directories that
// are missing from the result hold what was durable.
func (n *memNames) survivors(lucky func() bool) map[*memDir]map[string]*memNode {
	out := map[*memDir]map[string]*memNode{}
	stuck := map[slot]bool{} // slots with a change that did not survive: later ones can't either
	for _, c := range n.pending {
		follows := slices.ContainsFunc(c, func(a assignment) bool { return stuck[a.slot] })
		if follows || !lucky() {
			for _, a := range c {
				stuck[a.slot] = true
			}
			continue
		}
		for _, a := range c {
			if out[a.dir] == nil {
				out[a.dir] = maps.Clone(a.dir.durable)
			}
			set(out[a.dir], a.name, a.node)
		}
	}
	return out
}
