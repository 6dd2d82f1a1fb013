package controller

import (
	"math"

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
	// ClusterID is the cluster's name after a SetClusterID.
	ClusterID string
}

// step applies a command to an image. It is deterministic and changes neither. A refused command returns the same image.
// index is the command's place in the Raft log.
func step(im *Image, index uint64, c *metapb.Command) (*Image, *Result) {
	s := stepper{draft: newDraft(im), index: index, time: c.GetTimeMs(), checkRules: c.GetRules() == rulesVersion, result: &Result{}}
	if s.checkRules {
		if err := checkContent(c); err != nil {
			return im, &Result{Err: err}
		}
	}
	switch k := c.GetKind().(type) {
	case *metapb.Command_SetClusterId:
		s.setClusterID(k.SetClusterId)
	case *metapb.Command_RegisterNode:
		s.registerNode(k.RegisterNode.GetNode())
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
	default:
		s.result.Err = ErrTooNew
	}
	return s.draft.finish(index, s.changed), s.result
}

// stepper is the state of one step.
type stepper struct {
	draft      *draft
	index      uint64
	time       int64
	checkRules bool // the proposer had our version of the rules
	changed    bool
	result     *Result
}

func (s *stepper) refuse(err error) { s.result.Err = err }

func (s *stepper) setClusterID(c *metapb.SetClusterID) {
	if s.draft.next.ClusterID == "" {
		s.draft.next.ClusterID, s.changed = c.GetClusterId(), true
	}
	s.result.ClusterID = s.draft.next.ClusterID
}

func (s *stepper) registerNode(n *metapb.Node) {
	node := replication.Node{ID: replication.NodeID(n.GetId()), Host: n.GetHost(), Port: n.GetPort(), Rack: n.GetRack()}
	r, known := s.draft.next.Registrations[node.ID]
	var dir DirectoryID
	copy(dir[:], n.GetDirectory())
	if known && dir != r.Directory && dir != (DirectoryID{}) && r.Directory != (DirectoryID{}) && hosts(s.draft.next, node.ID) {
		s.refuse(failf(ErrDirectoryChanged, "node %d, which holds replicas", node.ID))
		return
	}
	if !known {
		r.NextIncarnation = 1
	}
	if dir != (DirectoryID{}) {
		r.Directory = dir
	}
	r.Epoch, r.RegisteredMillis = s.index, s.time
	s.draft.setNode(node, r)
	s.changed = true
}

// hosts tells whether any replica is on a node.
func hosts(im *Image, id replication.NodeID) bool {
	for _, t := range im.Topics {
		for _, p := range t.Partitions {
			for _, r := range p.Replicas {
				if r.Node == id {
					return true
				}
			}
		}
	}
	return false
}

func (s *stepper) allocateProducerIDs(c *metapb.AllocateProducerIDs) {
	if _, ok := s.draft.next.Nodes[replication.NodeID(c.GetNode())]; !ok {
		s.refuse(failf(replication.ErrInvalidRequest, "node %d is not registered", c.GetNode()))
		return
	}
	first := s.draft.next.NextProducerID
	if count := int64(c.GetCount()); count <= 0 || first > math.MaxInt64-count {
		s.refuse(failf(replication.ErrInvalidRequest, "no block of %d producer ids after %d", c.GetCount(), first))
		return
	}
	s.draft.next.NextProducerID += int64(c.GetCount())
	s.result.FirstProducerID, s.changed = first, true
}

func (s *stepper) setFeature(c *metapb.SetFeature) {
	if s.draft.next.Features[c.GetName()] != c.GetLevel() {
		s.draft.setFeature(c.GetName(), c.GetLevel())
		s.changed = true
	}
}
