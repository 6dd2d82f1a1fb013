package controller

import (
	"bytes"
	"maps"
	"math"
	"slices"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

func (s *stepper) setClusterID(c *metapb.SetClusterID) {
	if s.draft.next.ClusterID == "" {
		s.draft.next.ClusterID, s.draft.next.FoundedNodes, s.changed = c.GetClusterId(), int(c.GetNodes()), true
	}
	s.result.ClusterID = s.draft.next.ClusterID
}

func (s *stepper) registerNode(c *metapb.RegisterNode) {
	n := c.GetNode()
	node := replication.Node{ID: replication.NodeID(n.GetId()), Host: n.GetHost(), Port: n.GetPort(), Rack: n.GetRack(), Endpoints: fromEndpoints(n.GetEndpoints())}
	r, known := s.draft.next.Registrations[node.ID]
	var dir DirectoryID
	copy(dir[:], n.GetDirectory())
	older := s.level >= levelStarts && s.draft.next.olderCopy(node.ID, dir, StartID(n.GetStart()), c.GetEarlier())
	switch {
	case !known:
		r = s.newcomer(node.ID, c)
	case older && !c.GetRenew():
		s.refuse(failf(ErrOlderCopy, "node %d", node.ID))
		return
	case older:
		if c.GetKnownStart() != uint64(r.Start) {
			s.refuse(errConflict)
			return
		}
		if !s.renewNode(node.ID, &r, older) {
			return
		}
	case dir == (DirectoryID{}) || r.Directory == (DirectoryID{}) || dir == r.Directory:
	case c.GetRenew() && !bytes.Equal(c.GetKnownDirectory(), r.Directory[:]):
		s.refuse(errConflict)
		return
	case c.GetRenew():
		if !s.renewNode(node.ID, &r, older) {
			return
		}
	case s.level > 1 || hosts(s.draft.next, node.ID):
		s.refuse(failf(ErrDirectoryChanged, "node %d", node.ID))
		return
	}
	if s.level >= levelStarts && (n.GetStart() != 0 || dir != (DirectoryID{}) && dir != r.Directory) {
		r.Start = StartID(n.GetStart())
	}
	if dir != (DirectoryID{}) {
		r.Directory = dir
	}
	r.Epoch, r.RegisteredMillis, r.Version = s.index, s.time, n.GetVersion()
	s.draft.setNode(node, r)
	s.result.Replica, s.result.ClusterID = r.MetaReplica(node.ID), s.draft.next.ClusterID
	s.changed = true
}

// olderCopy tells whether a node's directory knows nothing of the start by which the node has registered last, though it knows its own.
// Nodes that do not say are believed, and so is one without others: what it would begin again is all that there is.
func (im *Image) olderCopy(id replication.NodeID, dir DirectoryID, start StartID, earlier []uint64) bool {
	r, known := im.Registrations[id]
	if !known || len(im.Registrations) == 1 || dir == (DirectoryID{}) || dir != r.Directory {
		return false
	}
	return r.Start != 0 && start != 0 && start != r.Start && !slices.Contains(earlier, uint64(r.Start))
}

// newcomer is the registration that a node begins with. One whose id was unregistered goes on counting: its old replicas may
// still lie somewhere.
func (s *stepper) newcomer(id replication.NodeID, c *metapb.RegisterNode) Registration {
	d, back := s.draft.next.Departed[id]
	r := Registration{NextIncarnation: max(d.NextIncarnation, 1)}
	switch {
	case s.level <= 1:
		r.Meta = 0
	case back:
		r.Meta = d.NextMeta
	case c.Running != nil && c.GetRunning() < math.MaxUint32:
		r.Meta = replication.Incarnation(c.GetRunning())
	default:
		r.Meta = 1
	}
	r.NextMeta = r.Meta + 1
	s.draft.setDeparted(id, Departed{})
	return r
}

// renewNode gives all that a node has a new incarnation: its replicas have forgotten how they voted. False if refused. Of an older
// copy a partition that is on this node alone stays: nobody else has voted or has more of it.
func (s *stepper) renewNode(id replication.NodeID, r *Registration, copied bool) bool {
	if uint64(r.NextIncarnation)+uint64(s.draft.next.partitions) > math.MaxUint32 || r.NextMeta == math.MaxUint32 {
		s.refuse(failf(replication.ErrPolicyViolation, "node %d has used up its incarnations", id))
		return false
	}
	r.Meta, s.result.Renewed = r.NextMeta, true
	r.NextMeta++
	for _, name := range slices.Sorted(maps.Keys(s.draft.next.Topics)) { // in order: every node must count alike
		if t := s.draft.next.Topics[name]; t.on(id) {
			s.draft.setTopic(s.renewOn(t, id, r, copied))
		}
	}
	return true
}

// renewOn begins a topic's replicas on a node again. Those that were to go anyway are gone: none may begin again under the name
// with which it voted. (Below levelOrigin they stayed in the assignment.)
func (s *stepper) renewOn(t *Topic, id replication.NodeID, r *Registration, copied bool) *Topic {
	next := *t
	next.Partitions = slices.Clone(t.Partitions)
	for i, a := range t.Partitions {
		if copied && len(a.Replicas) == 1 {
			continue // on this node, or not at all
		}
		target := slices.Clone(a.Target())
		at := slices.IndexFunc(target, func(x replication.ReplicaID) bool { return x.Node == id })
		if at < 0 {
			if s.level >= levelOrigin {
				next.Partitions[i] = without(a, id)
			}
			continue
		}
		target[at].Incarnation = r.NextIncarnation
		r.NextIncarnation++
		next.Partitions[i] = s.retarget(a, target)
	}
	return &next
}

// on tells whether a topic has a replica on a node.
func (t *Topic) on(id replication.NodeID) bool {
	for _, p := range t.Partitions {
		for _, r := range p.Replicas {
			if r.Node == id {
				return true
			}
		}
	}
	return false
}

// hosts tells whether any replica is on a node.
func hosts(im *Image, id replication.NodeID) bool {
	for _, t := range im.Topics {
		if t.on(id) {
			return true
		}
	}
	return false
}

func (s *stepper) unregisterNode(c *metapb.UnregisterNode) {
	id := replication.NodeID(c.GetNode())
	r, known := s.draft.next.Registrations[id]
	switch {
	case !known:
		s.refuse(failf(ErrUnknownNode, "node %d", id))
	case hosts(s.draft.next, id):
		s.refuse(failf(ErrNodeInUse, "node %d holds replicas; reassign them first", id))
	default:
		s.draft.removeNode(id)
		s.draft.setDeparted(id, Departed{NextIncarnation: r.NextIncarnation, NextMeta: r.NextMeta})
		s.changed = true
	}
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
