package txn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/quorlog/quorlog/replication"
)

// fakeMarkers is a cluster whose nodes answer as they are told.
type fakeMarkers struct {
	mu      sync.Mutex
	leaders map[Partition]replication.NodeID
	answer  func(to replication.NodeID, m Marker) error
	down    map[replication.NodeID]bool
	held    chan struct{} // calls wait until it is closed; nil: none does
	behind  chan struct{} // until it is closed nobody can tell whether leaders has everything; nil: it has
	calls   int
	syncs   int
	written map[Partition][]replication.NodeID
}

func newFakeMarkers() *fakeMarkers {
	return &fakeMarkers{
		leaders: map[Partition]replication.NodeID{}, down: map[replication.NodeID]bool{}, written: map[Partition][]replication.NodeID{},
		answer: func(replication.NodeID, Marker) error { return nil },
	}
}

func (f *fakeMarkers) set(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

func (f *fakeMarkers) Leader(p Partition) (replication.NodeID, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n, ok := f.leaders[p]; ok {
		return n, nil
	}
	return replication.NoNode, replication.ErrUnknownPartition
}

func (f *fakeMarkers) Sync(ctx context.Context) error {
	f.mu.Lock()
	behind := f.behind
	f.syncs++
	f.mu.Unlock()
	if behind == nil {
		return nil
	}
	select {
	case <-behind:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeMarkers) WriteMarkers(_ context.Context, to replication.NodeID, markers []Marker) ([]error, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if held := f.held; held != nil {
		f.mu.Unlock()
		<-held
		f.mu.Lock()
	}
	if f.down[to] {
		return nil, errors.New("down")
	}
	each := make([]error, len(markers))
	for i, m := range markers {
		if each[i] = f.answer(to, m); each[i] == nil {
			f.written[m.Partition] = append(f.written[m.Partition], to)
		}
	}
	return each, nil
}

type senderTest struct {
	*sender
	world  *fakeMarkers
	limits Limits
	mu     sync.Mutex
	done   []Partition
}

func newSenderTest(t *testing.T) *senderTest {
	s := &senderTest{world: newFakeMarkers(), limits: DefaultLimits()}
	s.limits.MaxMarkers, s.limits.MaxUnmarked = 3, 5
	s.sender = newSender(s.world, &s.limits, slog.New(slog.DiscardHandler))
	t.Cleanup(s.close)
	return s
}

func (s *senderTest) go1(ctx context.Context, partitions ...Partition) {
	var markers []Marker
	for _, p := range partitions {
		markers = append(markers, Marker{Identity: Identity{1, 1}, Partition: p})
	}
	s.send(ctx, markers, func(m Marker) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.done = append(s.done, m.Partition)
	})
}

func (s *senderTest) check(t *testing.T, when string, want ...Partition) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.done, comparePartitions)
	if !slices.Equal(s.done, want) {
		t.Errorf("%s: done are %v, want %v", when, s.done, want)
	}
}

func TestMarkersAreSentUntilTheyAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSenderTest(t)
		a, b, c, d := Partition{"a", 0}, Partition{"b", 0}, Partition{"c", 0}, Partition{"deleted", 0}
		s.world.leaders = map[Partition]replication.NodeID{a: 1, b: 2, c: replication.NoNode}
		s.world.down[2] = true
		s.go1(t.Context(), a, b, c, d)
		synctest.Wait()
		s.check(t, "one node down, one partition without a leader, one deleted", a, d)
		s.world.set(func() { s.world.leaders[b], s.world.leaders[c] = 3, 3 })
		pass(s.limits.RetryDelay)
		s.check(t, "leaders have moved", a, b, c, d)
		if got := fmt.Sprint(s.world.written[b], s.world.written[c]); got != "[3] [3]" {
			t.Errorf("written by %s", got)
		}
	})
}

// TestAPartitionThatIsNotKnownYet: that a partition is not known here does not mean that it was deleted. Its marker waits until
// what is known here is what is true.
func TestAPartitionThatIsNotKnownYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSenderTest(t)
		made, deleted, other := Partition{"a made", 0}, Partition{"deleted", 0}, Partition{"other", 0}
		behind := make(chan struct{})
		s.world.leaders, s.world.behind = map[Partition]replication.NodeID{other: 1}, behind
		s.go1(t.Context(), made, deleted, other)
		session, end := context.WithCancel(t.Context())
		s.go1(session, made)
		synctest.Wait()
		s.check(t, "cut off from the metadata", other)
		end()
		pass(s.limits.MarkerTimeout + s.limits.RetryDelay)
		s.check(t, "cut off for long", other)
		s.world.set(func() { s.world.leaders[made], s.world.behind = 2, nil })
		close(behind)
		synctest.Wait()
		s.check(t, "not any more", made, deleted, other)
		if got := fmt.Sprint(s.world.written[made], s.world.written[deleted]); got != "[2] []" {
			t.Errorf("written by %s", got)
		}
		if s.mu.Lock(); s.sender.mu.unmarked != 0 || s.world.syncs > 3 {
			t.Errorf("%d are counted still, after %d syncs", s.sender.mu.unmarked, s.world.syncs)
		}
		s.mu.Unlock()
	})
}

func TestMarkersThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSenderTest(t)
		a, b, c := Partition{"a", 0}, Partition{"b", 0}, Partition{"c", 0}
		s.world.leaders = map[Partition]replication.NodeID{a: 1, b: 1, c: 1}
		refusals := map[Partition]error{a: replication.ErrNotLeader, b: replication.ErrInvalidProducerEpoch, c: replication.ErrCoordinatorFenced}
		s.world.answer = func(_ replication.NodeID, m Marker) error { return refusals[m.Partition] }
		session, end := context.WithCancel(t.Context())
		s.go1(session, a, b, c)
		synctest.Wait()
		s.check(t, "a late marker is none that is needed", b)
		s.world.set(func() { delete(refusals, a) })
		pass(s.limits.RetryDelay)
		s.check(t, "it leads again", a, b)
		end()
		pass(2 * s.limits.RetryDelay)
		s.check(t, "what a fenced coordinator wants is never done", a, b)
		if s.mu.Lock(); s.sender.mu.unmarked != 0 {
			t.Errorf("%d are counted still", s.sender.mu.unmarked)
		}
		s.mu.Unlock()
	})
}

func TestMarkersAreSentInBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSenderTest(t)
		var all []Partition
		for i := range int32(7) {
			all = append(all, Partition{"a", i})
			s.world.leaders[all[i]] = 1
		}
		held := make(chan struct{})
		s.world.held = held
		s.go1(t.Context(), all[0])
		synctest.Wait()
		s.go1(t.Context(), all[1:]...) // they come while the node is asked for the first
		synctest.Wait()
		if !s.full() {
			t.Error("seven of five are not full")
		}
		close(held)
		synctest.Wait()
		s.check(t, "after all", all...)
		if s.world.calls != 3 || s.full() {
			t.Errorf("%d calls for seven markers, at most three in each; full: %t", s.world.calls, s.full())
		}
	})
}
