package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/quorlog/quorlog/internal/scripts"
	"github.com/quorlog/quorlog/replication"
)

// TestMemberScripts runs testdata/members/*.txt. "> nodes" says who is registered, as ID/RACK with marks: - not alive, -- gone for
// long, ~ leaving, ? behind; an id may have an incarnation. "> group" says who is in the metadata group, the leader first: voters,
// then after a bar the learners. What follows are the steps that are taken until there is nothing to do.
func TestMemberScripts(t *testing.T) {
	scripts.Lines(t, "testdata/members/*.txt", func(t *testing.T) func([]string) []string {
		v := membersView{leadershipMayMove: true}
		return func(fields []string) (said []string) {
			switch fields[0] {
			case "nodes":
				v.nodes = map[replication.NodeID]memberState{}
				for _, w := range fields[1:] {
					s := parseMember(w)
					v.nodes[s.replica.Node] = s
				}
			case "group":
				v.voters, v.learners = nil, nil
				into := &v.voters
				for _, w := range fields[1:] {
					if w == "|" {
						into = &v.learners
					} else {
						*into = append(*into, parseReplica(w))
					}
				}
				v.self = v.voters[0]
				for _, step := range settleMembers(t, &v, nil) {
					said = append(said, fmt.Sprint(step))
				}
				said = append(said, fmt.Sprintf("voters %v, learners %v", v.voters, v.learners))
			}
			return said
		}
	})
}

func parseReplica(w string) replication.ReplicaID {
	r := replication.ReplicaID{Incarnation: 1}
	fmt.Sscanf(w, "%d.%d", &r.Node, &r.Incarnation)
	return r
}

func parseMember(w string) memberState {
	id, rest, _ := strings.Cut(w, "/")
	rack := strings.TrimRight(rest, "-~?")
	marks := rest[len(rack):]
	return memberState{
		replica: parseReplica(id), rack: rack, here: !strings.Contains(marks, "-"), alive: !strings.Contains(marks, "-"), lost: strings.Contains(marks, "--"),
		leaving: strings.Contains(marks, "~"), current: !strings.Contains(marks, "?"),
	}
}

// fataler is a test or a property.
type fataler interface {
	Fatalf(format string, args ...any)
}

// settleMembers takes steps until there is none, and holds each against what must never be.
func settleMembers(t fataler, v *membersView, each func()) []string {
	var out []string
	for range 50 {
		c := nextMetaChange(*v)
		if c.kind == noChange {
			return out
		}
		out = append(out, c.String())
		if c.kind == transfer {
			return out // what comes is another leader's
		}
		before := *v
		takeStep(t, v, c)
		if had, has := majorityAlive(before), majorityAlive(*v); had && !has {
			t.Fatalf("%s takes the majority from %+v", c, before)
		}
		if !slices.Contains(v.voters, v.self) {
			t.Fatalf("%s takes the leader's vote", c)
		}
		if each != nil {
			each()
		}
	}
	t.Fatalf("it does not end: %v", out)
	return nil
}

func takeStep(t fataler, v *membersView, c memberChange) {
	drop := func(list []replication.ReplicaID) []replication.ReplicaID {
		return slices.DeleteFunc(slices.Clone(list), func(r replication.ReplicaID) bool { return r == c.replica })
	}
	isVoter, isLearner := slices.Contains(v.voters, c.replica), slices.Contains(v.learners, c.replica)
	switch {
	case c.kind == addLearner && !isVoter && !isLearner:
		v.learners = append(slices.Clone(v.learners), c.replica)
	case c.kind == promote && isLearner:
		v.learners, v.voters = drop(v.learners), append(slices.Clone(v.voters), c.replica)
	case c.kind == demote && isVoter:
		v.voters, v.learners = drop(v.voters), append(slices.Clone(v.learners), c.replica)
	case c.kind == remove && (isVoter || isLearner):
		v.voters, v.learners = drop(v.voters), drop(v.learners)
	default:
		t.Fatalf("%s makes no sense in %+v", c, *v)
	}
}

func majorityAlive(v membersView) bool { return v.aliveVoters() > len(v.voters)/2 }

// TestMembersSettle: from wherever, the steps end, never cost the majority or the leader its vote, and where all is well they end
// at the voters that should be, in as many racks as can be.
func TestMembersSettle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := membersView{nodes: map[replication.NodeID]memberState{}, leadershipMayMove: rapid.Bool().Draw(t, "may move")}
		n := rapid.IntRange(1, 9).Draw(t, "nodes")
		racks := rapid.IntRange(1, 4).Draw(t, "racks")
		for id := range replication.NodeID(n) {
			s := memberState{replica: replication.ReplicaID{Node: id, Incarnation: replication.Incarnation(rapid.IntRange(1, 2).Draw(t, "incarnation"))}}
			s.rack = string(rune('a' + rapid.IntRange(0, racks-1).Draw(t, "rack")))
			s.alive = rapid.IntRange(0, 3).Draw(t, "alive") > 0
			s.here = s.alive || rapid.IntRange(0, 3).Draw(t, "here") == 0
			s.lost = !s.here && rapid.Bool().Draw(t, "lost")
			s.leaving, s.current = rapid.IntRange(0, 5).Draw(t, "leaving") == 0, rapid.IntRange(0, 4).Draw(t, "current") > 0
			if rapid.IntRange(0, 9).Draw(t, "registered") > 0 || id == 0 {
				v.nodes[id] = s
			}
			r := s.replica
			if rapid.IntRange(0, 5).Draw(t, "stale") == 0 && id != 0 {
				r.Incarnation = 7
			}
			switch place := rapid.IntRange(0, 2).Draw(t, "place"); {
			case id == 0 || place == 0:
				v.voters = append(v.voters, r)
			case place == 1:
				v.learners = append(v.learners, r)
			}
		}
		v.self = v.voters[0]
		self := v.nodes[0]
		self.here, self.alive, self.lost, self.current = true, true, false, true
		v.nodes[0] = self
		if !majorityAlive(v) {
			t.Skip("nobody would lead")
		}
		settleMembers(t, &v, nil)
		for id, s := range v.nodes {
			s.here, s.alive, s.lost, s.leaving, s.current = true, true, false, false, true
			v.nodes[id] = s
		}
		settleMembers(t, &v, nil)
		checkSettled(t, v)
	})
}

func checkSettled(t *rapid.T, v membersView) {
	if len(v.voters) != wantedVoters(len(v.nodes)) || len(v.voters)+len(v.learners) != len(v.nodes) {
		t.Fatalf("of %d nodes, %v vote and %v learn", len(v.nodes), v.voters, v.learners)
	}
	racks, used := map[string]bool{}, map[string]bool{}
	for _, s := range v.nodes {
		racks[s.rack] = true
	}
	for _, r := range v.voters {
		s, ok := v.state(r)
		if !ok {
			t.Fatalf("%s votes", r)
		}
		used[s.rack] = true
	}
	if want := min(len(racks), len(v.voters)); len(used) != want {
		t.Fatalf("voters %v are in %d racks of %d", v.voters, len(used), want)
	}
}
