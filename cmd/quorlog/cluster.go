package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// shownPartitions bounds how many partitions that are not well `cluster status` lists for a person; JSON has all.
const shownPartitions = 20

func newCluster(c *client) *cobra.Command {
	cmd := &cobra.Command{Use: "cluster", Short: "Set up and look after a cluster"}
	cmd.AddCommand(newClusterStatus(c), newClusterKey())
	return cmd
}

func newClusterStatus(c *client) *cobra.Command {
	var (
		check bool
		wait  time.Duration
	)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell how the cluster does: nodes, leaders, replicas that lag, terms",
		Long: `Status says in words how the cluster does, and what is wrong if something is:

  healthy    all nodes are there, all partitions have a leader and all replicas in sync
  degraded   everything is served, but a node or replicas are missing
  down       a partition has no leader, or no controller is known

Any node can be asked; it tells what it knows. The command works against other Kafka clusters too, which do not tell how
far a replica lags.`,
		Example: "  quorlog cluster status\n  quorlog cluster status --check || echo 'something is wrong'\n  quorlog cluster status -o json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			status, err := s.statusWithin(cmd.Context(), wait)
			if err != nil {
				return err
			}
			if c.json() {
				err = printJSON(cmd.OutOrStdout(), status)
			} else {
				err = status.print(cmd.OutOrStdout())
			}
			if err == nil && check && status.Word != healthy {
				err = withCode(exitFailed, fmt.Errorf("the cluster is %s", status.Word))
			}
			return err
		},
	}
	c.flags(cmd)
	cmd.Flags().BoolVar(&check, "check", false, "exit with 1 unless the cluster is healthy")
	cmd.Flags().DurationVar(&wait, "wait", 0, "look again for so long while it is not healthy: an election takes a second")
	return cmd
}

// statusPause lies between two looks.
const statusPause = 200 * time.Millisecond

// statusWithin is the status once the cluster is healthy, or when the time is over.
func (s *session) statusWithin(ctx context.Context, wait time.Duration) (*clusterStatus, error) {
	for began := time.Now(); ; {
		status, err := s.status(ctx)
		if err != nil || status.Word == healthy || time.Since(began) >= wait {
			return status, err
		}
		select {
		case <-ctx.Done():
			return status, ctx.Err()
		case <-time.After(statusPause):
		}
	}
}

// clusterStatus is what `cluster status` tells.
type clusterStatus struct {
	health
	ClusterID       string          `json:"cluster_id"`
	Controller      int32           `json:"controller"`
	ControllerEpoch int32           `json:"controller_epoch"` // -1 if not known
	Metadata        *quorumView     `json:"metadata,omitempty"`
	Nodes           []nodeView      `json:"nodes"`
	Partitions      int             `json:"partitions"`
	Unwell          []unwellView    `json:"unwell"`
	Moving          []partitionView `json:"moving"`
}

// unwellView is a partition without a leader, or with replicas that are not in sync.
type unwellView struct {
	partitionView
	Lacking []int32 `json:"lacking"`
	Lag     string  `json:"lag,omitempty"`
}

// status asks for everything that the status tells.
func (s *session) status(ctx context.Context) (*clusterStatus, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	st := &clusterStatus{
		health: v.assess(), ClusterID: v.ClusterID, Controller: v.Controller, ControllerEpoch: -1, Nodes: v.Nodes, Partitions: len(v.Partitions),
		Unwell: []unwellView{}, Moving: []partitionView{},
	}
	ask := map[string][]int32{metadataTopic: {0}}
	for _, p := range v.Partitions {
		lacking := p.lacking()
		if p.moving() {
			st.Moving = append(st.Moving, p)
		}
		if p.Leader >= 0 && len(lacking) == 0 {
			continue
		}
		st.Unwell = append(st.Unwell, unwellView{partitionView: p, Lacking: lacking})
		if p.Leader >= 0 && len(st.Unwell) <= shownPartitions {
			ask[p.Topic] = append(ask[p.Topic], p.Partition)
		}
	}
	quorums, err := s.quorums(ctx, ask)
	if err != nil {
		return st, ctx.Err() // other brokers may not answer that; the status is told without it
	}
	st.addQuorums(quorums)
	return st, nil
}

func (st *clusterStatus) addQuorums(quorums []quorumView) {
	for i, q := range quorums {
		if q.Error != "" {
			continue
		}
		if q.Topic == metadataTopic {
			st.Metadata, st.ControllerEpoch = &quorums[i], q.Epoch
			st.assessMetadata(&quorums[i])
		}
		for j := range st.Unwell {
			u := &st.Unwell[j]
			if u.Topic != q.Topic || u.Partition != q.Partition {
				continue
			}
			var words []string
			for _, node := range u.Lacking {
				words = append(words, fmt.Sprintf("node %d: %s", node, q.lagOf(node)))
			}
			u.Lag = strings.Join(words, "; ")
		}
	}
}

func (st *clusterStatus) print(w io.Writer) error {
	fmt.Fprintf(w, "cluster %s is %s: %s\n", st.ClusterID, st.Word, strings.Join(st.Reasons, "\n  "))
	for _, hint := range st.Hints {
		fmt.Fprintf(w, "note: %s\n", hint)
	}
	if st.Metadata != nil {
		fmt.Fprintf(w, "controller: node %d, term %d; metadata on %s\n", st.Controller, st.ControllerEpoch, st.Metadata.membership())
	} else {
		fmt.Fprintf(w, "controller: node %d\n", st.Controller)
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, n := range st.Nodes {
		rows = append(rows, nodeRow(n))
	}
	return errors.Join(table(w, nodeHeader, rows), st.printUnwell(w), printMoves(w, st.Moving))
}

func (st *clusterStatus) printUnwell(w io.Writer) error {
	if len(st.Unwell) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, u := range st.Unwell[:min(len(st.Unwell), shownPartitions)] {
		leader := "none"
		if u.Leader >= 0 {
			leader = strconv.Itoa(int(u.Leader))
		}
		rows = append(rows, []string{u.name(), leader, strconv.Itoa(int(u.Epoch)), join32(u.Replicas), join32(u.inSync()), join32(u.Lacking), u.Lag})
	}
	err := table(w, []string{"NOT WELL", "LEADER", "TERM", "REPLICAS", "IN SYNC", "LACKING", "LAG (RECORDS)"}, rows)
	if more := len(st.Unwell) - shownPartitions; more > 0 {
		fmt.Fprintf(w, "... and %d more; -o json lists all\n", more)
	}
	return err
}

func printMoves(w io.Writer, moving []partitionView) error {
	if len(moving) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	var rows [][]string
	for _, p := range moving {
		rows = append(rows, []string{p.name(), join32(p.target()), join32(p.Adding), join32(p.Removing)})
	}
	return table(w, []string{"ON THE MOVE", "TO BE ON", "COMING", "LEAVING"}, rows)
}

// membership names a group's voters and learners.
func (q *quorumView) membership() string {
	var voters, learners []int32
	for _, r := range q.Replicas {
		if r.Role == "learner" {
			learners = append(learners, r.Node)
		} else {
			voters = append(voters, r.Node)
		}
	}
	slices.Sort(voters)
	text := "voters " + join32(voters)
	if len(learners) > 0 {
		text += ", learners " + join32(learners)
	}
	return text
}
