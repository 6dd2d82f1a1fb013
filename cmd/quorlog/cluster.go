package main

import "github.com/spf13/cobra"

func newCluster() *cobra.Command {
	cmd := &cobra.Command{Use: "cluster", Short: "Set up and look after a cluster"}
	cmd.AddCommand(newClusterKey())
	return cmd
}
