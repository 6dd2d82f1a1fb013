// Package simtest runs a whole cluster of partitions in one process and in no time: the real partition.Manager, raftgroup,
// Raft and log on several machines, over disks that know what was fsynced and a network in memory, in a testing/synctest
// bubble. It has tests only. Hours of faults and thousands of fail-overs take minutes.
//
// # A round
//
// A round is one cluster from its creation to its end: clients write and read all the time, events befall machines, links and
// disks (events_test.go), and after each event everything that can be known at that moment is checked (truth_test.go,
// look_test.go, audit_test.go). In the end all is healed, and the cluster must become whole again without help.
//
// # Seeds
//
// A round's events follow from its seed, which is printed. Goroutines still run in an order that nobody decides, so the same
// seed repeats the same sort of trouble, not the same run. -sim.seed, -sim.rounds and -sim.events choose; -full runs ten times
// as much.
//
// # Planted bugs
//
// A check that never failed proves nothing. TestPlantedBugs runs rounds in child processes, each with one bug planted, and
// wants to see the check named that is there for it. Disks that lie need no help from the code; the other bugs are in
// internal/mutation, and in the code only with the build tag quorlog_mutations.
//
// # What must not be done to a machine
//
// Time in a bubble stands still while a goroutine waits for a sync.Mutex. So nothing that takes a lock of package log may run
// on a machine whose disk is slow or hangs: its maintenance is left out meanwhile.
package simtest
