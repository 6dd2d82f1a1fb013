// Package conn serves connections of Kafka clients: it accepts them, reads their frames, has requests dispatched, and writes
// the answers in the order of the requests.
//
// # Order
//
// A connection's requests form a queue. Those at its head may be *started* (dispatched) and wait for their answers;
// consecutive requests whose key overlaps (Produce) are started as they arrive, any other is started when all before it are
// answered. The reader starts a request itself if it overlaps and nothing unstarted is queued; the writer starts all
// others, when their turn comes. So exactly one goroutine dispatches at any time, in order, and the reader goes on reading
// while a request waits: it notices when the peer hangs up, and ends that connection's context and with it the waiting.
//
// # Bounds
//
// A peer gets little before it has proven itself and never more than its [Limits]: time to send its first byte, time for
// each step of a frame, time to take an answer, memory as its bytes arrive. The memory of all requests together is bounded
// too; small requests are exempt, so that heartbeats pass while large ones wait, and who sends too slowly gives way when it
// is short (memory.go). An idle connection holds a buffer of 512 bytes and two parked goroutines.
//
// # Goroutines
//
//	accept   one for each Serve, the caller's; woken by the listener; ends when it is closed
//	reader   one for each connection; owned by the server; woken by the socket, by room in the queue and by memory; ends
//	         with the stream, at an invalid frame, a deadline or Shutdown. Afterwards it waits for the writer and closes
//	         the connection.
//	writer   one for each connection; woken by the queue and by the calls that it finishes; ends when the reader has ended
//	         and the queue is empty, or when the connection fails
//	relieve  at most one, while a connection waits for memory; started by the first that waits, ended by the last
//
// Locks: Server.mu, queue.mu and requestMemory.mu are leaves; nothing is called under them but SetReadDeadline.
package conn
