package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

// reassignFlags say what `topic reassign` is to do.
type reassignFlags struct {
	list, cancel, dryRun, wait bool
	partition                  int32
	replicas                   string
	from, to                   int32
	factor                     int
	timeout                    time.Duration
}

func newTopicReassign(c *client) *cobra.Command {
	var f reassignFlags
	cmd := &cobra.Command{
		Use:   "reassign [TOPIC...]",
		Short: "Move partitions to other nodes, or change their replication factor",
		Long: `Reassign moves the replicas of partitions: of the topics named, or of all topics, the internal ones too. New replicas
catch up before old ones go, one change at a time, and clients notice nothing. A move goes on when this command has ended.

  --partition N --replicas 3,1,2   put one partition on exactly these nodes; the first leads it when it can
  --from 2 --to 4                  replace node 2 by node 4
  --from 2                         empty node 2; the other nodes take its replicas, other racks and the emptiest first
  --replication-factor 3           add replicas on the emptiest nodes, or take away the last ones
  --cancel                         go back to where the partitions were before a move under way
  --list                           show the moves under way`,
		Example: "  quorlog topic reassign orders --partition 0 --replicas 3,1,2\n  quorlog topic reassign --from 2 --to 4 --dry-run\n  quorlog topic reassign --from 2 --to 4 --wait",
		RunE: func(cmd *cobra.Command, topics []string) error {
			if err := f.check(topics); err != nil {
				return withCode(exitUsage, err)
			}
			s, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			return c.reassign(cmd, s, f, topics)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.list, "list", false, "show the moves under way")
	flags.BoolVar(&f.cancel, "cancel", false, "cancel the moves under way")
	flags.Int32Var(&f.partition, "partition", -1, "only this partition")
	flags.StringVar(&f.replicas, "replicas", "", "the nodes that the partition is to be on, the preferred leader first")
	flags.Int32Var(&f.from, "from", -1, "the node that is to lose its replicas")
	flags.Int32Var(&f.to, "to", -1, "the node that gets them; without it the others share them")
	flags.IntVar(&f.factor, "replication-factor", 0, "how many replicas each partition is to have")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only print what would be moved")
	flags.BoolVar(&f.wait, "wait", false, "wait until the moves are over")
	flags.DurationVar(&f.timeout, "timeout", time.Hour, "how long to wait")
	return cmd
}

// check refuses what does not fit together.
func (f *reassignFlags) check(topics []string) error {
	jobs := 0
	for _, asked := range []bool{f.list, f.cancel, f.replicas != "", f.from >= 0, f.factor > 0} {
		if asked {
			jobs++
		}
	}
	switch {
	case jobs == 0:
		return errors.New("say what to do: --replicas, --from, --replication-factor, --cancel or --list")
	case jobs > 1:
		return errors.New("--replicas, --from, --replication-factor, --cancel and --list exclude each other")
	case f.replicas != "" && (len(topics) != 1 || f.partition < 0):
		return errors.New("--replicas needs one topic and --partition")
	case f.to >= 0 && f.from < 0:
		return errors.New("--to needs --from")
	case f.from >= 0 && f.from == f.to:
		return errors.New("--from and --to are the same node")
	case f.factor > 0 && len(topics) == 0:
		return errors.New("--replication-factor needs the topics named")
	}
	return nil
}

// move is one partition's new place. Target nil cancels.
type move struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Replicas  []int32 `json:"replicas"` // as it is
	Target    []int32 `json:"target"`
	Error     string  `json:"error,omitempty"`
}

// reassign plans the moves, asks for them, and waits for them.
func (c *client) reassign(cmd *cobra.Command, s *session, f reassignFlags, topics []string) error {
	ctx, w := cmd.Context(), cmd.OutOrStdout()
	v, err := s.view(ctx)
	if err != nil {
		return err
	}
	if f.list {
		return c.listMoves(w, v)
	}
	moves, err := v.plan(f, topics)
	if err != nil {
		return err
	}
	if !f.dryRun {
		if err := s.start(ctx, moves); err != nil {
			return err
		}
	}
	if err := c.printPlan(w, moves, f); err != nil {
		return err
	}
	if !f.wait || f.dryRun || len(moves) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if c.json() {
		w = cmd.ErrOrStderr()
	}
	return s.awaitMoves(ctx, moves, w)
}

func (c *client) listMoves(w io.Writer, v *clusterView) error {
	moving := slices.DeleteFunc(slices.Clone(v.Partitions), func(p partitionView) bool { return !p.moving() })
	if c.json() {
		return printJSON(w, moving)
	}
	if len(moving) == 0 {
		fmt.Fprintln(w, "nothing is on the move")
	}
	return printMoves(w, moving)
}

func parseNodes(list string) ([]int32, error) {
	var ids []int32
	for _, word := range strings.Split(list, ",") {
		id, err := parseNode(strings.TrimSpace(word))
		if err != nil {
			return nil, err
		}
		if slices.Contains(ids, id) {
			return nil, withCode(exitUsage, fmt.Errorf("node %d is named twice", id))
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// start asks for the moves; refusals are noted in them.
func (s *session) start(ctx context.Context, moves []move) error {
	var req kadm.AlterPartitionAssignmentsReq
	for _, m := range moves {
		req.Assign(m.Topic, m.Partition, m.Target)
	}
	resps, err := s.AlterPartitionAssignments(ctx, req)
	if err != nil {
		return err
	}
	for i := range moves {
		r := resps[moves[i].Topic][moves[i].Partition]
		moves[i].Error = errorText(r.Err, r.ErrMessage)
	}
	return nil
}

func (c *client) printPlan(w io.Writer, moves []move, f reassignFlags) error {
	failed := 0
	var rows [][]string
	for _, m := range moves {
		target, outcome := join32(m.Target), "begun"
		switch {
		case m.Error != "":
			failed++
			outcome = m.Error
		case f.dryRun:
			outcome = "not begun (--dry-run)"
		case f.cancel:
			outcome = "cancelled"
		}
		if f.cancel {
			target = "as before"
		}
		rows = append(rows, []string{partitionName(m.Topic, m.Partition), join32(m.Replicas), target, outcome})
	}
	var err error
	switch {
	case c.json():
		err = printJSON(w, append([]move{}, moves...))
	case len(moves) == 0:
		fmt.Fprintln(w, "nothing is to be moved")
	default:
		err = table(w, []string{"PARTITION", "IS ON", "TO BE ON", "MOVE"}, rows)
	}
	switch {
	case err != nil || failed == 0:
		return err
	case failed == len(moves):
		return withCode(exitFailed, fmt.Errorf("%d of %s refused", failed, plural(len(moves), "move")))
	}
	return withCode(exitPartly, fmt.Errorf("%d of %s refused", failed, plural(len(moves), "move")))
}

// awaitMoves waits until none of the moves is under way.
func (s *session) awaitMoves(ctx context.Context, moves []move, w io.Writer) error {
	wanted := make(kadm.TopicsSet)
	for _, m := range moves {
		wanted.Add(m.Topic, m.Partition)
	}
	last := -1
	for {
		under, err := s.ListPartitionReassignments(ctx, wanted)
		left := len(under.Sorted())
		switch {
		case err != nil:
			return waitError(ctx, err, plural(max(last, 0), "move")+" under way")
		case left == 0:
			fmt.Fprintf(w, "%s done\n", plural(len(moves), "move"))
			return nil
		case left != last:
			fmt.Fprintf(w, "%s under way\n", plural(left, "move"))
			last = left
		}
		if err := pause(ctx, lookInterval); err != nil {
			return waitError(ctx, err, plural(left, "move")+" under way")
		}
	}
}
