package rig

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// Patience bounds waits for what a healthy cluster does in milliseconds to seconds.
const Patience = 2 * time.Minute

// Await waits until a condition says "": until then it says what is missing.
func Await(t testing.TB, condition func() string) {
	t.Helper()
	deadline := time.After(Patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for missing := condition(); missing != ""; missing = condition() {
		select {
		case <-deadline:
			t.Fatalf("after %v: %s", Patience, missing)
		case <-tick.C:
		}
	}
}

// Idle lets time go by while a fault lasts or between two: its length is what the test is about. It ends early, and says
// so, when done is closed; nil never is.
func Idle(d time.Duration, done <-chan struct{}) (ended bool) {
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// AwaitWhole waits until every partition of every topic, the internal ones too, has a leader that runs and all its replicas in
// sync.
func AwaitWhole(t testing.TB, c *testcluster.Cluster) {
	t.Helper()
	Await(t, func() string {
		topics, err := c.Admin().ListTopicsWithInternal(t.Context())
		if err != nil {
			return err.Error()
		}
		for _, topic := range topics.Sorted() {
			for _, p := range topic.Partitions.Sorted() {
				isr, replicas := slices.Sorted(slices.Values(p.ISR)), slices.Sorted(slices.Values(p.Replicas))
				if p.Leader <= 0 || !c.Node(int(p.Leader)).Running() || !slices.Equal(isr, replicas) {
					return fmt.Sprintf("%s-%d is led by %d, in sync are %v of %v", topic.Topic, p.Partition, p.Leader, isr, replicas)
				}
			}
		}
		return ""
	})
}

// Coordinator asks who coordinates a group.
func Coordinator(t testing.TB, c *testcluster.Cluster, group string) (id int) {
	t.Helper()
	Await(t, func() string {
		found := c.Admin().FindGroupCoordinators(t.Context(), group)
		if err := found.Error(); err != nil {
			return err.Error()
		}
		id = int(found[group].NodeID)
		return ""
	})
	return id
}

// Quantiles are the median, the 99th percentile and the highest of some times, in words.
func Quantiles(times []time.Duration) string {
	if len(times) == 0 {
		return "nothing measured"
	}
	s := slices.Sorted(slices.Values(times))
	at := func(q float64) time.Duration {
		return s[min(len(s)-1, int(q*float64(len(s))))].Round(time.Millisecond)
	}
	return fmt.Sprintf("p50 %v, p99 %v, max %v (of %d)", at(0.5), at(0.99), s[len(s)-1].Round(time.Millisecond), len(s))
}
