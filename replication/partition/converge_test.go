package partition

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/quorlog/quorlog/replication"
)

func rid(node replication.NodeID) replication.ReplicaID { return replication.ReplicaID{Node: node} }

func rids(nodes ...replication.NodeID) (all []replication.ReplicaID) {
	for _, n := range nodes {
		all = append(all, rid(n))
	}
	return all
}

func voter(node replication.NodeID) member {
	return member{id: rid(node), voter: true, inSync: true, caughtUp: true}
}
func dead(node replication.NodeID) member { return member{id: rid(node), voter: true} }
func learner(node replication.NodeID, caughtUp bool) member {
	return member{id: rid(node), caughtUp: caughtUp}
}

// A leader, node 1, takes one step at a time.
func TestNextStep(t *testing.T) {
	renewed := replication.ReplicaID{Node: 3, Incarnation: 1}
	for _, c := range []struct {
		name    string
		members []member
		target  []replication.ReplicaID
		want    step
	}{
		{"as it is to be", []member{voter(1), voter(2), voter(3)}, rids(1, 2, 3), step{kind: stepDone}},
		{"the order does not matter", []member{voter(1), voter(2), voter(3)}, rids(3, 1, 2), step{kind: stepDone}},
		{"a new one comes first", []member{voter(1), voter(2), voter(3)}, rids(1, 2, 4), step{stepAddLearner, rid(4)}},
		{"it catches up", []member{voter(1), voter(2), voter(3), learner(4, false)}, rids(1, 2, 4), step{kind: stepWait}},
		{"it gets its vote", []member{voter(1), voter(2), voter(3), learner(4, true)}, rids(1, 2, 4), step{stepPromote, rid(4)}},
		{"then an old one goes", []member{voter(1), voter(2), voter(3), voter(4)}, rids(1, 2, 4), step{stepRemove, rid(3)}},
		{"several come side by side", []member{voter(1), learner(4, false)}, rids(1, 4, 5), step{stepAddLearner, rid(5)}},
		{"who is ready gets its vote though another waits", []member{voter(1), learner(4, false), learner(5, true)}, rids(1, 4, 5), step{stepPromote, rid(5)}},
		{"nobody goes before all have votes", []member{voter(1), voter(2), voter(4), learner(5, false)}, rids(1, 4, 5), step{kind: stepWait}},
		{"the dead go before the living", []member{voter(1), voter(2), dead(3), voter(4), voter(5)}, rids(1, 4, 5), step{stepRemove, rid(3)}},
		{"the leader goes last", []member{voter(1), voter(2), voter(4), voter(5)}, rids(4, 5), step{stepRemove, rid(2)}},
		{"the leader leaves", []member{voter(1), voter(4), voter(5)}, rids(4, 5), step{stepLeave, rid(1)}},
		{"not below a majority in sync", []member{voter(1), voter(2), dead(4), dead(5)}, rids(1, 4, 5), step{kind: stepWait}},
		{"a leader stays while nobody else is in sync", []member{voter(1), dead(4), dead(5)}, rids(4, 5), step{kind: stepWait}},
		{"half is no majority", []member{voter(1), voter(2), dead(3)}, rids(1, 3), step{kind: stepWait}},
		{"a canceled learner goes", []member{voter(1), voter(2), voter(3), learner(4, false)}, rids(1, 2, 3), step{stepRemove, rid(4)}},
		{"a canceled voter goes", []member{voter(1), voter(2), voter(3), voter(4)}, rids(1, 2, 3), step{stepRemove, rid(4)}},
		{"canceled ones go before others come", []member{voter(1), voter(2), learner(4, true)}, rids(1, 2, 3), step{stepRemove, rid(4)}},
		{"a new incarnation comes beside its predecessor", []member{voter(1), voter(2), dead(3)}, []replication.ReplicaID{rid(1), rid(2), renewed}, step{stepAddLearner, renewed}},
		{"and takes its place", []member{voter(1), voter(2), dead(3), {id: renewed, voter: true, inSync: true}}, []replication.ReplicaID{rid(1), rid(2), renewed}, step{stepRemove, rid(3)}},
		{"one becomes three", []member{voter(1)}, rids(1, 2, 3), step{stepAddLearner, rid(2)}},
		{"three become one", []member{voter(1), voter(2), voter(3)}, rids(1), step{stepRemove, rid(2)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := nextStep(rid(1), c.members, c.target); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// From any group to any other, through leaders that leave and replicas that die for a while: it ends where it is to end, and at
// no time is a majority of the voters out of sync because of a step.
func TestStepsReachTheirTarget(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		pick := func() []replication.ReplicaID {
			all := rids(1, 2, 3, 4, 5, 6)
			rng.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
			return all[:1+rng.IntN(5)]
		}
		from, target := pick(), pick()
		var group []member
		for _, r := range from {
			group = append(group, member{id: r, voter: true, inSync: true, caughtUp: true})
		}
		if err := walk(rng, group, target); err != nil {
			t.Fatalf("seed %d, from %v to %v: %v", seed, from, target, err)
		}
	}
}

func walk(rng *rand.Rand, group []member, target []replication.ReplicaID) error {
	self := group[0].id
	for range 200 {
		down := rng.IntN(2 * len(group))
		for i := range group {
			up := i != down || group[i].id == self
			group[i].inSync, group[i].caughtUp = up, up && (group[i].voter || rng.IntN(2) == 0)
		}
		before := majorityInSync(group)
		s := nextStep(self, group, target)
		at := slices.IndexFunc(group, func(m member) bool { return m.id == s.replica })
		switch s.kind {
		case stepDone:
			for _, m := range group {
				if !m.voter || !slices.Contains(target, m.id) {
					return fmt.Errorf("done with %+v", group)
				}
			}
			if len(group) != len(target) {
				return fmt.Errorf("done with %+v", group)
			}
			return nil
		case stepAddLearner:
			group = append(group, member{id: s.replica})
		case stepPromote:
			group[at].voter = true
		case stepRemove:
			if s.replica == self {
				return fmt.Errorf("the leader removes itself from %+v", group)
			}
			group = slices.Delete(group, at, at+1)
		case stepLeave:
			heir := slices.IndexFunc(group, func(m member) bool { return m.voter && m.inSync && slices.Contains(target, m.id) })
			if heir < 0 {
				return fmt.Errorf("no heir in %+v", group)
			}
			self = group[heir].id
		}
		if before && s.kind == stepRemove && !majorityInSync(group) {
			return fmt.Errorf("a step took the majority: %+v", group)
		}
	}
	return fmt.Errorf("no end: %+v", group)
}

func majorityInSync(group []member) bool {
	voters, inSync := 0, 0
	for _, m := range group {
		if m.voter {
			voters++
			if m.inSync {
				inSync++
			}
		}
	}
	return inSync > voters/2
}
