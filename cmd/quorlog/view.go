package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/replication/controller"
)

// drainForGood is the value of controller.DrainSetting beside "false" and controller.DrainUntilRestart.
const drainForGood = "true"

// clusterView is the cluster as any of its nodes describes it over the Kafka protocol.
type clusterView struct {
	ClusterID  string          `json:"cluster_id"`
	Controller int32           `json:"controller"` // -1: none is known
	Nodes      []nodeView      `json:"nodes"`
	Partitions []partitionView `json:"partitions"`
}

// nodeView is one node.
type nodeView struct {
	ID        int32  `json:"id"`
	Address   string `json:"address,omitempty"`
	Rack      string `json:"rack,omitempty"`
	Gone      bool   `json:"gone"`
	Silent    bool   `json:"silent"` // the others do not hear from it; after a few seconds of that it counts as gone
	Draining  bool   `json:"draining"`
	Leads     int    `json:"leads"`     // partitions that it leads
	Preferred int    `json:"preferred"` // partitions that it is the preferred leader of
	Replicas  int    `json:"replicas"`
	InSync    int    `json:"in_sync"` // of its replicas
}

// state is a node's state in a word.
func (n nodeView) state() string {
	switch {
	case n.Gone:
		return "gone"
	case n.Silent:
		return "silent"
	case n.Draining && n.Leads == 0:
		return "drained"
	case n.Draining:
		return "draining"
	}
	return "alive"
}

// there tells whether a node can be used.
func (n nodeView) there() bool { return !n.Gone && !n.Silent }

// partitionView is one partition.
type partitionView struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Leader    int32   `json:"leader"` // -1: none
	Epoch     int32   `json:"epoch"`
	Replicas  []int32 `json:"replicas"`
	ISR       []int32 `json:"isr"`
	Offline   []int32 `json:"offline,omitempty"` // replicas on nodes that are not there
	Adding    []int32 `json:"adding,omitempty"`  // by a reassignment under way
	Removing  []int32 `json:"removing,omitempty"`
}

func (p partitionView) name() string { return partitionName(p.Topic, p.Partition) }

func partitionName(topic string, partition int32) string {
	return topic + "-" + strconv.Itoa(int(partition))
}

// moving tells whether a reassignment is under way.
func (p partitionView) moving() bool { return len(p.Adding)+len(p.Removing) > 0 }

// target are the replicas that are to be, the preferred leader first.
func (p partitionView) target() []int32 { return without(p.Replicas, p.Removing) }

// inSync are the replicas in sync that are there: a leader takes a while to strike a lost one from its list.
func (p partitionView) inSync() []int32 { return without(p.ISR, p.Offline) }

// lacking are the replicas that should be in sync and are not. One that a reassignment brings is not expected to be yet.
func (p partitionView) lacking() []int32 { return without(without(p.target(), p.inSync()), p.Adding) }

func without(ids, remove []int32) []int32 {
	return slices.DeleteFunc(slices.Clone(ids), func(id int32) bool { return slices.Contains(remove, id) })
}

// session is a connected client.
type session struct {
	*kadm.Client
	raw *kgo.Client
}

// open connects for administrative requests, those that kadm lacks among them.
func (c *client) open(ctx context.Context) (*session, error) {
	cl, err := c.connect(ctx, kgo.MetadataMinAge(lookInterval/2)) // or what is waited for is seen five seconds late
	if err != nil {
		return nil, err
	}
	return &session{kadm.NewClient(cl), cl}, nil
}

// view describes the cluster, or only the topics named.
func (s *session) view(ctx context.Context, topics ...string) (*clusterView, error) {
	v := &clusterView{}
	if err := s.viewNodes(ctx, v); err != nil {
		return nil, err
	}
	details, err := topicsOf(ctx, s.ListTopicsWithInternal, topics...)
	if err != nil {
		return nil, err
	}
	for _, d := range details.Sorted() {
		if d.Err != nil {
			return nil, fmt.Errorf("topic %s: %w", d.Topic, d.Err)
		}
		for _, p := range d.Partitions.Sorted() {
			v.Partitions = append(v.Partitions, partitionView{
				Topic: d.Topic, Partition: p.Partition, Leader: p.Leader, Epoch: p.LeaderEpoch, Replicas: p.Replicas, ISR: p.ISR,
				Offline: p.OfflineReplicas,
			})
		}
	}
	if err := s.viewMoves(ctx, v, details); err != nil {
		return nil, err
	}
	v.count()
	return v, nil
}

