package raftgroup

//quorlog:bubble inBubble runs every test of this file in one

import (
	"testing"
	"time"
)

// A leader tries to hand over to a replica that is gone, more than once, and loses its leadership then. When it is elected
// again, it must serve: Raft, left to itself, would believe for ever that a transfer is under way, and take nothing.
func TestTransfersToAReplicaThatIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(5)
		s.converge(5 * time.Second)
		gone := s.follower()
		gone.isolate()
		l.mustProduce(5)
		for range 4 {
			if err := l.group.TransferLeadership(gone.id); err == nil {
				t.Fatal("handed over to a replica that is gone")
			}
		}
		if acked := l.produce(5); len(acked) != 5 {
			t.Errorf("the leader takes %d of 5 batches after it kept its leadership", len(acked))
		}
		gone.connect()
		l.isolate()
		next := s.leader(l)
		next.mustProduce(3)
		l.connect()
		s.converge(30 * time.Second)
		s.waitFor("the leadership to come back", 30*time.Second, func() bool {
			_ = s.leader().group.TransferLeadership(l.id)
			return l.leads()
		})
		l.mustProduce(5)
		s.converge(10 * time.Second)
	})
}

// The same for Raft's own choice of a successor.
func TestTransfersWithoutAnybodyThere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		s.converge(5 * time.Second)
		for _, n := range s.others(l) {
			n.isolate()
		}
		for range 4 {
			_ = l.group.TransferLeadership()
		}
		time.Sleep(3 * time.Second)
		for _, n := range s.others(l) {
			n.connect()
		}
		s.converge(30 * time.Second)
		s.waitFor("the leadership to come back", 30*time.Second, func() bool {
			_ = s.leader().group.TransferLeadership(l.id)
			return l.leads()
		})
		l.mustProduce(5)
	})
}
