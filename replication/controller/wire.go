package controller

import (
	"errors"

	"google.golang.org/protobuf/proto"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// wireErrors are the kinds of errors that keep their kind on the way from the controller to another node. The names are for
// ever.
var wireErrors = []struct {
	kind string
	err  error
}{
	{"not_controller", ErrNotController},
	{"unknown_outcome", replication.ErrUnknownOutcome},
	{"overloaded", replication.ErrOverloaded},
	{"conflict", errConflict},
	{"unknown_partition", replication.ErrUnknownPartition},
	{"unknown_topic_id", replication.ErrUnknownTopicID},
	{"topic_exists", replication.ErrTopicExists},
	{"invalid_topic", replication.ErrInvalidTopic},
	{"invalid_partitions", replication.ErrInvalidPartitions},
	{"invalid_replication_factor", replication.ErrInvalidReplicationFactor},
	{"invalid_replica_assignment", replication.ErrInvalidReplicaAssignment},
	{"invalid_config", replication.ErrInvalidConfig},
	{"policy_violation", replication.ErrPolicyViolation},
	{"topic_deletion_disabled", ErrTopicDeletionDisabled},
	{"directory_changed", ErrDirectoryChanged},
	{"older_copy", ErrOlderCopy},
	{"duplicate_node", ErrDuplicateNode},
	{"unknown_node", ErrUnknownNode},
	{"node_in_use", ErrNodeInUse},
	{"no_reassignment", ErrNoReassignment},
	{"other_cluster", ErrOtherCluster},
	{"too_new", ErrTooNew},
	{"damaged", ErrDamaged},
	{"invalid_request", replication.ErrInvalidRequest},
}

// otherKind is an error of no kind that is known here: of a newer version, or a mistake of ours.
const otherKind = "other"

// remoteError is an error that came from another node.
type remoteError struct {
	kind error
	text string
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

func encodeError(err error) *metapb.Error {
	if err == nil {
		return nil
	}
	for _, w := range wireErrors {
		if errors.Is(err, w.err) {
			return &metapb.Error{Kind: w.kind, Text: err.Error()}
		}
	}
	return &metapb.Error{Kind: otherKind, Text: err.Error()}
}

// decodeError gives an error of an unknown kind the kind that holds for it all the same.
func decodeError(e *metapb.Error, unknown error) error {
	if e == nil || e.GetKind() == "" {
		return nil
	}
	for _, w := range wireErrors {
		if w.kind == e.GetKind() {
			return &remoteError{w.err, e.GetText()}
		}
	}
	return &remoteError{unknown, e.GetText()}
}

// encodeReply is the controller's answer: what became of a command, or why it was not applied.
func encodeReply(r *Result, failed error) ([]byte, error) {
	reply := &metapb.ProposeReply{Failed: encodeError(failed)}
	if failed == nil {
		reply.Result = &metapb.Result{
			Error: encodeError(r.Err), Index: r.Index, Changed: r.Changed, FirstProducerId: r.FirstProducerID, ClusterId: r.ClusterID,
			Replica: fromReplica(r.Replica), Renewed: r.Renewed,
		}
		for _, t := range r.Topics {
			one := &metapb.TopicResult{Error: encodeError(t.Err)}
			if t.Topic != nil {
				one.Topic = encodeTopic(t.Topic)
			}
			reply.Result.Topics = append(reply.Result.Topics, one)
		}
		for _, err := range r.Partitions {
			one := encodeError(err)
			if one == nil {
				one = &metapb.Error{}
			}
			reply.Result.Partitions = append(reply.Result.Partitions, one)
		}
	}
	return proto.Marshal(reply)
}

// decodeReply reads an answer. One that can't be read tells nothing about the command.
func decodeReply(data []byte) (*Result, error) {
	reply := &metapb.ProposeReply{}
	if err := proto.Unmarshal(data, reply); err != nil {
		return nil, failf(replication.ErrUnknownOutcome, "the controller's answer can't be read: %v", err)
	}
	if err := decodeError(reply.GetFailed(), replication.ErrUnknownOutcome); err != nil {
		return nil, err
	}
	in := reply.GetResult()
	if in == nil {
		return nil, failf(replication.ErrUnknownOutcome, "the controller's answer is empty")
	}
	r := &Result{
		Err: decodeError(in.GetError(), replication.ErrInvalidRequest), Index: in.GetIndex(), Changed: in.GetChanged(),
		FirstProducerID: in.GetFirstProducerId(), ClusterID: in.GetClusterId(), Replica: toReplica(in.GetReplica()), Renewed: in.GetRenewed(),
	}
	for _, t := range in.GetTopics() {
		one := TopicResult{Err: decodeError(t.GetError(), replication.ErrInvalidRequest)}
		if t.GetTopic() != nil {
			one.Topic = decodeTopic(t.GetTopic())
		}
		r.Topics = append(r.Topics, one)
	}
	for _, e := range in.GetPartitions() {
		r.Partitions = append(r.Partitions, decodeError(e, replication.ErrInvalidRequest))
	}
	return r, nil
}
