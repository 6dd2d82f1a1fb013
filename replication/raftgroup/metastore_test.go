package raftgroup

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication/transport"
)

// Followers whose fsync takes longer than the lease are no reason for the leader to step down: nodes may share a disk.
func TestSlowMetaFollowersDoNotDeposeTheLeader(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	synctest.Test(t, func(t *testing.T) {
		net := transport.NewMem(0)
		var slow atomic.Bool
		var groups []*MetaGroup
		for i, dir := range dirs {
			o := MetaOptions{Dir: dir, Self: replica(i+1, 1), Machine: &register{}, Found: i == 0, Network: net, OnFatal: func(err error) { t.Error(err) }}
			if i > 0 {
				o.Guard = func(_ vfs.Op, _ string, do func() error) error {
					if slow.Load() {
						time.Sleep(2 * DefaultLease)
					}
					return do()
				}
			}
			g, err := OpenMeta(o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := g.Close(); err != nil {
					t.Error(err)
				}
			}()
			groups = append(groups, g)
			eventually(t, "the founder leads", groups[0].IsLeader)
			if i > 0 {
				if err := errors.Join(groups[0].AddLearner(g.Self()), groups[0].Promote(g.Self())); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(time.Second)
		term := groups[0].Status().Term
		slow.Store(true)
		if _, err := groups[0].Propose(t.Context(), []byte("a")); err != nil {
			t.Error(err)
		}
		time.Sleep(3 * time.Second)
		if now := groups[0].Status().Term; now != term || !groups[0].IsLeader() {
			t.Errorf("the leader of term %d has stepped down; it is term %d", term, now)
		}
	})
}

// What is answered in Raft's place is the heartbeat of the leader that Raft follows, in its term, and nothing else.
func TestMetaHeartbeats(t *testing.T) {
	c := newMetaCluster(t)
	leader, _ := c.open(t.TempDir(), replica(1, 0), true)
	eventually(t, "the founder leads", leader.IsLeader)
	g, _ := c.open(t.TempDir(), replica(2, 1), false)
	if err := leader.AddLearner(g.Self()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the follower has a leader, and all of its log", func() bool {
		return g.Leader() == 1 && g.raft.LastIndex() == leader.raft.LastIndex()
	})
	term := g.Status().Term
	for name, beat := range map[string]struct {
		to     *MetaGroup
		leader raft.ServerID
		term   uint64
		ok     bool
	}{
		"of the leader":        {g, "1.0", term, true},
		"of another":           {g, "3.0", term, false},
		"of an earlier term":   {g, "1.0", term - 1, false},
		"of a later term":      {g, "1.0", term + 1, false},
		"to the leader itself": {leader, "1.0", term, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := beat.to.newWire() // nobody reads its requests: Raft is busy
			before := ticks()
			for range 2 * queueLength {
				last, ok := w.Heartbeat(beat.leader, beat.term)
				if ok != beat.ok || ok && last != beat.to.raft.LastIndex() {
					t.Fatalf("%v, the log ends at %d", ok, last)
				}
			}
			if !beat.ok {
				if n := len(w.requests); n > 0 {
					t.Errorf("Raft is shown %d", n)
				}
				return
			}
			if w.heard.Load() < before {
				t.Error("the leader was not heard")
			}
			if n := len(w.requests); n != 1 {
				t.Fatalf("Raft is shown %d", n)
			}
			req, ok := (<-w.requests).Command.(*raft.AppendEntriesRequest)
			if !ok || !isHeartbeat(req) || req.Term != term || raft.ServerID(req.ID) != "1.0" || string(req.Addr) != "1.0" {
				t.Errorf("Raft is shown %+v", req)
			}
		})
	}
	failure := errors.New("the disk is broken")
	w := g.newWire()
	g.store.failure.Store(&failure)
	if _, ok := w.Heartbeat("1.0", term); ok {
		t.Error("a replica that stores nothing any more answers")
	}
	g.store.failure.Store(nil)
	g.node.Store(nil)
	if _, ok := w.Heartbeat("1.0", term); ok {
		t.Error("a replica that has not begun answers")
	}
	g.node.Store(g.raft)
}
