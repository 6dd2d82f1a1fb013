package controller

import (
	"maps"
	"math"
	"slices"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// TopicResult is what became of one topic.
type TopicResult struct {
	// Topic is the topic as it was made, or would be; its id is zero if it was only checked. Of a deletion it is the topic
	// as it was.
	Topic *Topic
	Err   error
}

func (s *stepper) createTopics(c *metapb.CreateTopics) {
	s.result.Topics = make([]TopicResult, len(c.GetTopics()))
	for i, t := range c.GetTopics() {
		topic, err := s.createTopic(t, c.GetMaxPartitions())
		s.result.Topics[i] = TopicResult{Topic: topic, Err: err}
	}
}

func (s *stepper) createTopic(t *metapb.NewTopic, most int64) (*Topic, error) {
	if s.checkRules {
		if err := checkNewTopic(t); err != nil {
			return nil, err
		}
	}
	im := s.draft.next
	id, ok := toTopicID(t.GetId())
	if !ok || im.ByID[id] != nil {
		return nil, failf(replication.ErrInvalidRequest, "topic id %x is taken or none", t.GetId())
	}
	if im.Topics[t.GetName()] != nil {
		return nil, failf(replication.ErrTopicExists, "topic %s", t.GetName())
	}
	if other, bad := collision(im, t.GetName()); bad {
		return nil, failf(replication.ErrInvalidTopic, "%s differs from topic %s only in '.' and '_'", t.GetName(), other)
	}
	if len(t.GetPartitions()) == 0 {
		return nil, failf(replication.ErrInvalidPartitions, "a topic needs at least one partition")
	}
	if err := s.room(len(t.GetPartitions()), most); err != nil {
		return nil, err
	}
	partitions, err := s.place(t.GetPartitions())
	if err != nil {
		return nil, err
	}
	topic := &Topic{
		Name: t.GetName(), ID: id, Partitions: partitions, Config: fromSettings(t.GetConfig()),
		Internal: t.GetInternal(), CreatedMillis: s.time,
	}
	s.draft.setTopic(topic)
	s.changed = true
	return topic, nil
}

// room refuses more partitions than the cluster may have.
func (s *stepper) room(more int, most int64) error {
	if now := s.draft.next.partitions; int64(now)+int64(more) > most {
		return failf(replication.ErrPolicyViolation, "%d partitions more than the %d of now would be beyond the cluster's bound of %d", more, now, most)
	}
	return nil
}

// place gives all replicas their incarnations, or refuses: nothing is changed then.
func (s *stepper) place(placements []*metapb.Placement) ([]replication.Assignment, error) {
	for _, p := range placements {
		if len(p.GetNodes()) == 0 {
			return nil, failf(replication.ErrInvalidReplicaAssignment, "a partition needs at least one replica")
		}
		for i, n := range p.GetNodes() {
			if slices.Contains(p.GetNodes()[:i], n) {
				return nil, failf(replication.ErrInvalidReplicaAssignment, "node %d is named twice for one partition", n)
			}
			r, ok := s.draft.next.Registrations[replication.NodeID(n)]
			if !ok {
				return nil, failf(replication.ErrInvalidReplicaAssignment, "node %d is not registered", n)
			}
			if uint64(r.NextIncarnation)+uint64(len(placements))*maxReplicas > math.MaxUint32 {
				return nil, failf(replication.ErrPolicyViolation, "node %d has used up its incarnations", n)
			}
		}
	}
	out := make([]replication.Assignment, len(placements))
	for i, p := range placements {
		nodes := make([]replication.NodeID, len(p.GetNodes()))
		for j, n := range p.GetNodes() {
			nodes[j] = replication.NodeID(n)
		}
		out[i] = s.draft.place(nodes)
	}
	return out, nil
}

func (s *stepper) deleteTopics(c *metapb.DeleteTopics) {
	s.result.Topics = make([]TopicResult, len(c.GetIds()))
	for i, bytes := range c.GetIds() {
		id, _ := toTopicID(bytes)
		t := s.draft.next.ByID[id]
		if t == nil {
			s.result.Topics[i].Err = replication.ErrUnknownTopicID
			continue
		}
		s.draft.removeTopic(t)
		s.result.Topics[i].Topic, s.changed = t, true
	}
}

func (s *stepper) createPartitions(c *metapb.CreatePartitions) {
	id, _ := toTopicID(c.GetTopicId())
	old := s.draft.next.ByID[id]
	switch {
	case old == nil:
		s.refuse(replication.ErrUnknownTopicID)
		return
	case len(old.Partitions) != int(c.GetFrom()):
		s.refuse(errConflict)
		return
	case len(old.Partitions)+len(c.GetAdded()) > MaxPartitionsPerTopic && s.checkRules:
		// Static for the command: the number that it adds to is part of it.
		s.refuse(failf(replication.ErrInvalidPartitions, "%d partitions are more than %d", len(old.Partitions)+len(c.GetAdded()), MaxPartitionsPerTopic))
		return
	}
	if err := s.room(len(c.GetAdded()), c.GetMaxPartitions()); err != nil {
		s.refuse(err)
		return
	}
	added, err := s.place(c.GetAdded())
	if err != nil {
		s.refuse(err)
		return
	}
	t := *old
	t.Partitions = append(old.Partitions[:len(old.Partitions):len(old.Partitions)], added...)
	s.draft.setTopic(&t)
	s.changed = true
}

func (s *stepper) changeConfigs(c *metapb.ChangeConfigs) {
	old, err := configOf(s.draft.next, c)
	if err != nil {
		s.refuse(err)
		return
	}
	values := map[string]string{}
	if !c.GetReplace() {
		maps.Copy(values, old)
	}
	for _, change := range c.GetChanges() {
		if e := change.GetExpected(); e != nil {
			if now, set := old[change.GetName()]; set != (e.Value != nil) || now != e.GetValue() {
				s.refuse(errConflict)
				return
			}
		}
		if change != nil && change.Value != nil {
			values[change.GetName()] = change.GetValue()
		} else {
			delete(values, change.GetName())
		}
	}
	if s.changed = !maps.Equal(old, values); s.changed {
		s.setConfig(c, values)
	}
}

// configOf is what is set for the resource of a command.
func configOf(im *Image, c *metapb.ChangeConfigs) (map[string]string, error) {
	switch c.GetKind() {
	case metapb.ChangeConfigs_KIND_TOPIC:
		id, _ := toTopicID(c.GetTopicId())
		if t := im.ByID[id]; t != nil {
			return t.Config, nil
		}
		return nil, replication.ErrUnknownTopicID
	case metapb.ChangeConfigs_KIND_NODE:
		id := replication.NodeID(c.GetNode())
		if _, ok := im.Nodes[id]; !ok {
			return nil, failf(replication.ErrInvalidRequest, "node %d is not registered", id)
		}
		return im.NodeConfig[id], nil
	case metapb.ChangeConfigs_KIND_CLUSTER:
		return im.BrokerConfig, nil
	case metapb.ChangeConfigs_KIND_GROUP:
		return im.GroupConfig[c.GetGroup()], nil
	}
	return nil, failf(replication.ErrInvalidRequest, "unknown kind of resource %d", c.GetKind())
}

// setConfig replaces what is set for the resource of a command, which exists.
func (s *stepper) setConfig(c *metapb.ChangeConfigs, values map[string]string) {
	switch c.GetKind() {
	case metapb.ChangeConfigs_KIND_TOPIC:
		id, _ := toTopicID(c.GetTopicId())
		t := *s.draft.next.ByID[id]
		t.Config = values
		s.draft.setTopic(&t)
	case metapb.ChangeConfigs_KIND_NODE:
		s.draft.setNodeConfig(replication.NodeID(c.GetNode()), values)
	case metapb.ChangeConfigs_KIND_CLUSTER:
		s.draft.next.BrokerConfig = values
	case metapb.ChangeConfigs_KIND_GROUP:
		s.draft.setGroupConfig(c.GetGroup(), values)
	}
}

// scopes of resources that callers name.
var resourceScopes = map[ResourceType]config.Scope{
	TopicResource: config.Topic, BrokerResource: config.Broker, GroupResource: config.Group,
}
