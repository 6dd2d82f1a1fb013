package keeper

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/share"
)

// Result is what a keeper answered. State is nil where nothing is known.
type Result struct {
	State *share.Durable
	Err   error
}

const (
	// askAtOnce bounds the requests of one AskAll that are under way.
	askAtOnce = 16
	// askBriefly is how long AskAll waits for each answer at first: far longer than a keeper takes that is there.
	askBriefly = 500 * time.Millisecond
)

// AskAll asks the keepers of many keys, side by side, until all have answered or ctx ends. The results are in the order of the requests, with
// the errors of Ask. A keeper that does not answer is asked again when all others have been, and waited for twice as long: one that is not there
// must not take the time of those that are.
func (c *Client) AskAll(ctx context.Context, all []*Request) []Result {
	out := make([]Result, len(all))
	silent := make([]int, len(all))
	unasked := unavailable(nil)
	for i := range silent {
		silent[i], out[i].Err = i, unasked
	}
	switch {
	case slices.ContainsFunc(all, (*Request).stores):
		_ = c.Cluster.EnsureTopic(ctx) // once, not by all side by side; each of them hears why that failed
	case len(all) > 0:
		if _, there, err := c.topic(ctx); !there && err == nil {
			return make([]Result, len(all)) // nobody ever had a state
		}
	}
	for patience := askBriefly; len(silent) > 0; patience *= 2 {
		mute := mute{because: map[int32]error{}}
		sideBySide(ctx, silent, func(i int) {
			keeper := c.partitionOf(all[i])
			if out[i].Err = mute.of(keeper); out[i].Err != nil {
				return
			}
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			if out[i].State, out[i].Err = c.Ask(ctx, all[i]); unanswered(out[i]) {
				mute.add(keeper, out[i].Err)
			}
		})
		if ctx.Err() != nil {
			break
		}
		silent = slices.DeleteFunc(silent, func(i int) bool { return !unanswered(out[i]) })
	}
	return out
}

func unanswered(r Result) bool { return errors.Is(r.Err, broker.ErrCoordinatorNotAvailable) }

// mute are the partitions of the topic whose keeper has not answered for one of its keys, and why: it is not asked for the others for now.
type mute struct {
	mu      sync.Mutex
	because map[int32]error
}

func (m *mute) of(partition int32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.because[partition]
}

func (m *mute) add(partition int32, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.because[partition] = err
}

// sideBySide does something with each of the numbers, askAtOnce at a time, and with none any more once ctx has ended.
func sideBySide(ctx context.Context, numbers []int, do func(i int)) {
	room := make(chan struct{}, askAtOnce)
	var under sync.WaitGroup
	for _, i := range numbers {
		room <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		under.Go(func() {
			do(i)
			<-room
		})
	}
	under.Wait()
}
