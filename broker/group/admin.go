package group

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/replication"
)

// Describe shows groups. An unknown one is Dead, with broker.ErrGroupNotFound.
func (s *Service) Describe(groups []string) []Description {
	out := make([]Description, len(groups))
	for i, id := range groups {
		out[i] = s.describe(id)
	}
	return out
}

func (s *Service) describe(id string) Description {
	d := Description{Group: id, State: Dead, Err: broker.ErrGroupNotFound}
	err := s.view(id, func(m *Machine) {
		if m != nil && m.state != Dead && m.modern == nil {
			d = m.Describe()
		}
	})
	if err != nil {
		d.Err = err
	}
	return d
}

// List shows all groups of this node that pass the filters. With an error the list is not complete.
func (s *Service) List(r ListRequest) ([]Listing, error) {
	var out []Listing
	failed := s.runtime.Each(func(_ string, m *Machine) {
		if l := m.Listing(); m.state != Dead && passes(r.States, l.State) && passes(r.Types, l.Type) {
			out = append(out, l)
		}
	})
	slices.SortFunc(out, func(a, b Listing) int { return cmp.Compare(a.Group, b.Group) })
	return out, failed
}

func passes(filter []string, value string) bool {
	return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(f, value) })
}

// Delete deletes groups that have no members, with their offsets. The result has an error, or nil, per group.
func (s *Service) Delete(ctx context.Context, groups []string) []error {
	out := make([]error, len(groups))
	for i, id := range groups {
		out[i] = s.deleteOne(ctx, id)
	}
	return out
}

func (s *Service) deleteOne(ctx context.Context, id string) error {
	e, err := s.do(ctx, id, func(c CallID) Event { return Delete{Call: c} })
	if err != nil {
		return err
	}
	return e.(Reply).Err
}

// DeleteOffsets drops offsets. The result has the shape of r.Topics, unless the whole request failed.
func (s *Service) DeleteOffsets(ctx context.Context, r DeleteOffsetsRequest) ([][]error, error) {
	out, known := s.cluster.checkDeletions(r.Topics)
	e, err := s.do(ctx, r.Group, func(c CallID) Event { return DeleteOffsets{Call: c, Topics: known} })
	if err != nil {
		return nil, err
	}
	reply := e.(Reply)
	if reply.Err != nil {
		return nil, reply.Err
	}
	for i, each := range out {
		for j := range each {
			if each[j] == nil {
				each[j] = reply.Each[i]
			}
		}
	}
	return out, nil
}

// checkDeletions tells which partitions do not exist, and returns the topics with those that do.
func (l lookup) checkDeletions(topics []DeleteOffsetsTopic) ([][]error, []DeleteOffsetsTopic) {
	out := make([][]error, len(topics))
	known := make([]DeleteOffsetsTopic, len(topics))
	for i, t := range topics {
		out[i] = make([]error, len(t.Partitions))
		known[i].Name = t.Name
		topic, ok := l.Topic(t.Name)
		for j, p := range t.Partitions {
			if !ok || p < 0 || p >= topic.Partitions {
				out[i][j] = replication.ErrUnknownPartition
				continue
			}
			known[i].Partitions = append(known[i].Partitions, p)
		}
	}
	return out, known
}

// syncPatience is how long a Fetch waits to hear which topics there are now.
const syncPatience = 5 * time.Second

// Fetch answers with committed offsets. A group of which nothing is known has none, which is no error.
//
// Offsets of a topic that is no more are not shown for one that was made again under its name. But a topic that is not known here may also
// be newer than what this node knows: the coordinator before knew it. So in doubt it is asked what is so now; while that can't be
// known, the answer is broker.ErrCoordinatorLoading.
func (s *Service) Fetch(ctx context.Context, r FetchRequest) FetchResponse {
	out, doubtful := offsetsNow(s, &r)
	if len(doubtful) == 0 {
		return out
	}
	ctx, cancel := context.WithTimeout(ctx, syncPatience)
	defer cancel()
	if err := s.cluster.Sync(ctx); err != nil {
		s.logger.Debug("It is not known whether topics with committed offsets were deleted.", "group", r.Group, "error", err)
		return FetchResponse{Err: broker.ErrCoordinatorLoading}
	}
	out, gone := offsetsNow(s, &r)
	for t := range gone {
		if _, ok := doubtful[t]; !ok {
			return FetchResponse{Err: broker.ErrCoordinatorLoading} // read from the log since, so it may be newer than the answer
		}
	}
	for t := range gone {
		s.runtime.TellAll(TopicDeleted{Topic: t.Name, ID: t.ID})
	}
	return out
}

