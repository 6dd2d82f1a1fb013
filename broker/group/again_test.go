package group

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/broker"
	"github.com/quorlog/quorlog/broker/coordinator"
	"github.com/quorlog/quorlog/log/batch"
)

// offsetOf is what a group has committed for t-0.
func (n *node) offsetOf(t *testing.T, group string) batch.Offset {
	t.Helper()
	got := n.Fetch(t.Context(), FetchRequest{Group: group, Topics: []FetchTopic{{Name: "t", Partitions: []int32{0}}}})
	if got.Err != nil {
		t.Fatal(got.Err)
	}
	return got.Topics[0].Partitions[0].Offset
}

// TestATopicIsMadeAgain: offsets, also those that were committed by the topic's name, are those of the topic that had the name then.
// Nobody need have heard of its deletion, and whoever hears of it late forgets nothing of the new one.
func TestATopicIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newFakeLogs(), DefaultLimits())
		commit := func(group string, offset batch.Offset) {
			t.Helper()
			wantErr(t, "commit", firstError(n.Commit(t.Context(), commitOf(group, "", NoGeneration, "t", offset))), nil)
		}
		check := func(when string, want batch.Offset) {
			t.Helper()
			if got := n.offsetOf(t, "g"); got != want {
				t.Errorf("%s: %d, want %d", when, got, want)
			}
		}
		commit("g", 5)
		commit("h", 5)
		old, _ := n.cluster.Topic("t")
		check("before", 5)
		if n.cluster.syncs > 0 {
			t.Errorf("%d questions without a doubt", n.cluster.syncs)
		}
		n.cluster.replace("t", 2)
		check("made again", NoOffset)
		synctest.Wait()
		check("and again", NoOffset)
		if n.cluster.syncs != 1 {
			t.Errorf("%d questions: what is certainly old should have been dropped", n.cluster.syncs)
		}
		n.lead(2)
		for _, group := range []string{"g", "h"} {
			wantErr(t, "view", n.view(group, func(m *Machine) {
				if m != nil {
					t.Errorf("%s still has offsets of the old topic", group)
				}
			}), nil)
		}
		commit("g", 7)
		n.TopicsDeleted(old)
		synctest.Wait()
		check("the old one is known to be gone", 7)
		n.lead(3)
		check("read again", 7)
	})
}

// TestATopicThatIsNewerThanTheCoordinatorKnows: offsets that the coordinator before has taken for a topic of which this one has not
// heard yet are no old ones.
func TestATopicThatIsNewerThanTheCoordinatorKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newFakeLogs(), DefaultLimits())
		n.cluster.replace("t", 2)
		wantErr(t, "commit", firstError(n.Commit(t.Context(), commitOf("g", "", NoGeneration, "t", 7))), nil)
		n.lead(2)
		n.cluster.replace("t", 1)
		cut := func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		n.cluster.sync = cut
		for _, all := range []bool{true, false} {
			r := FetchRequest{Group: "g", All: all, Topics: []FetchTopic{{Name: "t", Partitions: []int32{0}}}}
			wantErr(t, "cut off", n.Fetch(t.Context(), r).Err, broker.ErrCoordinatorLoading)
		}
		n.cluster.sync = func(context.Context) error {
			// The answer is about topic 2, and late: meanwhile another coordinator has taken offsets for topic 3.
			n.cluster.replace("t", 3)
			wantErr(t, "commit", firstError(n.Commit(t.Context(), commitOf("g", "", NoGeneration, "t", 8))), nil)
			n.lead(3)
			n.cluster.replace("t", 2)
			return nil
		}
		wantErr(t, "overtaken", n.Fetch(t.Context(), FetchRequest{Group: "g", All: true}).Err, broker.ErrCoordinatorLoading)
		n.cluster.sync = func(context.Context) error {
			n.cluster.replace("t", 3)
			return nil
		}
		if got := n.offsetOf(t, "g"); got != 8 {
			t.Errorf("got %d", got)
		}
	})
}

// TestATopicOfWhichTheCoordinatorHasNotHeard: all of a group's offsets are told with their topics' ids, or not yet. Those of a topic that is
// certainly gone are dropped.
func TestATopicOfWhichTheCoordinatorHasNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, newFakeLogs(), DefaultLimits())
		wantErr(t, "commit", firstError(n.Commit(t.Context(), commitOf("g", "", NoGeneration, "t", 7))), nil)
		n.lead(2)
		topic := n.cluster.remove("t")
		n.cluster.sync = func(context.Context) error { return context.DeadlineExceeded }
		all := FetchRequest{Group: "g", All: true}
		wantErr(t, "cut off", n.Fetch(t.Context(), all).Err, broker.ErrCoordinatorLoading)
		n.cluster.sync = func(context.Context) error {
			n.cluster.add("t", topic.Partitions)
			return nil
		}
		if got := n.Fetch(t.Context(), all); got.Err != nil || len(got.Topics) != 1 || got.Topics[0].ID != topic.ID || got.Topics[0].Partitions[0].Offset != 7 {
			t.Errorf("got %+v", got)
		}
		n.cluster.remove("t")
		n.cluster.sync = nil
		n.Fetch(t.Context(), all)
		synctest.Wait()
		if got := n.Fetch(t.Context(), all); got.Err != nil || len(got.Topics) > 0 {
			t.Errorf("of a topic that is gone: %+v", got)
		}
	})
}

// TestOffsetsOfWhichTheTopicIsNotKnown: what was stored without the topic's id is shown for whichever topic has the name, and goes with it.
func TestOffsetsOfWhichTheTopicIsNotKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		logs := newFakeLogs()
		key, value := encodeRecord(&Record{Group: "g", Key: &OffsetKey{Topic: "t"}, Offset: &Committed{Offset: 3, At: time.UnixMilli(1)}})
		logs.logs[coordinator.PartitionOf("g", fakePartitions)].appendRecords(t, batch.Record{Key: key, Value: value})
		n := newNode(t, logs, DefaultLimits())
		if got := n.offsetOf(t, "g"); got != 3 || n.cluster.syncs > 0 {
			t.Errorf("got %d after %d questions", got, n.cluster.syncs)
		}
		old, _ := n.cluster.Topic("t")
		n.TopicsDeleted(old)
		synctest.Wait()
		if got := n.offsetOf(t, "g"); got != NoOffset {
			t.Errorf("after the deletion: %d", got)
		}
	})
}
