package admin

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"
)

// The handlers' tests in broker/api go through the whole service with real parts; these are about what needs none.

// fakeController hands out producer ids and nothing else.
type fakeController struct {
	Controller
	mu     sync.Mutex
	blocks int
	next   int64
	err    error
	hang   chan struct{} // if set, a block comes when it is closed
}

func (c *fakeController) AllocateProducerIDs(ctx context.Context) (int64, int32, error) {
	if c.hang != nil {
		select {
		case <-c.hang:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, 0, c.err
	}
	first := c.next
	c.next += 10
	c.blocks++
	return first, 10, nil
}

func TestProducerIDsAreUnique(t *testing.T) {
	source := &fakeController{next: 100}
	s := New(Options{Controller: source})
	var mu sync.Mutex
	var wg sync.WaitGroup
	seen := make(map[int64]bool)
	for range 8 {
		wg.Go(func() {
			for range 25 {
				got, err := s.InitProducerID(t.Context(), InitProducer{ProducerIdentity: ProducerIdentity{ID: -1, Epoch: -1}})
				mu.Lock()
				if err != nil || seen[got.ID] || got.ID < 100 || got.Epoch != 0 {
					t.Errorf("%+v, %v", got, err)
				}
				seen[got.ID] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if source.blocks != 20 {
		t.Errorf("%d blocks of 10 for 200 producers", source.blocks)
	}
}

func TestProducerIDsWhenTheControllerFails(t *testing.T) {
	source := &fakeController{err: replication.ErrUnknownOutcome}
	s := New(Options{Controller: source})
	ask := InitProducer{ProducerIdentity: ProducerIdentity{ID: -1, Epoch: -1}}
	if got, err := s.InitProducerID(t.Context(), ask); !errors.Is(err, replication.ErrUnknownOutcome) || got.ID != -1 {
		t.Errorf("%+v, %v", got, err)
	}
	source.err = nil
	if got, err := s.InitProducerID(t.Context(), ask); err != nil || got.ID != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// One request waits for the controller, the others for that one; each can give up.
func TestWaitingForProducerIDsEndsWithTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeController{hang: make(chan struct{})}
		s := New(Options{Controller: source})
		ask := InitProducer{ProducerIdentity: ProducerIdentity{ID: -1, Epoch: -1}}
		impatient, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		go func() {
			_, err := s.InitProducerID(t.Context(), ask)
			errs <- err
		}()
		synctest.Wait()
		go func() {
			_, err := s.InitProducerID(impatient, ask)
			errs <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		close(source.hang)
		if err := <-errs; err != nil {
			t.Error(err)
		}
	})
}

func TestInitProducerRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		r    InitProducer
		want error
	}{
		"id without epoch": {InitProducer{ProducerIdentity: ProducerIdentity{5, -1}}, replication.ErrInvalidRequest},
		"epoch without id": {InitProducer{ProducerIdentity: ProducerIdentity{-1, 5}}, replication.ErrInvalidRequest},
	} {
		got, err := New(Options{Controller: &fakeController{}}).InitProducerID(t.Context(), tc.r)
		if !errors.Is(err, tc.want) || got != (ProducerIdentity{-1, -1}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// deletions is a controller that notes what it is asked to delete.
type deletions struct {
	Controller
	deleted []controller.TopicRef
}

func (r *deletions) DeleteTopics(_ context.Context, refs []controller.TopicRef) []error {
	r.deleted = append(r.deleted, refs...)
	return make([]error, len(refs))
}

// Whoever gives an id means that topic, not one that has its name by the time the controller looks.
func TestDeletionByIDKeepsTheID(t *testing.T) {
	im := orders(1)
	id := im.Topics["orders"].ID
	r := &deletions{}
	s := New(Options{Images: fixed{im}, Controller: r})
	got := s.DeleteTopics(t.Context(), []TopicRef{{ID: id}})
	if got[0].Err != nil || got[0].Name != "orders" || len(r.deleted) != 1 || r.deleted[0] != (controller.TopicRef{ID: id}) {
		t.Errorf("%+v; the controller was asked for %+v", got, r.deleted)
	}
}

// fixed is an image that does not change.
type fixed struct{ image *controller.Image }

func (f fixed) Image() *controller.Image           { return f.image }
func (f fixed) ControllerNode() replication.NodeID { return 1 }

// hosted are the partitions of a node.
type hosted map[replication.PartitionID]*partition.Partition

func (h hosted) Get(id replication.PartitionID) (*partition.Partition, bool) {
	p, ok := h[id]
	return p, ok
}

func (h hosted) All() []*partition.Partition { return nil }

func TestPartitionsTellWhyTheyAreNotThere(t *testing.T) {
	id := replication.TopicID{1}
	topic := &controller.Topic{Name: "t", ID: id, Partitions: make([]replication.Assignment, 2)}
	here := new(partition.Partition)
	p := NewPartitions(fixed{&controller.Image{
		Topics: map[string]*controller.Topic{"t": topic},
		ByID:   map[replication.TopicID]*controller.Topic{id: topic},
	}}, hosted{{Topic: id, Partition: 0}: here}, nil)
	for _, tc := range []struct {
		name  string
		id    replication.TopicID
		index int32
		want  error
		byID  error
	}{
		{"t", id, 0, nil, nil},
		{"t", id, 1, replication.ErrNotLeader, replication.ErrNotLeader},
		{"t", id, 2, replication.ErrUnknownPartition, replication.ErrUnknownPartition},
		{"t", id, -1, replication.ErrUnknownPartition, replication.ErrUnknownPartition},
		{"u", replication.TopicID{2}, 0, replication.ErrUnknownPartition, replication.ErrUnknownTopicID},
	} {
		got, err := p.Lookup(tc.name, tc.index)
		if err != tc.want || (err == nil) != (got == here) {
			t.Errorf("%+v: %v", tc, err)
		}
		got, err = p.LookupID(tc.id, tc.index)
		if err != tc.byID || (err == nil) != (got == here) {
			t.Errorf("%+v by id: %v", tc, err)
		}
	}
}
