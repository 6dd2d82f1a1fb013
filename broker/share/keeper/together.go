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
// the errors of Ask. Who does not answer is asked again when all others have been, and waited for twice as long: a keeper that is not there must
// not take the time of those that are.
func (c *Client) AskAll(ctx context.Context, all []*Request) []Result {
	out := make([]Result, len(all))
	silent := make([]int, len(all))
	for i := range silent {
		silent[i] = i
	}
	if slices.ContainsFunc(all, (*Request).stores) {
		_ = c.Cluster.EnsureTopic(ctx) // once, not by all side by side; each of them hears why that failed
	}
	for patience := askBriefly; len(silent) > 0; patience *= 2 {
		sideBySide(silent, func(i int) {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			out[i].State, out[i].Err = c.Ask(ctx, all[i])
		})
		if ctx.Err() != nil {
			break
		}
		silent = slices.DeleteFunc(silent, func(i int) bool { return !errors.Is(out[i].Err, broker.ErrCoordinatorNotAvailable) })
	}
	return out
}

// sideBySide does something with each of the numbers, askAtOnce at a time.
func sideBySide(numbers []int, do func(i int)) {
	room := make(chan struct{}, askAtOnce)
	var under sync.WaitGroup
	for _, i := range numbers {
		room <- struct{}{}
		under.Go(func() {
			do(i)
			<-room
		})
	}
	under.Wait()
}
