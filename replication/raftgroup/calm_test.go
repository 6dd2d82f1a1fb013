package raftgroup

//quorlog:bubble every test of this file runs in one

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// calmSim is three nodes with a patrol whose followers have calmed down, and their leader.
func calmSim(t *testing.T, seed uint64) (*sim, *simNode) {
	s := newSim(t, 3, 2*seed+1)
	s.leader()
	time.Sleep(2 * time.Second) // the preferred leader may come after another one
	s.leader().mustProduce(5)
	s.waitFor("the followers to be calm", 10*time.Second, func() bool { return s.calmFollowers() == 2 })
	return s, s.leader()
}

func (n *simNode) mood() mood {
	in := n.group.current()
	in.calm.mu.Lock()
	defer in.calm.mu.Unlock()
	return in.calm.mood
}

func (n *simNode) heartbeatTimeout() time.Duration {
	return n.group.running().ReloadableConfig().HeartbeatTimeout
}

// kill is a node's end as the others see it: nothing comes from it any more, and at once they hear that its process is gone. An
// orderly stop would take time first: it waits for the answers to what was sent.
func (s *sim) kill(dead *simNode) {
	dead.isolate()
	for _, n := range s.nodes {
		if n != dead {
			n.group.link.Gone(dead.id.Node)
		}
	}
}

// loseAll has the node lose the messages to it for which which says so.
func (n *simNode) loseAll(which func(raft.RPC) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lose = which
}

func (s *sim) calmFollowers() (calm int) {
	for _, n := range s.nodes {
		if n.group != nil && n.mood() == moodCalm && n.group.running().State() == raft.Follower {
			calm++
		}
	}
	return calm
}

// A calm follower does not wait longer for a new leader than another, whatever became of the old one; and a group that is left
// alone has no elections.
func TestCalmFollowersElect(t *testing.T) {
	for name, kill := range map[string]func(s *sim, l *simNode){
		"cut off": func(_ *sim, l *simNode) { l.isolate() },
		"closed":  func(_ *sim, l *simNode) { l.stop() },
	} {
		for seed := range uint64(20) {
			inBubble(t, func(t *testing.T) {
				s, l := calmSim(t, seed)
				defer s.close()
				for _, n := range s.nodes {
					if d := n.heartbeatTimeout(); n != l && d != calmFactor*DefaultHeartbeat {
						t.Errorf("%s: timeout of a calm follower is %v", name, d)
					}
				}
				epoch, _ := l.group.Leading()
				time.Sleep(time.Minute)
				if now, leads := l.group.Leading(); !leads || now != epoch || s.calmFollowers() != 2 {
					t.Errorf("after a quiet minute: epoch %d, then %d, leads %v, %d calm", epoch, now, leads, s.calmFollowers())
				}
				began := time.Now()
				kill(s, l)
				next := s.leader(l)
				if d := time.Since(began); d > 1500*time.Millisecond {
					t.Errorf("%s, seed %d: %v without a leader", name, seed, d)
				}
				next.mustProduce(5)
				if l.group != nil {
					l.connect()
				} else {
					l.start()
				}
				s.waitFor("all to be calm again", 20*time.Second, func() bool { return s.calmFollowers() == 2 })
				if d := next.heartbeatTimeout(); d != DefaultHeartbeat {
					t.Errorf("timeout of the leader is %v", d)
				}
				s.converge(10 * time.Second)
			})
		}
	}
}

// When the leader's process is gone, nobody waits for its silence; a leader that lives is not hurt by such news.
func TestGoneLeader(t *testing.T) {
	for seed := range uint64(20) {
		inBubble(t, func(t *testing.T) {
			s, l := calmSim(t, seed)
			defer s.close()
			for _, n := range s.nodes {
				n.group.link.Gone(l.id.Node)
			}
			time.Sleep(10 * time.Second)
			if !l.leads() {
				t.Errorf("seed %d: a living leader was deposed by the news of its death", seed)
			}
			s.waitFor("all to be calm again", 10*time.Second, func() bool { return s.calmFollowers() == 2 })
			began := time.Now()
			s.kill(l)
			s.leader(l)
			if d := time.Since(began); d > DefaultLease+3*alarmStep {
				t.Errorf("seed %d: %v without a leader", seed, d)
			}
		})
	}
}

