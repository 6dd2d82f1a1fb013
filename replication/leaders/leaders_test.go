package leaders

//quorlog:bubble bubble runs every test of this file in one

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

const none = replication.NoNode

// bubble runs a test with a network in simulated time.
func bubble(t *testing.T, nodes []replication.NodeID, do func(n *network)) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, nodes...)
		defer n.close()
		do(n)
	})
}

var three = []replication.NodeID{1, 2, 3}

func TestAChangeReachesAllWithinTenMilliseconds(t *testing.T) {
	bubble(t, three, func(n *network) {
		settle()
		n.tables[1].Set(led(0, 1, 5, 1, 2))
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		n.expect(0, 1, 5, 1, 2)
		// A crowd of changes, as after a node's death, goes in few pushes.
		before := n.called()
		for i := range int32(1000) {
			n.tables[2].Set(led(i, 2, 6, 2, 3))
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		for i := range int32(1000) {
			n.expect(i, 2, 6, 2, 3)
		}
		if calls := n.called() - before; calls > 4 {
			t.Errorf("%d calls for a crowd of changes", calls)
		}
	})
}

func TestHighestEpochWins(t *testing.T) {
	bubble(t, three, func(n *network) {
		n.tables[2].Set(led(0, 2, 7, 2))
		settle()
		n.tables[1].Set(led(0, 1, 6, 1)) // late news of an earlier election
		settle()
		n.expect(0, 2, 7, 2)
		n.tables[3].Set(led(0, 3, 8, 3, 2))
		settle()
		n.expect(0, 3, 8, 3, 2)
	})
}

func TestWhoCeasesToLeadIsNotNamed(t *testing.T) {
	bubble(t, three, func(n *network) {
		n.tables[1].Set(led(0, 1, 4, 1, 2, 3))
		settle()
		n.tables[2].Set(Entry{ID: part(0), Leader: replication.Leader{Node: none, Epoch: 4}}) // a follower lost touch: no news
		settle()
		n.expect(0, 1, 4)
		n.tables[1].Set(Entry{ID: part(0), Leader: replication.Leader{Node: none, Epoch: 4}})
		settle()
		n.expect(0, none, 4)
		n.tables[2].Set(led(0, 1, 4)) // a follower that has not noticed yet
		settle()
		n.expect(0, none, 4)
	})
}

func TestISRChanges(t *testing.T) {
	bubble(t, three, func(n *network) {
		n.tables[1].Set(led(0, 1, 4, 1, 2, 3))
		settle()
		n.tables[1].SetISR(part(0), []replication.NodeID{1, 3})
		settle()
		n.expect(0, 1, 4, 1, 3)
		n.tables[2].SetISR(part(0), []replication.NodeID{2}) // does not lead it
		n.tables[1].Set(led(0, 1, 4))                        // says nothing of replicas
		settle()
		n.expect(0, 1, 4, 1, 3)
	})
}

func TestWhatReplicasHearIsTakenButNotPassedOn(t *testing.T) {
	bubble(t, three, func(n *network) {
		settle()
		n.tables[2].Set(led(0, 1, 9))
		settle()
		n.expectOn(2, 0, 1, 9)
		n.expectOn(3, 0, none, batch.NoEpoch)
	})
}

func TestReconnectingTellsEverything(t *testing.T) {
	bubble(t, three, func(n *network) {
		n.setCut(1, 2, true)
		n.setCut(1, 3, true)
		n.tables[1].Set(led(0, 1, 4, 1))
		n.tables[1].Set(led(1, 1, 4, 1))
		n.tables[2].Set(led(1, 2, 5, 2, 3)) // elected behind its back
		settle()
		n.expectOn(3, 0, none, batch.NoEpoch)
		n.setCut(1, 2, false)
		n.setCut(1, 3, false)
		settle()
		n.expect(0, 1, 4, 1)
		n.expect(1, 2, 5, 2, 3)
	})
}

// However much was told before the connection broke, what is told after it is taken at once.
func TestReconnectingAfterManyPushes(t *testing.T) {
	bubble(t, three, func(n *network) {
		for i := range batch.Epoch(500) {
			n.tables[1].Set(led(0, 1, i, 1))
			time.Sleep(10 * time.Millisecond) // in a bubble: each is a push of its own
		}
		n.setCut(1, 2, true)
		settle()
		n.tables[1].Set(led(0, 1, 500, 1))
		n.setCut(1, 2, false)
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		n.expect(0, 1, 500, 1)
		if s, ok := n.tables[2].Status(1); !ok {
			t.Errorf("the status of the node that is connected again is not known: %v", s)
		}
	})
}

func TestARestartedNodeLeadsNothing(t *testing.T) {
	bubble(t, three, func(n *network) {
		n.tables[1].Set(led(0, 1, 4, 1, 2, 3))
		settle()
		n.stop(1)
		settle()
		n.expect(0, none, 4)
		n.start(1)
		settle()
		n.expectOn(2, 0, none, 4)
		n.expectOn(3, 0, none, 4)
		n.tables[1].Set(led(0, 1, 5, 1))
		settle()
		n.expect(0, 1, 5, 1)
	})
}

func TestALostAnswerIsHealed(t *testing.T) {
	bubble(t, three, func(n *network) {
		settle()
		n.mu.Lock()
		n.mute[2] = 3
		n.mu.Unlock()
		n.tables[1].Set(led(0, 1, 4, 1))
		n.tables[3].Set(led(1, 3, 4, 3))
		settle()
		n.tables[1].Set(Entry{ID: part(0), Leader: replication.Leader{Node: none}})
		settle()
		n.expect(0, none, 4)
		n.expect(1, 3, 4, 3)
	})
}

func TestFullPushesOfManyPartitions(t *testing.T) {
	bubble(t, three, func(n *network) {
		const many = 3*frameEntries + 5
		for i := range int32(many) {
			n.tables[1].Set(led(i, 1, 2, 1, 2, 3))
		}
		settle()
		n.setCut(1, 2, true)
		n.tables[1].Set(Entry{ID: part(many - 1), Leader: replication.Leader{Node: none}})
		n.tables[1].Set(Entry{ID: part(0), Leader: replication.Leader{Node: none}})
		n.setCut(1, 2, false)
		settle()
		n.expect(0, none, 2)
		n.expect(many-1, none, 2)
		for _, i := range []int32{1, frameEntries - 1, frameEntries, frameEntries + 1, many - 2} {
			n.expect(i, 1, 2, 1, 2, 3)
		}
	})
}

func TestTwoLeadersInOneEpoch(t *testing.T) {
	bubble(t, three, func(n *network) {
		n.tables[1].Set(led(0, 1, 4, 1))
		settle()
		n.tables[2].mu.Lock()
		n.tables[2].mu.entries[part(0)] = &entry{Entry: led(0, 2, 4, 2), by: 2}
		n.tables[2].spreadLocked(part(0))
		n.tables[2].mu.Unlock()
		settle()
		n.expectOn(3, 0, 1, 4, 1) // the first word holds
	})
}

// Two nodes that are cut from each other hear of each other by the third.
func TestTheThirdNodePassesOn(t *testing.T) {
	bubble(t, three, func(n *network) {
		n.tables[1].Set(led(0, 1, 4, 1, 2, 3))
		settle()
		n.setCut(1, 2, true)
		settle()
		n.expect(0, 1, 4) // not taken for dead
		if !n.tables[2].Alive(1) || n.tables[2].Up(1) || n.tables[2].Silent(1) != 0 {
			t.Error("node 2 takes node 1 for dead")
		}
		n.tables[1].Set(led(1, 1, 8, 1, 3))
		settle()
		n.expect(1, 1, 8, 1, 3)
		n.tables[1].SetISR(part(1), []replication.NodeID{1})
		n.tables[1].Set(Entry{ID: part(0), Leader: replication.Leader{Node: none}})
		settle()
		n.expect(1, 1, 8, 1)
		n.expect(0, none, 4)
		if live := n.tables[3].Live(); !equalNodes(live, three) {
			t.Errorf("live: %v", live)
		}
		n.setCut(1, 3, true)
		settle()
		if live := n.tables[3].Live(); !equalNodes(live, []replication.NodeID{2, 3}) {
			t.Errorf("live: %v", live)
		}
		n.expectOn(2, 1, none, 8)
		n.expectOn(3, 1, none, 8)
		n.expectOn(1, 1, 1, 8)
		if n.tables[2].Alive(1) || n.tables[2].Silent(1) < 900*time.Millisecond {
			t.Error("node 2 does not notice that node 1 is gone")
		}
		n.setCut(1, 3, false)
		settle()
		n.expect(1, 1, 8, 1)
	})
}

// A node that connects only to one of two that are there already is told what the other leads.
func TestANewNodeIsToldOfThoseThatItCannotReach(t *testing.T) {
	bubble(t, []replication.NodeID{1, 2}, func(n *network) {
		n.tables[1].Set(led(0, 1, 4, 1))
		settle()
		n.mu.Lock()
		n.cut[pair(1, 3)] = true
		n.mu.Unlock()
		n.start(3)
		settle()
		n.expect(0, 1, 4, 1)
	})
}

func TestKeepDropsDeletedPartitionsOnly(t *testing.T) {
	bubble(t, three, func(n *network) {
		table := n.tables[1]
		exists := map[replication.PartitionID]bool{part(0): true}
		keep := func() { table.Keep(func(id replication.PartitionID) bool { return exists[id] }) }
		table.Set(led(0, 1, 4, 1))
		table.Set(led(1, 2, 4)) // of a topic whose creation has not arrived here
		keep()
		n.expectOn(1, 0, 1, 4, 1)
		n.expectOn(1, 1, 2, 4)
		exists[part(1)] = true
		keep()
		delete(exists, part(0))
		delete(exists, part(1))
		table.Set(led(2, 2, 4)) // of a topic that was gone before it came here
		keep()
		n.expectOn(1, 0, none, batch.NoEpoch)
		n.expectOn(1, 1, none, batch.NoEpoch)
		n.expectOn(1, 2, 2, 4)
		time.Sleep(strangerAge + time.Second)
		keep()
		n.expectOn(1, 2, none, batch.NoEpoch)
	})
}

func TestWatchersHearOfWhatChanges(t *testing.T) {
	bubble(t, three, func(n *network) {
		heard := make(chan replication.PartitionID, 100)
		cancel := n.tables[3].Watch(func(ids []replication.PartitionID) {
			for _, id := range ids {
				n.tables[3].Leader(id) // may be asked
				heard <- id
			}
		})
		n.tables[1].Set(led(0, 1, 4, 1))
		settle()
		if id := <-heard; id != part(0) {
			t.Error(id)
		}
		n.tables[1].Set(led(0, 1, 4, 1)) // nothing new
		n.setCut(1, 2, true)
		settle()
		if len(heard) != 0 {
			t.Error("heard of nothing")
		}
		n.setCut(1, 3, true) // its leader is not alive any more
		settle()
		if id := <-heard; id != part(0) {
			t.Error(id)
		}
		cancel()
		n.setCut(1, 3, false)
		settle()
		if len(heard) != 0 {
			t.Error("heard after cancel")
		}
	})
}

func TestStatus(t *testing.T) {
	bubble(t, three, func(n *network) {
		settle()
		n.tables[1].SetStatus(NodeStatus{MetaApplied: 17, LowSpace: true, Version: "1.2"})
		n.tables[1].UpdateStatus(func(s *NodeStatus) { s.Draining = true })
		settle()
		got, ok := n.tables[3].Status(1)
		if want := (NodeStatus{Node: 1, MetaApplied: 17, LowSpace: true, Draining: true, Version: "1.2", At: got.At}); !ok || got != want {
			t.Errorf("%+v, %v", got, ok)
		}
		if applied, ok := n.tables[2].AppliedOn(1); !ok || applied != 17 {
			t.Error(applied, ok)
		}
		if s, ok := n.tables[1].Status(1); !ok || !s.Draining {
			t.Errorf("of itself: %+v, %v", s, ok)
		}
		before := n.called()
		n.tables[1].UpdateStatus(func(s *NodeStatus) { s.Draining = true })
		time.Sleep(10 * statusEvery)
		synctest.Wait()
		if calls, each := n.called()-before, 3*2*10; calls > each+3*2 {
			t.Errorf("%d calls while nothing happens; %d tell that nothing has", calls, each)
		}
		n.stop(1)
		settle()
		if _, ok := n.tables[3].AppliedOn(1); ok {
			t.Error("knows what a dead node has applied")
		}
	})
}

// A peer pushes as soon as it is connected, perhaps before this node has heard that it is.
func TestStatusBeforeThePeerIsUp(t *testing.T) {
	bubble(t, []replication.NodeID{1}, func(n *network) {
		f := frame{session: 7, seq: 1, first: true, last: true, status: &wireStatus{NodeStatus: NodeStatus{LowSpace: true}, hears: []replication.NodeID{1, 3}}}
		if answer, err := n.tables[1].HandlePush(t.Context(), 2, f.encode()); err != nil || len(answer) != 1 || answer[0] != answerOK {
			t.Fatal(answer, err)
		}
		if _, ok := n.tables[1].Status(2); ok {
			t.Error("a node that is not connected has a status")
		}
		n.tables[1].PeerUp(2)
		if s, ok := n.tables[1].Status(2); !ok || !s.LowSpace {
			t.Errorf("it was told that the disk is nearly full, and says %+v, %v", s, ok)
		}
		if !n.tables[1].Alive(3) {
			t.Error("whom the peer hears is taken for dead")
		}
	})
}

// One side alone had given up the connections and has made new ones: the other has nothing new to tell.
func TestALostStatusIsHealed(t *testing.T) {
	bubble(t, three, func(n *network) {
		n.tables[1].SetStatus(NodeStatus{LowSpace: true})
		settle()
		n.tables[3].PeerDown(1)
		n.tables[3].PeerUp(1)
		time.Sleep(statusEvery)
		settle()
		if s, ok := n.tables[3].Status(1); !ok || !s.LowSpace {
			t.Errorf("%+v, %v", s, ok)
		}
	})
}

// A push that the network held back must not undo what came after it.
func TestAPushOutOfOrderIsRefused(t *testing.T) {
	receiver := New(Options{Node: 2})
	defer receiver.Close()
	send := func(f frame, want byte) {
		t.Helper()
		got, err := receiver.HandlePush(t.Context(), 1, f.encode())
		if err != nil || len(got) != 1 || got[0] != want {
			t.Errorf("%v, %v; want %d", got, err, want)
		}
	}
	entry := func(epoch batch.Epoch) []wireEntry { return []wireEntry{{led(0, 1, epoch, 1), 1}} }
	send(frame{session: 9, seq: 4, entries: entry(1)}, answerResync) // of a session that began before this table
	send(frame{session: 9, seq: 5, first: true, last: true, entries: entry(1)}, answerOK)
	send(frame{session: 9, seq: 6, entries: entry(2)}, answerOK)
	send(frame{session: 9, seq: 8, entries: entry(4)}, answerResync)
	send(frame{session: 9, seq: 9, entries: entry(4)}, answerResync) // until everything is told
	send(frame{session: 9, seq: 10, first: true, last: true, entries: entry(5)}, answerOK)
	send(frame{session: 9, seq: 7, first: true, last: true}, answerResync)
	if l, _, _ := receiver.Leader(part(0)); l.Epoch != 5 {
		t.Errorf("%+v", l)
	}
	send(frame{session: 10, seq: 0, first: true, last: true, entries: entry(6)}, answerOK) // the node began again
}
