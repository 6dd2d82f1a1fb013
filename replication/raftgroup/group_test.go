package raftgroup

//quorlog:bubble simulate and its kind run every test of this file in one

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

func TestThreeReplicasElectStoreAndAgree(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		acked := l.mustProduce(50)
		s.converge(5 * time.Second)
		for _, n := range s.nodes {
			s.find(n, acked)
			if got := n.group.Voters(); !slices.Equal(got, s.voters) {
				t.Errorf("voters of node %d: %v", n.id.Node, got)
			}
		}
		s.waitFor("followers to know the leader", time.Second, func() bool {
			for _, n := range s.nodes {
				n.mu.Lock()
				known := n.leader == l.leader
				n.mu.Unlock()
				if !known {
					return false
				}
			}
			return true
		})
	})
}

// The preferred replica of a new group, and a group of one, do not wait for an election timeout.
func TestFirstElectionDoesNotWait(t *testing.T) {
	for _, n := range []int{1, 3} {
		inBubble(t, func(t *testing.T) {
			began := time.Now()
			s := newSim(t, n, 1)
			defer s.close()
			l := s.leader()
			if l.id != s.voters[0] {
				t.Errorf("%d voters, leader is %v", n, l.id)
			}
			if took := time.Since(began); took >= 50*time.Millisecond {
				t.Errorf("%d voters elected after %v", n, took)
			}
			l.stop()
			l.start()
			began = time.Now()
			s.leader()
			if took := time.Since(began); n == 1 && took > 50*time.Millisecond {
				t.Errorf("after a restart: %v", took)
			}
		})
	}
}

// A leader that is stopped is followed by another one within the timeouts, which have room for three rounds here.
func TestFailOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		var acked [][]byte
		for range 20 {
			l := s.leader()
			acked = append(acked, l.mustProduce(3)...)
			l.crash(vfs.CrashOptions{})
			began := time.Now()
			next := s.leader(l)
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("fail-over took %v", took)
			}
			acked = append(acked, next.mustProduce(3)...)
			l.start()
			l.connect()
			s.converge(15 * time.Second)
		}
		for _, n := range s.nodes {
			s.find(n, acked)
		}
	})
}

// A replica that was away while another one got its vote grants it its own: else the two, a majority, would wait for a third.
func TestVoteForAVoterThatIsNotKnownYet(t *testing.T) {
	for _, known := range []bool{false, true} { // as a learner
		inBubble(t, func(t *testing.T) {
			s := newSim(t, 3, 1)
			defer s.close()
			l := s.leader()
			var others []*simNode
			for _, n := range s.nodes {
				if n != l {
					others = append(others, n)
				}
			}
			away, leaves := others[0], others[1]
			comes := s.add(4)
			comes.start()
			comes.connect()
			steps := []func() error{
				func() error { return l.group.AddReplica(comes.id, false) },
				func() error { return l.group.AddReplica(comes.id, true) },
				func() error { return l.group.RemoveReplica(leaves.id) },
			}
			for i, step := range steps {
				if !known && i == 0 || known && i == 1 {
					away.isolate()
				}
				if err := step(); err != nil {
					t.Fatal(err)
				}
				l.mustProduce(1)
				s.waitFor("the new replica has all", time.Minute, func() bool { return comes.log.LastIndex() == l.log.LastIndex() })
			}
			acked := l.mustProduce(1)
			s.waitFor("the new replica has all", time.Minute, func() bool { return comes.log.LastIndex() == l.log.LastIndex() })
			l.isolate()
			away.connect()
			l.isolate()
			leaves.isolate()
			if got := s.leader(l, leaves); got != comes {
				t.Fatalf("%s leads", got.id)
			}
			comes.mustProduce(1)
			s.find(comes, acked)
		})
	}
}

