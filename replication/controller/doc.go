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
// Goroutines: a Controller runs one, watchLoop. It is woken by a new image or a new watcher and calls the watchers; Close
// stops it.
package controller
