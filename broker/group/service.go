package group

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Options make a Service.
type Options struct {
	Logs    coordinator.Logs // needed
	Cluster Cluster          // needed
	Limits  Limits           // the zero value stands for DefaultLimits
	// Times are what holds for the members of a consumer or a share group, which may have set its own; nil: those of Limits. It is
	// asked for at each heartbeat, under locks, and must not block.
	Times  func(group string, share bool) Times
	Logger *slog.Logger
}

// Service is the group coordinator of a node. It has the groups of those partitions of __consumer_offsets that the node
// leads, as LeaderChanged tells it; for all others it answers broker.ErrNotCoordinator.
type Service struct {
	runtime *coordinator.Runtime[*Machine, Event, Effect]
	cluster lookup
	limits  Limits
	times   func(group string, share bool) Times
	logger  *slog.Logger
	topics  changes
}

// changes counts the changes of the cluster's topics.
type changes struct{ atomic.Uint64 }

// view is what exists now.
func (c *changes) view(topics Topics) View {
	return View{Topics: topics, Version: c.Load() + 1} // not 0, which stands for none
}

// ErrOptions means that Options lack something.
var ErrOptions = errors.New("group: Logs and Cluster are needed")

// New returns a service that coordinates nothing yet.
func New(o Options) (*Service, error) {
	if o.Logs == nil || o.Cluster == nil {
		return nil, ErrOptions
	}
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Service{cluster: lookup{o.Cluster}, limits: o.Limits, times: o.Times, logger: o.Logger}
	if s.times == nil {
		s.times = s.limits.times
	}
	var err error
	s.runtime, err = coordinator.New(coordinator.Options[*Machine, Event, Effect]{
		Topic: broker.OffsetsTopic, Logs: o.Logs, Kind: kind{&s.limits, s.cluster, s.times}, Limits: s.limits.runtime(),
		Sweep: Sweep{}, SweepEvery: s.limits.RetentionCheck, Logger: o.Logger,
	})
	return s, err
}

// LeaderChanged tells that this node began (local) or ceased to lead a partition of __consumer_offsets. It does not block.
func (s *Service) LeaderChanged(partition int32, epoch batch.Epoch, local bool) {
	s.runtime.LeaderChanged(partition, epoch, local)
}

// TopicsDeleted drops the offsets of topics that were deleted just now. Those of groups that are being read at the time are found when
// somebody asks for them: see Fetch.
func (s *Service) TopicsDeleted(topics ...coordinator.Topic) {
	for _, t := range topics {
		s.runtime.TellAll(TopicDeleted{Topic: t.Name, ID: t.ID, Just: true})
	}
}

// Close gives up all groups and waits for the goroutines to end. Requests that wait are answered
// broker.ErrNotCoordinator.
func (s *Service) Close() { s.runtime.Close() }

// place finds the partition of a group.
func (s *Service) place(group string) (int32, error) {
	if len(group) > s.limits.MaxGroupIDBytes {
		return 0, broker.ErrInvalidGroupID
	}
	t, ok := s.cluster.Topic(broker.OffsetsTopic)
	if !ok || t.Partitions <= 0 {
		return 0, broker.ErrNotCoordinator
	}
	return coordinator.PartitionOf(group, t.Partitions), nil
}

// do gives an event to a group and waits for the answer.
func (s *Service) do(ctx context.Context, group string, event func(CallID) Event) (Effect, error) {
	p, err := s.place(group)
	if err != nil {
		return nil, err
	}
	return s.runtime.Do(ctx, p, group, event)
}

// view lets fn look at a group; m is nil if there is none.
func (s *Service) view(group string, fn func(m *Machine)) error {
	p, err := s.place(group)
	if err != nil {
		return err
	}
	return s.runtime.View(p, group, func(m *Machine, _ bool) { fn(m) })
}

// checkNames is for requests that only members send, for which a group without a name is not one.
func (l *Limits) checkNames(group, member, instance string) error {
	if group == "" || len(member) > l.MaxGroupIDBytes || len(instance) > l.MaxGroupIDBytes {
		return broker.ErrInvalidGroupID
	}
	return nil
}

// Join answers a JoinGroup request. It waits until the group's next generation begins.
func (s *Service) Join(ctx context.Context, r JoinRequest) JoinResponse {
	failed := func(err error) JoinResponse {
		return JoinResponse{Err: err, Member: r.Member, Generation: NoGeneration}
	}
	if len(r.Protocols) > s.limits.MaxProtocols {
		return failed(broker.ErrInconsistentGroupProtocol)
	}
	if err := s.limits.checkNames(r.Group, r.Member, r.Instance); err != nil {
		return failed(err)
	}
	newMember := newMemberID(r.ClientID, r.Instance)
	e, err := s.do(ctx, r.Group, func(c CallID) Event {
		return Join{View: s.topics.view(s.cluster), Call: c, Request: r, NewMember: newMember}
	})
	if err != nil {
		return failed(err)
	}
	return e.(ReplyJoin).Response
}

// Sync answers a SyncGroup request. It waits until the leader's assignments are stored.
func (s *Service) Sync(ctx context.Context, r SyncRequest) SyncResponse {
	if err := s.limits.checkNames(r.Group, r.Member, r.Instance); err != nil {
		return SyncResponse{Err: err}
	}
	e, err := s.do(ctx, r.Group, func(c CallID) Event { return Sync{View: s.topics.view(s.cluster), Call: c, Request: r} })
	if err != nil {
		return SyncResponse{Err: err}
	}
	return e.(ReplySync).Response
}

