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
