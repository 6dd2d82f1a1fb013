package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/quorlog/quorlog/internal/config"
)

func newClusterKey() *cobra.Command {
	return &cobra.Command{
		Use:   "key",
		Short: "Print a new random cluster key",
		Long: `Print a new random key for --cluster-key-file. All nodes of a cluster have the same one:
by it they prove to each other that they belong together, and their gossip is encrypted with it.`,
		Example: "  (umask 077; quorlog cluster key > cluster.key)",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), config.NewClusterKey())
			return err
		},
	}
}
