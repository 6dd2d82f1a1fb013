// Package leaks says in tests which goroutines of libraries may outlive what started them.
package leaks

import "go.uber.org/goleak"

// Gossip leaves out what memberlist has under way when a node stops: probes, for itself and for others, of which each ends within
// seconds, and which nobody can wait for.
func Gossip() []goleak.Option {
	const memberlist = "github.com/hashicorp/memberlist.(*Memberlist)."
	return []goleak.Option{
		goleak.IgnoreAnyFunction(memberlist + "probeNode"), goleak.IgnoreAnyFunction(memberlist + "probeNode.func3"),
		goleak.IgnoreAnyFunction(memberlist + "handleIndirectPing.func2"),
	}
}
