package faults

import (
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// handedOver is how a node that stops says how many leaderships others took over, and how many it kept.
var handedOver = regexp.MustCompile(`"leaderships handed over","partitions":(\d+),"kept":(\d+)`)

// TestRollingRestart stops and starts one node after the other under load, as an upgrade does. A node that is told to stop
// hands its leaderships over first: clients that retry see no error, and hardly a delay.
func TestRollingRestart(t *testing.T) {
	c, l, _ := cluster(t, testcluster.ClusterOptions{}, LoadOptions{Probers: 1, Plain: 1, Readers: 2})
	l.WaitAcked(500)
	l.ResetLatency()
	var stops, gaps []time.Duration
	handed := 0
	for range scaled(2, 20) {
		for _, id := range c.IDs() {
			l.Probers[0].ResetGap()
			said := len(c.Node(id).Log())
			began := time.Now()
			c.Stop(id)
			stops = append(stops, time.Since(began))
			if err := c.Node(id).ExitError(); err != nil {
				t.Errorf("node %d ended with %v", id, err)
			}
			if told := handedOver.FindStringSubmatch(c.Node(id).Log()[said:]); told != nil {
				n, _ := strconv.Atoi(told[1]) // it is a number
				handed += n
				if told[2] != "0" {
					t.Errorf("node %d kept leaderships: %s", id, told[0])
				}
			}
			l.WaitAcked(300)
			c.StartAll(id)
			awaitWhole(t, c, l.Topic, l.o.Partitions)
			l.WaitAcked(300)
			gap, _ := l.Probers[0].Gap()
			gaps = append(gaps, gap)
		}
	}
	if handed == 0 {
		t.Error("no leadership was handed over")
	}
	p50, p99, highest := l.Latency(50), l.Latency(99), l.Latency(100)
	l.Check()
	t.Logf("produce latency during %d restarts: p50 %v, p99 %v, max %v", len(stops), p50, p99, highest)
	t.Logf("a stop takes: %s; one partition without acknowledgement: %s", quantiles(stops), quantiles(gaps))
	t.Logf("the prober's answers: %v", l.Probers[0].Errors())
	if rig.Full() && p99 > 500*time.Millisecond {
		t.Errorf("the 99th percentile of the produce latency is %v during a rolling restart, want less than 500 ms", p99)
	}
}
