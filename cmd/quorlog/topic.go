package main

import (
	"encoding/base64"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
)

func newTopic(c *client) *cobra.Command {
	cmd := &cobra.Command{Use: "topic", Aliases: []string{"topics"}, Short: "Create, list, describe, alter and delete topics"}
	c.flags(cmd)
	cmd.AddCommand(newTopicCreate(c), newTopicList(c), newTopicDescribe(c), newTopicDelete(c), newTopicAlter(c),
		newTopicReassign(c), newTopicElectLeaders(c))
	return cmd
}

func newTopicCreate(c *client) *cobra.Command {
	var (
		partitions  int32
		replication int16
		configs     []string
		validate    bool
	)
	cmd := &cobra.Command{
		Use:     "create NAME...",
		Short:   "Create topics",
		Example: "  quorlog topic create orders --partitions 6 --config retention.ms=86400000",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			kv, err := keyValues(configs)
			if err != nil {
				return err
			}
			adm, err := c.admin(cmd.Context())
			if err != nil {
				return err
			}
			defer adm.Close()
			create := adm.CreateTopics
			if validate {
				create = adm.ValidateCreateTopics
			}
			resps, err := create(cmd.Context(), partitions, replication, kv, names...)
			if err != nil {
				return err
			}
			items := make([]item, 0, len(resps))
			for _, r := range resps.Sorted() {
				items = append(items, item{r.Topic, errorText(r.Err, r.ErrMessage)})
			}
			return c.report(cmd.OutOrStdout(), "created", items)
		},
	}
	cmd.Flags().Int32VarP(&partitions, "partitions", "p", -1, "number of partitions; -1 is the broker's default (num.partitions)")
	cmd.Flags().Int16VarP(&replication, "replication-factor", "r", -1, "replicas of each partition; -1 is the broker's default")
	cmd.Flags().StringArrayVarP(&configs, "config", "c", nil, "topic setting key=value, may be repeated")
	cmd.Flags().BoolVar(&validate, "validate-only", false, "check the request, create nothing")
	return cmd
}

func newTopicList(c *client) *cobra.Command {
	var internal bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List topics",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			adm, err := c.admin(cmd.Context())
			if err != nil {
				return err
			}
			defer adm.Close()
			list := adm.ListTopics
			if internal {
				list = adm.ListTopicsWithInternal
			}
			topics, err := topicsOf(cmd.Context(), list)
			if err != nil {
				return err
			}
			type row struct {
				Name        string `json:"name"`
				Partitions  int    `json:"partitions"`
				Replication int    `json:"replication_factor"`
			}
			rows := []row{}
			text := [][]string{}
			for _, t := range topics.Sorted() {
				r := row{t.Topic, len(t.Partitions), t.Partitions.NumReplicas()}
				rows = append(rows, r)
				text = append(text, []string{r.Name, strconv.Itoa(r.Partitions), strconv.Itoa(r.Replication)})
			}
			if c.json() {
				return printJSON(cmd.OutOrStdout(), rows)
			}
			return table(cmd.OutOrStdout(), []string{"NAME", "PARTITIONS", "REPLICAS"}, text)
		},
	}
	cmd.Flags().BoolVar(&internal, "internal", false, "list internal topics too")
	return cmd
}

// partitionRow is one partition in `topic describe`.
type partitionRow struct {
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"`
	Epoch     int32   `json:"epoch"`
	Replicas  []int32 `json:"replicas"`
	ISR       []int32 `json:"isr"`
	LogStart  int64   `json:"log_start_offset"`
	HighWater int64   `json:"high_watermark"`
}

// configRow is one setting in `topic describe`.
type configRow struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

func newTopicDescribe(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "describe NAME",
		Short: "Show a topic's partitions, offsets and settings",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			adm, err := c.admin(cmd.Context())
			if err != nil {
				return err
			}
			defer adm.Close()
			topics, err := topicsOf(cmd.Context(), adm.ListTopicsWithInternal, args[0])
			if err != nil {
				return err
			}
			detail := topics[args[0]]
			if detail.Err != nil {
				return detail.Err
			}
			partitions, err := describePartitions(cmd, adm, detail)
			if err != nil {
				return err
			}
			configs, err := describeConfigs(cmd, adm, args[0])
			if err != nil {
				return err
			}
			if c.json() {
				return printJSON(cmd.OutOrStdout(), map[string]any{
					"name": args[0], "id": topicID(detail), "partitions": partitions, "configs": configs,
				})
			}
			return printTopic(cmd, args[0], topicID(detail), partitions, configs)
		},
	}
}

// topicID is Kafka's text form of a topic's id: unpadded base64url.
func topicID(detail kadm.TopicDetail) string {
	return base64.RawURLEncoding.EncodeToString(detail.ID[:])
}

