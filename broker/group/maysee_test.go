package group

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker/coordinator"
)

// TestRegexesMatchWhatMembersMaySee: an expression has the topics that its member may see, and follows its rights.
func TestRegexesMatchWhatMembersMaySee(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newFakeLogs(), DefaultLimits())
		regex, hidden := "[tu]", []string{"u"}
		beat := func(member string, epoch MemberEpoch) MemberResponse {
			t.Helper()
			r := MemberRequest{Version: 1, Group: "g", Member: member, Epoch: epoch, Rebalance: -1}
			if epoch == EpochJoin {
				r.Rebalance, r.Owned, r.Regex = time.Minute, []TopicPartition{}, &regex
			}
			r.MaySee = func(topic string) bool { return !slices.Contains(hidden, topic) }
			got := n.ConsumerHeartbeat(t.Context(), r)
			wantErr(t, member, got.Err, nil)
			return got
		}
		topicsOf := func(list []TopicPartition) (names []string) {
			for _, p := range list {
				var of coordinator.Topic
				if of, _ = n.cluster.TopicByID(p.Topic); !slices.Contains(names, of.Name) {
					names = append(names, of.Name)
				}
			}
			slices.Sort(names)
			return names
		}
		want := func(what string, got []TopicPartition, names ...string) {
			t.Helper()
			if !slices.Equal(topicsOf(got), names) {
				t.Errorf("%s: %v, want %v", what, topicsOf(got), names)
			}
		}
		a := beat("a", EpochJoin)
		want("u is hidden", a.Assigned, "t")
		hidden = nil
		n.TopicsChanged()
		a = beat("a", a.Epoch)
		want("u is seen", a.Assigned, "t", "u")

		// Another member brings the same expression and may see less: the group's topics stay.
		hidden = []string{"t", "u"}
		beat("b", EpochJoin)
		var targets []TopicPartition
		for _, m := range n.DescribeConsumers([]string{"g"})[0].Members {
			targets = append(targets, m.Target...)
		}
		want("b joined", targets, "t", "u")
		hidden = []string{"u"}
		n.TopicsChanged()
		beat("a", a.Epoch)
		targets = nil
		for _, m := range n.DescribeConsumers([]string{"g"})[0].Members {
			targets = append(targets, m.Target...)
		}
		want("u is hidden again", targets, "t")
	})
}

// TestRegexesOfOneVersion: two members resolve their expressions at the same time, a topic comes in between, and neither tells of the other's
// expression. The one that was resolved for the older topics is known to be.
func TestRegexesOfOneVersion(t *testing.T) {
	old := topicMap{"a": {Name: "a", ID: topicID("a"), Partitions: 1}}
	grown := topicMap{"a": old["a"], "b": {Name: "b", ID: topicID("b"), Partitions: 1}}
	beat := func(m *Machine, member, regex string, topics topicMap, version uint64) {
		r := MemberRequest{Version: 1, Group: "g", Member: member, Regex: &regex, Owned: []TopicPartition{}, Rebalance: time.Minute}
		matched := []string{}
		if _, ok := topics[regex]; ok {
			matched = append(matched, regex)
		}
		m.Step(scriptStart, MemberHeartbeat{Call: 1, Request: r, View: View{Topics: topics, Version: version}, Resolved: map[string][]string{regex: matched}})
	}
	limits := DefaultLimits()
	for name, order := range map[string][2]uint64{"the older first": {1, 2}, "the newer first": {2, 1}} {
		m := NewMachine("g", &limits)
		beat(m, "first", "x", old, 1)
		for _, version := range order {
			if version == 1 {
				beat(m, "late", "b", old, 1)
			} else {
				beat(m, "next", "a", grown, 2)
			}
		}
		if got := m.modern.unresolved(nil, 2); !slices.Contains(got, "b") {
			t.Errorf("%s: %v is resolved anew, not b", name, got)
		}
	}
}
