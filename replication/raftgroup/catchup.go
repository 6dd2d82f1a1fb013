package raftgroup

import (
	"context"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/replication/raftlog"
	"github.com/quorlog/quorlog/replication/transport"
)

// Pace waits until n bytes more may be sent to learners. It returns early, with an error, when the context ends.
type Pace func(ctx context.Context, n int) error

// pacedPiece is how many bytes of entries a learner is sent at a time, unless a single entry is larger. The disk that takes them may
// serve others, which wait that long.
const pacedPiece = 1 << 20

// catchUp brings a learner what was there before it came, piece by piece, each when it may be sent. Raft asks for that one request
// at a time, up to where the log ended when it began, and goes on with a pipeline. What the pipeline sends is not held back: a
// learner that is allowed less than the producers write would never arrive.
func (w *wire) catchUp(end transport.Endpoint, to raft.Server, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	for from := 0; from < len(args.Entries); {
		piece, size := *args, 0
		until := from
		for until < len(args.Entries) && (until == from || size+raftlog.Size(args.Entries[until]) <= pacedPiece) {
			size += raftlog.Size(args.Entries[until])
			until++
		}
		piece.Entries = args.Entries[from:until]
		if from > 0 {
			before := args.Entries[from-1]
			piece.PrevLogEntry, piece.PrevLogTerm = before.Index, before.Term
		}
		if err := w.link.group.o.Pace(w.in.life, size); err != nil {
			return err
		}
		if err := end.AppendEntries(to.ID, to.Address, &piece, resp); err != nil || !resp.Success {
			return err
		}
		from = until
	}
	return nil
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
