package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Options make a Service. All but Limits and Logger are needed.
type Options struct {
	Logs    coordinator.Logs    // the replicas of __transaction_state
	Cluster coordinator.Cluster // likewise
	Node    replication.NodeID
	Peers   Peers
	// NewID gives a producer id that nobody in the cluster ever had.
	NewID  func(ctx context.Context) (ProducerID, error)
	Limits Limits // the zero value stands for DefaultLimits
	Logger *slog.Logger
}

// ErrOptions means that Options lack something.
var ErrOptions = errors.New("txn: Logs, Cluster, Peers and NewID are needed")

// Service is the transaction coordinator of a node. It has the transactional ids of those partitions of __transaction_state
// that the node leads, as LeaderChanged tells it; for all others it answers broker.ErrNotCoordinator.
type Service struct {
	cluster  coordinator.Cluster
	node     replication.NodeID
	peers    Peers
	newID    func(ctx context.Context) (ProducerID, error)
	limits   Limits
	logger   *slog.Logger
	runtime  *coordinator.Runtime[*Machine, Event, Effect]
	sessions *sessions
}

// New returns a service that coordinates nothing yet.
func New(o Options) (*Service, error) {
	if o.Logs == nil || o.Cluster == nil || o.Peers == nil || o.NewID == nil {
		return nil, ErrOptions
	}
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Service{cluster: o.Cluster, node: o.Node, peers: o.Peers, newID: o.NewID, limits: o.Limits, logger: o.Logger}
	s.sessions = newSessions(newSender(o.Peers, &s.limits, o.Logger))
	var err error
	s.runtime, err = coordinator.New(coordinator.Options[*Machine, Event, Effect]{
		Topic: broker.TransactionTopic, Logs: o.Logs, Kind: kind{s}, Logger: o.Logger, KeysSetting: SettingMaxIDs,
		Limits: coordinator.Limits{
			MaxKeys: s.limits.MaxIDs, MaxCalls: s.limits.MaxCalls, MaxQueuedBytes: s.limits.MaxQueuedBytes, MaxBatchBytes: s.limits.MaxBatchBytes,
		},
	})
	if err != nil {
		return nil, err
	}
	s.sessions.tell = s.runtime.Tell
	return s, nil
}

// LeaderChanged tells that this node began (local) or ceased to lead a partition of __transaction_state. It does not block.
func (s *Service) LeaderChanged(partition int32, epoch batch.Epoch, local bool) {
	if !local {
		epoch = batch.NoEpoch
	}
	s.sessions.end(partition, epoch)
	s.runtime.LeaderChanged(partition, epoch, local)
}

// Close gives up all transactional ids and waits for the goroutines to end. Requests that wait are answered
// broker.ErrNotCoordinator.
func (s *Service) Close() {
	s.runtime.Close()
	s.sessions.close()
}

// FindCoordinators tells which nodes coordinate transactional ids. The first call in the life of a cluster makes
// __transaction_state.
func (s *Service) FindCoordinators(ctx context.Context, ids []string, listener string) []coordinator.Found {
	return coordinator.Find(ctx, s.cluster, broker.TransactionTopic, ids, listener, s.logger)
}

// partition finds the partition of __transaction_state that an id belongs to.
func (s *Service) partition(id string) (int32, error) {
	if id == "" || len(id) > s.limits.MaxIDBytes {
		return 0, fmt.Errorf("%w: transactional id of %d bytes", replication.ErrInvalidRequest, len(id))
	}
	t, ok := s.cluster.Topic(broker.TransactionTopic)
	if !ok || t.Partitions <= 0 {
		return 0, broker.ErrNotCoordinator
	}
	return coordinator.PartitionOf(id, t.Partitions), nil
}

// do gives an event to an id's machine, with a fresh producer id if it needs one.
func (s *Service) do(ctx context.Context, id string, event func(call CallID, fresh ProducerID) Event) (Effect, error) {
	p, err := s.partition(id)
	if err != nil {
		return nil, err
	}
	fresh := None
	for {
		f, err := s.runtime.Do(ctx, p, id, func(c CallID) Event { return event(c, fresh) })
		if err != nil {
			return nil, err
		}
		if _, needed := f.(NeedID); !needed {
			return f, nil
		}
		if fresh, err = s.newID(ctx); err != nil {
			return nil, fmt.Errorf("%w: no producer id: %w", broker.ErrCoordinatorNotAvailable, err)
		}
	}
}

// InitRequest asks for the identity of a transactional id's producer.
type InitRequest struct {
	ID      string
	Timeout time.Duration // of its transactions
	// Expected is what the producer says that it is (KIP-360); None and NoEpoch if it says nothing.
	Expected Identity
}

