package keeper

import (
	"context"
	"log/slog"
	"maps"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// fakeLog is a partition that is always there, and never read.
type fakeLog struct{}

func (fakeLog) Open(int32, batch.Epoch) (coordinator.Log, error) { return fakeLog{}, nil }
func (fakeLog) Verify(batch.Producer) coordinator.Verified       { return nil }
func (fakeLog) Bounds() (coordinator.Bounds, error)              { return coordinator.Bounds{}, nil }
func (fakeLog) Append([]byte, coordinator.Verified) coordinator.Pending {
	done := make(chan struct{})
	close(done)
	return fakePending(done)
}

func (fakeLog) Read(batch.Offset, int) (coordinator.Chunk, error) { return coordinator.Chunk{}, nil }

type fakePending chan struct{}

func (p fakePending) Done() <-chan struct{} { return p }
func (fakePending) Err() error              { return nil }

// lagging is a node that knows of topics when it has synced.
type lagging struct {
	leads
	mu     sync.Mutex
	there  map[replication.TopicID]bool
	known  map[replication.TopicID]bool
	cut    bool // from the metadata
	syncs  int
	during func() // what happens during a Sync, behind its question
}

func (l *lagging) TopicByID(id replication.TopicID) (coordinator.Topic, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return coordinator.Topic{ID: id}, l.known[id]
}

func (l *lagging) Sync(ctx context.Context) error {
	l.mu.Lock()
	cut, during := l.cut, l.during
	l.syncs++
	if !cut {
		l.known, l.during = maps.Clone(l.there), nil
	}
	l.mu.Unlock()
	if cut {
		<-ctx.Done()
		return ctx.Err()
	}
	if during != nil {
		during()
	}
	return nil
}

func (l *lagging) set(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
}

// A list that is too long for one answer leaves out partitions, and no topic: what is to be forgotten is found by its topics.
func TestAListThatIsCutOff(t *testing.T) {
	const rare = 12
	s, err := New(Options{Logs: fakeLog{}, Cluster: leads{1}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.LeaderChanged(0, 1, true)
	keep := func(topic byte, partition int32) error {
		_, err := s.Answer(t.Context(), &Request{Op: Set, Key: share.Key{Group: "g", Topic: replication.TopicID{topic}, Partition: partition}, Start: 5})
		return err
	}
	for keep(rare, 0) != nil && t.Context().Err() == nil { // it is loading
		runtime.Gosched()
	}
	for p := range int32(2 * MaxListed) {
		if err := keep(0, p); err != nil {
			t.Fatal(err)
		}
	}
	for topic := range byte(rare) {
		if err := keep(topic, 0); err != nil {
			t.Fatal(err)
		}
	}
	listed, of := s.List("g")
	topics := map[replication.TopicID]int{}
	for _, l := range listed {
		topics[l.Key.Topic]++
	}
	if len(listed) > MaxListed+rare || len(listed) < MaxListed || len(topics) != rare+1 || len(of) != 1 {
		t.Errorf("%d are listed, of %d topics and the partitions %v", len(listed), len(topics), of)
	}
}

// TestSweep: a keeper may not have heard of a topic yet whose state others have it keep. Only what is unknown after it has heard all
// that was so before its question is no more.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, made, late := replication.TopicID{1}, replication.TopicID{2}, replication.TopicID{3}
		there := map[replication.TopicID]bool{old: true}
		c := &lagging{leads: leads{1}, there: there, known: map[replication.TopicID]bool{old: true}}
		s, err := New(Options{Logs: fakeLog{}, Cluster: c, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.LeaderChanged(0, 1, true)
		synctest.Wait()
		keep := func(id replication.TopicID) {
			if _, err := s.Answer(context.Background(), &Request{Op: Set, Key: share.Key{Group: "g", Topic: id}, Start: 5}); err != nil {
				t.Error(err)
			}
		}
		check := func(when string, want ...replication.TopicID) {
			t.Helper()
			<-time.After(sweepEvery + time.Minute)
			synctest.Wait()
			kept := map[replication.TopicID]bool{}
			listed, _ := s.List("g")
			for _, l := range listed {
				kept[l.Key.Topic] = true
			}
			for _, id := range want {
				if !kept[id] {
					t.Errorf("%s: the state of topic %v is no more", when, id)
				}
				delete(kept, id)
			}
			if len(kept) > 0 {
				t.Errorf("%s: still kept are %v", when, kept)
			}
		}
		keep(old)
		check("nothing is in doubt", old)
		c.set(func() {
			there[made], c.cut = true, true
			if c.syncs > 0 {
				t.Errorf("%d questions for nothing", c.syncs)
			}
		})
		keep(made)
		check("cut off from the metadata", old, made)
		c.set(func() {
			delete(there, old)
			c.cut, c.during = false, func() { keep(late) }
		})
		check("one was made during the question, the other is not known to be deleted", old, made, late)
		check("two are no more", made)
	})
}
