package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/share"
	"github.com/quorlog/quorlog/replication"
)

// Keepers that are not there, here those of every fourth partition, keep nobody from those that are, and hold all up only until the time is over.
func TestAskAll(t *testing.T) {
	const partitions, patience = 400, 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		var under, most, back atomic.Int32
		c := &Client{Cluster: leads{1}, Peers: func(ctx context.Context, _ replication.NodeID, _ string, body []byte) ([]byte, error) {
			most.Store(max(most.Load(), under.Add(1)))
			defer under.Add(-1)
			var q Request
			if err := json.Unmarshal(body, &q); err != nil {
				t.Error(err)
			}
			if q.Key.Partition%4 == 0 && back.Load() == 0 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			time.Sleep(10 * time.Millisecond)
			return json.Marshal(answer{State: &share.Durable{Start: 7}})
		}}
		all := make([]*Request, partitions)
		for i := range all {
			all[i] = &Request{Op: Look, Key: share.Key{Group: "g", Partition: int32(i)}}
		}
		ask := func() ([]Result, time.Duration) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			began := time.Now()
			return c.AskAll(ctx, all), time.Since(began)
		}
		got, took := ask()
		if took != patience {
			t.Errorf("it took %v", took)
		}
		for i, r := range got {
			if gone := i%4 == 0; gone != errors.Is(r.Err, broker.ErrCoordinatorNotAvailable) || gone != (r.State == nil) {
				t.Errorf("partition %d: %+v, %v", i, r.State, r.Err)
			}
		}
		if n := most.Load(); n != askAtOnce {
			t.Errorf("%d were asked at a time, not %d", n, askAtOnce)
		}

		// They come back while the others are asked.
		time.AfterFunc(6*time.Second, func() { back.Store(1) })
		got, took = ask()
		for i, r := range got {
			if r.Err != nil || r.State == nil {
				t.Errorf("partition %d, whose keeper is back: %v", i, r.Err)
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
