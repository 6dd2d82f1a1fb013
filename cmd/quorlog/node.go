package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/replication/controller"
)

// lookInterval is how often a command that waits looks whether it is over.
const lookInterval = 200 * time.Millisecond

func newNode(c *client) *cobra.Command {
	cmd := &cobra.Command{
		Use: "node", Aliases: []string{"nodes"},
		Short: "List, drain and remove nodes",
		Long: `To take a node out of service for a while: drain it, stop it, start it again, undrain it. (A node that is
stopped with SIGTERM hands over what it leads by itself; draining first only lets you look before you stop it.)

To replace a node for good: start the new one, move the replicas, stop the old one, remove it:

  quorlog topic reassign --from 2 --to 4 --wait
  quorlog node remove 2`,
	}
	c.flags(cmd)
	cmd.AddCommand(newNodeList(c), newNodeDrain(c), newNodeUndrain(c), newNodeRemove(c))
	return cmd
}

var nodeHeader = []string{"NODE", "ADDRESS", "RACK", "STATE", "LEADS", "PREFERRED", "REPLICAS", "IN SYNC"}

func nodeRow(n nodeView) []string {
	return []string{
		strconv.Itoa(int(n.ID)), cmp.Or(n.Address, "-"), cmp.Or(n.Rack, "-"), n.state(), strconv.Itoa(n.Leads), strconv.Itoa(n.Preferred),
		strconv.Itoa(n.Replicas), strconv.Itoa(n.InSync),
	}
}

func newNodeList(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"},
		Short: "List the nodes, what they lead and what they hold",
		Long: `List the nodes that the cluster knows, those that are gone too. A node is silent as soon as the others do not hear it any
more, and gone some seconds later.

LEADS counts the partitions that a node leads, PREFERRED those that it is to lead, REPLICAS those that it holds, and
IN SYNC those of its replicas that have all that was acknowledged.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			v, err := s.view(cmd.Context())
			if err != nil {
				return err
			}
			if c.json() {
				return printJSON(cmd.OutOrStdout(), v.Nodes)
			}
			var rows [][]string
			for _, n := range v.Nodes {
				rows = append(rows, nodeRow(n))
			}
			return table(cmd.OutOrStdout(), nodeHeader, rows)
		},
	}
}

func newNodeDrain(c *client) *cobra.Command {
	var (
		wait, untilRestart bool
		timeout            time.Duration
	)
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Have a node give its leaderships to others",
		Long: `Drain has a node hand over every leadership to a replica that is in sync, and take no new ones. It keeps its replicas
and follows. Nothing is interrupted: clients are told who leads now. What only this node holds it goes on leading.

It is the broker setting quorlog.drain, so it outlasts restarts until "quorlog node undrain", and any Kafka tool can set it.
With --until-restart the node undrains itself when it starts again: that is for what runs before a stop, such as a pod's preStop
hook. NODE may be "self", the node that QUORLOG_NODE_ID in the environment names.`,
		Example: "  quorlog node drain 2\n  quorlog node drain 2 --timeout 5m\n  quorlog node drain self --until-restart",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := drainTarget(args[0])
			if err != nil {
				return err
			}
			s, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			value := drainForGood
			if untilRestart {
				value = controller.DrainUntilRestart
			}
			if err := s.setDrain(cmd.Context(), id, kadm.AlterConfig{Op: kadm.SetConfig, Value: &value}); err != nil {
				return err
			}
			if !wait {
				fmt.Fprintf(cmd.OutOrStdout(), "node %d gives its leaderships away\n", id)
				return nil
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return s.awaitDrained(ctx, id, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until the node leads nothing that another could lead")
	cmd.Flags().BoolVar(&untilRestart, "until-restart", false, "the node undrains itself when it starts again")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait")
	return cmd
}

func newNodeUndrain(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "undrain NODE",
		Short: "Let a drained node lead again",
		Long: `Undrain ends a drain. The node leads again what it is the preferred leader of when the balancer next looks (setting
leader.imbalance.check.interval.seconds); "quorlog topic elect-leaders" does it at once.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseNode(args[0])
			if err != nil {
				return err
			}
			s, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			if err := s.setDrain(cmd.Context(), id, kadm.AlterConfig{Op: kadm.DeleteConfig}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "node %d may lead again; `quorlog topic elect-leaders` gives it what it should lead at once\n", id)
			return nil
		},
	}
}

// drainTarget is a node by its id, or the one that this process stands beside.
func drainTarget(arg string) (int32, error) {
	if arg != "self" {
		return parseNode(arg)
	}
	own := os.Getenv("QUORLOG_NODE_ID")
	if own == "" {
		return 0, withCode(exitUsage, errors.New("self is the node that QUORLOG_NODE_ID in the environment names, which is not set"))
	}
	return parseNode(own)
}

// errNoSuchNode: the cluster does not know the node.
var errNoSuchNode = errors.New("the cluster has no such node; `quorlog node list` shows those that it has")

