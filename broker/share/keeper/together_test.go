package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/replication"
)

// Keepers that are not there, here of every fourth partition of the topic, keep nobody from those that are, and hold all up only until the
// time is over: neither those between whose keys they are asked, nor those behind all of them.
func TestAskAll(t *testing.T) {
	const patience = 10 * time.Second
	keys := 4000
	if raceEnabled {
		keys = 160 // Go 1.26.8's race detector crashes now and then where tens of thousands of timers fire in a bubble
	}
	cluster := leads(slices.Repeat([]replication.NodeID{1}, 16))
	gone := func(q *Request) bool { return coordinator.PartitionOf(q.Key.String(), int32(len(cluster)))%4 == 0 }
	all := make([]*Request, keys)
	for i := range all {
		all[i] = &Request{Op: Look, Key: share.Key{Group: "g", Partition: int32(i)}}
	}
	goneFirst := slices.Concat(slices.DeleteFunc(slices.Clone(all), func(q *Request) bool { return !gone(q) }), slices.DeleteFunc(slices.Clone(all), gone))
	synctest.Test(t, func(t *testing.T) {
		var under, most, back atomic.Int32
		c := &Client{Cluster: cluster, Peers: func(ctx context.Context, _ replication.NodeID, _ string, body []byte) ([]byte, error) {
			most.Store(max(most.Load(), under.Add(1)))
			defer under.Add(-1)
			var q Request
			if err := json.Unmarshal(body, &q); err != nil {
				t.Error(err)
			}
			if gone(&q) && back.Load() == 0 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			time.Sleep(10 * time.Millisecond)
			return json.Marshal(answer{State: &share.Durable{Start: 7}})
		}}
		ask := func(requests []*Request, within time.Duration) ([]Result, time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			began := time.Now()
			return c.AskAll(ctx, requests), time.Since(began)
		}
		for order, requests := range map[string][]*Request{"as they come": all, "with those that are gone first": goneFirst} {
			got, took := ask(requests, patience)
			if took != patience {
				t.Errorf("%s: it took %v", order, took)
			}
			for i, r := range got {
				if gone := gone(requests[i]); gone != errors.Is(r.Err, broker.ErrCoordinatorNotAvailable) || gone != (r.State == nil) {
					t.Fatalf("%s: request %d, of a keeper that is gone (%v): %+v, %v", order, i, gone, r.State, r.Err)
				}
			}
			if n := most.Load(); n != askAtOnce {
				t.Errorf("%s: %d were asked at a time, not %d", order, n, askAtOnce)
			}
		}

		// Who could not be asked before the time was over is not told that nothing is known.
		got, _ := ask(all, 0)
		for i, r := range got {
			if !errors.Is(r.Err, broker.ErrCoordinatorNotAvailable) {
				t.Fatalf("request %d when the time is over: %+v, %v", i, r.State, r.Err)
			}
		}

		// They come back while the others are asked.
		time.AfterFunc(3*time.Second, func() { back.Store(1) })
		got, took := ask(all, patience)
		for i, r := range got {
			if r.Err != nil || r.State == nil {
				t.Errorf("request %d, whose keeper is back: %v", i, r.Err)
			}
		}
		if took >= patience {
			t.Errorf("with keepers that came back it took %v", took)
		}
		if got := c.AskAll(t.Context(), nil); len(got) != 0 {
			t.Errorf("nobody was asked: %+v", got)
		}
	})
}
