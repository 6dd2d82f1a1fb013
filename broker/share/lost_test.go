package share

//quorlog:bubble run runs every test of this file in one

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log/batch"
)

// A session ends with the connection on which it began: what its member held goes to others at once, and was not delivered.
func TestConnectionEnds(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 4, batch.BuildOptions{})
		ctx, hangUp := context.WithCancel(t.Context())
		w.doOn(ctx, w.request("a"))
		if err := w.ack("a", 0, 0, Accept); err != nil { // on another connection
			t.Fatal(err)
		}
		w.want(w.fetch("b"))
		hangUp()
		synctest.Wait()
		got := w.fetch("b")
		if w.want(got, 1, 3); got[0].Count != 1 {
			t.Errorf("delivered %d times", got[0].Count)
		}
		if out := w.do(w.request("a")); !errors.Is(out.Err, ErrSessionNotFound) {
			t.Errorf("its session: %v", out.Err)
		}
	})
}

// A session that has no room for its partitions leaves no slot taken.
func TestARefusedSessionIsNone(t *testing.T) {
	s := newSessions(1, func(member, *session) {})
	begin := func(id string) error {
		_, err := s.open(t.Context(), &Member{Group: "g", ID: id, Epoch: NewSession}, []Wanted{{TopicPartition: thePart}}, nil, true)
		return err
	}
	s.mu.partitions = maxSessionPartitions
	if err := begin("a"); !errors.Is(err, ErrSessionLimit) || s.mu.partitions != maxSessionPartitions {
		t.Errorf("without room: %v; %d partitions", err, s.mu.partitions)
	}
	s.mu.partitions = 0
	if err := begin("b"); err != nil {
		t.Errorf("behind a session that was refused: %v", err)
	}
}

// A session that another one has replaced leaves that one alone when its connection ends.
func TestConnectionOfAnOldSession(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 4, batch.BuildOptions{})
		ctx, hangUp := context.WithCancel(t.Context())
		w.doOn(ctx, w.request("a"))
		w.epochs["a"] = 0
		w.want(w.fetch("a"), 0, 3)
		hangUp()
		synctest.Wait()
		w.want(w.fetch("b"))
		if err := w.ack("a", 0, 3, Accept); err != nil {
			t.Error(err)
		}
	})
}

// A long poll ends with its session. If it went on it would lock what comes for a member that is no more: here what that member
// itself has just given back.
func TestPollEndsWithItsSession(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 4, batch.BuildOptions{})
		w.want(w.fetch("a"), 0, 3)
		r := w.request("a")
		r.MaxWait = time.Hour
		polled := make(chan *FetchResponse, 1)
		go func() { polled <- w.do(r) }()
		synctest.Wait()
		last := &AckRequest{Member: Member{Group: "g", ID: "a", Epoch: FinalSession}}
		last.Partitions = []Wanted{{thePart, []Ack{{First: 0, Last: 3, Types: []AckType{Release}}}}}
		if out, err := w.s.Acknowledge(t.Context(), last); err != nil || out.Err != nil || out.Results[0].Err != nil {
			t.Fatalf("%+v, %v", out, err)
		}
		for _, res := range (<-polled).Results {
			if len(res.Acquired) > 0 || res.Records != nil {
				t.Errorf("a member that is no more got %+v", res)
			}
		}
		got := w.fetch("b")
		if w.want(got, 0, 3); got[0].Count != 2 {
			t.Errorf("delivered %d times", got[0].Count)
		}
	})
}

// An answer that nobody gets: what was acquired for it is given back.
func TestAnswerIsLost(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.fetch("a") // on a connection that stays
		w.log.produce(t, 4, batch.BuildOptions{})
		ctx, hangUp := context.WithCancel(t.Context())
		w.log.reading = hangUp
		if _, err := w.s.Fetch(ctx, w.request("a")); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		got := w.fetch("b")
		if w.want(got, 0, 3); got[0].Count != 1 {
			t.Errorf("delivered %d times", got[0].Count)
		}
	})
}

// While the store does not answer a fetch is answered in time, with nothing.
func TestFetchWhileLoading(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.log.produce(t, 4, batch.BuildOptions{})
		w.store.deaf.Store(true)
		r := w.request("a")
		r.MaxWait = 5 * time.Second
		begin := time.Now()
		out := w.do(r)
		if d := time.Since(begin); d > r.MaxWait+loadGrace {
			t.Errorf("answered after %v", d)
		}
		if out.Err != nil || len(out.Results) != 1 || out.Results[0].Err != nil {
			t.Errorf("%+v", out)
		}
		w.store.deaf.Store(false)
		<-time.After(storePatience)
		w.want(w.fetch("a"), 0, 3)
	})
}
