// Package faults runs real clusters of broker processes, breaks them under load, and checks afterwards that the history is
// one that a correct log can have. The model is Jepsen's for Kafka: values are unique and numbered per writer, each send
// ends as acknowledged, refused or unknown, every reader's positions are followed, and one final read of everything is
// held against all of that.
//
//	load.go     franz-go producers and consumers, and the watcher of offsets and leaders
//	prober.go   a producer on raw requests with sequence numbers of its own: it alone can test what a retry does
//	history.go  what they all report
//	verdict.go  the final read and the checks; each check is proven by a planted history in verdict_test.go
//
// The tests need root for network namespaces and disks of their own and skip, saying so, where that is missing. By default
// they run small counts; -full runs the counts that the project promises. Each prints its seed.
//
// Goroutines: each writer, reader, watcher and prober of a [Load] has one, started by its Start and ended by Stop, which
// waits for them.
package faults
