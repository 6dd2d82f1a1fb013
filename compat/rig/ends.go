package rig

import (
	"context"
	"maps"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Ends waits until every partition of some topics tells its end: one without a leader does not, and would count as empty.
func Ends(t testing.TB, adm *kadm.Client, topics ...string) (ends kadm.ListedOffsets) {
	t.Helper()
	Await(t, func() string {
		var err error
		if ends, err = adm.ListEndOffsets(t.Context(), topics...); err == nil {
			err = ends.Error()
		}
		if err != nil {
			return err.Error()
		}
		return ""
	})
	return ends
}

// SettledEnds waits until no transaction is open on a topic, and returns its partitions' ends, which are their last stable offsets too.
func SettledEnds(t testing.TB, adm *kadm.Client, topic string) map[int32]int64 {
	t.Helper()
	ends := map[int32]int64{}
	Await(t, func() string {
		stable, err := adm.ListCommittedOffsets(t.Context(), topic)
		if err != nil {
			return err.Error()
		}
		all, err := adm.ListEndOffsets(t.Context(), topic)
		if err != nil {
			return err.Error()
		}
		for p, end := range all[topic] {
			if end.Err != nil || stable[topic][p].Err != nil || end.Offset != stable[topic][p].Offset {
				return "a transaction is open on " + topic
			}
			ends[p] = end.Offset
		}
		return ""
	})
	return ends
}

// ReadTo hands over what a client consumes until it has come to the ends of all partitions: a reader that stops when it has as much as
// it expects does not see what is there twice at the very end. Where transactions write, their markers are the last records: the client
// must keep control records.
func ReadTo(ctx context.Context, t testing.TB, cl *kgo.Client, ends map[int32]int64, each func(*kgo.Record)) {
	t.Helper()
	left := maps.Clone(ends)
	maps.DeleteFunc(left, func(_ int32, end int64) bool { return end == 0 })
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("the ends %v are not reached: %v", left, fetches.Err())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			each(r)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
}
