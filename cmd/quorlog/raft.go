package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"
)

func newRaft(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "raft",
		Short: "Look into the Raft groups, and recover lost ones",
		Long:  "Every partition is a Raft group, and so is the cluster's metadata.",
	}
	cmd.AddCommand(newRaftStatus(c), newRecover())
	return cmd
}

func newRaftStatus(c *client) *cobra.Command {
	var partition int32
	cmd := &cobra.Command{
		Use:   "status [TOPIC]",
		Short: "Show voters, learners, positions and terms of the metadata's or a topic's groups",
		Long: `Status shows the Raft group of the metadata, or of each partition of a topic, as its leader sees it.

The term of a group is the leader epoch that Kafka clients see. Positions of partitions are offsets, those of the metadata
Raft indexes. CONTACT is when the leader last heard from a replica, CAUGHT UP when it last had all of the leader's log.
Learners have no vote: they are new and catch up, or there are voters enough.`,
		Example: "  quorlog raft status\n  quorlog raft status orders\n  quorlog raft status orders --partition 3 -o json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			groups, err := s.groupsOf(cmd.Context(), args, partition)
			if err != nil {
				return err
			}
			quorums, err := s.quorums(cmd.Context(), groups)
			if err != nil {
				return err
			}
			return c.printQuorums(cmd.OutOrStdout(), quorums)
		},
	}
	c.flags(cmd)
	cmd.Flags().Int32Var(&partition, "partition", -1, "only this partition")
	return cmd
}

// groupsOf names the groups that the command line asks for.
func (s *session) groupsOf(ctx context.Context, args []string, partition int32) (map[string][]int32, error) {
	switch {
	case len(args) == 0 && partition > 0:
		return nil, withCode(exitUsage, fmt.Errorf("--partition needs a topic: the metadata has a single group"))
	case len(args) == 0:
		return map[string][]int32{metadataTopic: {0}}, nil
	case partition >= 0:
		return map[string][]int32{args[0]: {partition}}, nil
	}
	topics, err := s.ListTopicsWithInternal(ctx, args[0])
	if err != nil {
		return nil, err
	}
	detail := topics[args[0]]
	if detail.Err != nil {
		return nil, fmt.Errorf("topic %s: %w", args[0], detail.Err)
	}
	var partitions []int32
	for _, p := range detail.Partitions.Sorted() {
		partitions = append(partitions, p.Partition)
	}
	return map[string][]int32{args[0]: partitions}, nil
}

// printQuorums prints the groups; those that could not be asked make the exit code.
func (c *client) printQuorums(w io.Writer, quorums []quorumView) error {
	failed := 0
	for _, q := range quorums {
		if q.Error != "" {
			failed++
		}
	}
	if c.json() {
		if err := printJSON(w, quorums); err != nil {
			return err
		}
	} else if err := printQuorumTable(w, quorums); err != nil {
		return err
	}
	switch {
	case failed == 0:
		return nil
	case failed == len(quorums):
		return withCode(exitFailed, fmt.Errorf("%d of %d groups can't be described", failed, len(quorums)))
	}
	return withCode(exitPartly, fmt.Errorf("%d of %d groups can't be described", failed, len(quorums)))
}

func printQuorumTable(w io.Writer, quorums []quorumView) error {
	var rows [][]string
	for _, q := range quorums {
		name := partitionName(q.Topic, q.Partition)
		if q.Topic == metadataTopic {
			name = "metadata"
		}
		if q.Error != "" {
			rows = append(rows, []string{name, "-", "-", "-", q.Error})
			continue
		}
		for _, r := range q.Replicas {
			rows = append(rows, []string{
				name, strconv.Itoa(int(q.Epoch)), strconv.FormatInt(q.HighWatermark, 10), strconv.Itoa(int(r.Node)), r.Role,
				known(r.LogEnd), known(r.Lag), agoText(r.Contact), agoText(r.CaughtUp),
			})
			name = "" // said once per group
		}
	}
	return table(w, []string{"GROUP", "TERM", "HIGH-WATERMARK", "NODE", "ROLE", "LOG-END", "LAG", "CONTACT", "CAUGHT UP"}, rows)
}

// known is a number that the leader may not know.
func known(n int64) string {
	if n < 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}