// What was proposed at the moment of shutdown is answered, and nothing hangs: Raft itself would leave queued proposals alone.
func TestShutdownAnswersEverything(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for range 20 {
			s := newSim(t, 1, 1)
			n := s.leader()
			epoch, _ := n.group.Leading()
			var ps []Proposal
			for range 64 {
				f := s.value()
				batch.Stamp(f, batch.Unstamped, epoch)
				ps = append(ps, n.group.Propose(f))
			}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for _, p := range ps {
					_, err := p.Wait()
					if err != nil && !errors.Is(err, replication.ErrNotLeader) && !errors.Is(err, replication.ErrUnknownOutcome) {
						t.Errorf("got %v", err)
					}
				}
			}()
			g := n.group
			s.close()
			<-ended
			if _, err := g.Propose(s.value()).Wait(); !errors.Is(err, replication.ErrNotLeader) {
				t.Errorf("after Close: %v", err)
			}
		}
	})
}

// A leader without followers loses its lease; what it had under way has an unknown outcome.
func TestLeaderWithoutMajorityStepsDown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(3)
		l.isolate()
		f := s.value()
		epoch, _ := l.group.Leading()
		batch.Stamp(f, batch.Unstamped, epoch)
		if _, err := l.group.Propose(f).Wait(); !errors.Is(err, replication.ErrUnknownOutcome) {
			t.Errorf("got %v", err)
		}
		if l.leads() {
			t.Error("still leads")
		}
		if _, err := l.group.Propose(s.value()).Wait(); !errors.Is(err, replication.ErrNotLeader) {
			t.Errorf("afterwards: %v", err)
		}
		next := s.leader(l)
		next.mustProduce(2)
		l.connect()
		s.converge(15 * time.Second)
	})
}

// A batch that was checked in an earlier epoch is refused when it is stored in a later one.
func TestBatchOfAnOldEpochIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 1, 1)
		defer s.close()
		n := s.leader()
		f := s.value()
		epoch, _ := n.group.Leading()
		batch.Stamp(f, batch.Unstamped, epoch-1)
		refused, err := n.group.Propose(f).Wait()
		if err != nil || refused == nil || refused.Reason != log.RefusedTerm {
			t.Errorf("%+v, %v", refused, err)
		}
		if o := n.log.Offsets(); o.LogEnd != 0 {
			t.Errorf("a refusal took an offset: %+v", o)
		}
	})
}

func TestTransferLeadership(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		for range 5 {
			l := s.leader()
			acked := l.mustProduce(5)
			s.converge(5 * time.Second)
			var to *simNode
			for _, n := range s.nodes {
				if n != l {
					to = n
				}
			}
			if err := l.group.TransferLeadership(to.id); err != nil {
				t.Fatal(err)
			}
			if next := s.leader(l); next != to {
				t.Errorf("leader is %v, not %v", next.id, to.id)
			}
			s.converge(5 * time.Second)
			s.find(to, acked)
		}
	})
}

// Replicas that keep up are in sync; one that is cut off is not, after the lag.
func TestInSync(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		const lag = 3 * time.Second
		l.mustProduce(5)
		time.Sleep(2 * lag)
		if got := l.group.InSync(lag); len(got) != 3 {
			t.Errorf("idle and connected: %v", got)
		}
		var off *simNode
		for _, n := range s.nodes {
			if n != l {
				off = n
			}
		}
		off.isolate()
		for range 10 {
			l.mustProduce(5)
			time.Sleep(lag / 5)
		}
		if got := l.group.InSync(lag); len(got) != 2 || slices.Contains(got, off.id) {
			t.Errorf("one is cut off: %v", got)
		}
		off.connect()
		s.converge(15 * time.Second)
		s.waitFor("all to be in sync", 10*time.Second, func() bool { return len(l.group.InSync(lag)) == 3 })
		if l.group.Match(off.id) < l.log.LastIndex() {
			t.Errorf("match is %d of %d", l.group.Match(off.id), l.log.LastIndex())
		}
	})
}
