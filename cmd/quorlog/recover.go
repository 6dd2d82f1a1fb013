package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/quorlog/quorlog/agent"
	"github.com/quorlog/quorlog/replication"
)

// newRecover makes `quorlog raft recover`.
func newRecover() *cobra.Command {
	var dir string
	var node int32
	var left []int32
	var yes bool
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Go on without a majority that is lost for good",
		Long: `Recover works on the data directory of a stopped node, after so many other nodes were lost for good that partitions, or the
cluster's metadata, have no majority any more. --voters names the nodes that are left. Every group of which they are no
majority begins again with its replicas on them as its only voters; all other groups are left as they are.

What only the lost nodes had is gone, and what a majority never acknowledged may come to be. Where several nodes are left
with replicas of one partition, recover the one with the longest log; the others follow it. The lost nodes must never be
started again with the files that they had: remove their data directories first.

Without --yes it only tells what it would do.`,
		Example: `  quorlog raft recover --data-dir quorlog-data --node-id 3 --voters 3
  quorlog raft recover --data-dir quorlog-data --node-id 3 --voters 3 --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" || len(left) == 0 || !slices.Contains(left, node) {
				return withCode(exitUsage, errors.New("--data-dir, --node-id and --voters are needed, and the node must be one of the voters"))
			}
			c := agent.RecoverConfig{DataDir: dir, Node: replication.NodeID(node), DryRun: !yes, Out: cmd.OutOrStdout()}
			for _, n := range left {
				c.Left = append(c.Left, replication.NodeID(n))
			}
			err := agent.Recover(c)
			if errors.Is(err, agent.ErrPartlyRecovered) {
				return withCode(exitPartly, err)
			}
			if err == nil && !yes {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "Nothing was changed. Run it again with --yes to do so.")
			}
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "the stopped node's data directory")
	cmd.Flags().Int32Var(&node, "node-id", 0, "the stopped node's id")
	cmd.Flags().Int32SliceVar(&left, "voters", nil, "ids of the nodes that are left, separated by commas")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}
