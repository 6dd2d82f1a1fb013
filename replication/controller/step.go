package controller

import (
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// Result is what became of a command.
type Result struct {
	// Err refuses the command as a whole.
	Err error
	// Topics has an entry for each item of a CreateTopics or DeleteTopics, in their order: what was made or deleted, or why
	// it was not.
	Topics []TopicResult
	// FirstProducerID begins the block of an AllocateProducerIDs.
	FirstProducerID int64
	// ClusterID is the cluster's name after a SetClusterID or a RegisterNode.
	ClusterID string
	// Partitions says for each item of a ReassignPartitions, in their order, why it was refused.
	Partitions []error
	// Replica is what a RegisterNode or a RenewReplica gave: the node's replica of the metadata group, or the one that takes the
	// damaged one's place. Renewed tells that it is new.
	Replica replication.ReplicaID
	Renewed bool
	// Index is the command's place in the Raft log, and Changed tells that it changed the image.
	Index   uint64
	Changed bool
}

// step applies a command to an image. It is deterministic and changes neither. A refused command returns the same image.
// index is the command's place in the Raft log.
func step(im *Image, index uint64, c *metapb.Command) (*Image, *Result) {
	s := stepper{
		draft: newDraft(im), index: index, time: c.GetTimeMs(), level: c.GetLevel(),
		checkRules: c.GetRules() == rulesVersion, result: &Result{Index: index},
	}
	if s.checkRules {
		if err := checkContent(c); err != nil {
			return im, &Result{Err: err, Index: index}
		}
	}
	switch k := c.GetKind().(type) {
	case *metapb.Command_SetClusterId:
		s.setClusterID(k.SetClusterId)
	case *metapb.Command_RegisterNode:
		s.registerNode(k.RegisterNode)
	case *metapb.Command_CreateTopics:
		s.createTopics(k.CreateTopics)
	case *metapb.Command_DeleteTopics:
		s.deleteTopics(k.DeleteTopics)
	case *metapb.Command_CreatePartitions:
		s.createPartitions(k.CreatePartitions)
	case *metapb.Command_ChangeConfigs:
		s.changeConfigs(k.ChangeConfigs)
	case *metapb.Command_AllocateProducerIds:
		s.allocateProducerIDs(k.AllocateProducerIds)
	case *metapb.Command_SetFeature:
		s.setFeature(k.SetFeature)
	case *metapb.Command_UnregisterNode:
		s.unregisterNode(k.UnregisterNode)
	case *metapb.Command_ReassignPartitions:
		s.reassignPartitions(k.ReassignPartitions)
	case *metapb.Command_FinishReassignment:
		s.finishReassignment(k.FinishReassignment)
	case *metapb.Command_RenewReplica:
		s.renewReplica(k.RenewReplica)
	case *metapb.Command_ChangeAcls:
		s.changeACLs(k.ChangeAcls)
	case *metapb.Command_AlterUsers:
		s.alterUsers(k.AlterUsers)
	default:
		s.result.Err = ErrTooNew
	}
	s.result.Changed = s.changed
	return s.draft.finish(index, s.changed), s.result
}

// stepper is the state of one step.
type stepper struct {
	draft      *draft
	index      uint64
	time       int64
	level      uint32 // of the command
	checkRules bool   // the proposer had our version of the rules
	changed    bool
	result     *Result
}

func (s *stepper) refuse(err error) { s.result.Err = err }
