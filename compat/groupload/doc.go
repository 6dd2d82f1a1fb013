// Package groupload puts many consumer groups and a steady stream of offset commits on a cluster of three processes, reports
// what that costs (processor time, memory, the commits' latency), and measures how long groups are without a coordinator, as
// their clients see it, after the coordinator's node was killed.
//
// Members speak raw requests over shared clients: two thousand whole clients would measure themselves.
//
//	members.go  a group's two members: join, sync, heartbeat, commit
//	usage.go    what a process has used
//
// Goroutines: one per group for its heartbeats, and the committers, ended with the test, which waits for them.
package groupload