// Heartbeat answers a Heartbeat request.
func (s *Service) Heartbeat(ctx context.Context, r HeartbeatRequest) error {
	if err := s.limits.checkNames(r.Group, r.Member, r.Instance); err != nil {
		return err
	}
	e, err := s.do(ctx, r.Group, func(c CallID) Event { return Heartbeat{View: s.topics.view(s.cluster), Call: c, Request: r} })
	if err != nil {
		return err
	}
	return e.(Reply).Err
}

// Leave answers a LeaveGroup request, with an error per member.
func (s *Service) Leave(ctx context.Context, r LeaveRequest) ([]error, error) {
	if err := s.limits.checkNames(r.Group, "", ""); err != nil {
		return nil, err
	}
	e, err := s.do(ctx, r.Group, func(c CallID) Event { return Leave{View: s.topics.view(s.cluster), Call: c, Members: r.Members} })
	if err != nil {
		return nil, err
	}
	reply := e.(Reply)
	return reply.Each, reply.Err
}

// TxnCommit stores offsets as part of a transaction: they count once a marker commits it (KIP-98, KIP-447). The result is
// Commit's; a producer that is fenced gets replication.ErrInvalidProducerEpoch.
func (s *Service) TxnCommit(ctx context.Context, r TxnCommitRequest) [][]error {
	if r.Group == "" {
		return failAll(make([][]error, len(r.Topics)), r.Topics, broker.ErrInvalidGroupID)
	}
	refused := func(err error) [][]error { return failAll(make([][]error, len(r.Topics)), r.Topics, err) }
	at, err := s.place(r.Group)
	if err != nil {
		return refused(err)
	}
	v, err := s.runtime.Verify(at, *r.Producer.asBatch())
	if err != nil {
		return refused(err)
	}
	defer v.End()
	if err := r.Ask(); err != nil {
		return refused(err)
	}
	return s.commitFor(ctx, &r.Producer, v, r.CommitRequest)
}

// TxnEnded tells of a marker that was committed to a partition of __consumer_offsets that this node leads. It returns when the
// offsets that the transaction commits can be seen. After broker.ErrNotCoordinator and broker.ErrCoordinatorLoading nothing is
// left to be done: whoever coordinates then reads the marker.
func (s *Service) TxnEnded(ctx context.Context, partition int32, producerID int64, epoch int16, commit bool) error {
	m := coordinator.Marker{ProducerID: producerID, Epoch: epoch, Commit: commit}
	return s.runtime.Ended(ctx, partition, m, TxnEnded{Producer: Producer{ID: producerID, Epoch: epoch}, Commit: commit})
}

// Commit stores offsets. The result has the shape of r.Topics: an error, or nil, per partition.
func (s *Service) Commit(ctx context.Context, r CommitRequest) [][]error {
	return s.commitFor(ctx, nil, nil, r)
}

func (s *Service) commitFor(ctx context.Context, p *Producer, v coordinator.Verified, r CommitRequest) [][]error {
	now := time.Now()
	results := make([][]error, len(r.Topics))
	event := Commit{Member: r.Member, Instance: r.Instance, Generation: r.Generation, Old: r.Old, Producer: p, Verified: v}
	for i := range r.Topics {
		results[i] = s.checkOffsets(now, &r, &r.Topics[i], &event)
	}
	if err := s.commit(ctx, r.Group, event); err != nil {
		return failAll(results, r.Topics, err)
	}
	return results
}

// failAll gives an error to all partitions that have none.
func failAll(results [][]error, topics []CommitTopic, err error) [][]error {
	for i := range results {
		if results[i] == nil {
			results[i] = make([]error, len(topics[i].Partitions))
		}
		for j := range results[i] {
			if results[i][j] == nil {
				results[i][j] = err
			}
		}
	}
	return results
}

func (s *Service) commit(ctx context.Context, group string, event Commit) error {
	e, err := s.do(ctx, group, func(c CallID) Event {
		event.Call = c
		return event
	})
	if err != nil {
		return err
	}
	return e.(Reply).Err
}

// checkOffsets adds the offsets of a topic to the event, but for those that are refused.
func (s *Service) checkOffsets(now time.Time, r *CommitRequest, t *CommitTopic, event *Commit) []error {
	each := make([]error, len(t.Partitions))
	topic, ok := s.cluster.topic(t.Name, t.ID)
	for j := range t.Partitions {
		p := &t.Partitions[j]
		switch {
		case !ok && t.Name == "":
			each[j] = replication.ErrUnknownTopicID
		case !ok || p.Partition < 0 || p.Partition >= topic.Partitions:
			each[j] = replication.ErrUnknownPartition
		case len(p.Metadata) > s.limits.OffsetMetadataBytes:
			each[j] = broker.ErrOffsetMetadataTooLarge
		default:
			c := Committed{Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: p.Metadata, At: now.Truncate(time.Millisecond), TopicID: topic.ID}
			if r.Retention >= 0 {
				c.Expires = c.At.Add(r.Retention)
			}
			event.Offsets = append(event.Offsets, CommitEntry{Key: OffsetKey{Topic: topic.Name, Partition: p.Partition}, Value: c})
		}
	}
	return each
}

// lookup answers from the cluster's metadata.
type lookup struct{ Cluster }

// topic finds a topic by its name or else by its id.
func (l lookup) topic(name string, id replication.TopicID) (coordinator.Topic, bool) {
	if name != "" {
		return l.Topic(name)
	}
	return l.TopicByID(id)
}
