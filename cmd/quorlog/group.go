package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func newGroup(c *client) *cobra.Command {
	cmd := &cobra.Command{Use: "group", Aliases: []string{"groups"}, Short: "List, describe, delete and reset consumer groups"}
	c.flags(cmd)
	cmd.AddCommand(newGroupList(c), newGroupDescribe(c), newGroupDelete(c), newGroupReset(c))
	return cmd
}

func newGroupList(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List groups",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			adm, err := c.admin(cmd.Context())
			if err != nil {
				return err
			}
			defer adm.Close()
			groups, err := adm.ListGroups(cmd.Context())
			if err != nil {
				return err
			}
			type row struct {
				Group       string `json:"group"`
				State       string `json:"state"`
				Protocol    string `json:"protocol"`
				Coordinator int32  `json:"coordinator"`
			}
			rows := []row{}
			text := [][]string{}
			for _, g := range groups.Sorted() {
				rows = append(rows, row{g.Group, g.State, g.ProtocolType, g.Coordinator})
				text = append(text, []string{g.Group, g.State, g.ProtocolType, strconv.Itoa(int(g.Coordinator))})
			}
			if c.json() {
				return printJSON(cmd.OutOrStdout(), rows)
			}
			return table(cmd.OutOrStdout(), []string{"GROUP", "STATE", "PROTOCOL", "COORDINATOR"}, text)
		},
	}
}

// lagRow is one partition in `group describe`.
type lagRow struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed int64  `json:"committed"`
	End       int64  `json:"end"`
	Lag       int64  `json:"lag"`
	Member    string `json:"member,omitempty"`
	Host      string `json:"host,omitempty"`
}

func newGroupDescribe(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "describe GROUP",
		Short: "Show a group's members, committed offsets and lag",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			adm, err := c.admin(cmd.Context())
			if err != nil {
				return err
			}
			defer adm.Close()
			group, err := lagOf(cmd.Context(), adm.Lag, args[0])
			if err != nil {
				return err
			}
			rows := []lagRow{}
			text := [][]string{}
			for _, l := range group.Lag.Sorted() {
				row := lagRow{Topic: l.Topic, Partition: l.Partition, Committed: l.Commit.At, End: l.End.Offset, Lag: l.Lag}
				if l.Member != nil {
					row.Member, row.Host = l.Member.MemberID, l.Member.ClientHost
				}
				end, lag := strconv.FormatInt(row.End, 10), strconv.FormatInt(row.Lag, 10)
				if l.Err != nil {
					row.End, row.Lag, end, lag = -1, -1, "-", "-"
				}
				rows = append(rows, row)
				text = append(text, []string{row.Topic, strconv.Itoa(int(row.Partition)), strconv.FormatInt(row.Committed, 10), end, lag, row.Member, row.Host})
			}
			if c.json() {
				return printJSON(cmd.OutOrStdout(), map[string]any{
					"group": args[0], "state": group.State, "protocol": group.Protocol, "members": len(group.Members),
					"lag": group.Lag.Total(), "partitions": rows,
				})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s  state %s  members %d  lag %d\n\n", args[0], group.State, len(group.Members), group.Lag.Total())
			return table(cmd.OutOrStdout(), []string{"TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "HOST"}, text)
		},
	}
}

func newGroupDelete(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "delete GROUP...",
		Short: "Delete groups and their committed offsets",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			adm, err := c.admin(cmd.Context())
			if err != nil {
				return err
			}
			defer adm.Close()
			resps, err := adm.DeleteGroups(cmd.Context(), names...)
			if err != nil {
				return err
			}
			items := make([]item, 0, len(resps))
			for _, r := range resps.Sorted() {
				items = append(items, item{r.Group, errorText(r.Err, "")})
			}
			return c.report(cmd.OutOrStdout(), "deleted", items)
		},
	}
}

type resetFlags struct {
	topics []string
	to     string
	dryRun bool
}

func newGroupReset(c *client) *cobra.Command {
	var f resetFlags
	cmd := &cobra.Command{
		Use:   "reset GROUP",
		Short: "Set the committed offsets of an empty group",
		Example: "  quorlog group reset workers --to start --topic orders\n" +
			"  quorlog group reset workers --to @2026-11-21T10:00:00Z --dry-run",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.resetGroup(cmd, args[0], f) },
	}
	cmd.Flags().StringSliceVarP(&f.topics, "topic", "t", nil, "topics to reset; default: those that the group has committed")
	cmd.Flags().StringVar(&f.to, "to", "", "start, end, an offset, or @time (RFC 3339 or Unix milliseconds)")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show the new offsets, commit nothing")
	return cmd
}

func (c *client) resetGroup(cmd *cobra.Command, group string, f resetFlags) error {
	if f.to == "" {
		return withCode(exitUsage, errors.New("--to is required: start, end, an offset or @time"))
	}
	adm, err := c.admin(cmd.Context())
	if err != nil {
		return err
	}
	defer adm.Close()
	topics := f.topics
	if len(topics) == 0 {
		committed, err := adm.FetchOffsets(cmd.Context(), group)
		if err != nil {
			return err
		}
		for topic := range committed {
			topics = append(topics, topic)
		}
	}
	if len(topics) == 0 {
		return withCode(exitUsage, fmt.Errorf("group %s has committed nothing: name topics with --topic", group))
	}
	target, err := resolveOffsets(cmd.Context(), adm, f.to, topics)
	if err != nil {
		return err
	}
	var text [][]string
	for _, o := range target.Sorted() {
		text = append(text, []string{o.Topic, strconv.Itoa(int(o.Partition)), strconv.FormatInt(o.At, 10)})
	}
	if !f.dryRun {
		if err := adm.CommitAllOffsets(cmd.Context(), group, target); err != nil {
			return err
		}
	}
	if c.json() {
		return printJSON(cmd.OutOrStdout(), target.Sorted())
	}
	return table(cmd.OutOrStdout(), []string{"TOPIC", "PARTITION", "OFFSET"}, text)
}

// resolveOffsets turns --to into an offset per partition.
func resolveOffsets(ctx context.Context, adm *kadm.Client, to string, topics []string) (kadm.Offsets, error) {
	at, err := parseOffset(to)
	if err != nil {
		return nil, err
	}
	starts, err := offsetsOf(ctx, adm.ListStartOffsets, topics)
	if err != nil {
		return nil, err
	}
	ends, err := offsetsOf(ctx, adm.ListEndOffsets, topics)
	if err != nil {
		return nil, err
	}
	listed := starts
	request := at.EpochOffset().Offset
	switch {
	case to == "end":
		listed = ends
	case to != "start" && to[0] == '@':
		after := func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return adm.ListOffsetsAfterMilli(ctx, request, topics...)
		}
		if listed, err = offsetsOf(ctx, after, topics); err != nil {
			return nil, err
		}
	}
	out := make(kadm.Offsets)
	listed.Each(func(o kadm.ListedOffset) {
		offset := o.Offset
		if to != "start" && to != "end" && to[0] != '@' {
			offset = clampOffset(request, starts, ends, o)
		}
		out.AddOffset(o.Topic, o.Partition, offset, -1)
	})
	return out, nil
}

// clampOffset keeps a wished offset inside what the partition has.
func clampOffset(wish int64, starts, ends kadm.ListedOffsets, o kadm.ListedOffset) int64 {
	start, _ := starts.Lookup(o.Topic, o.Partition)
	end, _ := ends.Lookup(o.Topic, o.Partition)
	return min(max(wish, start.Offset), end.Offset)
}
