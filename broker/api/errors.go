package api

import (
	"context"
	"errors"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/auth"
	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/broker/produce"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

// errorCodes is the only mapping of Go errors to Kafka error codes. An error wraps at most one of these; the first that
// matches decides.
var errorCodes = []struct {
	err  error
	code kafkaproto.Code
}{
	// It wraps what is wrong with a user's name, which by itself is an invalid request.
	{auth.ErrUnacceptableCredential, kafkaproto.UnacceptableCredential},

	// Replication.
	{replication.ErrNotLeader, kafkaproto.NotLeaderOrFollower},
	// A client can't tell an append that is lost from one that is late, so both are a timeout: it retries either way,
	// and an idempotent producer's retry is recognised.
	{replication.ErrUnknownOutcome, kafkaproto.RequestTimedOut},
	{replication.ErrUnknownPartition, kafkaproto.UnknownTopicOrPartition},
	{replication.ErrUnknownTopicID, kafkaproto.UnknownTopicID},
	{replication.ErrTopicExists, kafkaproto.TopicAlreadyExists},
	{replication.ErrInvalidTopic, kafkaproto.InvalidTopicException},
	{replication.ErrInvalidPartitions, kafkaproto.InvalidPartitions},
	{replication.ErrInvalidReplicationFactor, kafkaproto.InvalidReplicationFactor},
	{replication.ErrInvalidReplicaAssignment, kafkaproto.InvalidReplicaAssignment},
	{replication.ErrInvalidConfig, kafkaproto.InvalidConfig},
	{replication.ErrInvalidRequest, kafkaproto.InvalidRequest},
	{replication.ErrPolicyViolation, kafkaproto.PolicyViolation},
	{replication.ErrOffsetOutOfRange, kafkaproto.OffsetOutOfRange},
	{replication.ErrOffsetNotAvailable, kafkaproto.OffsetNotAvailable},
	{replication.ErrFencedLeaderEpoch, kafkaproto.FencedLeaderEpoch},
	{replication.ErrUnknownLeaderEpoch, kafkaproto.UnknownLeaderEpoch},
	{replication.ErrOutOfOrderSequence, kafkaproto.OutOfOrderSequenceNumber},
	{replication.ErrInvalidProducerEpoch, kafkaproto.InvalidProducerEpoch},
	{replication.ErrNotEnoughReplicas, kafkaproto.NotEnoughReplicas},
	{replication.ErrStorage, kafkaproto.KafkaStorageError},
	{replication.ErrCorrupt, kafkaproto.CorruptMessage},
	// Of the two codes for "too much at once" only this one makes every client retry.
	{replication.ErrOverloaded, kafkaproto.RequestTimedOut},

	// Groups.
	{broker.ErrCoordinatorNotAvailable, kafkaproto.CoordinatorNotAvailable},
	{broker.ErrCoordinatorLoading, kafkaproto.CoordinatorLoadInProgress},
	{broker.ErrNotCoordinator, kafkaproto.NotCoordinator},
	{broker.ErrInvalidGroupID, kafkaproto.InvalidGroupID},
	{broker.ErrIllegalGeneration, kafkaproto.IllegalGeneration},
	{broker.ErrUnknownMember, kafkaproto.UnknownMemberID},
	{broker.ErrMemberIDRequired, kafkaproto.MemberIDRequired},
	{broker.ErrRebalanceInProgress, kafkaproto.RebalanceInProgress},
	{broker.ErrInconsistentGroupProtocol, kafkaproto.InconsistentGroupProtocol},
	{broker.ErrInvalidSessionTimeout, kafkaproto.InvalidSessionTimeout},
	{broker.ErrFencedInstanceID, kafkaproto.FencedInstanceID},
	{broker.ErrGroupMaxSizeReached, kafkaproto.GroupMaxSizeReached},
	{broker.ErrGroupNotFound, kafkaproto.GroupIDNotFound},
	{broker.ErrNonEmptyGroup, kafkaproto.NonEmptyGroup},
	{broker.ErrGroupSubscribedToTopic, kafkaproto.GroupSubscribedToTopic},
	{broker.ErrOffsetMetadataTooLarge, kafkaproto.OffsetMetadataTooLarge},
	{broker.ErrUnstableOffsetCommit, kafkaproto.UnstableOffsetCommit},
	{broker.ErrFencedMemberEpoch, kafkaproto.FencedMemberEpoch},
	{broker.ErrStaleMemberEpoch, kafkaproto.StaleMemberEpoch},
	{broker.ErrUnreleasedInstanceID, kafkaproto.UnreleasedInstanceID},
	{broker.ErrUnsupportedAssignor, kafkaproto.UnsupportedAssignor},
	{broker.ErrInvalidRegularExpression, kafkaproto.InvalidRegularExpression},

	// Transactions. Some are explained by another error for a client: that comes first.
	{replication.ErrInvalidTxnState, kafkaproto.InvalidTxnState},
	{replication.ErrCoordinatorFenced, kafkaproto.TransactionCoordinatorFenced},
	{broker.ErrProducerFenced, kafkaproto.ProducerFenced},
	{broker.ErrInvalidProducerIDMapping, kafkaproto.InvalidProducerIDMapping},
	{broker.ErrInvalidTxnState, kafkaproto.InvalidTxnState},
	{broker.ErrInvalidTransactionTimeout, kafkaproto.InvalidTransactionTimeout},
	{broker.ErrConcurrentTransactions, kafkaproto.ConcurrentTransactions},
	{broker.ErrTransactionAbortable, kafkaproto.TransactionAbortable},
	{broker.ErrTransactionalIDNotFound, kafkaproto.TransactionalIDNotFound},
	{broker.ErrOperationNotAttempted, kafkaproto.OperationNotAttempted},
	{errUpdateVersion, kafkaproto.InvalidUpdateVersion},
	{errFeatureFixed, kafkaproto.FeatureUpdateFailed},

	// Share groups.
	{share.ErrInvalidRecordState, kafkaproto.InvalidRecordState},
	{share.ErrSessionNotFound, kafkaproto.ShareSessionNotFound},
	{share.ErrInvalidSessionEpoch, kafkaproto.InvalidShareSessionEpoch},
	{share.ErrSessionLimit, kafkaproto.ShareSessionLimitReached},
	{share.ErrFencedStateEpoch, kafkaproto.FencedStateEpoch},

	// Produce and Fetch.
	{broker.ErrMessageTooLarge, kafkaproto.MessageTooLarge},
	{broker.ErrInvalidRecord, kafkaproto.InvalidRecord},
	{broker.ErrInvalidTimestamp, kafkaproto.InvalidTimestamp},
	{broker.ErrUnsupportedCompression, kafkaproto.UnsupportedCompressionType},
	{broker.ErrUnsupportedForFormat, kafkaproto.UnsupportedForMessageFormat},
	{broker.ErrInvalidRequiredAcks, kafkaproto.InvalidRequiredAcks},
	{broker.ErrFetchSessionNotFound, kafkaproto.FetchSessionIDNotFound},
	{broker.ErrInvalidFetchSessionEpoch, kafkaproto.InvalidFetchSessionEpoch},
	// Kafka's answer: nobody may write under a transactional id that is not named.
	{broker.ErrNoTransactionalID, kafkaproto.TransactionalIDAuthorizationFailed},
	{produce.ErrBatchExceedsSegment, kafkaproto.RecordListTooLarge},
	{fetch.ErrSessionTopicID, kafkaproto.FetchSessionTopicIDError},
	{fetch.ErrNotReplica, kafkaproto.TopicAuthorizationFailed},

	// Authorization.
	{broker.ErrTopicDenied, kafkaproto.TopicAuthorizationFailed},
	{broker.ErrGroupDenied, kafkaproto.GroupAuthorizationFailed},
	{broker.ErrClusterDenied, kafkaproto.ClusterAuthorizationFailed},
	{errNoRules, kafkaproto.SecurityDisabled},
	{broker.ErrTransactionalIDDenied, kafkaproto.TransactionalIDAuthorizationFailed},

	// Authentication. Of a change of users the first is more exact than what it wraps.
	{auth.ErrUnsupportedMechanism, kafkaproto.UnsupportedSaslMechanism},
	{auth.ErrSASLState, kafkaproto.IllegalSaslState},
	{auth.ErrAuthentication, kafkaproto.SaslAuthenticationFailed},
	{auth.ErrDuplicateUser, kafkaproto.DuplicateResource},
	{auth.ErrNoSuchUser, kafkaproto.ResourceNotFound},
	{auth.ErrUnknownMechanism, kafkaproto.UnsupportedSaslMechanism},

	// Administration.
	{ErrUnsupportedVersion, kafkaproto.UnsupportedVersion},
	{broker.ErrCommitTooOld, kafkaproto.UnsupportedVersion},
	{admin.ErrLeaderNotAvailable, kafkaproto.LeaderNotAvailable},
	{admin.ErrElectionNotNeeded, kafkaproto.ElectionNotNeeded},
	{admin.ErrPreferredLeaderNotAvailable, kafkaproto.PreferredLeaderNotAvailable},
	{admin.ErrEligibleLeadersNotAvailable, kafkaproto.EligibleLeadersNotAvailable},
	{controller.ErrUnknownNode, kafkaproto.BrokerIDNotRegistered},
	{controller.ErrNodeInUse, kafkaproto.InvalidRequest},
	{controller.ErrDuplicateNode, kafkaproto.DuplicateBrokerRegistration},
	{controller.ErrNoReassignment, kafkaproto.NoReassignmentInProgress},
	{controller.ErrTopicDeletionDisabled, kafkaproto.TopicDeletionDisabled},
	{controller.ErrNotController, kafkaproto.NotController},
	{admin.ErrMismatchedEndpoint, kafkaproto.MismatchedEndpointType},
	{admin.ErrUnsupportedEndpoint, kafkaproto.UnsupportedEndpointType},
	{admin.ErrRebootstrap, kafkaproto.RebootstrapRequired},

	// Waiting ended before the answer was known.
	{context.DeadlineExceeded, kafkaproto.RequestTimedOut},
	{context.Canceled, kafkaproto.RequestTimedOut},
}

// code is the Kafka error code of an error; None for nil. What nobody foresaw is UNKNOWN_SERVER_ERROR.
func code(err error) int16 {
	if err == nil {
		return 0
	}
	for i := range errorCodes {
		if errors.Is(err, errorCodes[i].err) {
			return int16(errorCodes[i].code)
		}
	}
	return int16(kafkaproto.UnknownServerError)
}

// Reason is the name of the Kafka error code of an error, for APIs beside Kafka's.
func Reason(err error) string { return kafkaproto.Code(code(err)).String() }

// message is the text that accompanies a code where a response has room for one; nil for no error.
func message(err error) *string {
	if err == nil {
		return nil
	}
	text := err.Error()
	return &text
}
