package main

import (
	"slices"
	"testing"
	"time"
)

// TestElectUntilLed: what one round elects is told, though another partition needs a second one, or none because it is led by then.
func TestElectUntilLed(t *testing.T) {
	rounds := []struct {
		items      []item
		leaderless []string
	}{
		{[]item{{"a-0", ""}, {"a-1", "no leader"}, {"a-2", "no leader"}, {"a-3", "refused"}}, []string{"a-1", "a-2"}},
		{[]item{{"a-1", "no leader"}, {"a-3", "refused"}}, []string{"a-1"}},
		{[]item{{"a-1", ""}, {"a-3", "refused"}}, nil},
	}
	round := 0
	got, err := untilLed(t.Context(), time.Nanosecond, func() ([]item, []string, error) {
		round++
		return rounds[round-1].items, rounds[round-1].leaderless, nil
	})
	if want := []item{{"a-0", ""}, {"a-1", ""}, {"a-2", ""}, {"a-3", "refused"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if none, err := untilLed(t.Context(), time.Nanosecond, func() ([]item, []string, error) { return nil, nil, nil }); none == nil || len(none) > 0 || err != nil {
		t.Errorf("%v, %v", none, err)
	}
}
