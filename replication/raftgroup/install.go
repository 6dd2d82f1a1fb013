package raftgroup

import (
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/internal/mutation"
	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/replication/raftlog"
)

// maxState bounds what an InstallSnapshot may bring, in bytes: a state has 200 bytes for each producer id of the last day.
const maxState = 64 << 20

// installSnapshot answers an InstallSnapshot, in Raft's place. Raft would keep its old idea of the log's end, and loop for
// ever or end with a wrong configuration (hashicorp/raft#697).
//
// Steps: judge; end the instance; judge again, because the instance took requests until it ended; reset the log, which is a
// durable intent that Open redoes; run a new instance; answer success. Term and vote are left alone.
//
// A log that matches at the boundary is not touched. It may well go past it: its answers got lost, and then its leader
// dropped segments. To wipe it would lose entries that it has acknowledged.
func (g *Group) installSnapshot(rpc raft.RPC, req *raft.InstallSnapshotRequest) {
	resp := &raft.InstallSnapshotResponse{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}
	err := g.installState(rpc.Reader, req, resp)
	if err != nil {
		g.logger.Warn("snapshot refused", "index", req.LastLogIndex, "term", req.LastLogTerm, "error", err)
	}
	rpc.Respond(resp, err)
}

func (g *Group) installState(data io.Reader, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse) error {
	state, err := readState(data, req)
	if err != nil {
		return err
	}
	g.install.lock()
	defer g.install.unlock()
	in := g.current()
	if in == nil {
		return errNoInstance
	}
	node := in.node.Load()
	resp.Term = node.CurrentTerm()
	if req.Term < resp.Term {
		return nil // no success: the sender sees our term and steps down
	}
	if g.holds(state) {
		resp.Success = true
		return nil
	}
	if err := g.stop(in); err != nil {
		return err
	}
	if !g.holds(state) {
		g.logger.Info("resetting to the leader's first segment", "boundary", state.Index, "term", state.Term, "offset", state.Offset, "bytes", req.Size)
		if err := g.o.Log.Reset(state); err != nil {
			in.store.Poison(err)
			return err
		}
		g.o.Owner.Applied()
	}
	if err := g.start(false); err != nil {
		if !errors.Is(err, errStopped) {
			g.fail(err)
		}
		return err
	}
	resp.Success = true
	return nil
}

// readState reads what another replica's Snapshots.Open gave, and holds it against the request.
func readState(data io.Reader, req *raft.InstallSnapshotRequest) (log.State, error) {
	b, err := io.ReadAll(io.LimitReader(data, maxState+1))
	if err != nil {
		return log.State{}, err
	}
	if int64(len(b)) != req.Size || len(b) > maxState {
		return log.State{}, fmt.Errorf("raftgroup: state of %d bytes, announced were %d", len(b), req.Size)
	}
	state, err := log.DecodeState(b)
	if err != nil {
		return log.State{}, err
	}
	if uint64(state.Index) != req.LastLogIndex || uint64(state.Term) != req.LastLogTerm {
		return log.State{}, fmt.Errorf("raftgroup: state of index %d in term %d, announced were %d in %d", state.Index, state.Term, req.LastLogIndex, req.LastLogTerm)
	}
	if _, err := raftlog.DecodeConfiguration(state.Config); err != nil {
		return log.State{}, err
	}
	return state, nil
}

// holds reports whether the log needs no reset to a state: it has that entry, or dropped it long ago.
func (g *Group) holds(s log.State) bool {
	boundary, _ := g.o.Log.Boundary()
	if s.Index < boundary {
		return true
	}
	term, err := g.o.Log.Term(s.Index)
	return err == nil && term == s.Term && !mutation.On(mutation.ResetMatching)
}

func raftIndex(i uint64) log.Index { return log.Index(i) }
