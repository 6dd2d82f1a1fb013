package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/vfs"
)

func newLog() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Look into the files of a stopped node",
		Long: `Log reads the files of partitions, or of all partitions below a data directory. It changes nothing.
The node must be stopped: a running one changes its files underneath.`,
	}
	var records bool
	var from, to uint64
	dump := &cobra.Command{
		Use:     "dump DIR...",
		Short:   "Print every frame of partitions in a line",
		Example: "  quorlog log dump quorlog-data/partitions/*-0 --records",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachLog(args, func(dir string) error {
				fmt.Fprintf(cmd.OutOrStdout(), "%s\n", dir)
				return log.Dump(vfs.OS{}, dir, cmd.OutOrStdout(), log.DumpOptions{Records: records, From: log.Index(from), To: log.Index(to)})
			})
		},
	}
	dump.Flags().BoolVar(&records, "records", false, "print keys, values and timestamps too")
	dump.Flags().Uint64Var(&from, "from", 0, "first Raft index to print")
	dump.Flags().Uint64Var(&to, "to", 0, "Raft index to stop before; 0 prints to the end")
	verify := &cobra.Command{
		Use:   "verify DIR...",
		Short: "Check every byte of partitions, or of all below a data directory",
		Args:  cobra.MinimumNArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return verifyLogs(cmd.OutOrStdout(), args) },
	}
	cmd.AddCommand(dump, verify)
	return cmd
}

// eachLog calls fn for the partition in each root, or for each below it, once all roots are known to hold one.
func eachLog(roots []string, fn func(dir string) error) error {
	var dirs []string
	for _, root := range roots {
		below, err := logDirs(root)
		if err != nil {
			return withCode(exitUsage, err)
		}
		dirs = append(dirs, below...)
	}
	var errs []error
	for _, d := range dirs {
		if err := fn(d); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d, err))
		}
	}
	return errors.Join(errs...)
}

func logDirs(root string) ([]string, error) {
	found := map[string]bool{}
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if dir := filepath.Dir(path); strings.HasSuffix(path, ".log") && !found[dir] {
			found[dir] = true
			dirs = append(dirs, dir)
		}
		return nil
	})
	if err == nil && len(dirs) == 0 {
		err = fmt.Errorf("%s holds no partition", root)
	}
	return dirs, err
}

func verifyLogs(w io.Writer, roots []string) error {
	bad, total := 0, 0
	err := eachLog(roots, func(dir string) error {
		total++
		r, err := log.Verify(vfs.OS{}, dir)
		if err != nil {
			bad++
			return err
		}
		fmt.Fprintf(w, "%s: %d segments, %d entries, %d bytes, log end offset %d", dir, r.Segments, r.Entries, r.Bytes, r.LogEnd)
		if r.TornBytes > 0 {
			fmt.Fprintf(w, ", %d torn bytes at the end that the next start cuts off", r.TornBytes)
		}
		fmt.Fprintln(w)
		for _, p := range r.Problems {
			fmt.Fprintf(w, "  %s\n", p)
		}
		if len(r.Problems) > 0 {
			bad++
		}
		return nil
	})
	if err != nil {
		return err
	}
	if bad > 0 {
		return withCode(exitPartly, fmt.Errorf("%d of %d partitions are damaged", bad, total))
	}
	return nil
}
