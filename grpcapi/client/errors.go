package client

import (
	"errors"
	"fmt"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var (
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("the client is closed")
	// ErrTooLarge: a record does not fit into a message of gRPC, or into the client's buffer. It was not sent.
	ErrTooLarge = errors.New("the record is too large")
	// ErrHeaderKey: the key of a header is not UTF-8, which a message of gRPC can't carry. The record was not sent.
	ErrHeaderKey = errors.New("the key of a header is not UTF-8")
	// ErrUnknownOutcome: nobody answered in time, so the record may be stored, or may yet be. It comes with the last failure.
	ErrUnknownOutcome = errors.New("it is not known whether the record was stored")
	// ErrSequence: the server has lost sight of what this client sent before.
	ErrSequence = errors.New("the server does not know the records before this one")
	// ErrTooManyPartitions: records for more partitions are under way than a client can keep apart.
	ErrTooManyPartitions = errors.New("too many partitions at once")
	// ErrPartition: [Options.Partitioner] chose a partition that the topic does not have.
	ErrPartition = errors.New("no such partition")
	errNotFound  = errorOf(&quorlogv1.Error{Code: int32(codes.NotFound), Reason: "UNKNOWN_TOPIC_OR_PARTITION", Message: "there is no such topic"})
	errTopicName = errorOf(&quorlogv1.Error{Code: int32(codes.InvalidArgument), Reason: "INVALID_TOPIC_EXCEPTION", Message: "no topic can have that name"})
	errTooLong   = errors.New("the record could not be sent in time")
)

// Reason is the name of Kafka's error code in an error of the server, as OFFSET_OUT_OF_RANGE; empty if there is none.
func Reason(err error) string {
	if info := detail[*errdetails.ErrorInfo](err); info.GetDomain() == "quorlog" {
		return info.GetReason()
	}
	return ""
}

// OutOfRangeError tells that a Read began, or went on, where there are no records (any more).
type OutOfRangeError struct {
	// First is the oldest offset that there is, End the one behind the last; both -1 if the server did not say.
	First, End int64
	// Err is the server's error.
	Err error
}

// Error implements error.
func (e *OutOfRangeError) Error() string {
	return fmt.Sprintf("the partition holds offsets %d to %d: %v", e.First, e.End-1, e.Err)
}

// Unwrap returns the server's error.
func (e *OutOfRangeError) Unwrap() error { return e.Err }

// detail finds a detail of a server's error; nil if there is none of this type.
func detail[T comparable](err error) (none T) {
	st, _ := status.FromError(err)
	for _, d := range st.Details() {
		if d, ok := d.(T); ok {
			return d
		}
	}
	return none
}

// errorOf is the error of a part of an answer.
func errorOf(e *quorlogv1.Error) error {
	st := status.New(codes.Code(e.GetCode()), e.GetMessage())
	if e.GetReason() == "" {
		return st.Err()
	}
	full, err := st.WithDetails(&errdetails.ErrorInfo{Domain: "quorlog", Reason: e.GetReason()})
	if err != nil {
		return st.Err()
	}
	return full.Err()
}

// kind is what a failure means for a batch.
type kind uint8

const (
	stored   kind = iota
	refused       // not stored, and may be tried again
	missing       // as refused, but hardly ever worth more than a few tries
	unsure        // perhaps stored
	outOfRow      // not stored, because a batch before it is not
	stale         // not stored: somebody else has taken the producer's identity
	hopeless      // not stored, and never will be
)

// kindOf sorts the server's errors. Those that name Kafka's code were given by whoever would have stored the batch; the others may
// have come from anywhere on the way.
func kindOf(err error) kind {
	reason := Reason(err)
	switch reason {
	case "OUT_OF_ORDER_SEQUENCE_NUMBER", "UNKNOWN_PRODUCER_ID":
		return outOfRow
	case "INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED":
		return stale
	case "REQUEST_TIMED_OUT":
		return unsure
	}
	switch code := status.Code(err); code {
	case codes.Unavailable:
		if reason != "" {
			return refused
		}
		return unsure
	case codes.NotFound:
		return missing
	case codes.DeadlineExceeded, codes.ResourceExhausted, codes.Internal, codes.Unknown, codes.Canceled, codes.Aborted:
		return unsure
	}
	return hopeless
}