func (s *session) viewNodes(ctx context.Context, v *clusterView) error {
	req := kmsg.NewPtrDescribeClusterRequest()
	req.IncludeFencedBrokers = true
	resp, err := req.RequestWith(ctx, s.raw)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return err
	}
	v.ClusterID, v.Controller = resp.ClusterID, resp.ControllerID
	var alive []int32
	for _, b := range resp.Brokers {
		n := nodeView{ID: b.NodeID, Address: net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))), Gone: b.IsFenced}
		if b.Rack != nil {
			n.Rack = *b.Rack
		}
		if !n.Gone {
			alive = append(alive, n.ID)
		}
		v.Nodes = append(v.Nodes, n)
	}
	draining := s.draining(ctx, alive)
	for i := range v.Nodes {
		v.Nodes[i].Draining = slices.Contains(draining, v.Nodes[i].ID)
	}
	return nil
}

// draining are the nodes that are asked to give up what they lead. Each is asked itself; one that does not answer, and a
// cluster of other brokers, which do not have the setting, counts as not draining.
func (s *session) draining(ctx context.Context, nodes []int32) (out []int32) {
	if len(nodes) == 0 {
		return nil // no names would mean the setting of all nodes together
	}
	configs, _ := s.DescribeBrokerConfigs(ctx, nodes...) // the answers that came count, whatever became of the others
	for _, r := range configs {
		id, err := strconv.ParseInt(r.Name, 10, 32)
		if err != nil {
			continue
		}
		for _, cfg := range r.Configs {
			if v := cfg.MaybeValue(); cfg.Key == controller.DrainSetting && (v == drainForGood || v == controller.DrainUntilRestart) {
				out = append(out, int32(id))
			}
		}
	}
	return out
}

// viewMoves adds the reassignments that are under way.
func (s *session) viewMoves(ctx context.Context, v *clusterView, topics kadm.TopicDetails) error {
	moves, err := s.ListPartitionReassignments(ctx, topics.TopicsSet())
	if err != nil {
		return err
	}
	for i := range v.Partitions {
		p := &v.Partitions[i]
		if m, ok := moves[p.Topic][p.Partition]; ok {
			p.Replicas, p.Adding, p.Removing = m.Replicas, m.AddingReplicas, m.RemovingReplicas
		}
	}
	return nil
}

// count adds up the partitions on each node. A node that only partitions know of is gone: old brokers do not list those.
func (v *clusterView) count() {
	byID := map[int32]*nodeView{}
	for i := range v.Nodes {
		n := v.Nodes[i]
		byID[n.ID] = &n
	}
	at := func(id int32) *nodeView {
		if byID[id] == nil {
			byID[id] = &nodeView{ID: id, Gone: true}
		}
		return byID[id]
	}
	for _, p := range v.Partitions {
		if p.Leader >= 0 {
			at(p.Leader).Leads++
		}
		for i, id := range p.target() {
			if i == 0 {
				at(id).Preferred++
			}
		}
		for _, id := range p.Replicas {
			at(id).Replicas++
			if slices.Contains(p.inSync(), id) {
				at(id).InSync++
			}
			if slices.Contains(p.Offline, id) {
				at(id).Silent = true
			}
		}
	}
	v.Nodes = v.Nodes[:0]
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		v.Nodes = append(v.Nodes, *byID[id])
	}
}

// node finds a node by its id.
func (v *clusterView) node(id int32) (nodeView, bool) {
	i, found := slices.BinarySearchFunc(v.Nodes, id, func(n nodeView, id int32) int { return cmp.Compare(n.ID, id) })
	if !found {
		return nodeView{}, false
	}
	return v.Nodes[i], true
}

// partitionsOn are those with a replica on a node.
func (v *clusterView) partitionsOn(id int32) []partitionView {
	return slices.DeleteFunc(slices.Clone(v.Partitions), func(p partitionView) bool { return !slices.Contains(p.Replicas, id) })
}

// namesOf lists the first few partitions of many.
func namesOf(partitions []partitionView) string {
	const shown = 5
	var names []string
	for _, p := range partitions {
		if len(names) == shown {
			return strings.Join(names, ", ") + fmt.Sprintf(" and %d more", len(partitions)-shown)
		}
		names = append(names, p.name())
	}
	return strings.Join(names, ", ")
}

// parseNode reads a node's id from the command line.
func parseNode(arg string) (int32, error) {
	id, err := strconv.ParseInt(arg, 10, 32)
	if err != nil || id < 0 {
		return 0, withCode(exitUsage, fmt.Errorf("%q is not a node id", arg))
	}
	return int32(id), nil
}

// plural is "1 node" and "2 nodes".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