// InitProducerID gives a producer an identity and fences those before it. broker.ErrConcurrentTransactions: a transaction of
// before is being ended; the client tries again.
func (s *Service) InitProducerID(ctx context.Context, r InitRequest) (Identity, error) {
	if _, err := s.partition(r.ID); errors.Is(err, replication.ErrInvalidRequest) {
		return noIdentity, err
	}
	if r.Timeout <= 0 || r.Timeout > s.limits.MaxTimeout {
		return noIdentity, broker.ErrInvalidTransactionTimeout
	}
	return identityOf(s.do(ctx, r.ID, func(c CallID, fresh ProducerID) Event {
		return InitProducer{Call: c, Expected: r.Expected, Timeout: r.Timeout, Fresh: fresh}
	}))
}

func identityOf(f Effect, err error) (Identity, error) {
	if err != nil {
		return noIdentity, err
	}
	reply := f.(ReplyIdentity)
	return reply.Identity, reply.Err
}

// EndRequest ends a transaction.
type EndRequest struct {
	ID string
	Identity
	Commit  bool
	Version Version
}

// End ends a transaction and tells the identity to use for the next one. It is answered when the end is decided; the
// markers follow.
func (s *Service) End(ctx context.Context, r EndRequest) (Identity, error) {
	if s.sessions.sender.full() {
		return noIdentity, broker.ErrConcurrentTransactions
	}
	return identityOf(s.do(ctx, r.ID, func(c CallID, fresh ProducerID) Event {
		return End{Call: c, Identity: r.Identity, Commit: r.Commit, Version: r.Version, Fresh: fresh}
	}))
}

// AddRequest makes partitions part of a transaction, or, with VerifyOnly, asks whether they are.
type AddRequest struct {
	ID string
	Identity
	Partitions []Partition
	VerifyOnly bool
	Version    Version
}

// AddPartitions answers with an error, or nil, for each partition, or with one for all of them. With
// replication.ErrUnknownPartition nothing was added: whoever asks may know the partition already, so a moment may cure that.
func (s *Service) AddPartitions(ctx context.Context, r AddRequest) ([]error, error) {
	if r.VerifyOnly {
		return s.verify(&r)
	}
	for _, p := range r.Partitions {
		if !s.Exists(p) {
			return nil, fmt.Errorf("%w: %s-%d", replication.ErrUnknownPartition, p.Topic, p.Index)
		}
	}
	f, err := s.do(ctx, r.ID, func(c CallID, _ ProducerID) Event {
		return AddPartitions{Call: c, Identity: r.Identity, Partitions: r.Partitions, Version: r.Version}
	})
	if err != nil {
		return nil, err
	}
	return make([]error, len(r.Partitions)), f.(Reply).Err
}

func (s *Service) verify(r *AddRequest) (each []error, err error) {
	p, err := s.partition(r.ID)
	if err != nil {
		return nil, err
	}
	viewed := s.runtime.View(p, r.ID, func(m *Machine, known bool) {
		if err = broker.ErrInvalidProducerIDMapping; known {
			each, err = m.Verify(r.ProducerID, r.Epoch, r.Partitions)
		}
	})
	if viewed != nil {
		return nil, viewed
	}
	return each, err
}

// Describe tells what is known of a transactional id.
func (s *Service) Describe(id string) (m Metadata, err error) {
	p, err := s.partition(id)
	if err != nil {
		return Metadata{}, err
	}
	viewed := s.runtime.View(p, id, func(machine *Machine, known bool) {
		if known && !machine.Blank() {
			m = machine.Metadata()
		} else {
			err = broker.ErrTransactionalIDNotFound
		}
	})
	if viewed != nil {
		return Metadata{}, viewed
	}
	return m, err
}

// Listing is a transactional id as ListTransactions shows it.
type Listing struct {
	ID         string
	ProducerID ProducerID
	State      State
}

// ListRequest filters; empty filters pass everything.
type ListRequest struct {
	States      []State
	ProducerIDs []ProducerID
	// Running passes only transactions that are going on for longer than this; negative: everything (KIP-994).
	Running time.Duration
	// Match passes ids; nil: all.
	Match func(id string) bool
}

// List tells which transactional ids this node coordinates. With broker.ErrCoordinatorLoading some are missing.
func (s *Service) List(r ListRequest) ([]Listing, error) {
	var out []Listing
	now := time.Now()
	err := s.runtime.Each(func(id string, m *Machine) {
		if r.passes(now, &m.at) {
			out = append(out, Listing{ID: id, ProducerID: m.at.ProducerID, State: m.at.State})
		}
	})
	if r.Match != nil { // not under the locks: it may take its time
		out = slices.DeleteFunc(out, func(l Listing) bool { return !r.Match(l.ID) })
	}
	return out, err
}

func (r *ListRequest) passes(now time.Time, m *Metadata) bool {
	switch {
	case m.ProducerID == None:
		return false // it is being written for the first time
	case len(r.States) > 0 && !slices.Contains(r.States, m.State):
		return false
	case len(r.ProducerIDs) > 0 && !slices.Contains(r.ProducerIDs, m.ProducerID):
		return false
	case r.Running >= 0 && (m.State != Ongoing && !m.State.prepared() || now.Sub(m.Started) <= r.Running):
		return false
	}
	return true
}
