package replication

import "errors"

// Errors of the replicated side. broker/api maps each to one Kafka error code; nothing else may.
var (
	// ErrNotLeader is definite: nothing was appended and nothing will be (NOT_LEADER_OR_FOLLOWER).
	ErrNotLeader = errors.New("this node does not lead the partition")
	// ErrUnknownOutcome means that an append may or may not survive: leadership was lost or the node stopped while it was
	// under way (REQUEST_TIMED_OUT).
	ErrUnknownOutcome = errors.New("the outcome of the append is unknown")
	// ErrUnknownPartition: no such topic or partition (UNKNOWN_TOPIC_OR_PARTITION).
	ErrUnknownPartition = errors.New("no such topic or partition")
	// ErrUnknownTopicID: no topic has this id (UNKNOWN_TOPIC_ID).
	ErrUnknownTopicID = errors.New("no topic has this id")
	// ErrTopicExists: TOPIC_ALREADY_EXISTS.
	ErrTopicExists = errors.New("the topic exists already")
	// ErrInvalidTopic: the name is not legal (INVALID_TOPIC_EXCEPTION).
	ErrInvalidTopic = errors.New("invalid topic name")
	// ErrInvalidPartitions: INVALID_PARTITIONS.
	ErrInvalidPartitions = errors.New("invalid number of partitions")
	// ErrInvalidReplicationFactor: INVALID_REPLICATION_FACTOR.
	ErrInvalidReplicationFactor = errors.New("invalid replication factor")
	// ErrInvalidReplicaAssignment: INVALID_REPLICA_ASSIGNMENT.
	ErrInvalidReplicaAssignment = errors.New("invalid replica assignment")
	// ErrInvalidConfig: INVALID_CONFIG.
	ErrInvalidConfig = errors.New("invalid configuration")
	// ErrInvalidRequest: INVALID_REQUEST.
	ErrInvalidRequest = errors.New("invalid request")
	// ErrPolicyViolation: POLICY_VIOLATION.
	ErrPolicyViolation = errors.New("policy violation")
	// ErrOffsetOutOfRange: OFFSET_OUT_OF_RANGE.
	ErrOffsetOutOfRange = errors.New("offset out of range")
	// ErrOffsetNotAvailable: the watermark is not known yet, or the replica has not got that far; try again, or elsewhere
	// (OFFSET_NOT_AVAILABLE, KIP-207, KIP-392).
	ErrOffsetNotAvailable = errors.New("offset not available yet")
	// ErrFencedLeaderEpoch: the request's epoch is older than ours (FENCED_LEADER_EPOCH, KIP-320).
	ErrFencedLeaderEpoch = errors.New("fenced leader epoch")
	// ErrUnknownLeaderEpoch: the request's epoch is newer than ours (UNKNOWN_LEADER_EPOCH, KIP-320).
	ErrUnknownLeaderEpoch = errors.New("unknown leader epoch")
	// ErrOutOfOrderSequence: OUT_OF_ORDER_SEQUENCE_NUMBER (KIP-98).
	ErrOutOfOrderSequence = errors.New("out of order sequence number")
	// ErrInvalidProducerEpoch: INVALID_PRODUCER_EPOCH.
	ErrInvalidProducerEpoch = errors.New("invalid producer epoch")
	// ErrInvalidTxnState: a batch that does not fit its producer's transaction: a plain one while it is open, or a transactional
	// one of a transaction that the partition is not known to be part of (INVALID_TXN_STATE, KIP-890).
	ErrInvalidTxnState = errors.New("the batch does not fit the producer's transaction")
	// ErrCoordinatorFenced: a marker of a coordinator that has been replaced (TRANSACTION_COORDINATOR_FENCED).
	ErrCoordinatorFenced = errors.New("the marker's coordinator has been replaced")
	// ErrNotEnoughReplicas: fewer replicas in sync than min.insync.replicas (NOT_ENOUGH_REPLICAS).
	ErrNotEnoughReplicas = errors.New("not enough replicas in sync")
	// ErrStorage: the partition is offline or the disk is above its soft limit (KAFKA_STORAGE_ERROR).
	ErrStorage = errors.New("storage not available")
	// ErrCorrupt: a stored or received batch is damaged (CORRUPT_MESSAGE).
	ErrCorrupt = errors.New("corrupt batch")
	// ErrOverloaded: a bound on waiting work was met; try again (THROTTLING_QUOTA_EXCEEDED or REQUEST_TIMED_OUT).
	ErrOverloaded = errors.New("too much work is waiting")
)
