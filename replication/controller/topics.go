package controller

import (
	"context"
	"errors"
	"slices"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// NewTopic asks for a topic.
type NewTopic struct {
	Name string
	// Partitions and ReplicationFactor are -1 for the broker's defaults, num.partitions and default.replication.factor.
	Partitions        int32
	ReplicationFactor int16
	// Assignments, if not empty, names the nodes of each partition, the preferred leader first; then the two numbers must
	// be -1 or agree with it.
	Assignments map[int32][]replication.NodeID
	Config      map[string]string
	// Internal marks a topic that only the cluster writes. __consumer_offsets and __transaction_state are so without it.
	Internal bool
}

// TopicRef names a topic by its name or, if that is empty, its id.
type TopicRef struct {
	Name string
	ID   replication.TopicID
}

// CreateTopics creates topics or, with validateOnly, only tells whether it could. Each stands and falls alone; the results
// are in the order of the topics.
func (c *Controller) CreateTopics(ctx context.Context, topics []NewTopic, validateOnly bool) []TopicResult {
	results := make([]TopicResult, len(topics))
	im := c.Image()
	p := newPlacer(im, c.router.around.avoids(im))
	var good []*metapb.NewTopic
	var index []int
	for i := range topics {
		t, err := c.resolve(im, p, &topics[i])
		if err != nil {
			results[i].Err = err
			continue
		}
		good, index = append(good, t), append(index, i)
	}
	// What can't succeed is not written: otherwise anybody could fill the metadata log with nonsense.
	expected := c.check(im, createCommand(good, c.maxPartitions))
	var worthy []*metapb.NewTopic
	var order []int
	for i, t := range good {
		r := TopicResult{Err: replication.ErrInvalidRequest}
		if r.Err = expected.Err; r.Err == nil {
			r = expected.Topics[i]
		}
		if results[index[i]] = r; r.Err == nil {
			worthy, order = append(worthy, t), append(order, index[i])
		}
	}
	if validateOnly {
		hideIDs(results)
		return results
	}
	for len(worthy) > 0 {
		n := commandful(worthy)
		for i, r := range proposeTopics(ctx, c, worthy[:n]) {
			results[order[i]] = r
		}
		worthy, order = worthy[n:], order[n:]
	}
	return results
}

// proposeTopics proposes topics, and again where the outcome is unknown because the controller died with them. What an earlier proposal made is
// known by its id. Each proposal has ids of its own: one that comes late must not bring back a topic that was deleted meanwhile.
func proposeTopics(ctx context.Context, c *Controller, topics []*metapb.NewTopic) []TopicResult {
	ours := map[replication.TopicID]bool{}
	limit, cancel := context.WithTimeout(ctx, leaderPatience)
	defer cancel()
	for try := 1; ; try++ {
		for _, t := range topics {
			ours[replication.TopicID(t.GetId())] = true
		}
		results := make([]TopicResult, len(topics))
		r, err := c.propose(ctx, createCommand(topics, c.maxPartitions))
		if err == nil {
			copy(results, r.Topics)
		}
		for i := range results {
			if err != nil {
				results[i].Err = err
			}
		}
		unknown := errors.Is(err, replication.ErrUnknownOutcome) && c.router.forward != nil
		if try == 1 && !unknown || c.Sync(limit) != nil {
			return results
		}
		left := recognize(c.Image(), topics, ours, results)
		if left == 0 || !unknown || try == mostRepeats {
			return results
		}
		for _, t := range topics {
			id := c.newTopicID()
			t.Id = id[:]
		}
	}
}

// recognize gives those topics that exist under one of our ids as results, and returns how many do not.
func recognize(im *Image, topics []*metapb.NewTopic, ours map[replication.TopicID]bool, results []TopicResult) (left int) {
	for i, t := range topics {
		if made := im.Topics[t.GetName()]; made != nil && ours[made.ID] {
			results[i] = TopicResult{Topic: made}
		} else {
			left++
		}
	}
	return left
}

// hideIDs takes the ids from topics that were not made: they name nothing.
func hideIDs(results []TopicResult) {
	for i, r := range results {
		if r.Topic != nil {
			t := *r.Topic
			t.ID = replication.TopicID{}
			results[i].Topic = &t
		}
	}
}

func createCommand(topics []*metapb.NewTopic, most int64) *metapb.Command {
	return &metapb.Command{Kind: &metapb.Command_CreateTopics{CreateTopics: &metapb.CreateTopics{Topics: topics, MaxPartitions: most}}}
}

// commandful is how many of the topics make one command: at least one, and else not more than what stays well below
// maxCommand.
func commandful(topics []*metapb.NewTopic) int {
	const mostTopics, mostPartitions = 500, 50_000
	partitions := 0
	for i, t := range topics {
		partitions += len(t.GetPartitions())
		if i > 0 && (i == mostTopics || partitions > mostPartitions) {
			return i
		}
	}
	return len(topics)
}

// resolve makes the durable form of a request: defaults filled in, nodes chosen, an id given.
func (c *Controller) resolve(im *Image, p *placer, t *NewTopic) (*metapb.NewTopic, error) {
	if err := ValidateTopicName(t.Name); err != nil {
		return nil, err
	}
	if t.Name == metadataTopic { // no rule of commands: what nodes of before have decided stays
		return nil, failf(replication.ErrInvalidRequest, "%s is the metadata group, not a topic", t.Name)
	}
	if im.Topics[t.Name] != nil {
		return nil, failf(replication.ErrTopicExists, "topic %s", t.Name)
	}
	placements, err := choosePlacements(im, p, t)
	if err != nil {
		return nil, err
	}
	id := c.newTopicID()
	return &metapb.NewTopic{
		Name: t.Name, Id: id[:], Partitions: toPlacements(placements), Config: toSettings(t.Config),
		Internal: t.Internal || slices.Contains(internalTopics, t.Name),
	}, nil
}

func choosePlacements(im *Image, p *placer, t *NewTopic) ([][]replication.NodeID, error) {
	if len(t.Assignments) > 0 {
		placements, err := manualPlacements(t)
		if err != nil {
			return nil, err
		}
		for _, nodes := range placements {
			p.count(nodes)
		}
		return placements, nil
	}
	layers := im.Layers()
	partitions := int64(t.Partitions)
	if partitions == -1 {
		partitions = layers.Int("num.partitions")
	}
	if partitions < 1 || partitions > MaxPartitionsPerTopic {
		return nil, failf(replication.ErrInvalidPartitions, "a topic has 1 to %d partitions, not %d", MaxPartitionsPerTopic, partitions)
	}
	factor := int64(t.ReplicationFactor)
	if factor == -1 {
		factor = layers.Int("default.replication.factor")
	}
	if factor == -1 {
		factor = int64(defaultFactor(max(len(im.Nodes), im.FoundedNodes)))
	}
	if factor < 1 || factor > maxReplicas {
		return nil, failf(replication.ErrInvalidReplicationFactor, "a partition has 1 to %d replicas, not %d", maxReplicas, factor)
	}
	if int(factor) > len(im.Nodes) {
		return nil, failf(replication.ErrInvalidReplicationFactor, "%d replicas on %d nodes", factor, len(im.Nodes))
	}
	return p.placeAll(int(partitions), int(factor)), nil
}

// manualPlacements checks that the partitions are numbered from 0 and that the numbers agree with them.
func manualPlacements(t *NewTopic) ([][]replication.NodeID, error) {
	n := len(t.Assignments)
	if t.Partitions != -1 && int(t.Partitions) != n {
		return nil, failf(replication.ErrInvalidRequest, "%d partitions are asked for, but %d assigned", t.Partitions, n)
	}
	if n > MaxPartitionsPerTopic {
		return nil, failf(replication.ErrInvalidPartitions, "%d partitions are more than %d", n, MaxPartitionsPerTopic)
	}
	out := make([][]replication.NodeID, n)
	for i := range out {
		nodes, ok := t.Assignments[int32(i)]
		if !ok {
			return nil, failf(replication.ErrInvalidReplicaAssignment, "%d partitions are assigned, but not number %d", n, i)
		}
		if t.ReplicationFactor != -1 && int(t.ReplicationFactor) != len(nodes) {
			return nil, failf(replication.ErrInvalidRequest, "%d replicas are asked for, but partition %d has %d", t.ReplicationFactor, i, len(nodes))
		}
		out[i] = nodes
	}
	return out, nil
}

// DeleteTopics deletes topics, each alone. The errors are in the order of the topics.
func (c *Controller) DeleteTopics(ctx context.Context, topics []TopicRef) []error {
	errs := make([]error, len(topics))
	im := c.Image()
	disabled := !im.Layers().Bool("delete.topic.enable")
	var ids [][]byte
	var index []int
	for i, ref := range topics {
		t, err := im.find(ref)
		switch {
		case err != nil:
			errs[i] = err
		case disabled:
			errs[i] = ErrTopicDeletionDisabled
		case t.Internal:
			errs[i] = failf(replication.ErrPolicyViolation, "the cluster needs its topic %s", t.Name)
		default:
			ids, index = append(ids, slices.Clone(t.ID[:])), append(index, i)
		}
	}
	for len(ids) > 0 {
		n := min(len(ids), maxTopicsPerCommand)
		r, err := c.propose(ctx, &metapb.Command{Kind: &metapb.Command_DeleteTopics{DeleteTopics: &metapb.DeleteTopics{Ids: ids[:n]}}})
		for i := range n {
			if errs[index[i]] = err; err == nil {
				errs[index[i]] = unknownAs(topics[index[i]], r.Topics[i].Err)
			}
		}
		ids, index = ids[n:], index[n:]
	}
	return errs
}

func (im *Image) find(ref TopicRef) (*Topic, error) {
	if ref.Name != "" {
		if t := im.Topics[ref.Name]; t != nil {
			return t, nil
		}
		return nil, failf(replication.ErrUnknownPartition, "topic %s", ref.Name)
	}
	if t := im.ByID[ref.ID]; t != nil {
		return t, nil
	}
	return nil, failf(replication.ErrUnknownTopicID, "topic id %s", ref.ID)
}

// unknownAs gives the error for a topic that went away meanwhile the form that fits how the caller named it.
func unknownAs(ref TopicRef, err error) error {
	if ref.Name != "" && errors.Is(err, replication.ErrUnknownTopicID) {
		return failf(replication.ErrUnknownPartition, "topic %s", ref.Name)
	}
	return err
}

// CreatePartitions lets a topic grow to count partitions. assignments is empty, or names the nodes of each new one. The cluster's own topics
// do not grow: their keys are found by the number of partitions, and all would be looked for where they are not.
func (c *Controller) CreatePartitions(ctx context.Context, name string, count int32, assignments [][]replication.NodeID, validateOnly bool) error {
	return settle(ctx, func() error {
		im := c.Image()
		ref := TopicRef{Name: name}
		t, err := im.find(ref)
		if err != nil {
			return err
		}
		if t.Internal {
			return failf(replication.ErrPolicyViolation, "the cluster finds the keys of its topic %s by the number of partitions", t.Name)
		}
		added, err := c.morePlacements(im, t, count, assignments)
		if err != nil {
			return err
		}
		cmd := &metapb.Command{Kind: &metapb.Command_CreatePartitions{CreatePartitions: &metapb.CreatePartitions{
			TopicId: slices.Clone(t.ID[:]), From: int32(len(t.Partitions)), Added: toPlacements(added), MaxPartitions: c.maxPartitions,
		}}}
		if r := c.check(im, cmd); r.Err != nil || validateOnly {
			return r.Err
		}
		_, err = c.propose(ctx, cmd)
		return unknownAs(ref, err)
	})
}

func (c *Controller) morePlacements(im *Image, t *Topic, count int32, assignments [][]replication.NodeID) ([][]replication.NodeID, error) {
	now := len(t.Partitions)
	switch {
	case int(count) < now:
		return nil, failf(replication.ErrInvalidPartitions, "topic %s has %d partitions, more than %d", t.Name, now, count)
	case int(count) == now:
		return nil, failf(replication.ErrInvalidPartitions, "topic %s has %d partitions already", t.Name, now)
	case count > MaxPartitionsPerTopic:
		return nil, failf(replication.ErrInvalidPartitions, "%d partitions are more than %d", count, MaxPartitionsPerTopic)
	}
	factor := len(t.Partitions[0].Target())
	if len(assignments) == 0 {
		if factor > len(im.Nodes) {
			return nil, failf(replication.ErrInvalidReplicationFactor, "%d replicas on %d nodes", factor, len(im.Nodes))
		}
		return newPlacer(im, c.router.around.avoids(im)).placeAll(int(count)-now, factor), nil
	}
	if len(assignments) != int(count)-now {
		return nil, failf(replication.ErrInvalidReplicaAssignment, "%d partitions are added, but %d assigned", int(count)-now, len(assignments))
	}
	for _, nodes := range assignments {
		if len(nodes) != factor {
			return nil, failf(replication.ErrInvalidReplicaAssignment, "%d replicas are assigned; the topic's partitions have %d", len(nodes), factor)
		}
	}
	return assignments, nil
}
