// Package groups drives consumer groups of other people's clients, three members each, against a cluster of three processes
// while members are killed and join and nodes die, among them the groups' coordinators. It checks that every record is
// processed by its group, that no partition has two owners in one generation, or at one time where members tell times, or in one answer
// of its coordinator, and that committed offsets never go back.
//
//	history.go  what members say, and the checks, proven by planted histories in history_test.go
//	member.go   one member's process
//
// Goroutines: one per member that reads what it prints, ended with the process, and one writer and two watchers per test,
// ended by the test.
package groups
