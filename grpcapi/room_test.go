package grpcapi

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Who has held room for long loses it to those who need it, the oldest first; who has not is waited for.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(10, time.Second)
		var evicted []string
		take := func(name string, n int64) func() {
			give, err := r.take(t.Context(), n, func() { evicted = append(evicted, name) })
			if err != nil {
				t.Fatal(err)
			}
			return give
		}
		began := time.Now()
		first := take("first", 4)
		take("second", 100)() // as much as there is: waits until the first is evicted
		if len(evicted) != 1 || evicted[0] != "first" || time.Since(began) != time.Second {
			t.Errorf("%v after %v", evicted, time.Since(began))
		}
		first() // again, in vain
		take("third", 10)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := r.take(ctx, 1, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if r.mu.taken != 10 || r.mu.held.Len() != 1 {
			t.Errorf("%d taken by %d", r.mu.taken, r.mu.held.Len())
		}
	})
}

// Whoever waits goes on as soon as there is room again.
func TestRoomIsFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoom(10, time.Hour)
		give, _ := r.take(t.Context(), 10, nil)
		time.AfterFunc(time.Second, give)
		began := time.Now()
		if _, err := r.take(t.Context(), 10, nil); err != nil || time.Since(began) != time.Second {
			t.Error(err, time.Since(began))
		}
	})
}

// Without patience the oldest goes at once.
func TestRoomWithoutPatience(t *testing.T) {
	r := newRoom(2, 0)
	var evicted []int
	for i := range 5 {
		if _, err := r.take(t.Context(), 1, func() { evicted = append(evicted, i) }); err != nil {
			t.Fatal(err)
		}
	}
	if len(evicted) != 3 || evicted[0] != 0 || evicted[2] != 2 {
		t.Error(evicted)
	}
}
