package txn

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Marker is a transaction's marker for one partition.
type Marker struct {
	Identity
	CoordinatorEpoch batch.Epoch
	Commit           bool
	Version          Version
	Partition        Partition
}

// Markers reaches the leaders of partitions, on whichever node they are.
type Markers interface {
	// Leader is the node that leads a partition, NoNode while nobody is known to. replication.ErrUnknownPartition: no such partition
	// is known here, because it was deleted, or is not known yet.
	Leader(p Partition) (replication.NodeID, error)
	// Sync returns once Leader knows all partitions that there were when it was called. It may take as long as ctx lasts.
	Sync(ctx context.Context) error
	// WriteMarkers has a node write markers into partitions that it leads. The first result has an error, or nil, for each; the second
	// says that the node did not answer: then any of them may be written. Writing a marker twice does no harm.
	WriteMarkers(ctx context.Context, to replication.NodeID, markers []Marker) ([]error, error)
}

// sender brings markers to the leaders of their partitions, again and again until they are written, and tells the transaction
// of each. Per node one call is under way at a time; what arrives meanwhile makes up the next one.
type sender struct {
	markers Markers
	limits  *Limits
	logger  *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu struct {
		sync.Mutex
		nodes    map[replication.NodeID][]errand // a node with an entry has a goroutine
		doubtful []errand                        // to partitions that are not known here
		doubting bool                            // doubtful has a goroutine
		unmarked int                             // errands under way
		closed   bool
	}
}

// errand is a marker on its way. It ends with its session, which is the coordinator's knowledge of a partition of
// __transaction_state: whoever coordinates after it begins anew.
type errand struct {
	Marker
	session context.Context
	done    func(Marker)
}

func newSender(m Markers, l *Limits, logger *slog.Logger) *sender {
	s := &sender{markers: m, limits: l, logger: logger}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.mu.nodes = map[replication.NodeID][]errand{}
	return s
}

// send begins to write markers; done is called for each that is written or not needed any more. It does not block.
func (s *sender) send(session context.Context, markers []Marker, done func(Marker)) {
	errands := make([]errand, len(markers))
	for i, m := range markers {
		errands[i] = errand{m, session, done}
	}
	s.mu.Lock()
	s.mu.unmarked += len(errands)
	s.mu.Unlock()
	s.start(func() { s.route(errands) })
}

// full tells that there is so much to do that nothing should be added.
func (s *sender) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.unmarked >= s.limits.MaxUnmarked
}

// close ends all goroutines. What is not written is for the next coordinator.
func (s *sender) close() {
	s.cancel()
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.running.Wait()
}

func (s *sender) start(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.closed {
		s.running.Go(fn)
	}
}

// finish counts errands that have ended, one way or the other.
func (s *sender) finish(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.unmarked -= n
}

// route gives errands to the nodes that lead. Those without a leader wait, those without a partition are doubted.
func (s *sender) route(errands []errand) {
	var waiting, doubtful []errand
	for _, e := range errands {
		node, err := s.markers.Leader(e.Partition)
		switch {
		case e.session.Err() != nil:
			s.finish(1)
		case errors.Is(err, replication.ErrUnknownPartition):
			doubtful = append(doubtful, e)
		case err != nil || node == replication.NoNode:
			waiting = append(waiting, e)
		default:
			s.enqueue(node, e)
		}
	}
	s.later(waiting)
	s.doubt(doubtful)
}

// doubt finds out whether partitions were deleted. A coordinator that is cut off from the metadata does not know what others have
// known for long, and a marker that is not written keeps its partition's last stable offset where it is for ever. One question
// goes for all that is doubtful when it begins.
func (s *sender) doubt(errands []errand) {
	if len(errands) == 0 {
		return
	}
	s.mu.Lock()
	s.mu.doubtful = append(s.mu.doubtful, errands...)
	asking := s.mu.doubting
	s.mu.doubting = true
	s.mu.Unlock()
	if !asking {
		s.start(s.ask)
	}
}

