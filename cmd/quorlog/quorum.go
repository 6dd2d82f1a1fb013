package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// metadataTopic is the name by which the metadata group is asked for.
const metadataTopic = "__cluster_metadata"

// quorumView is how a Raft group stands, as its leader sees it.
type quorumView struct {
	Topic         string        `json:"topic"`
	Partition     int32         `json:"partition"`
	Leader        int32         `json:"leader"`
	Epoch         int32         `json:"epoch"`
	HighWatermark int64         `json:"high_watermark"`
	Replicas      []replicaView `json:"replicas"`
	Error         string        `json:"error,omitempty"`
}

// replicaView is one member of a group.
type replicaView struct {
	Node     int32  `json:"node"`
	Role     string `json:"role"` // leader, voter or learner
	LogEnd   int64  `json:"log_end_offset"`
	Lag      int64  `json:"lag"`              // behind the leader's log end; -1 if not known
	Contact  *int64 `json:"contact_ms_ago"`   // since the leader last heard from it; absent if not known
	CaughtUp *int64 `json:"caught_up_ms_ago"` // since it last had all of the leader's log
}

// quorums describes the Raft groups of partitions. A group that can't be described has Error instead.
func (s *session) quorums(ctx context.Context, of map[string][]int32) ([]quorumView, error) {
	req := kmsg.NewPtrDescribeQuorumRequest()
	for topic, partitions := range of {
		t := kmsg.NewDescribeQuorumRequestTopic()
		t.Topic = topic
		for _, p := range partitions {
			tp := kmsg.NewDescribeQuorumRequestTopicPartition()
			tp.Partition = p
			t.Partitions = append(t.Partitions, tp)
		}
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, s.raw)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return nil, err
	}
	now := time.Now()
	var out []quorumView
	for _, t := range resp.Topics {
		for i := range t.Partitions {
			out = append(out, newQuorumView(t.Topic, &t.Partitions[i], now))
		}
	}
	slices.SortFunc(out, func(a, b quorumView) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out, nil
}

func newQuorumView(topic string, p *kmsg.DescribeQuorumResponseTopicPartition, now time.Time) quorumView {
	q := quorumView{Topic: topic, Partition: p.Partition, Leader: p.LeaderID, Epoch: p.LeaderEpoch, HighWatermark: p.HighWatermark}
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		message := ""
		if p.ErrorMessage != nil {
			message = *p.ErrorMessage
		}
		q.Error = errorText(err, message)
		return q
	}
	var end int64 = -1
	for _, r := range p.CurrentVoters {
		if r.ReplicaID == p.LeaderID {
			end = r.LogEndOffset
		}
	}
	add := func(r kmsg.DescribeQuorumResponseTopicPartitionReplicaState, role string) {
		v := replicaView{Node: r.ReplicaID, Role: role, LogEnd: r.LogEndOffset, Lag: -1}
		if r.ReplicaID == p.LeaderID {
			v.Role, v.Lag = "leader", 0
		} else {
			v.Contact, v.CaughtUp = ago(now, r.LastFetchTimestamp), ago(now, r.LastCaughtUpTimestamp)
		}
		if end >= 0 && r.LogEndOffset >= 0 {
			v.Lag = max(0, end-r.LogEndOffset)
		}
		q.Replicas = append(q.Replicas, v)
	}
	for _, r := range p.CurrentVoters {
		add(r, "voter")
	}
	for _, r := range p.Observers {
		add(r, "learner")
	}
	slices.SortStableFunc(q.Replicas, func(a, b replicaView) int { return cmp.Compare(a.Node, b.Node) })
	return q
}

// ago is the age of a leader's time stamp in ms; its clock may be ahead of ours.
func ago(now time.Time, stamp int64) *int64 {
	if stamp < 0 {
		return nil
	}
	ms := max(0, now.UnixMilli()-stamp)
	return &ms
}

func agoText(ms *int64) string {
	switch {
	case ms == nil:
		return "-"
	case *ms < 10_000:
		return fmt.Sprintf("%d ms ago", *ms)
	}
	return (time.Duration(*ms) * time.Millisecond).Round(time.Second).String() + " ago"
}

// lagOf is how far a node's replica is behind, in words.
func (q quorumView) lagOf(node int32) string {
	for _, r := range q.Replicas {
		if r.Node == node && r.Lag >= 0 {
			return fmt.Sprintf("%d behind", r.Lag)
		}
	}
	return "lag unknown"
}
