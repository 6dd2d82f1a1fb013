package fetch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/replication"
)

// The cases follow the semantics of KIP-227 as Kafka's FetchSession has them.

func service(c *fakeCluster, slots int, now *time.Time) *Service {
	return New(Options{Partitions: c, Sessions: slots, Now: func() time.Time { return *now }})
}

func clock() *time.Time {
	t := time.Unix(1_700_000_000, 0)
	return &t
}

// do fetches without waiting and releases the answer.
func do(t *testing.T, s *Service, r Request) *Response {
	t.Helper()
	if r.MaxBytes == 0 {
		r.MaxBytes = 1 << 20
	}
	resp, err := s.Fetch(context.Background(), &r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Release()
	return resp
}

func names(r *Response) string {
	s := ""
	for i := range r.Results {
		s += fmt.Sprintf("%s-%d ", r.Results[i].Topic, r.Results[i].Partition)
	}
	return s
}

// TestSessionsAreNobodyElses: who guesses a session's number gets nothing of it, and can't end it.
func TestSessionsAreNobodyElses(t *testing.T) {
	p := newFake(10)
	s := service(one("t", p), 10, clock())
	mine, theirs := broker.Caller{Principal: "User:alice"}, broker.Caller{Principal: "User:eve"}
	r := do(t, s, Request{Caller: mine, SessionEpoch: InitialEpoch, Partitions: []Params{want("t", 0, 0)}})
	p.append(10)
	if got := do(t, s, Request{Caller: theirs, SessionID: r.SessionID, SessionEpoch: 1}); !errors.Is(got.Err, broker.ErrFetchSessionNotFound) || len(got.Results) > 0 {
		t.Errorf("%v, %q", got.Err, names(got))
	}
	for _, epoch := range []int32{InitialEpoch, FinalEpoch} {
		do(t, s, Request{Caller: theirs, SessionID: r.SessionID, SessionEpoch: epoch})
	}
	if got := do(t, s, Request{Caller: mine, SessionID: r.SessionID, SessionEpoch: 1}); got.Err != nil || names(got) != "t-0 " {
		t.Errorf("%v, %q", got.Err, names(got))
	}
}

func TestFullFetchMakesASession(t *testing.T) {
	p := newFake(10, 10)
	s := service(one("t", p), 10, clock())
	r := do(t, s, Request{SessionEpoch: InitialEpoch, Partitions: []Params{want("t", 0, 0)}})
	if r.SessionID <= 0 || names(r) != "t-0 " {
		t.Fatalf("session %d, results %q", r.SessionID, names(r))
	}
	// The client has read everything; only the changed offset is sent. Nothing is new, so nothing is answered.
	r2 := do(t, s, Request{SessionID: r.SessionID, SessionEpoch: 1, Partitions: []Params{want("t", 0, 2)}})
	if r2.SessionID != r.SessionID || len(r2.Results) != 0 {
		t.Fatalf("session %d, results %q", r2.SessionID, names(r2))
	}
	p.append(10)
	r3 := do(t, s, Request{SessionID: r.SessionID, SessionEpoch: 2})
	if names(r3) != "t-0 " || r3.Results[0].HighWatermark != 3 {
		t.Fatalf("results %q", names(r3))
	}
}

func TestSessionlessFetch(t *testing.T) {
	s := service(one("t", newFake(10)), 10, clock())
	r := do(t, s, Request{SessionEpoch: FinalEpoch, Partitions: []Params{want("t", 0, 0)}})
	if r.SessionID != 0 || len(r.Results) != 1 || len(s.sessions.mu.sessions) != 0 {
		t.Fatalf("session %d, results %q", r.SessionID, names(r))
	}
}

func TestSessionErrors(t *testing.T) {
	s := service(one("t", newFake(10)), 10, clock())
	id := do(t, s, Request{Partitions: []Params{want("t", 0, 0)}}).SessionID
	for name, tc := range map[string]struct {
		r    Request
		want error
	}{
		"unknown id":        {Request{SessionID: id + 1, SessionEpoch: 1}, broker.ErrFetchSessionNotFound},
		"epoch ahead":       {Request{SessionID: id, SessionEpoch: 2}, broker.ErrInvalidFetchSessionEpoch},
		"topic ids changed": {Request{SessionID: id, SessionEpoch: 1, UsesTopicIDs: true}, ErrSessionTopicID},
	} {
		r := do(t, s, tc.r)
		if !errors.Is(r.Err, tc.want) || r.SessionID != 0 || len(r.Results) != 0 {
			t.Errorf("%s: %v, session %d", name, r.Err, r.SessionID)
		}
	}
	// An error does not end the session.
	if r := do(t, s, Request{SessionID: id, SessionEpoch: 1}); r.Err != nil {
		t.Fatal(r.Err)
	}
	// The epoch was used up.
	if r := do(t, s, Request{SessionID: id, SessionEpoch: 1}); !errors.Is(r.Err, broker.ErrInvalidFetchSessionEpoch) {
		t.Fatal(r.Err)
	}
}

func TestFinalEpochClosesTheSession(t *testing.T) {
	s := service(one("t", newFake(10)), 10, clock())
	id := do(t, s, Request{Partitions: []Params{want("t", 0, 0)}}).SessionID
	r := do(t, s, Request{SessionID: id, SessionEpoch: FinalEpoch})
	if r.Err != nil || r.SessionID != 0 {
		t.Fatalf("%v, session %d", r.Err, r.SessionID)
	}
	if r := do(t, s, Request{SessionID: id, SessionEpoch: 1}); !errors.Is(r.Err, broker.ErrFetchSessionNotFound) {
		t.Fatal(r.Err)
	}
	// A full fetch that names a session replaces it.
	id = do(t, s, Request{Partitions: []Params{want("t", 0, 0)}}).SessionID
	id2 := do(t, s, Request{SessionID: id, SessionEpoch: InitialEpoch, Partitions: []Params{want("t", 0, 0)}}).SessionID
	if id2 == id || id2 == 0 || len(s.sessions.mu.sessions) != 1 {
		t.Fatalf("sessions %d and %d of %d", id, id2, len(s.sessions.mu.sessions))
	}
}

func TestForgottenPartitions(t *testing.T) {
	a, b := newFake(10), newFake(10)
	s := service(one("t", a, b), 10, clock())
	id := do(t, s, Request{Partitions: []Params{want("t", 0, 0), want("t", 1, 0)}}).SessionID
	r := do(t, s, Request{SessionID: id, SessionEpoch: 1, Forgotten: []Key{{Topic: "t", Partition: 0}}})
	if names(r) != "t-1 " {
		t.Fatalf("results %q", names(r))
	}
	// Forgetting the last partition ends the session; what the request names beside it is answered without one.
	r = do(t, s, Request{SessionID: id, SessionEpoch: 2, Forgotten: []Key{{Topic: "t", Partition: 1}}})
	if r.Err != nil || r.SessionID != 0 || len(r.Results) != 0 || len(s.sessions.mu.sessions) != 0 {
		t.Fatalf("%v, session %d, results %q", r.Err, r.SessionID, names(r))
	}
	if s.sessions.mu.partitions != 0 {
		t.Fatalf("%d partitions are still counted", s.sessions.mu.partitions)
	}
}

// A partition that had something to tell goes behind the others, so that a full answer does not always hold the same.
func TestBusyPartitionsDoNotStarveOthers(t *testing.T) {
	a, b, c := newFake(100, 100, 100), newFake(100), newFake(100)
	s := service(one("t", a, b, c), 10, clock())
	limit := 100
	r := do(t, s, Request{MaxBytes: limit, Partitions: []Params{want("t", 0, 0), want("t", 1, 0), want("t", 2, 0)}})
	if r.Results[0].HighWatermark != 3 {
		t.Fatalf("results %q", names(r))
	}
	seen := map[int32]bool{}
	for epoch := int32(1); epoch <= 3; epoch++ {
		resp, err := s.Fetch(context.Background(), &Request{
			SessionID: r.SessionID, SessionEpoch: epoch, MaxBytes: limit,
			Partitions: []Params{want("t", 0, 1)},
		})
		if err != nil {
			t.Fatal(err)
		}
		for i := range resp.Results {
			if resp.Results[i].Size() > 0 {
				seen[resp.Results[i].Partition] = true
			}
		}
		resp.Release()
	}
	if len(seen) != 3 {
		t.Fatalf("only %v got their turn", seen)
	}
}

func TestErrorsAreToldUntilTheyEnd(t *testing.T) {
	p := newFake(10)
	s := service(one("t", p), 10, clock())
	id := do(t, s, Request{Partitions: []Params{want("t", 0, 1)}}).SessionID
	p.err = replication.ErrStorage
	for epoch := int32(1); epoch <= 2; epoch++ {
		r := do(t, s, Request{SessionID: id, SessionEpoch: epoch})
		if len(r.Results) != 1 || !errors.Is(r.Results[0].Err, replication.ErrStorage) {
			t.Fatalf("epoch %d: results %q", epoch, names(r))
		}
	}
	p.err = nil
	// The error ended: the partition is told again although nothing moved.
	if r := do(t, s, Request{SessionID: id, SessionEpoch: 3}); names(r) != "t-0 " || r.Results[0].Err != nil {
		t.Fatalf("results %q", names(r))
	}
	if r := do(t, s, Request{SessionID: id, SessionEpoch: 4}); len(r.Results) != 0 {
		t.Fatalf("results %q", names(r))
	}
}

func TestSessionsByTopicID(t *testing.T) {
	p := newFake(10)
	c := one("t", p)
	s := service(c, 10, clock())
	byID := Params{Key: Key{TopicID: replication.TopicID{1}}, MaxBytes: 1000, CurrentEpoch: -1, LastEpoch: -1}
	gone := byID
	gone.TopicID = replication.TopicID{2}
	r := do(t, s, Request{UsesTopicIDs: true, Partitions: []Params{byID, gone}})
	if len(r.Results) != 2 || r.Results[0].Err != nil || !errors.Is(r.Results[1].Err, replication.ErrUnknownTopicID) {
		t.Fatalf("%+v", r.Results)
	}
	// A topic that is made again has another id: the session keeps on telling that the old one is unknown.
	c.ids = map[replication.TopicID]string{}
	r = do(t, s, Request{UsesTopicIDs: true, SessionID: r.SessionID, SessionEpoch: 1})
	if len(r.Results) != 2 || !errors.Is(r.Results[0].Err, replication.ErrUnknownTopicID) {
		t.Fatalf("%+v", r.Results)
	}
}

func TestEvictionFollowsKafka(t *testing.T) {
	now := clock()
	parts := []*fakePartition{newFake(1), newFake(1), newFake(1)}
	s := service(one("t", parts...), 2, now)
	session := func(n int) int32 {
		var ps []Params
		for i := range n {
			ps = append(ps, want("t", int32(i), 0))
		}
		return do(t, s, Request{Partitions: ps}).SessionID
	}
	alive := func(id int32) bool { return s.sessions.mu.sessions[id] != nil }

	a, b := session(1), session(2)
	if c := session(3); c != 0 {
		t.Fatal("a young session was evicted")
	}
	// Both have lived for long and are in use: the smaller goes, and only for a larger one.
	*now = now.Add(staleAfter)
	touch := func() {
		do(t, s, Request{SessionID: a, SessionEpoch: s.sessions.mu.sessions[a].mu.epoch})
		do(t, s, Request{SessionID: b, SessionEpoch: s.sessions.mu.sessions[b].mu.epoch})
	}
	touch()
	*now = now.Add(time.Second)
	if c := session(1); c != 0 {
		t.Fatal("a session of the same size was evicted")
	}
	if c := session(2); c == 0 || alive(a) || !alive(b) {
		t.Fatalf("session %d, a %v, b %v", c, alive(a), alive(b))
	}
	// Nobody used b for long: it goes for a session of any size.
	*now = now.Add(staleAfter)
	if c := session(1); c == 0 {
		t.Fatal("a stale session was kept")
	}
	if len(s.sessions.mu.sessions) > 2 {
		t.Fatalf("%d sessions", len(s.sessions.mu.sessions))
	}
}

func TestSessionsCanBeOff(t *testing.T) {
	s := service(one("t", newFake(1)), 0, clock())
	if r := do(t, s, Request{Partitions: []Params{want("t", 0, 0)}}); r.SessionID != 0 || len(r.Results) != 1 {
		t.Fatalf("session %d, results %q", r.SessionID, names(r))
	}
}

func TestNextEpoch(t *testing.T) {
	for in, want := range map[int32]int32{0: 1, 1: 2, math.MaxInt32: 1, FinalEpoch: FinalEpoch} {
		if got := nextEpoch(in); got != want {
			t.Errorf("after %d comes %d, not %d", in, got, want)
		}
	}
}

func TestAbandonedRequestOfASession(t *testing.T) {
	p := newFake(10)
	c := one("t", p)
	s := service(c, 10, clock())
	id := do(t, s, Request{Partitions: []Params{want("t", 0, 0)}}).SessionID
	r := Request{SessionID: id, SessionEpoch: 1}
	v, params, err := s.sessions.begin(&r, *clock())
	if err != nil {
		t.Fatal(err)
	}
	// The client reconnects and goes on, while the first request is still waiting.
	if again := do(t, s, Request{SessionID: id, SessionEpoch: 2}); again.Err != nil {
		t.Fatal(again.Err)
	}
	if _, _, err := s.sessions.settle(v, &r, params, make([]Result, len(params)), *clock()); !errors.Is(err, broker.ErrInvalidFetchSessionEpoch) {
		t.Fatal(err)
	}
}