// setDrain sets or deletes the setting.
func (s *session) setDrain(ctx context.Context, id int32, alter kadm.AlterConfig) error {
	v := &clusterView{}
	if err := s.viewNodes(ctx, v); err != nil {
		return err
	}
	v.count()
	switch n, known := v.node(id); {
	case !known:
		return fmt.Errorf("node %d: %w", id, errNoSuchNode)
	case !n.there():
		return fmt.Errorf("node %d is %s: it leads nothing", id, n.state())
	}
	alter.Name = controller.DrainSetting
	resps, err := s.AlterBrokerConfigs(ctx, []kadm.AlterConfig{alter}, id)
	if err != nil {
		return err
	}
	for _, r := range resps {
		if errors.Is(r.Err, kerr.InvalidConfig) || errors.Is(r.Err, kerr.InvalidRequest) {
			return fmt.Errorf("node %d does not know the setting %s, so it is no Quorlog node (%s)", id, controller.DrainSetting, errorText(r.Err, r.ErrMessage))
		}
		if r.Err != nil {
			return fmt.Errorf("node %d: %s", id, errorText(r.Err, r.ErrMessage))
		}
	}
	return nil
}

// awaitDrained waits until a node leads nothing that another replica could lead, and tells how it goes.
func (s *session) awaitDrained(ctx context.Context, id int32, w io.Writer) error {
	last := -1
	for {
		v, err := s.view(ctx)
		if err != nil {
			return waitError(ctx, err, fmt.Sprintf("node %d still leads %s", id, plural(max(last, 0), "partition")))
		}
		led, stuck := v.ledBy(id)
		if len(led) == 0 {
			fmt.Fprintf(w, "node %d is drained", id)
			if len(stuck) > 0 {
				fmt.Fprintf(w, ", but goes on leading what no other node has in sync: %s", namesOf(stuck))
			}
			fmt.Fprintln(w)
			return nil
		}
		if len(led) != last {
			fmt.Fprintf(w, "node %d leads %s\n", id, plural(len(led), "partition"))
			last = len(led)
		}
		if err := pause(ctx, lookInterval); err != nil {
			return waitError(ctx, err, fmt.Sprintf("node %d still leads %s", id, namesOf(led)))
		}
	}
}

// ledBy are the partitions that a node leads: those that another replica could take over, and those that none could.
func (v *clusterView) ledBy(id int32) (led, stuck []partitionView) {
	for _, p := range v.Partitions {
		if p.Leader != id {
			continue
		}
		others := slices.DeleteFunc(without(p.inSync(), []int32{id}), func(other int32) bool {
			n, known := v.node(other)
			return !known || !n.there() || n.Draining
		})
		if len(others) > 0 {
			led = append(led, p)
		} else {
			stuck = append(stuck, p)
		}
	}
	return led, stuck
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// waitError names what was waited for, where the wait itself ran out of time.
func waitError(ctx context.Context, err error, what string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return withCode(exitFailed, fmt.Errorf("out of time: %s; what was asked for goes on", what))
	}
	return err
}

func newNodeRemove(c *client) *cobra.Command {
	return &cobra.Command{
		Use: "remove NODE", Aliases: []string{"rm"},
		Short: "Make the cluster forget a node that is gone for good",
		Long: `Remove makes the cluster forget a node. It is refused while the node is alive, and while it hosts replicas: stop it, and
move its replicas to another node first. Nothing is lost by removing a node that is empty.`,
		Example: "  quorlog topic reassign --from 2 --to 4 --wait   # move what it holds\n  quorlog node remove 2",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := parseNode(args[0])
			if err != nil {
				return err
			}
			s, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			if err := s.removeNode(cmd.Context(), id); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "removed node %d\n", id)
			return nil
		},
	}
}

// removeNode asks for the removal; a refusal is told with what to do about it.
func (s *session) removeNode(ctx context.Context, id int32) error {
	v, err := s.view(ctx)
	if err != nil {
		return err
	}
	if n, known := v.node(id); !known {
		return fmt.Errorf("node %d: %w", id, errNoSuchNode)
	} else if held := v.partitionsOn(id); len(held) > 0 {
		return fmt.Errorf("node %d is %s and holds %s (%s): move them with `quorlog topic reassign --from %[1]d --wait` first",
			id, n.state(), plural(len(held), "replica"), namesOf(held))
	} else if !n.Gone {
		return fmt.Errorf("node %d is there, or was until some seconds ago: stop it, and try again a little later", id)
	}
	req := kmsg.NewPtrUnregisterBrokerRequest()
	req.BrokerID = id
	resp, err := req.RequestWith(ctx, s.raw)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		message := ""
		if resp.ErrorMessage != nil {
			message = *resp.ErrorMessage
		}
		return fmt.Errorf("node %d: %s", id, errorText(err, message))
	}
	return nil
}
