package conn

import (
	"context"

	"github.com/quorlog/quorlog/kafkaproto"
)

// Dispatcher begins requests. broker/api implements it.
type Dispatcher interface {
	// Dispatch begins a request and returns without waiting for its outcome. Requests of a connection are dispatched one
	// at a time, in the order of their arrival. The body is the request's own: it may be kept and changed.
	//
	// ctx ends with the connection.
	Dispatch(ctx context.Context, s *Session, h kafkaproto.RequestHeader, body []byte) Call
	// Overlaps tells whether a request of this key may be dispatched while requests ahead of it that overlap too are
	// unanswered. Any other request is dispatched when all before it are answered.
	Overlaps(key kafkaproto.Key) bool
}

// Call is a request under way.
type Call interface {
	// Finish waits for the answer. It is called once for each call, in the order of the requests, and must return soon
	// after ctx has ended. An error closes the connection after the answers before it; the client is told nothing.
	Finish(ctx context.Context) (Reply, error)
}

// Readier is a Call that can tell whether Finish would return at once. Answers of such calls leave in one write.
type Readier interface {
	Call
	Ready() bool
}

// Reply is what becomes of a request.
type Reply struct {
	Body  kafkaproto.Encoded
	None  bool // the request gets no answer (Produce with acks=0)
	Close bool // close the connection when the answer is sent
}
