package faults

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// lookAt asks all running nodes about a topic and merges what they say: the highest epoch wins. Nodes that do not answer
// at once are left out.
func lookAt(c *testcluster.Cluster, topic string) clusterView {
	all := clusterView{addrs: map[int]string{}, parts: map[int32]leaderView{}, replica: map[int32][]int32{}}
	for _, id := range c.IDs() {
		if !c.Node(id).Running() {
			continue
		}
		view, err := lookOnce(c.Node(id).Addr, topic)
		if err != nil {
			continue
		}
		for id, addr := range view.addrs {
			all.addrs[id] = addr
		}
		for p, v := range view.parts {
			if known, ok := all.parts[p]; !ok || v.epoch > known.epoch || v.epoch == known.epoch && v.leader > 0 {
				all.parts[p] = v
			}
		}
		for p, r := range view.replica {
			all.replica[p] = r
		}
	}
	return all
}

func lookOnce(addr, topic string) (clusterView, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	w, err := dialWire(ctx, addr)
	if err != nil {
		return clusterView{}, err
	}
	defer w.close()
	return w.lookFor(topic, 500*time.Millisecond)
}

// leaderOf waits until a partition is led by a node that runs, other than those given.
func leaderOf(t testing.TB, c *testcluster.Cluster, topic string, p int32, not ...int) int {
	t.Helper()
	leader := 0
	await(t, func() string {
		leader = lookAt(c, topic).parts[p].leader
		if leader <= 0 || slices.Contains(not, leader) || !c.Node(leader).Running() {
			return fmt.Sprintf("%s-%d is led by %d", topic, p, leader)
		}
		return ""
	})
	return leader
}

// ledParts waits until the nodes tell of a leader of every partition of a topic. A single look may show none: on a busy machine no node
// may answer in time.
func ledParts(t testing.TB, c *testcluster.Cluster, topic string, partitions int32) (parts map[int32]leaderView) {
	t.Helper()
	await(t, func() string {
		parts = lookAt(c, topic).parts
		for p := range partitions {
			if parts[p].leader <= 0 {
				return fmt.Sprintf("%s-%d has no leader", topic, p)
			}
		}
		return ""
	})
	return parts
}

// awaitWhole waits until every partition of a topic has a leader that runs and all its replicas in sync, and the metadata
// group has its votes: with two of three, the next disk that is wiped may be half of what is left.
func awaitWhole(t testing.TB, c *testcluster.Cluster, topic string, partitions int32) {
	t.Helper()
	await(t, func() string { return cmp.Or(notWhole(lookAt(c, topic), c, topic, partitions), metadataNotWhole(c)) })
}

func notWhole(view clusterView, c *testcluster.Cluster, topic string, partitions int32) string {
	for p := range partitions {
		v := view.parts[p]
		if v.leader <= 0 || !c.Node(v.leader).Running() {
			return fmt.Sprintf("%s-%d has no leader", topic, p)
		}
		isr, replicas := slices.Sorted(slices.Values(v.isr)), slices.Sorted(slices.Values(view.replica[p]))
		if !slices.Equal(isr, replicas) {
			return fmt.Sprintf("%s-%d: in sync %v of %v", topic, p, isr, replicas)
		}
	}
	return ""
}

// metadataNotWhole asks whether all of three nodes vote in the metadata group, or three of more, and were heard from a
// moment ago: a vote whose disk is gone is not heard from.
func metadataNotWhole(c *testcluster.Cluster) string {
	req := kmsg.NewPtrDescribeQuorumRequest()
	req.Version = 1 // the first that tells when a voter was heard from
	topic, partition := kmsg.NewDescribeQuorumRequestTopic(), kmsg.NewDescribeQuorumRequestTopicPartition()
	topic.Topic, topic.Partitions = "__cluster_metadata", append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	running := slices.DeleteFunc(c.IDs(), func(id int) bool { return !c.Node(id).Running() })
	resp, err := askOnce(c.Node(running[0]).Addr, req)
	if err != nil {
		return "the metadata's voters: " + err.Error()
	}
	answer := resp.(*kmsg.DescribeQuorumResponse)
	if len(answer.Topics) != 1 || len(answer.Topics[0].Partitions) != 1 {
		return "the metadata is not described"
	}
	p := answer.Topics[0].Partitions[0]
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		return "the metadata's voters: " + err.Error()
	}
	var heard []int32
	for _, v := range p.CurrentVoters {
		if time.Since(time.UnixMilli(v.LastFetchTimestamp)) < heardWithin {
			heard = append(heard, v.ReplicaID)
		}
	}
	if len(heard) != len(p.CurrentVoters) || len(heard) < min(len(running), 3) {
		return fmt.Sprintf("metadata: voters %v are heard from, %d have a vote", heard, len(p.CurrentVoters))
	}
	return ""
}

// heardWithin is how long ago a voter that runs may have been heard from; its leader asks it many times in that time.
const heardWithin = time.Second

// askOnce sends one request on a connection of its own.
func askOnce(addr string, req kmsg.Request) (kmsg.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	w, err := dialWire(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer w.close()
	return w.do(req, time.Second)
}

// quantiles are the median, the 99th percentile and the highest of some times, in words.
func quantiles(times []time.Duration) string {
	if len(times) == 0 {
		return "nothing measured"
	}
	s := slices.Sorted(slices.Values(times))
	at := func(q float64) time.Duration {
		return s[min(len(s)-1, int(q*float64(len(s))))].Round(time.Millisecond)
	}
	return fmt.Sprintf("p50 %v, p99 %v, max %v (of %d)", at(0.5), at(0.99), s[len(s)-1].Round(time.Millisecond), len(s))
}
