// Package broker holds the nouns that the Kafka, gRPC and HTTP faces of a node share: who calls, and which service errors
// exist beside those of package replication.
package broker

import (
	"errors"
	"net/netip"
)

// Caller is who sends a request, as far as the connection has proven it.
type Caller struct {
	Principal Principal  // Anonymous until a listener authenticates
	ClientID  string     // what the client says of itself; may be empty
	Software  string     // client software name and version from ApiVersions (KIP-511), may be empty
	Host      netip.Addr // the peer's address
	Listener  string     // the listener's name, which decides the advertised addresses
}

// Service errors. broker/api maps each to one Kafka error code.
var (
	ErrCoordinatorNotAvailable   = errors.New("coordinator not available")
	ErrCoordinatorLoading        = errors.New("coordinator is loading")
	ErrNotCoordinator            = errors.New("this node does not coordinate the group")
	ErrInvalidGroupID            = errors.New("invalid group id")
	ErrIllegalGeneration         = errors.New("illegal generation")
	ErrUnknownMember             = errors.New("unknown member")
	ErrMemberIDRequired          = errors.New("member id required")
	ErrRebalanceInProgress       = errors.New("rebalance in progress")
	ErrInconsistentGroupProtocol = errors.New("inconsistent group protocol")
	ErrInvalidSessionTimeout     = errors.New("invalid session timeout")
	ErrCommitTooOld              = errors.New("members of the consumer protocol commit with OffsetCommit version 9 or later")
	ErrFencedInstanceID          = errors.New("fenced instance id")
	ErrGroupMaxSizeReached       = errors.New("group is full")
	ErrGroupNotFound             = errors.New("group not found")
	ErrNonEmptyGroup             = errors.New("group is not empty")
	ErrGroupSubscribedToTopic    = errors.New("group is subscribed to the topic")
	ErrOffsetMetadataTooLarge    = errors.New("offset metadata too large")
	ErrMessageTooLarge           = errors.New("message too large")
	ErrInvalidRecord             = errors.New("invalid record")
	ErrInvalidTimestamp          = errors.New("invalid timestamp")
	ErrUnsupportedCompression    = errors.New("unsupported compression type")
	ErrUnsupportedForFormat      = errors.New("unsupported for the message format")
	ErrInvalidRequiredAcks       = errors.New("invalid required acks")
	ErrFetchSessionNotFound      = errors.New("fetch session not found")
	ErrInvalidFetchSessionEpoch  = errors.New("invalid fetch session epoch")
	ErrNoTransactionalID         = errors.New("a transactional batch in a request without a transactional id")

	ErrProducerFenced            = errors.New("another producer has taken over the transactional id")
	ErrInvalidProducerIDMapping  = errors.New("the producer id does not belong to the transactional id")
	ErrInvalidTxnState           = errors.New("not possible in the transaction's state")
	ErrInvalidTransactionTimeout = errors.New("invalid transaction timeout")
	ErrConcurrentTransactions    = errors.New("the transaction is being changed; a moment later")
	ErrTransactionAbortable      = errors.New("the transaction can't go on but be aborted")
	ErrTransactionalIDNotFound   = errors.New("transactional id not found")
	ErrOperationNotAttempted     = errors.New("not attempted because of an error beside it")
)
