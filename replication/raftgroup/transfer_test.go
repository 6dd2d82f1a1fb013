package raftgroup

//quorlog:bubble inBubble runs every test of this file in one

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// settled is a cluster of n voters, all of which have what its leader has produced.
func settled(t *testing.T, n int) (*sim, *simNode) {
	s := newSim(t, n, 1)
	l := s.leader()
	l.mustProduce(5)
	s.converge(5 * time.Second)
	return s, l
}

// A leader tries to hand over to a replica that is gone, more than once, and loses its leadership then. When it is elected
// again, it must serve: Raft, left to itself, would believe for ever that a transfer is under way, and take nothing.
func TestTransfersToAReplicaThatIsGone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, l := settled(t, 3)
		defer s.close()
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

// What a leader has taken is answered before it hands over: an heir without it would be refused by those that get it, and nobody
// would know what became of it.
func TestTransferWaitsForWhatWasTaken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, l := settled(t, 3)
		defer s.close()
		l.in.Add(vfs.Rule{Op: vfs.OpSync, Path: ".log", Delay: 20 * time.Millisecond, Last: -1})
		taken := make([]Proposal, 3)
		for i := range taken {
			f := s.value()
			epoch, _ := l.group.Leading()
			batch.Stamp(f, batch.Unstamped, epoch)
			taken[i] = l.group.Propose(f)
		}
		outcomes := make(chan error, len(taken))
		for _, p := range taken {
			go func() {
				_, err := p.Wait()
				outcomes <- err
			}()
		}
		if err := l.group.TransferLeadership(s.follower().id); err != nil {
			t.Fatal(err)
		}
		for range taken {
			if err := <-outcomes; err != nil {
				t.Errorf("taken before the transfer, and then: %v", err)
			}
		}
		s.leader().mustProduce(5)
		s.converge(10 * time.Second)
	})
}

// An heir that is not elected leaves the group without a leader. Who hands over because it leaves must wait until there is one.
func TestTransferWaitsForALeader(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, l := settled(t, 5)
		defer s.close()
		heir := s.follower()
		for _, n := range s.others(l) {
			lost := false
			n.mu.Lock()
			n.lose = func(rpc raft.RPC) bool { // the heir's first word to it
				q, ok := rpc.Command.(*raft.RequestVoteRequest)
				if !ok || lost || string(q.ID) != heir.id.String() {
					return false
				}
				lost = true
				return true
			}
			n.mu.Unlock()
		}
		err := l.group.TransferLeadership(heir.id)
		_, leader := l.group.running().LeaderWithID()
		if again := leader == raft.ServerID(l.id.String()); leader == "" || again == (err == nil) {
			t.Errorf("%v, and the leader that is known is %q", err, leader)
		}
		s.leader().mustProduce(5)
	})
}
