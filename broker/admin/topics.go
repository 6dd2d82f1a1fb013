package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
)

// CreateTopics creates topics, or only checks whether it could. The results are in the order of the topics. It returns
// once the new partitions have leaders, or after LeaderWait: a client that creates a topic uses it at once.
func (s *Service) CreateTopics(ctx context.Context, topics []controller.NewTopic, validateOnly bool) []controller.TopicResult {
	results := make([]controller.TopicResult, len(topics))
	fresh := make([]controller.NewTopic, 0, len(topics))
	index := make([]int, 0, len(topics))
	names := make(map[string]int, len(topics))
	for i := range topics {
		names[topics[i].Name]++
	}
	for i := range topics {
		if names[topics[i].Name] > 1 {
			results[i].Err = fmt.Errorf("%w: the topic is named more than once", replication.ErrInvalidRequest)
			continue
		}
		fresh, index = append(fresh, topics[i]), append(index, i)
	}
	if len(fresh) == 0 {
		return results
	}
	var made []*controller.Topic
	for i, r := range s.controller.CreateTopics(ctx, fresh, validateOnly) {
		results[index[i]] = r
		if r.Err == nil && r.Topic != nil && !validateOnly {
			made = append(made, r.Topic)
		}
	}
	s.awaitLeaders(ctx, made)
	return results
}

// leaderPoll is how often awaitLeaders looks: an election without a fault takes a few milliseconds.
const leaderPoll = 3 * time.Millisecond

// awaitLeaders waits until the partitions of new topics have leaders that this node knows. Without a leadership table it
// waits for those on this node. It looks again and again, because at first there is no partition yet that could be watched.
func (s *Service) awaitLeaders(ctx context.Context, topics []*controller.Topic) {
	if s.leaderWait < 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, s.leaderWait)
	defer cancel()
	ticker := time.NewTicker(leaderPoll)
	defer ticker.Stop()
	for _, t := range topics {
		for i := 0; i < len(t.Partitions); {
			if s.led(t, i) {
				i++
				continue
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (s *Service) led(t *controller.Topic, i int) bool {
	if !s.peers && !s.hosts(t.Partitions[i]) {
		return true
	}
	l, _ := leader(s.leaders, s.local, replication.PartitionID{Topic: t.ID, Partition: int32(i)})
	return l.Node != replication.NoNode
}

func (s *Service) hosts(a replication.Assignment) bool {
	for _, r := range a.Replicas {
		if r.Node == s.node {
			return true
		}
	}
	return false
}

// DeletedTopic is the result of a deletion: what the topic was called and its id, as far as either is known.
type DeletedTopic struct {
	Name string
	ID   replication.TopicID
	Err  error
}

// DeleteTopics deletes topics by name or id. The results are in the order of the topics.
func (s *Service) DeleteTopics(ctx context.Context, refs []TopicRef) []DeletedTopic {
	im := s.images.Image()
	results := make([]DeletedTopic, len(refs))
	named := make(map[TopicRef]int, len(refs))
	topics := make(map[replication.TopicID]int, len(refs))
	for i, ref := range refs {
		named[ref]++
		results[i] = resolve(im, ref)
		switch {
		case ref.Name != "" && ref.ID != (replication.TopicID{}):
			results[i].Err = fmt.Errorf("%w: a topic is named by its name or its id, not both", replication.ErrInvalidRequest)
		case results[i].Err == nil:
			topics[results[i].ID]++ // one may name it, and another give its id
		}
	}
	var known []controller.TopicRef
	var index []int
	enabled := im.Layers().Bool("delete.topic.enable")
	for i, ref := range refs {
		switch {
		case !enabled:
			results[i].Err = controller.ErrTopicDeletionDisabled
		case named[ref] > 1 || results[i].Err == nil && topics[results[i].ID] > 1:
			results[i].Err = fmt.Errorf("%w: the topic is named more than once", replication.ErrInvalidRequest)
		}
		if results[i].Err == nil {
			// As the caller named it: another topic may have got the name meanwhile, and an id does not stand for that one.
			known, index = append(known, controller.TopicRef{Name: ref.Name, ID: ref.ID}), append(index, i)
		}
	}
	if len(known) == 0 {
		return results
	}
	for i, err := range s.controller.DeleteTopics(ctx, known) {
		results[index[i]].Err = err
	}
	return results
}

func resolve(im *controller.Image, ref TopicRef) DeletedTopic {
	if ref.Name != "" || ref.ID == (replication.TopicID{}) {
		if t := im.Topics[ref.Name]; t != nil {
			return DeletedTopic{Name: t.Name, ID: t.ID}
		}
		return DeletedTopic{Name: ref.Name, Err: replication.ErrUnknownPartition}
	}
	if t := im.ByID[ref.ID]; t != nil {
		return DeletedTopic{Name: t.Name, ID: t.ID}
	}
	return DeletedTopic{ID: ref.ID, Err: replication.ErrUnknownTopicID}
}

// MorePartitions asks for a topic to grow to Count partitions. Assignments is empty, or names the replicas of each new one.
type MorePartitions struct {
	Topic       string
	Count       int32
	Assignments [][]replication.NodeID
}

// CreatePartitions lets topics grow. The errors are in the order of the requests.
func (s *Service) CreatePartitions(ctx context.Context, requests []MorePartitions, validateOnly bool) []error {
	errs := make([]error, len(requests))
	times := make(map[string]int, len(requests))
	for i := range requests {
		times[requests[i].Topic]++
	}
	var grown []*controller.Topic
	for i := range requests {
		r := &requests[i]
		if times[r.Topic] > 1 {
			errs[i] = fmt.Errorf("%w: the topic is named more than once", replication.ErrInvalidRequest)
			continue
		}
		errs[i] = s.controller.CreatePartitions(ctx, r.Topic, r.Count, r.Assignments, validateOnly)
		if errs[i] == nil && !validateOnly {
			if t := s.images.Image().Topics[r.Topic]; t != nil {
				grown = append(grown, t)
			}
		}
	}
	s.awaitLeaders(ctx, grown)
	return errs
}