func describePartitions(cmd *cobra.Command, adm *kadm.Client, detail kadm.TopicDetail) ([]partitionRow, error) {
	starts, err := adm.ListStartOffsets(cmd.Context(), detail.Topic)
	if err != nil && !leaderless(err) { // those show -1
		return nil, err
	}
	ends, err := adm.ListEndOffsets(cmd.Context(), detail.Topic)
	if err != nil && !leaderless(err) { // those show -1
		return nil, err
	}
	rows := []partitionRow{}
	for _, p := range detail.Partitions.Sorted() {
		row := partitionRow{Partition: p.Partition, Leader: p.Leader, Epoch: p.LeaderEpoch, Replicas: p.Replicas, ISR: p.ISR, LogStart: -1, HighWater: -1}
		if o, ok := starts.Lookup(detail.Topic, p.Partition); ok && o.Err == nil {
			row.LogStart = o.Offset
		}
		if o, ok := ends.Lookup(detail.Topic, p.Partition); ok && o.Err == nil {
			row.HighWater = o.Offset
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func describeConfigs(cmd *cobra.Command, adm *kadm.Client, topic string) ([]configRow, error) {
	resources, err := adm.DescribeTopicConfigs(cmd.Context(), topic)
	if err != nil {
		return nil, err
	}
	rows := []configRow{}
	for _, r := range resources {
		if r.Err != nil {
			return nil, r.Err
		}
		for _, cfg := range r.Configs {
			rows = append(rows, configRow{cfg.Key, cfg.MaybeValue(), cfg.Source.String()})
		}
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i].Name < rows[j].Name })
	return rows, nil
}

func printTopic(cmd *cobra.Command, name, id string, partitions []partitionRow, configs []configRow) error {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s  id %s\n\n", name, id)
	text := [][]string{}
	for _, p := range partitions {
		text = append(text, []string{
			strconv.Itoa(int(p.Partition)), strconv.Itoa(int(p.Leader)), strconv.Itoa(int(p.Epoch)), join32(p.Replicas), join32(p.ISR),
			strconv.FormatInt(p.LogStart, 10), strconv.FormatInt(p.HighWater, 10),
		})
	}
	if err := table(w, []string{"PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "LOG-START", "HIGH-WATERMARK"}, text); err != nil {
		return err
	}
	fmt.Fprintln(w)
	text = text[:0]
	for _, cfg := range configs {
		text = append(text, []string{cfg.Name, cfg.Value, cfg.Source})
	}
	return table(w, []string{"SETTING", "VALUE", "SOURCE"}, text)
}

func join32(ids []int32) string {
	parts := make([]string, len(ids))
	for i, id := range ids {
		parts[i] = strconv.Itoa(int(id))
	}
	return strings.Join(parts, ",")
}

func newTopicDelete(c *client) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME...",
		Short: "Delete topics and their data",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			adm, err := c.admin(cmd.Context())
			if err != nil {
				return err
			}
			defer adm.Close()
			resps, err := adm.DeleteTopics(cmd.Context(), names...)
			if err != nil {
				return err
			}
			items := make([]item, 0, len(resps))
			for _, r := range resps.Sorted() {
				items = append(items, item{r.Topic, errorText(r.Err, r.ErrMessage)})
			}
			return c.report(cmd.OutOrStdout(), "deleted", items)
		},
	}
}

func newTopicAlter(c *client) *cobra.Command {
	var (
		partitions int
		configs    []string
		deletes    []string
	)
	cmd := &cobra.Command{
		Use:     "alter NAME",
		Short:   "Add partitions or change settings",
		Example: "  quorlog topic alter orders --partitions 12\n  quorlog topic alter orders --config retention.ms=3600000 --delete-config segment.ms",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			alter, err := configAlterations(configs, deletes)
			if err != nil {
				return err
			}
			if partitions == 0 && len(alter) == 0 {
				return withCode(exitUsage, fmt.Errorf("nothing to alter: give --partitions, --config or --delete-config"))
			}
			adm, err := c.admin(cmd.Context())
			if err != nil {
				return err
			}
			defer adm.Close()
			return c.alterTopic(cmd, adm, args[0], partitions, alter)
		},
	}
	cmd.Flags().IntVarP(&partitions, "partitions", "p", 0, "grow to this many partitions")
	cmd.Flags().StringArrayVarP(&configs, "config", "c", nil, "topic setting key=value, may be repeated")
	cmd.Flags().StringArrayVar(&deletes, "delete-config", nil, "setting to put back to its default, may be repeated")
	return cmd
}

func configAlterations(sets, deletes []string) ([]kadm.AlterConfig, error) {
	kv, err := keyValues(sets)
	if err != nil {
		return nil, err
	}
	var alter []kadm.AlterConfig
	for k, v := range kv {
		alter = append(alter, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: v})
	}
	for _, k := range deletes {
		alter = append(alter, kadm.AlterConfig{Op: kadm.DeleteConfig, Name: k})
	}
	return alter, nil
}

func (c *client) alterTopic(cmd *cobra.Command, adm *kadm.Client, topic string, partitions int, alter []kadm.AlterConfig) error {
	var items []item
	if partitions > 0 {
		resps, err := adm.UpdatePartitions(cmd.Context(), partitions, topic)
		if err != nil {
			return err
		}
		for _, r := range resps.Sorted() {
			items = append(items, item{fmt.Sprintf("%s: partitions = %d", r.Topic, partitions), errorText(r.Err, r.ErrMessage)})
		}
	}
	if len(alter) > 0 {
		resps, err := adm.AlterTopicConfigs(cmd.Context(), alter, topic)
		if err != nil {
			return err
		}
		for _, r := range resps {
			items = append(items, item{r.Name + ": settings", errorText(r.Err, r.ErrMessage)})
		}
	}
	return c.report(cmd.OutOrStdout(), "altered", items)
}
