package api

import (
	"errors"
	"slices"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/kafkaproto"
	"github.com/quorlog/quorlog/replication"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Access control of the API keys.
//
// A guard stands in front of a key's Handler. It takes from the request what the caller may not do, lets the handler answer
// the rest, and adds the refusals to the answer: handlers never see what is not allowed, and so can't tell whether it
// exists. Keys with a Start ask by themselves instead, batch by batch and partition by partition, where sessions and long
// polls need it. What each key asks for is Kafka's (KafkaApis and ControllerApis).

// guard answers a request instead of its handler, which next runs.
type guard func(g *gate, body kmsg.Request, next func() (kmsg.Response, error)) (kmsg.Response, error)

// errUnguarded closes the connection of a request that nobody has decided about: a mistake of ours must not let anybody in.
var errUnguarded = errors.New("nobody has decided who may use this API key")

// asking are the keys whose Start asks. One that is not named here is refused, whatever guard it has: nothing runs it.
var asking = map[kafkaproto.Key]bool{
	kafkaproto.KeyProduce:    true, // gate.produceDenied
	kafkaproto.KeyFetch:      true, // fetch.Request.Denied
	kafkaproto.KeyShareFetch: true, // shareFetchCall.Finish and share.FetchRequest.Denied
}

// guarded tells whether somebody has decided who may use the key.
func (r *Row) guarded() bool {
	if r.Start != nil {
		return asking[r.Key]
	}
	return guards[r.Key] != nil
}

// guards has an entry for each key with a Handler. A key without one is refused.
var guards = map[kafkaproto.Key]guard{
	kafkaproto.KeyListOffsets:                  guarded(guardListOffsets),
	kafkaproto.KeyMetadata:                     guarded(guardMetadata),
	kafkaproto.KeyOffsetCommit:                 guarded(guardOffsetCommit),
	kafkaproto.KeyOffsetFetch:                  guarded(guardOffsetFetch),
	kafkaproto.KeyFindCoordinator:              guarded(guardFindCoordinator),
	kafkaproto.KeyJoinGroup:                    guarded(guardJoinGroup),
	kafkaproto.KeyHeartbeat:                    guarded(guardHeartbeat),
	kafkaproto.KeyLeaveGroup:                   guarded(guardLeaveGroup),
	kafkaproto.KeySyncGroup:                    guarded(guardSyncGroup),
	kafkaproto.KeyDescribeGroups:               guarded(guardDescribeGroups),
	kafkaproto.KeyListGroups:                   guarded(guardListGroups),
	kafkaproto.KeySASLHandshake:                anybody,
	kafkaproto.KeyApiVersions:                  anybody,
	kafkaproto.KeyCreateTopics:                 guarded(guardCreateTopics),
	kafkaproto.KeyDeleteTopics:                 guarded(guardDeleteTopics),
	kafkaproto.KeyDeleteRecords:                guarded(guardDeleteRecords),
	kafkaproto.KeyInitProducerID:               guarded(guardInitProducerID),
	kafkaproto.KeyOffsetForLeaderEpoch:         guarded(guardOffsetForLeaderEpoch),
	kafkaproto.KeyAddPartitionsToTxn:           guarded(guardAddPartitionsToTxn),
	kafkaproto.KeyAddOffsetsToTxn:              guarded(guardAddOffsetsToTxn),
	kafkaproto.KeyEndTxn:                       guarded(guardEndTxn),
	kafkaproto.KeyWriteTxnMarkers:              guarded(guardWriteTxnMarkers),
	kafkaproto.KeyTxnOffsetCommit:              guarded(guardTxnOffsetCommit),
	kafkaproto.KeyDescribeACLs:                 guarded(guardDescribeACLs),
	kafkaproto.KeyCreateACLs:                   guarded(guardCreateACLs),
	kafkaproto.KeyDeleteACLs:                   guarded(guardDeleteACLs),
	kafkaproto.KeyDescribeConfigs:              guarded(guardDescribeConfigs),
	kafkaproto.KeyAlterConfigs:                 guarded(guardAlterConfigs),
	kafkaproto.KeyDescribeLogDirs:              guarded(guardDescribeLogDirs),
	kafkaproto.KeySASLAuthenticate:             anybody,
	kafkaproto.KeyCreatePartitions:             guarded(guardCreatePartitions),
	kafkaproto.KeyDeleteGroups:                 guarded(guardDeleteGroups),
	kafkaproto.KeyElectLeaders:                 guarded(guardElectLeaders),
	kafkaproto.KeyIncrementalAlterConfigs:      guarded(guardIncrementalAlterConfigs),
	kafkaproto.KeyAlterPartitionReassignments:  guarded(guardAlterPartitionReassignments),
	kafkaproto.KeyListPartitionReassignments:   guarded(guardListPartitionReassignments),
	kafkaproto.KeyOffsetDelete:                 guarded(guardOffsetDelete),
	kafkaproto.KeyDescribeUserScramCredentials: guarded(guardDescribeUserScram),
	kafkaproto.KeyAlterUserScramCredentials:    guarded(guardAlterUserScram),
	kafkaproto.KeyDescribeQuorum:               guarded(guardDescribeQuorum),
	kafkaproto.KeyUpdateFeatures:               guarded(guardUpdateFeatures),
	kafkaproto.KeyDescribeCluster:              guarded(guardDescribeCluster),
	kafkaproto.KeyDescribeProducers:            guarded(guardDescribeProducers),
	kafkaproto.KeyUnregisterBroker:             guarded(guardUnregisterBroker),
	kafkaproto.KeyDescribeTransactions:         guarded(guardDescribeTransactions),
	kafkaproto.KeyListTransactions:             guarded(guardListTransactions),
	kafkaproto.KeyConsumerGroupHeartbeat:       guarded(guardConsumerGroupHeartbeat),
	kafkaproto.KeyConsumerGroupDescribe:        guarded(guardConsumerGroupDescribe),
	kafkaproto.KeyListConfigResources:          guarded(guardListConfigResources),
	kafkaproto.KeyDescribeTopicPartitions:      guarded(guardDescribeTopicPartitions),
	kafkaproto.KeyShareGroupHeartbeat:          guarded(guardShareGroupHeartbeat),
	kafkaproto.KeyShareGroupDescribe:           guarded(guardShareGroupDescribe),
	kafkaproto.KeyShareAcknowledge:             guarded(guardShareAcknowledge),
	kafkaproto.KeyDescribeShareGroupOffsets:    guarded(guardDescribeShareGroupOffsets),
	kafkaproto.KeyAlterShareGroupOffsets:       guarded(guardAlterShareGroupOffsets),
	kafkaproto.KeyDeleteShareGroupOffsets:      guarded(guardDeleteShareGroupOffsets),
}

// anybody is the guard of what everybody may ask.
func anybody(_ *gate, _ kmsg.Request, next func() (kmsg.Response, error)) (kmsg.Response, error) {
	return next()
}

// guarded fits a typed guard into the table.
func guarded[Q kmsg.Request, P kmsg.Response](fn func(*gate, Q, func() (P, error)) (P, error)) guard {
	return func(g *gate, body kmsg.Request, next func() (kmsg.Response, error)) (kmsg.Response, error) {
		q, ok := body.(Q)
		if !ok {
			return nil, errWrongType
		}
		return fn(g, q, func() (p P, err error) {
			resp, err := next()
			if err != nil {
				return p, err
			}
			if p, ok = resp.(P); !ok {
				return p, errWrongType
			}
			return p, nil
		})
	}
}

// gate asks the authorizer for one caller.
type gate struct {
	api    *API
	caller broker.Caller
}

func (a *API) gate(r *Request) *gate { return &gate{a, r.Caller()} }

func (g *gate) may(op broker.Operation, r broker.Resource) bool {
	return g.api.Authorizer.Allowed(g.caller, op, r)
}

// cluster is nil if the caller may do op to the cluster.
func (g *gate) cluster(op broker.Operation) error {
	if g.may(op, broker.Cluster) {
		return nil
	}
	return broker.ErrClusterDenied
}

// group is nil if the caller may do op to a group.
func (g *gate) group(op broker.Operation, id string) error {
	if g.may(op, broker.Group(id)) {
		return nil
	}
	return broker.ErrGroupDenied
}

// transaction is nil if the caller may do op to a transactional id.
func (g *gate) transaction(op broker.Operation, id string) error {
	if g.may(op, broker.TransactionalID(id)) {
		return nil
	}
	return broker.ErrTransactionalIDDenied
}

// topicDenied tells whether the caller may not do op to a topic that a request names by name or by id.
func (g *gate) topicDenied(op broker.Operation, name string, id replication.TopicID) bool {
	if name == "" && id != none {
		return g.idDenied(op, id)
	}
	return !g.may(op, broker.Topic(name))
}

// idDenied is topicDenied for versions that name topics by id. Nobody is denied an id that does not exist, such as none: the
// handler says so. (Ids are not secret, as in Kafka.)
func (g *gate) idDenied(op broker.Operation, id replication.TopicID) bool {
	name, known := admin.TopicName(g.api.Admin, id)
	return known && !g.may(op, broker.Topic(name))
}

// operations is the set of what the caller may do to a resource, if that was asked for (KIP-430).
func (g *gate) operations(asked bool, r broker.Resource) int32 {
	if !asked {
		return notAsked
	}
	return broker.AuthorizedOperations(g.api.Authorizer, g.caller, r)
}

// split takes out of a list what is denied. The list itself does not change.
func split[T any](list []T, denied func(*T) bool) (allowed, refused []T) {
	allowed = list
	for i := range list {
		switch {
		case denied(&list[i]):
			if refused == nil {
				allowed = slices.Clone(list[:i])
			}
			refused = append(refused, list[i])
		case refused != nil:
			allowed = append(allowed, list[i])
		}
	}
	return allowed, refused
}

// topicDeniedCode is that of a topic that the caller may not use.
var topicDeniedCode = code(broker.ErrTopicDenied)
