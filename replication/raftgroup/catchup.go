package raftgroup

import (
	"context"

	"github.com/hashicorp/raft"
)

// Pace waits until n bytes more may be sent to learners. It returns early, with an error, when the context ends.
type Pace func(ctx context.Context, n int) error

// pace holds a request back that brings a learner what was there before it came. Raft sends that one request at a time, up to
// where the log ended when it began, and goes on with a pipeline. What the pipeline sends is not held back: a learner that is
// allowed less than the producers write would never arrive.
func (w *wire) pace(to raft.ServerID, args *raft.AppendEntriesRequest) error {
	if w.link.group.o.Pace == nil || len(args.Entries) == 0 || !w.in.isLearner(to) {
		return nil
	}
	size := 0
	for _, e := range args.Entries {
		size += len(e.Data)
	}
	return w.link.group.o.Pace(w.in.life, size)
}

// isLearner tells whether a replica has no vote, by the newest configuration.
func (in *instance) isLearner(id raft.ServerID) bool {
	node := in.node.Load()
	if node == nil {
		return false
	}
	for _, s := range node.GetConfiguration().Configuration().Servers {
		if s.ID == id {
			return s.Suffrage == raft.Nonvoter
		}
	}
	return false
}
