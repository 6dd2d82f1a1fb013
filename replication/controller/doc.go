// Package controller keeps the cluster's metadata: nodes, topics, where replicas are, dynamic configuration, and the
// producer ids that were handed out. It is the machine behind the metadata group, which every node hosts, so every node
// can answer from memory.
//
// Three parts, from the inside out:
//
//   - [Image] is the metadata at one point. It is immutable: a change makes a new image that shares what did not change.
//   - step is a pure function from an image and a command to the next image and a result. Time, random ids and placements
//     are in the command, because each node applies it for itself and all must agree. [Machine] wraps it for Raft.
//   - [Controller] turns what callers want into commands, checks them against the present image before anything is
//     written, proposes them, and hands out the results.
//
// A rule on content, for example on legal names, may differ between versions of this program. So the proposer checks it,
// and a node that applies the command checks it again only if it has the same version of the rules, as a defence against
// mistakes of ours: for a command that was checked, both ways come to the same result. Rules on the state (the topic must
// not exist) hold in every version and are checked by every node.
//
// # Several nodes
//
// Every node has a Controller. A change is proposed where the metadata group's leader is: on this node, or by a call to the one
// that leads (forward.go). Its answer waits until every live node has applied it, so that whoever made a topic at one node may
// use it at another.
//
// A node is known by its id, a directory by the id in it. A node that comes back with another directory has lost its disk: all its
// replicas get new incarnations, in the partitions (assignment.go) and in the metadata group itself. An incarnation is never used
// twice, not even after the node was unregistered, so no vote is ever forgotten. The same happens to a node whose directory was put
// back to an earlier state: it knows nothing of the start by which it registered last (Registration.Start).
//
// While this node leads the metadata group, the reconciler changes its members, one step at a time, each decided by a pure
// function (reconcile.go).
//
// # Goroutines
//
//   - watchLoop, of the Controller, woken by a new image or a new watcher; it calls the watchers.
//   - reconcileLoop, of the Controller where it has Members, woken by a tick or Reconcile.
//
// Close stops both.
//
// # Locks
//
// Controller.configuring is held over a proposal, reconciler.changes over a change of members; neither within the other.
package controller
