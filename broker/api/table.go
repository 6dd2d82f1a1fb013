package api

import (
	"context"
	"errors"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/conn"
	"github.com/quorlog/quorlog/kafkaproto"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Row describes one API key. Decoding, dispatch and the ApiVersions answer are all driven by it, so they can't disagree.
type Row struct {
	Key kafkaproto.Key
	// Min and Max are the versions that are served: 0 <= Min <= Max.
	Min, Max int16
	// AdvertisedMin is what ApiVersions says instead of Min where the two differ; see 00_produce.go and 17_sasl_handshake.go for the reasons.
	AdvertisedMin int16
	// Overlaps tells that a request may start before the ones ahead of it on its connection are answered.
	Overlaps bool
	// Handler answers the request. It runs when its turn has come, and may block.
	Handler Handler
	// Start begins the request in the order of arrival, without blocking for long, and leaves the rest to the Call.
	// A row has either a Handler or a Start.
	Start Starter
}

// Request is what a handler may know of a request beside its body.
type Request struct {
	Header  kafkaproto.RequestHeader
	Session *conn.Session
	// FrameSize is the length of the buffer that the body's byte slices alias.
	FrameSize int
	// Close is for the handler to set: the connection ends after the answer.
	Close bool
}

// Caller is who sent the request.
func (r *Request) Caller() broker.Caller { return r.Session.Caller(r.Header.ClientID) }

// Handler answers a request. An error closes the connection: what a client can be told belongs in the response.
type Handler func(ctx context.Context, a *API, r *Request, body kmsg.Request) (kmsg.Response, error)

// Starter begins a request.
type Starter func(ctx context.Context, a *API, r *Request, body kmsg.Request) (conn.Call, error)

// errWrongType means that kmsg decoded a key to another type than its row expects: a broken table.
var errWrongType = errors.New("the table names the wrong request type")

// handler fits a typed function into a row.
func handler[Q kmsg.Request](fn func(context.Context, *API, *Request, Q) (kmsg.Response, error)) Handler {
	return func(ctx context.Context, a *API, r *Request, body kmsg.Request) (kmsg.Response, error) {
		q, ok := body.(Q)
		if !ok {
			return nil, errWrongType
		}
		return fn(ctx, a, r, q)
	}
}

// starter fits a typed function into a row.
func starter[Q kmsg.Request](fn func(context.Context, *API, *Request, Q) (conn.Call, error)) Starter {
	return func(ctx context.Context, a *API, r *Request, body kmsg.Request) (conn.Call, error) {
		q, ok := body.(Q)
		if !ok {
			return nil, errWrongType
		}
		return fn(ctx, a, r, q)
	}
}

// Table returns a row for each key that is served, in the order of the keys.
func Table() []Row {
	return []Row{
		produceRow,
		fetchRow,
		listOffsetsRow,
		metadataRow,
		offsetCommitRow,
		offsetFetchRow,
		findCoordinatorRow,
		joinGroupRow,
		heartbeatRow,
		leaveGroupRow,
		syncGroupRow,
		describeGroupsRow,
		listGroupsRow,
		saslHandshakeRow,
		apiVersionsRow,
		createTopicsRow,
		deleteTopicsRow,
		deleteRecordsRow,
		initProducerIDRow,
		offsetForLeaderEpochRow,
		addPartitionsToTxnRow,
		addOffsetsToTxnRow,
		endTxnRow,
		writeTxnMarkersRow,
		txnOffsetCommitRow,
		describeACLsRow,
		createACLsRow,
		deleteACLsRow,
		describeConfigsRow,
		alterConfigsRow,
		describeLogDirsRow,
		saslAuthenticateRow,
		createPartitionsRow,
		deleteGroupsRow,
		electLeadersRow,
		incrementalAlterConfigsRow,
		alterPartitionReassignmentsRow,
		listPartitionReassignmentsRow,
		offsetDeleteRow,
		describeUserScramCredentialsRow,
		alterUserScramCredentialsRow,
		describeQuorumRow,
		updateFeaturesRow,
		describeClusterRow,
		describeProducersRow,
		unregisterBrokerRow,
		describeTransactionsRow,
		listTransactionsRow,
		consumerGroupHeartbeatRow,
		consumerGroupDescribeRow,
		listConfigResourcesRow,
		describeTopicPartitionsRow,
		shareGroupHeartbeatRow,
		shareGroupDescribeRow,
		shareFetchRow,
		shareAcknowledgeRow,
		describeShareGroupOffsetsRow,
		alterShareGroupOffsetsRow,
		deleteShareGroupOffsetsRow,
	}
}
