// Package client is a client of Quorlog's gRPC API.
//
// A [Client] knows by itself who is there and who leads what: it asks GetServers when it begins, every ten seconds, and whenever an
// answer shows that something has moved. Records go to the leaders of their partitions, batched and without waiting for each
// other; reads are spread over the replicas that follow them. A record that was acknowledged is stored once, whatever fails meanwhile:
// batches carry a producer's identity and sequence (KIP-98), and are sent again until it is known what became of them.
//
// What the package has no method for (topics, groups, the cluster) is done with the generated clients of quorlog.v1 on
// [Client.Conn], which goes the same ways.
//
// # Memory
//
// Records that are not yet acknowledged are bounded by [Options.Buffer]: Send waits for room. A read holds one answer of the server, and
// what gRPC's flow control lets arrive behind it.
//
// # Goroutines
//
//	directory    asks who is there; one for each Client; woken by time, failures and new topics
//	deliver      calls what was given to Send; one for each Client; woken by finished batches
//	tend         gives up on batches and streams that take too long; one for each Client; woken by time
//	identify     fetches a producer id; at most one for each Client; ends with the answer
//	links        two for each node that batches go to, one sends and one receives; end when the stream breaks or is idle
//	pauses       a timer for each partition whose last batch failed
//	readers      one for each partition of a Read, unless it names only one; end with its loop
//	leave        one for each stream of a Read, woken by the directory; ends with the stream
//
// All of them end with Close, which waits for those that hold anything.
package client
