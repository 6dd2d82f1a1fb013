package keeper

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Options make a Service.
type Options struct {
	Logs    coordinator.Logs    // needed
	Cluster coordinator.Cluster // needed
	Logger  *slog.Logger
}

const (
	// sweepEvery is how often the states of topics that are no more are looked for.
	sweepEvery = 10 * time.Minute
	// syncPatience is how long a sweep waits to hear what is so now. It is left out then; the next one comes.
	syncPatience = 30 * time.Second
)

// Service keeps the states of those keys whose partition of __share_group_state this node leads.
type Service struct {
	cluster coordinator.Cluster
	runtime *coordinator.Runtime[*Machine, Event, Effect]
	logger  *slog.Logger
	cancel  context.CancelFunc // ends sweepLoop
	loops   sync.WaitGroup
}

// New returns a service that keeps nothing yet.
func New(o Options) (*Service, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Service{cluster: o.Cluster, logger: o.Logger}
	var err error
	s.runtime, err = coordinator.New(coordinator.Options[*Machine, Event, Effect]{
		Topic: broker.ShareStateTopic, Logs: o.Logs, Kind: kind{}, Logger: o.Logger,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.loops.Go(func() { s.sweepLoop(ctx) })
	return s, nil
}

func (s *Service) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.sweep(ctx)
		}
	}
}

// sweep forgets the states of topics that are no more. A topic that this node does not know may as well be new: the leader of a
// partition of it can be ahead of a keeper that is cut off from the metadata, and would lose its place in it. So only what
// was kept before a Sync, and is not known behind it, is gone.
func (s *Service) sweep(ctx context.Context) {
	doubtful := map[replication.TopicID]bool{}
	// A partition that is being read has its turn the next time.
	_ = s.runtime.Each(func(_ string, m *Machine) {
		if m.stored != nil && !s.knows(m.key.Topic) {
			doubtful[m.key.Topic] = true
		}
	})
	if len(doubtful) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, syncPatience)
	defer cancel()
	if err := s.cluster.Sync(ctx); err != nil {
		s.logger.Debug("It is not known whether topics with share groups were deleted; their states stay.", "topics", len(doubtful), "error", err)
		return
	}
	s.runtime.TellAll(Sweep{Gone: func(id replication.TopicID) bool { return doubtful[id] && !s.knows(id) }})
}

func (s *Service) knows(id replication.TopicID) bool {
	_, known := s.cluster.TopicByID(id)
	return known
}

// LeaderChanged tells that this node began (local) or ceased to lead a partition of __share_group_state.
func (s *Service) LeaderChanged(partition int32, epoch batch.Epoch, local bool) {
	s.runtime.LeaderChanged(partition, epoch, local)
}

// Close ends all goroutines. Requests that wait are answered broker.ErrNotCoordinator.
func (s *Service) Close() {
	s.cancel()
	s.loops.Wait()
	s.runtime.Close()
}

// Answer executes a request, if this node keeps the key. The state is nil where nothing is known. Errors:
// share.ErrFencedStateEpoch, replication.ErrFencedLeaderEpoch, replication.ErrInvalidRequest, the coordinator's, and those of an append.
func (s *Service) Answer(ctx context.Context, q *Request) (*share.Durable, error) {
	t, ok := s.cluster.Topic(broker.ShareStateTopic)
	if !ok {
		return nil, broker.ErrCoordinatorNotAvailable
	}
	key := q.Key.String()
	f, err := s.runtime.Do(ctx, coordinator.PartitionOf(key, t.Partitions), key, func(id coordinator.CallID) Event {
		return Call{ID: id, Request: q}
	})
	if err != nil {
		return nil, err
	}
	r, _ := f.(Reply)
	return r.State, r.Err
}

// MaxListed bounds the states that one node lists; but one of each topic is listed in any case.
const MaxListed = 20_000

// Position is what is told of a state.
type Position struct {
	Start       batch.Offset // Unset: the group has not begun
	Finished    int64        // offsets from the start on that are finished
	LeaderEpoch batch.Epoch  // of the leader that read or wrote the state last
}

// PositionOf is the position of a state; a nil one is of a key of which nothing is known.
func PositionOf(d *share.Durable) Position {
	if d == nil {
		return Position{Start: Unset}
	}
	return Position{Start: d.Start, Finished: d.Finished(), LeaderEpoch: d.LeaderEpoch}
}

// Listed is a key with its position.
type Listed struct {
	Key share.Key
	Position
}

// List tells of the share-partitions of a group that this node keeps, and of which partitions of the topic it has told so. Of more than
// MaxListed it leaves some out, but no topic.
func (s *Service) List(group string) (out []Listed, of []int32) {
	topics := map[replication.TopicID]bool{}
	of = s.runtime.Whole(func(_ string, m *Machine) {
		if m.key.Group == group && m.stored != nil && (len(out) < MaxListed || !topics[m.key.Topic]) {
			topics[m.key.Topic] = true
			out = append(out, Listed{Key: m.key, Position: PositionOf(m.stored.durable())})
		}
	})
	return out, of
}

// kind tells the coordinators' runtime of keepers. It is a coordinator.Kind.
type kind struct{}

// New is the machine of a key of which nothing is known. All keys come from share.Key.String.
func (kind) New(key string) *Machine {
	k, _ := share.ParseKey(key)
	return NewMachine(k, nil)
}

// NewLoader begins the replay of a partition.
func (kind) NewLoader() coordinator.Loader[*Machine] { return loader{} }

// Tick is the event by which due timers fire.
func (kind) Tick() Event { return Tick{} }

// Written ends a write.
func (kind) Written(seq uint64, err error) Event { return Written{Seq: seq, Err: err} }

// Action tells what an effect wants.
func (kind) Action(effect Effect) coordinator.Action {
	switch f := effect.(type) {
	case Reply:
		return coordinator.Action{Reply: f.Call}
	case Store:
		return coordinator.Action{Write: &coordinator.Write{
			Seq: f.Seq, Size: f.Record.size(), Records: func(add func(key, value []byte)) { add(f.Record.encode()) },
		}}
	}
	return coordinator.Action{}
}

// Perform has nothing to do: a keeper wants nothing but answers and writes.
func (kind) Perform(coordinator.Place, Effect) {}

// loader replays records; of each key the newest wins.
type loader map[share.Key]*Stored

// Record replays one record.
func (l loader) Record(_ *batch.Header, key, value []byte) error {
	r, err := decode(key, value)
	if err != nil {
		return err
	}
	if r.State == nil {
		delete(l, r.Key)
	} else {
		l[r.Key] = r.State
	}
	return nil
}

// Marker has no meaning: nothing in __share_group_state is transactional.
func (l loader) Marker(coordinator.Marker) {}

// Machines makes machines of what was read.
func (l loader) Machines(time.Time) map[string]*Machine {
	out := make(map[string]*Machine, len(l))
	for k, s := range l {
		out[k.String()] = NewMachine(k, s)
	}
	return out
}
