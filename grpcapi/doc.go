// Package grpcapi serves the native API: gRPC of the protos quorlog.v1 and HTTP/JSON of the same. It is not a second broker: it
// calls the services that the Kafka handlers call, so what one writes the other reads, under the same rights.
//
// Any node takes any call but ConsumeStream: records go on to the partition's leader, calls about a group to its coordinator, and are
// never handed on twice (nodes.go). Records are read from whatever replica the asked node has. For calls that are handed on
// under the caller's rights the first node says who calls, and both look at the rights.
//
// # Limits
//
// Connections and calls, in all, of an address and of a connection, calls whose message is still on its way, and the size and number of
// parts of a message are bounded before anything is decoded (limits.go, conns.go, codec.go). What a stream reads at once shrinks as there are more of
// them. What calls hold of records is bounded in bytes; when others wait for that memory, those who send or take theirs slowly
// lose their calls (room.go).
//
// # Goroutines
//
//	Serve          the caller's; ends with Shutdown or when the listener is closed
//	connections    grpc's: two for each connection and one for each call; end with them
//	receivers      one for each ProduceStream; ends with it, and is awaited by Shutdown
//	while          one for each stream of HTTP/JSON: looks now and then whether its caller still is who it was; ends with it
//	Shutdown       one that waits for calls to finish, awaited by it
//	timers         of calls whose first message has yet to come, and of ends of calls (context.AfterFunc); they do not wait
//	forwards       at most maxForwards for each Produce, awaited by it
//	gateway        grpc's, for the one connection in memory between HTTP/JSON and the server; end with Shutdown
package grpcapi
