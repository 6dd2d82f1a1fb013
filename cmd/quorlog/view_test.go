package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// threeNodes is a healthy cluster: two partitions on three nodes.
func threeNodes() *clusterView {
	v := &clusterView{ClusterID: "c", Controller: 1, Nodes: []nodeView{{ID: 1}, {ID: 2}, {ID: 3}}}
	for i := range int32(2) {
		v.Partitions = append(v.Partitions, partitionView{
			Topic: "t", Partition: i, Leader: 1 + i, Epoch: 7, Replicas: []int32{1 + i, 2 - i, 3}, ISR: []int32{1, 2, 3},
		})
	}
	v.count()
	return v
}

func TestHealth(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(v *clusterView)
		word   string
		has    []string // parts of the reasons and hints
	}{
		{"healthy", func(*clusterView) {}, healthy, []string{"all 3 nodes are there, all 2 partitions have a leader"}},
		{"no topics", func(v *clusterView) { v.Partitions = nil }, healthy, []string{"there are no topics yet"}},
		{"one node, one partition", func(v *clusterView) { v.Nodes, v.Partitions = v.Nodes[:1], v.Partitions[:1] }, healthy, []string{"the only node", "the only partition"}},
		{"a node is gone", func(v *clusterView) {
			v.Nodes[2].Gone = true
			for i := range v.Partitions {
				v.Partitions[i].ISR = []int32{1, 2}
			}
		}, degraded, []string{"node 3 is gone; it has 2 replicas", "2 of 2 partitions lack replicas in sync: t-0, t-1"}},
		{"a node was just lost", func(v *clusterView) {
			v.Partitions[0].Offline, v.Partitions[1].Offline = []int32{3}, []int32{3} // and still in the lists of those in sync
			v.count()
		}, degraded, []string{"node 3 is silent; it has", "2 of 2 partitions lack replicas in sync: t-0, t-1"}},
		{"no leader", func(v *clusterView) { v.Partitions[1].Leader = -1 }, down, []string{"1 of 2 partitions have no leader: t-1"}},
		{"no controller", func(v *clusterView) { v.Controller = -1 }, down, []string{"no controller"}},
		{"what comes need not be in sync", func(v *clusterView) {
			v.Partitions[0].Replicas, v.Partitions[0].Adding = []int32{1, 2, 3, 4}, []int32{4}
		}, healthy, []string{"1 partition is on the move"}},
		{"what leaves need not be in sync", func(v *clusterView) {
			v.Partitions[0].Removing, v.Partitions[0].ISR = []int32{3}, []int32{1, 2}
		}, healthy, []string{"1 partition is on the move"}},
		{"led by another", func(v *clusterView) { v.Partitions[0].Leader = 3 }, healthy, []string{"1 partition is not led by the preferred replica"}},
		{"drained", func(v *clusterView) { v.Partitions[0].Leader, v.Nodes[0].Draining, v.Nodes[0].Leads = 3, true, 0 }, healthy, []string{"node 1 is drained"}},
		{"a single replica", func(v *clusterView) { v.Partitions[0].Replicas, v.Partitions[0].ISR = []int32{1}, []int32{1} }, healthy, []string{"1 partition is on a single node only"}},
	} {
		v := threeNodes()
		c.change(v)
		h := v.assess()
		text := strings.Join(append(h.Reasons, h.Hints...), "\n")
		if h.Word != c.word {
			t.Errorf("%s: %s", c.name, h.Word)
		}
		for _, part := range c.has {
			if !strings.Contains(text, part) {
				t.Errorf("%s: %q is not in\n%s", c.name, part, text)
			}
		}
		if c.name == "drained" && strings.Contains(text, "preferred") {
			t.Errorf("a drained node is told to lead:\n%s", text)
		}
	}
}

func TestNodesAreCounted(t *testing.T) {
	v := threeNodes()
	v.Partitions = append(v.Partitions, partitionView{Topic: "u", Leader: -1, Replicas: []int32{9, 1}, ISR: []int32{1}})
	for i := range v.Nodes {
		v.Nodes[i] = nodeView{ID: v.Nodes[i].ID}
	}
	v.count()
	want := []nodeView{
		{ID: 1, Leads: 1, Preferred: 1, Replicas: 3, InSync: 3}, {ID: 2, Leads: 1, Preferred: 1, Replicas: 2, InSync: 2},
		{ID: 3, Replicas: 2, InSync: 2}, {ID: 9, Gone: true, Preferred: 1, Replicas: 1},
	}
	if !slices.Equal(v.Nodes, want) {
		t.Errorf("%+v", v.Nodes)
	}
	if led, stuck := v.ledBy(1); len(led) != 1 || len(stuck) != 0 {
		t.Errorf("node 1 leads %v, and %v for want of others", led, stuck)
	}
	v.Nodes[1].Draining, v.Nodes[2].Gone = true, true
	if led, stuck := v.ledBy(1); len(led) != 0 || len(stuck) != 1 {
		t.Errorf("node 1 leads %v, and %v for want of others", led, stuck)
	}
}