// ask decides what is doubtful, until nothing is.
func (s *sender) ask() {
	for {
		s.mu.Lock()
		errands := s.mu.doubtful
		s.mu.doubtful, s.mu.doubting = nil, len(errands) > 0
		s.mu.Unlock()
		if len(errands) == 0 || s.ctx.Err() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, s.limits.MarkerTimeout)
		err := s.markers.Sync(ctx)
		cancel()
		if err != nil {
			s.logger.Debug("It is not known whether partitions with transactions were deleted; trying again.", "markers", len(errands),
				"first", errands[0].Partition.Topic, "error", err)
			s.later(errands)
			continue
		}
		s.decide(errands)
	}
}

// decide goes on with what was doubtful: what is not known even now was deleted.
func (s *sender) decide(errands []errand) {
	var known []errand
	for _, e := range errands {
		_, err := s.markers.Leader(e.Partition)
		if !errors.Is(err, replication.ErrUnknownPartition) {
			known = append(known, e)
			continue
		}
		s.finish(1)
		if e.session.Err() == nil {
			e.done(e.Marker)
		}
	}
	s.route(known)
}

// later routes errands again after a while.
func (s *sender) later(errands []errand) {
	if len(errands) == 0 {
		return
	}
	s.start(func() {
		t := time.NewTimer(s.limits.RetryDelay)
		defer t.Stop()
		select {
		case <-s.ctx.Done():
		case <-t.C:
			s.route(errands)
		}
	})
}

// enqueue adds an errand to a node's queue, whose goroutine begins with the first.
func (s *sender) enqueue(node replication.NodeID, e errand) {
	s.mu.Lock()
	queue, busy := s.mu.nodes[node]
	s.mu.nodes[node] = append(queue, e)
	s.mu.Unlock()
	if !busy {
		s.start(func() { s.serve(node) })
	}
}

// serve writes a node's markers until there are none.
func (s *sender) serve(node replication.NodeID) {
	for s.ctx.Err() == nil {
		errands := s.take(node)
		if len(errands) == 0 {
			return
		}
		s.write(node, errands)
	}
}

// take removes the markers of the next call from a node's queue; none: the queue is gone, and with it the goroutine.
func (s *sender) take(node replication.NodeID) []errand {
	s.mu.Lock()
	defer s.mu.Unlock()
	queue := s.mu.nodes[node]
	n := min(len(queue), s.limits.MaxMarkers)
	if n == 0 {
		delete(s.mu.nodes, node)
		return nil
	}
	s.mu.nodes[node] = queue[n:]
	return queue[:n:n]
}

func (s *sender) write(node replication.NodeID, errands []errand) {
	live := errands[:0:len(errands)]
	var markers []Marker
	for _, e := range errands {
		if e.session.Err() == nil {
			live, markers = append(live, e), append(markers, e.Marker)
		}
	}
	s.finish(len(errands) - len(live))
	if len(live) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.limits.MarkerTimeout)
	each, err := s.markers.WriteMarkers(ctx, node, markers)
	cancel()
	if err != nil || len(each) != len(live) {
		s.logger.Debug("A node did not write transactions' markers; trying again.", "node", node, "markers", len(live), "error", err)
		s.later(live)
		return
	}
	var again []errand
	for i, e := range live {
		if s.settled(&e, each[i]) {
			s.finish(1)
			e.done(e.Marker)
		} else {
			again = append(again, e)
		}
	}
	s.later(again)
}

// settled tells whether nothing is left to be done for a marker.
func (s *sender) settled(e *errand, err error) bool {
	switch {
	case err == nil:
		return true
	case errors.Is(err, replication.ErrInvalidProducerEpoch):
		// The partition knows a newer epoch of the producer. It got that from a later marker, which has ended what was open.
		s.logger.Warn("A transaction's marker came late.", "topic", e.Partition.Topic, "partition", e.Partition.Index,
			"producer", e.ProducerID, "epoch", e.Epoch, "error", err)
		return true
	}
	// ErrUnknownPartition too: routing knows better whether the topic was deleted, or is not known there yet.
	return false
}
