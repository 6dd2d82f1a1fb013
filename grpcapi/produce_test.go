package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/admin"
	"github.com/quorlog/quorlog/broker/fetch"
	"github.com/quorlog/quorlog/broker/produce"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"
)

// moving is a partition whose leadership moves from node to node: each call is answered by the next.
type moving struct {
	begins  time.Time // when anybody is known to lead; zero: at once
	at      time.Time // when the second node is known to lead; zero: at once
	asked   []replication.NodeID
	answers []func(*records) ([]byte, error) // the last again and again
	server  *records
}

func (m *moving) LeaderOf(string, replication.TopicID, int32) replication.Leader {
	if time.Now().Before(m.begins) {
		return replication.NoLeader
	}
	if len(m.asked) == 0 || time.Now().Before(m.at) {
		return replication.Leader{Node: 2}
	}
	return replication.Leader{Node: 3}
}

func (m *moving) Lookup(string, int32) (*partition.Partition, error) {
	return nil, replication.ErrNotLeader
}

func (m *moving) LookupID(replication.TopicID, int32) (*partition.Partition, error) {
	return nil, replication.ErrNotLeader
}

func (m *moving) forward(_ context.Context, to replication.NodeID, _ string, _ []byte) ([]byte, error) {
	m.asked = append(m.asked, to)
	return m.answers[min(len(m.asked), len(m.answers))-1](m.server)
}

// What the other node may answer.
func stores(*records) ([]byte, error) {
	return proto.Marshal(&quorlogv1.ProducedBatch{BaseOffset: 7, AppendTimeMs: -1})
}

func leadsNoMore(s *records) ([]byte, error) {
	err := fmt.Errorf("%w: it handed over", replication.ErrNotLeader)
	return proto.Marshal(failed(0, s.part(err, &quorlogv1.NotLeader{Leader: 3})))
}

func isGone(*records) ([]byte, error) { return nil, replication.ErrNotLeader }

func fallsSilent(*records) ([]byte, error) { return nil, replication.ErrUnknownOutcome }

func isFull(s *records) ([]byte, error) {
	return proto.Marshal(failed(0, s.part(replication.ErrStorage, nil)))
}

// Where a node that was to store records says that it does not lead, or takes no call, its successor is looked for. What may have been
// stored is sent nowhere else.
func TestForwardLooksAgain(t *testing.T) {
	type answers = []func(*records) ([]byte, error)
	for name, c := range map[string]struct {
		answers answers
		begins  time.Duration // when anybody is known to lead
		known   time.Duration // when the successor is
		timeout time.Duration // the request's; 0: the default
		asked   []replication.NodeID
		code    codes.Code
	}{
		"it handed over":                   {answers{leadsNoMore, stores}, 0, 0, 0, []replication.NodeID{2, 3}, codes.OK},
		"it is gone":                       {answers{isGone, stores}, 0, 0, 0, []replication.NodeID{2, 3}, codes.OK},
		"the next one has not begun":       {answers{isGone, leadsNoMore, stores}, 0, 0, 0, []replication.NodeID{2, 3, 3}, codes.OK},
		"an election":                      {answers{isGone, isGone, stores}, 0, forwardPause + 1, 0, []replication.NodeID{2, 2, 3}, codes.OK},
		"nobody leads for a moment":        {answers{stores}, forwardPause + 1, 0, 0, []replication.NodeID{2}, codes.OK},
		"nobody leads for long":            {answers{stores}, time.Hour, 0, 0, nil, codes.Unavailable},
		"it may have stored them":          {answers{fallsSilent, stores}, 0, 0, 0, []replication.NodeID{2}, codes.DeadlineExceeded},
		"and so may the next one":          {answers{leadsNoMore, fallsSilent, stores}, 0, 0, 0, []replication.NodeID{2, 3}, codes.DeadlineExceeded},
		"it refuses for a reason":          {answers{isFull, stores}, 0, 0, 0, []replication.NodeID{2}, codes.Unavailable},
		"the client does not wait so long": {answers{isGone, stores}, 0, 0, forwardPause / 2, []replication.NodeID{2}, codes.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &moving{answers: c.answers, begins: time.Now().Add(c.begins), at: time.Now().Add(c.known)}
				m.server = produces(t, m)
				partition := int32(0)
				out, err := m.server.Produce(t.Context(), &quorlogv1.ProduceRequest{
					Topic: "t", Partition: &partition, Records: []*quorlogv1.Record{{}}, TimeoutMs: int32(c.timeout.Milliseconds()),
				})
				if status.Code(err) != c.code || !slices.Equal(m.asked, c.asked) {
					t.Errorf("%v after asking %v", err, m.asked)
				}
				if b := out.GetBatches(); err == nil && (len(b) != 1 || b[0].GetBaseOffset() != 7 || b[0].GetLeader().GetLeader() != int32(m.asked[len(m.asked)-1])) {
					t.Errorf("stored as %v", b)
				}
			})
		})
	}
}

// The client is told before its own patience ends, and however many of a stream's batches have no leader, they wait together.
func TestForwardGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moving{answers: []func(*records) ([]byte, error){isGone}}
		m.server = produces(t, m)
		partition := int32(0)
		began := time.Now()
		var waiting []*producing
		under := &away{parts: map[fetch.Key]int{}}
		for range 5 {
			p, err := m.server.begin(t.Context(), &quorlogv1.ProduceRequest{Topic: "t", Partition: &partition, Records: []*quorlogv1.Record{{}}}, under)
			if err != nil {
				t.Fatal(err)
			}
			waiting = append(waiting, p)
		}
		for _, p := range waiting {
			if _, err := p.finish(t.Context()); status.Code(err) != codes.Unavailable {
				t.Error(err)
			}
		}
		if len(under.parts) != 0 {
			t.Errorf("%v are away for ever", under.parts)
		}
		if took, most := time.Since(began), int(forwardPatience/forwardPause); took > forwardPatience || len(m.asked) > most+len(waiting) {
			t.Errorf("%d calls in %v", len(m.asked), took)
		}
	})
}

// nobody is a cluster whose nodes have no addresses.
type nobody struct{}

func (nobody) Image() *controller.Image           { return &controller.Image{} }
func (nobody) ControllerNode() replication.NodeID { return replication.NoNode }

// produces is a node without replicas.
func produces(t *testing.T, m *moving) *records {
	t.Helper()
	reason := func(err error) string {
		switch {
		case errors.Is(err, replication.ErrNotLeader):
			return "NOT_LEADER_OR_FOLLOWER"
		case errors.Is(err, replication.ErrUnknownOutcome):
			return "REQUEST_TIMED_OUT"
		}
		return "KAFKA_STORAGE_ERROR"
	}
	return &records{core: &core{
		auth: broker.Everyone{}, memory: newMemory(), ctx: t.Context(), logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		o: Options{
			Node: 1, Routes: m, Produce: produce.New(produce.Options{Partitions: m, Leaders: m}), Forward: m.forward, Now: time.Now, Reason: reason, Admin: admin.New(admin.Options{Images: nobody{}}),
			Partitions: func(string) (int32, bool) { return 1, true },
		},
	}}
}
