package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func newTopicElectLeaders(c *client) *cobra.Command {
	var partition int32
	cmd := &cobra.Command{
		Use:   "elect-leaders [TOPIC...]",
		Short: "Give partitions back to their preferred leaders",
		Long: `Elect-leaders has the preferred replica of each partition lead it, if it is in sync: of the topics named, or of all.
The preferred replica is the first of a partition's replicas. The balancer does the same slowly by itself, unless
auto.leader.rebalance.enable is false.

There are no unclean elections: a partition that has lost a majority of its replicas is recovered with
"quorlog raft recover", knowingly.`,
		Example: "  quorlog topic elect-leaders\n  quorlog topic elect-leaders orders --partition 3",
		RunE: func(cmd *cobra.Command, topics []string) error {
			if partition >= 0 && len(topics) != 1 {
				return withCode(exitUsage, errors.New("--partition needs one topic"))
			}
			s, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			items, err := s.electUntilLed(cmd.Context(), topics, partition)
			if err != nil {
				return err
			}
			if len(items) == 0 && !c.json() {
				fmt.Fprintln(cmd.OutOrStdout(), "every partition is led by its preferred replica")
				return nil
			}
			return c.report(cmd.OutOrStdout(), "elected", items)
		},
	}
	cmd.Flags().Int32Var(&partition, "partition", -1, "only this partition")
	return cmd
}

const (
	// electPatience is how long partitions may be without a leader that could hand over: an election is under way.
	electPatience = 10 * time.Second
	electPause    = 250 * time.Millisecond
)

// electUntilLed is electLeaders, again while there is nobody to ask. Of each partition it has the last that was heard.
func (s *session) electUntilLed(ctx context.Context, topics []string, partition int32) ([]item, error) {
	return untilLed(ctx, electPause, func() ([]item, []string, error) { return s.electLeaders(ctx, topics, partition) })
}

func untilLed(ctx context.Context, pause time.Duration, elect func() (items []item, leaderless []string, err error)) ([]item, error) {
	last := map[string]string{}
	for began := time.Now(); ; {
		items, leaderless, err := elect()
		for _, i := range items {
			last[i.Name] = i.Error
		}
		if err != nil || len(leaderless) == 0 || time.Since(began) > electPatience {
			return itemsOf(last), err
		}
		select {
		case <-ctx.Done():
			return itemsOf(last), ctx.Err()
		case <-time.After(pause):
		}
		for _, name := range leaderless {
			last[name] = "" // what is not asked for again is led as it should be
		}
	}
}

// itemsOf are outcomes by name, in its order.
func itemsOf(outcomes map[string]string) []item {
	items := []item{}
	for _, name := range slices.Sorted(maps.Keys(outcomes)) {
		items = append(items, item{name, outcomes[name]})
	}
	return items
}

// passing are the errors of a partition whose leader is changing.
var passing = []error{kerr.PreferredLeaderNotAvailable, kerr.LeaderNotAvailable, kerr.NotLeaderForPartition, kerr.RequestTimedOut}

// electLeaders asks for the elections that are needed and tells what came of them, and which partitions had no leader that could have
// handed over.
func (s *session) electLeaders(ctx context.Context, topics []string, partition int32) (items []item, leaderless []string, err error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, nil, err
	}
	chosen, err := v.choose(topics, partition)
	if err != nil {
		return nil, nil, err
	}
	wanted, preferred := make(kadm.TopicsSet), map[string]int32{}
	for _, p := range chosen {
		if target := p.target(); len(target) > 0 && p.Leader != target[0] {
			wanted.Add(p.Topic, p.Partition)
			preferred[p.name()] = target[0]
		}
	}
	items = []item{}
	if len(wanted) == 0 {
		return items, nil, nil // an empty list would ask for all
	}
	results, err := s.ElectLeaders(ctx, kadm.ElectPreferredReplica, wanted)
	if err != nil {
		return nil, nil, err
	}
	for topic, partitions := range results {
		for p, r := range partitions {
			name := partitionName(topic, p)
			name += ": node " + strconv.Itoa(int(preferred[name]))
			if slices.ContainsFunc(passing, func(e error) bool { return errors.Is(r.Err, e) }) {
				leaderless = append(leaderless, name)
			}
			items = append(items, item{name, electionText(r)})
		}
	}
	return items, leaderless, nil
}

// electionText is an election's error. One that turned out not to be needed is none: the balancer was faster.
func electionText(r kadm.ElectLeadersResult) string {
	if errors.Is(r.Err, kerr.ElectionNotNeeded) {
		return ""
	}
	return errorText(r.Err, r.ErrMessage)
}