func TestManyNames(t *testing.T) {
	var many []partitionView
	for i := range int32(7) {
		many = append(many, partitionView{Topic: "t", Partition: i})
	}
	if got := namesOf(many); got != "t-0, t-1, t-2, t-3, t-4 and 2 more" {
		t.Error(got)
	}
	if got := namesOf(many[:2]); got != "t-0, t-1" {
		t.Error(got)
	}
}

// TestUnwellIsListedInPart: a person sees a part of a long list, and is told of the rest.
func TestUnwellIsListedInPart(t *testing.T) {
	st := &clusterStatus{health: health{Word: down, Reasons: []string{"much"}}, ControllerEpoch: -1}
	for i := range int32(shownPartitions + 3) {
		st.Unwell = append(st.Unwell, unwellView{partitionView: partitionView{Topic: "t", Partition: i, Leader: -1, Replicas: []int32{1, 2, 3}, ISR: []int32{}}, Lacking: []int32{1}})
	}
	st.addQuorums([]quorumView{
		{Topic: metadataTopic, Epoch: 4, Leader: 1, Replicas: []replicaView{{Node: 1, Role: "leader"}, {Node: 4, Role: "learner"}}},
		{Topic: "t", Partition: 0, Replicas: []replicaView{{Node: 1, Lag: 12}}},
		{Topic: "t", Partition: 1, Error: "LEADER_NOT_AVAILABLE"},
	})
	var out bytes.Buffer
	if err := st.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"is down: much", "term 4; metadata on voters 1, learners 4", "node 1: 12 behind", "... and 3 more"} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is not in\n%s", part, out.String())
		}
	}
	if strings.Contains(out.String(), fmt.Sprintf("t-%d ", shownPartitions)) {
		t.Errorf("all are listed:\n%s", out.String())
	}
}

func TestQuorumView(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	state := func(id int32, end, contact int64) kmsg.DescribeQuorumResponseTopicPartitionReplicaState {
		return kmsg.DescribeQuorumResponseTopicPartitionReplicaState{ReplicaID: id, LogEndOffset: end, LastFetchTimestamp: contact, LastCaughtUpTimestamp: -1}
	}
	p := &kmsg.DescribeQuorumResponseTopicPartition{
		Partition: 3, LeaderID: 2, LeaderEpoch: 5, HighWatermark: 90,
		CurrentVoters: []kmsg.DescribeQuorumResponseTopicPartitionReplicaState{state(2, 100, -1), state(1, 90, 999_000), state(3, -1, 1_000_500)},
		Observers:     []kmsg.DescribeQuorumResponseTopicPartitionReplicaState{state(4, 0, 900_000)},
	}
	q := newQuorumView("t", p, now)
	text := []string{}
	for _, r := range q.Replicas {
		text = append(text, fmt.Sprintf("%d %s %s %s", r.Node, r.Role, known(r.Lag), agoText(r.Contact)))
	}
	want := []string{"1 voter 10 1000 ms ago", "2 leader 0 -", "3 voter - 0 ms ago", "4 learner 100 1m40s ago"}
	if !slices.Equal(text, want) {
		t.Errorf("%q", text)
	}
	if q.lagOf(1) != "10 behind" || q.lagOf(3) != "lag unknown" {
		t.Errorf("%s, %s", q.lagOf(1), q.lagOf(3))
	}
	p.ErrorCode, p.ErrorMessage = kerr.LeaderNotAvailable.Code, kmsg.StringPtr("nobody leads")
	if q := newQuorumView("t", p, now); !strings.Contains(q.Error, "nobody leads") || len(q.Replicas) > 0 {
		t.Errorf("%+v", q)
	}
}

// While a wiped node has not got its vote in the metadata group back, the next disk must not go.
func TestMetadataVotes(t *testing.T) {
	leader, voter, learner := replicaView{Node: 1, Role: "leader"}, replicaView{Node: 2, Role: "voter"}, replicaView{Node: 3, Role: "learner"}
	for _, c := range []struct {
		members []replicaView
		word    string
	}{
		{[]replicaView{leader}, healthy},
		{[]replicaView{leader, learner}, healthy},
		{[]replicaView{leader, voter, learner}, degraded},
		{[]replicaView{leader, voter, voter}, healthy},
		{[]replicaView{leader, voter, voter, voter, learner}, degraded},
	} {
		st := &clusterStatus{health: health{Word: healthy, Reasons: []string{"all is well"}}}
		st.addQuorums([]quorumView{{Topic: metadataTopic, Replicas: c.members}})
		if well := slices.Contains(st.Reasons, "all is well"); st.Word != c.word || well != (c.word == healthy) {
			t.Errorf("%d members: %s, %q", len(c.members), st.Word, st.Reasons)
		}
	}
}
