package raftgroup

import (
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/replication"
)

const (
	// assemblePatience is how long the first replica of a new group waits for the others to be made.
	assemblePatience = 2 * time.Second
	// assemblePause lies between looks at whether they are.
	assemblePause = 20 * time.Millisecond
)

// assemble makes the first replica of a new group its leader as soon as a majority of the others is there: so creating a
// partition waits for no election timeout, and leaderships begin where they are wanted. Asking is a pre-vote, which changes
// nothing.
func (g *Group) assemble(in *instance) {
	defer in.open.Done()
	node := in.node.Load()
	name := []byte(g.o.Self.String())
	self := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: name, Addr: name}
	there := map[replication.ReplicaID]bool{g.o.Self: true}
	for began := g.o.Now(); g.o.Now().Sub(began) < assemblePatience; time.Sleep(assemblePause) {
		for _, r := range g.o.Bootstrap {
			id := raft.ServerID(r.String())
			if leader, _ := node.LeaderWithID(); leader != "" || in.closing.Load() {
				return
			}
			if there[r] {
				continue
			}
			ask := &raft.RequestPreVoteRequest{RPCHeader: self, Term: node.CurrentTerm() + 1, LastLogIndex: node.LastIndex(), LastLogTerm: 1}
			there[r] = g.link.end.RequestPreVote(id, raft.ServerAddress(id), ask, &raft.RequestPreVoteResponse{}) == nil
		}
		if missing := len(g.o.Bootstrap) - trues(there); missing <= (len(g.o.Bootstrap)-1)/2 {
			// The last answer may have taken a while, and the order to campaign would depose whoever was elected meanwhile.
			if leader, _ := node.LeaderWithID(); leader == "" {
				campaign(in.requests)
			}
			return
		}
	}
}

func trues(m map[replication.ReplicaID]bool) (n int) {
	for _, yes := range m {
		if yes {
			n++
		}
	}
	return n
}