// doubts are topics for which something was committed that have another id here, or none.
type doubts map[coordinator.Topic]struct{}

// offsetsNow answers a Fetch from what is known here.
func offsetsNow(s *Service, r *FetchRequest) (FetchResponse, doubts) {
	var out FetchResponse
	var refused error
	f := fetching{lookup: s.cluster, stable: r.RequireStable, doubtful: doubts{}}
	err := s.view(r.Group, func(m *Machine) {
		if refused = m.checkFetch(r.Member, r.Epoch); refused != nil {
			return
		}
		if r.All {
			out.Topics = f.all(m)
			return
		}
		out.Topics = make([]FetchedTopic, len(r.Topics))
		for i := range r.Topics {
			out.Topics[i] = f.topic(m, &r.Topics[i])
		}
	})
	out.Err = cmp.Or(err, refused)
	return out, f.doubtful
}

// fetching is one look at committed offsets.
type fetching struct {
	lookup   lookup
	stable   bool // those that an open transaction would change are not told
	doubtful doubts
}

// shows tells whether an offset may be one of the topic; if not, it is doubted.
func (f *fetching) shows(c *Committed, topic coordinator.Topic, known bool) bool {
	if !c.isOfAnother(topic, known) {
		return true
	}
	f.doubtful[coordinator.Topic{Name: topic.Name, ID: c.TopicID}] = struct{}{}
	return false
}

func (f *fetching) topic(m *Machine, t *FetchTopic) FetchedTopic {
	out := FetchedTopic{Name: t.Name, ID: t.ID, Partitions: make([]FetchedPartition, len(t.Partitions))}
	topic, known := f.lookup.topic(t.Name, t.ID)
	var wrong error
	if t.Name == "" {
		out.Name = topic.Name
		if !known {
			wrong = replication.ErrUnknownTopicID
		}
	}
	for j, p := range t.Partitions {
		out.Partitions[j] = FetchedPartition{Partition: p, Offset: NoOffset, LeaderEpoch: -1, Err: wrong}
		if m == nil || wrong != nil {
			continue
		}
		k := OffsetKey{Topic: out.Name, Partition: p}
		if f.stable && m.unstable(k) {
			out.Partitions[j].Err = broker.ErrUnstableOffsetCommit
			continue
		}
		if c, ok := m.offsets.get(k); ok && f.shows(&c, topic, known) {
			out.Partitions[j] = c.fetched(p)
		}
	}
	return out
}

func (f *fetching) all(m *Machine) []FetchedTopic {
	if m == nil {
		return nil
	}
	var out []FetchedTopic
	for _, k := range m.offsets.keys("") {
		topic, known := f.lookup.Topic(k.Topic)
		c, _ := m.offsets.get(k)
		if !f.shows(&c, topic, known) {
			continue
		}
		if !known && c.TopicID != (replication.TopicID{}) {
			f.doubtful[coordinator.Topic{Name: k.Topic, ID: c.TopicID}] = struct{}{} // whoever names topics by their ids would leave it out
		}
		if n := len(out); n == 0 || out[n-1].Name != k.Topic {
			out = append(out, FetchedTopic{Name: k.Topic, ID: topic.ID})
		}
		last := &out[len(out)-1]
		p := c.fetched(k.Partition)
		if f.stable && m.unstable(k) {
			p = FetchedPartition{Partition: k.Partition, Offset: NoOffset, LeaderEpoch: -1, Err: broker.ErrUnstableOffsetCommit}
		}
		last.Partitions = append(last.Partitions, p)
	}
	return out
}

// isOfAnother reports that the offset was committed for another topic of that name: one that is no more, or that is not known yet.
func (c *Committed) isOfAnother(topic coordinator.Topic, known bool) bool {
	return known && c.TopicID != (replication.TopicID{}) && c.TopicID != topic.ID
}

func (c *Committed) fetched(partition int32) FetchedPartition {
	return FetchedPartition{Partition: partition, Offset: c.Offset, LeaderEpoch: c.LeaderEpoch, Metadata: c.Metadata}
}

// FindCoordinators tells which node coordinates each group, with the address for clients of the listener. The first call
// in the life of a cluster creates __consumer_offsets.
func (s *Service) FindCoordinators(ctx context.Context, groups []string, listener string) []coordinator.Found {
	return coordinator.Find(ctx, s.cluster, broker.OffsetsTopic, groups, listener, s.logger)
}
