package raftgroup

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/replication"
)

// Heartbeats are answered long before Raft, which waits longer each time that a follower was not there, sends entries again.
func TestHeldIsWhatWasConfirmedOfTheLog(t *testing.T) {
	now := time.Unix(1000, 0)
	g := &Group{o: Options{Now: func() time.Time { return now }}}
	g.isr.peers = make(map[raft.ServerID]*peer)
	two, three := replica(2, 0), replica(3, 0)
	held := func(what string, r replication.ReplicaID, want log.Index) {
		t.Helper()
		if got := g.Held(r, 3*time.Second); got != want {
			t.Errorf("%s: %d of replica %v", what, got, r)
		}
	}
	matched := func(r replication.ReplicaID, index log.Index) {
		g.isr.matched(raft.ServerID(r.String()), index, 9, now)
	}
	held("nothing heard", two, 0)
	matched(two, 0)
	held("a heartbeat alone", two, 0)
	matched(two, 7)
	matched(three, 9)
	held("confirmed", two, 7)
	now = now.Add(3 * time.Second)
	matched(two, 0)
	held("a while ago", two, 7)
	now = now.Add(time.Second)
	matched(two, 0)
	held("only heartbeats since", two, 0)
	matched(two, 5)
	matched(three, 9)
	held("confirmed again", two, 7)
	(&link{group: g}).Gone(two.Node)
	held("its process ended", two, 0)
	held("another's process ended", three, 9)
	matched(two, 0)
	held("back, but not fed", two, 0)
	matched(two, 9)
	held("back", two, 9)
}
