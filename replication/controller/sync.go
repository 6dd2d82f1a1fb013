package controller

import (
	"context"
	"errors"
	"time"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller/metapb"
)

// Sync returns once this node has applied all that was committed before the call. A node that has just started needs it before
// it makes anything that the metadata asks for: what it has applied may be from long ago, and it has applied that while it reads
// its log again, too. A replica that was there then, and was removed since, must not be made once more under the same name.
//
// It waits for a controller for as long as ctx lasts.
func (c *Controller) Sync(ctx context.Context) error {
	nothing := &metapb.Command{
		TimeMs: c.now().UnixMilli(),
		// A cluster that has an id keeps it.
		Kind: &metapb.Command_SetClusterId{SetClusterId: &metapb.SetClusterID{ClusterId: c.Image().ClusterID}},
	}
	index, err := c.router.newest(ctx, nothing)
	if err != nil {
		return err
	}
	tick := time.NewTicker(spreadPause)
	defer tick.Stop()
	for c.machine.Applied() < index {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// newest writes a command that changes nothing, and returns its place in the log: the only way to learn from the others what is
// committed. A node without others knows it once it leads; then everything is applied.
func (rt *router) newest(ctx context.Context, nothing *metapb.Command) (uint64, error) {
	data, err := encodeCommand(nothing)
	if err != nil {
		return 0, err
	}
	for {
		if rt.forward == nil {
			if rt.group.IsLeader() {
				return 0, nil
			}
		} else if r, err := rt.route(ctx, data); err == nil {
			return r.Index, nil
		} else if !errors.Is(err, ErrNotController) && !errors.Is(err, replication.ErrUnknownOutcome) {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(leaderPause):
		}
	}
}
