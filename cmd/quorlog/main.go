// Command quorlog is the broker and its tools in one binary: `quorlog` alone serves, the other subcommands speak plain
// Kafka and so work against any Kafka-compatible cluster.
//
// Goroutines: one for each child process of `dev --procs` and `demo` waits for its end (owner: proc; ends with the process, and
// stopAll and killAll wait for it); `demo` has a sender (owner: demoLoad; wakes by a ticker, stops by finish or close) and a
// consumer (owner: demoLoad; wakes by fetched records, stops by finish or close). demoLoad.mu is the only lock.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes, stable for scripts.
const (
	exitFailed      = 1 // the operation failed
	exitUsage       = 2 // wrong flags, arguments or configuration
	exitUnreachable = 3 // no broker answered in time
	exitDisk        = 4 // a node's disk has failed or hangs
	exitPartly      = 5 // some items of a batch failed
)

// exitError carries the exit code that an error asks for.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: code, err: err}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process: arguments and streams in, exit code out.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "quorlog:", err)
	var coded *exitError
	if errors.As(err, &coded) {
		return coded.code
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return 130
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "quorlog",
		Short: "A Kafka-compatible broker whose every partition is a Raft group",
		Long: `Quorlog is a Kafka-wire-compatible broker in one binary: every partition is a Raft
group, and the Raft log is the partition. A record acknowledged with acks=all is on
disk, fsynced, on a majority.

Without a subcommand it serves (the same as "quorlog serve").`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return withCode(exitUsage, err) })
	serve := newServe()
	root.Flags().AddFlagSet(serve.Flags())
	root.RunE = serve.RunE
	client := &client{}
	root.AddCommand(
		serve,
		newDev(), newDemo(), newTopic(client), newProduce(client), newConsume(client), newGroup(client), newUser(client), newACL(client),
		newNode(client), newCluster(client), newCert(), newRaft(client), newLog(), newBench(client), newVersion(),
	)
	root.InitDefaultCompletionCmd()
	refuseOthers(root)
	return root
}

// refuseOthers has a command and those below it end with exitUsage if their arguments are wrong. By itself cobra answers a
// subcommand that there is not with help and 0, and a script whose `quorlog node drian 3` did nothing would go on.
func refuseOthers(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		refuseOthers(sub)
	}
	args := cmd.Args
	if cmd.HasSubCommands() {
		args = unknownCommand
		if !cmd.Runnable() {
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
			cmd.DisableFlagsInUseLine = true // alone it takes none
		}
	}
	if args != nil {
		cmd.Args = func(cmd *cobra.Command, given []string) error { return withCode(exitUsage, args(cmd, given)) }
	}
}

// suggestDistance is how many letters may be wrong in a name that is taken for a slip; cobra's own.
const suggestDistance = 2

// unknownCommand takes no arguments, and says which command may have been meant.
func unknownCommand(cmd *cobra.Command, given []string) error {
	if len(given) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = suggestDistance
	if near := cmd.SuggestionsFor(given[0]); len(near) > 0 {
		return fmt.Errorf("unknown command %q for %q (did you mean %s?)", given[0], cmd.CommandPath(), strings.Join(near, " or "))
	}
	return fmt.Errorf("unknown command %q for %q", given[0], cmd.CommandPath())
}
