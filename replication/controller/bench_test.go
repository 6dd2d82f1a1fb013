package controller

import (
	"fmt"
	"testing"
)

// BenchmarkCreateTopic creates and deletes a topic in a cluster of 10,000 topics, 30,000 partitions and 90,000 replicas.
func BenchmarkCreateTopic(b *testing.B) {
	c := large(b)
	name := []NewTopic{{Name: "one.more", Partitions: 3, ReplicationFactor: 3}}
	b.ReportAllocs()
	for b.Loop() {
		create(b, c, name...)
		if err := c.DeleteTopics(b.Context(), []TopicRef{{Name: "one.more"}})[0]; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSnapshot writes and reads the same cluster.
func BenchmarkSnapshot(b *testing.B) {
	c := large(b)
	b.ReportAllocs()
	for b.Loop() {
		data, err := c.machine.Snapshot()
		if err != nil {
			b.Fatal(err)
		}
		if err := c.machine.Restore(data); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(data)), "bytes")
	}
}

// BenchmarkTopicConfig resolves a topic's settings.
func BenchmarkTopicConfig(b *testing.B) {
	c := large(b)
	im := c.Image()
	b.ReportAllocs()
	for b.Loop() {
		_ = im.TopicConfig("topic-77")
	}
}

// BenchmarkChangeEverywhere changes a setting, through a follower, in a group of three on real files, until all have applied it:
// what a client waits for.
func BenchmarkChangeEverywhere(b *testing.B) {
	c := newCluster(b)
	defer c.stopAll()
	c.found(3)
	follower := c.present()[0]
	if follower == c.leader() {
		follower = c.present()[1]
	}
	n := 0
	for b.Loop() {
		n++
		ops := []ConfigOp{{Name: "num.partitions", Value: fmt.Sprint(n%1000 + 1)}}
		if err := follower.ctl.AlterConfigs(b.Context(), Resource{BrokerResource, "2"}, ops, false); err != nil {
			b.Fatal(err)
		}
	}
}

func large(b *testing.B) *Controller {
	c, _ := newTestController(b, nil)
	register(b, c, 9)
	topics := make([]NewTopic, 10_000)
	for i := range topics {
		topics[i] = NewTopic{
			Name: fmt.Sprintf("topic-%d", i), Partitions: 3, ReplicationFactor: 3,
			Config: map[string]string{"retention.ms": "1000", "cleanup.policy": "compact"},
		}
	}
	create(b, c, topics...)
	return c
}