// Leadership moves from a calm group to a calm follower at once.
func TestCalmTransfer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, l := calmSim(t, 1)
		defer s.close()
		for range 5 {
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
			l = to
			s.waitFor("the followers to be calm", 10*time.Second, func() bool { return s.calmFollowers() == 2 })
		}
	})
}

// A follower that knows its leader's process to be gone no longer refuses its vote because of that leader, and does not wait for
// its own turn when the one whose turn it is cannot win: whichever of the two has the longer log, there is one election.
func TestGoneLeaderUnequalFollowers(t *testing.T) {
	for seed := range uint64(20) {
		inBubble(t, func(t *testing.T) {
			s, l := calmSim(t, seed)
			defer s.close()
			var followers []*simNode
			for _, n := range s.nodes {
				if n != l {
					followers = append(followers, n)
				}
			}
			behind := followers[seed%2]
			behind.loseAll(func(rpc raft.RPC) bool {
				req, ok := rpc.Command.(*raft.AppendEntriesRequest)
				return ok && len(req.Entries) > 0
			})
			l.mustProduce(5)
			s.waitFor("all to be calm", 10*time.Second, func() bool { return s.calmFollowers() == 2 })
			began := time.Now()
			s.kill(l)
			behind.loseAll(nil)
			if next := s.leader(l); next == behind {
				t.Errorf("seed %d: a follower that lacks committed entries leads", seed)
			}
			if d := time.Since(began); d > DefaultLease+2*alarmStep {
				t.Errorf("seed %d: %v without a leader", seed, d)
			}
		})
	}
}

// What the leader sent before its process went may be read after the news that it is gone.
func TestGoneLeaderHeardLate(t *testing.T) {
	for name, late := range map[string]func(n, l *simNode, term uint64){
		"heartbeats": func(n, l *simNode, term uint64) {
			n.group.link.Heartbeat(raft.ServerID(l.id.String()), term)
		},
		"entries": func(n, l *simNode, term uint64) {
			n.group.link.Receive(raft.RPC{RespChan: make(chan raft.RPCResponse, 1), Command: &raft.AppendEntriesRequest{
				RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(l.id.String()), Addr: []byte(l.id.String())}, Term: term,
			}})
		},
	} {
		for seed := range uint64(20) {
			inBubble(t, func(t *testing.T) {
				s, l := calmSim(t, seed)
				defer s.close()
				epoch, _ := l.group.Leading()
				began := time.Now()
				s.kill(l)
				time.Sleep(patrolPause / 2)
				for _, n := range s.nodes {
					if n != l {
						late(n, l, uint64(epoch))
					}
				}
				s.leader(l)
				if d := time.Since(began); d > DefaultLease+3*alarmStep {
					t.Errorf("%s, seed %d: %v without a leader", name, seed, d)
				}
			})
		}
	}
}

// A leader that lives keeps its lead though one of two followers believes it dead and asks the other for its vote.
func TestGoneForOneFollower(t *testing.T) {
	for seed := range uint64(20) {
		inBubble(t, func(t *testing.T) {
			s, l := calmSim(t, seed)
			defer s.close()
			var deaf *simNode
			for _, n := range s.nodes {
				if n != l {
					deaf = n
				}
			}
			epoch, _ := l.group.Leading()
			deaf.loseAll(func(rpc raft.RPC) bool {
				_, ok := rpc.Command.(*raft.AppendEntriesRequest)
				return ok
			})
			for range 5 {
				deaf.group.link.Gone(l.id.Node)
				time.Sleep(2 * time.Second)
			}
			if now, leads := l.group.Leading(); !leads || now != epoch {
				t.Errorf("seed %d: a living leader was deposed", seed)
			}
		})
	}
}
