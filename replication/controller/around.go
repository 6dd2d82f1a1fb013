package controller

import (
	"slices"

	"github.com/quorlog/quorlog/replication"
)

// around is what this node sees of the others. It is no part of the metadata, and may differ between nodes.
type around struct {
	node     replication.NodeID                         // this one
	live     func() []replication.NodeID                // nil: nobody knows
	aliveAs  func(replication.NodeID, DirectoryID) bool // nil: no
	stopping func(replication.NodeID) bool              // nil: no
}

// isLive tells whether a node is alive by now.
func (a *around) isLive(id replication.NodeID) bool {
	return id == a.node || a.live != nil && slices.Contains(a.live(), id)
}

// oldAlive tells whether a directory is in use by a node.
func (a *around) oldAlive(id replication.NodeID, dir DirectoryID) bool {
	return a.aliveAs != nil && a.aliveAs(id, dir)
}

// leaving tells whether a node is to lead nothing.
func (a *around) leaving(im *Image, id replication.NodeID) bool {
	return im.Draining(id) || a.stopping != nil && a.stopping(id)
}

// avoids tells which nodes should get no new replicas: those that are dead or to be emptied.
func (a *around) avoids(im *Image) func(replication.NodeID) bool {
	return func(id replication.NodeID) bool { return a.leaving(im, id) || a.live != nil && !a.isLive(id) }
}
