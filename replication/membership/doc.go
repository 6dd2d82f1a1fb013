// Package membership is the gossip between nodes: who is there, at which address, in which rack, of which cluster. It is
// Serf on a port of its own, TCP and UDP, encrypted with a key that follows from the cluster key.
//
// Gossip is a hint, never authority. It tells a node whom to ask when it founds or joins a cluster, and it gives the newest
// addresses of peers. Who belongs to the cluster is written in its metadata, whom Raft follows is Raft's affair, and a stolen
// gossip key gives neither.
//
// A member's name in Serf is its node id. Members of two clusters never mix: a node of another cluster is refused by name,
// as soon as it shows up. A second node with the id of a live one changes nothing; both are told apart by their directory ids, the
// conflict is reported and logged, and no Serf shuts itself down for it. A node that comes back under a new address before
// its failure was noticed is not such a conflict: its newer start is believed at once.
//
// Stopping is no leaving. A node that stops is seen as failed, and comes back as what it was.
//
// # Goroutines
//
// Beside Serf's own, which Close ends: drain empties Serf's events, so that they never block it, until Serf ends; notify
// calls watchers and reports, woken by drain, by SetSelf and by reports; join keeps joining what Options.Join names, woken by
// time. Close ends notify and join.
//
// # Locks
//
// memberlist calls the merge delegate under its own lock, which then takes Gossip.mu; so nothing of Serf is called under
// Gossip.mu. Serf.Members takes Serf's member lock, which memberlist's lock comes before; the delegate may call it.
package membership
