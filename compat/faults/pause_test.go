package faults

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// TestPatientElections gives the nodes more time than the leader is stopped for: it leads on.
func TestPatientElections(t *testing.T) {
	const most = 4 * time.Second // of a stop; on a machine that stalls it may take as long as an election
	c, l, _ := cluster(t, testcluster.ClusterOptions{Args: []string{
		"--set", "quorlog.election.timeout.ms=5000", "--set", "auto.leader.rebalance.enable=false",
	}}, LoadOptions{})
	var before map[int32]leaderView
	awaitFor(t, 2*patience, func() string {
		awaitWhole(t, c, l.Topic, l.o.Partitions)
		l.WaitAcked(100)
		before = ledParts(t, c, l.Topic, l.o.Partitions)
		victim, began := c.Node(before[0].leader), time.Now()
		victim.Pause()
		idle(2 * time.Second)
		victim.Resume()
		l.WaitAcked(1_000) // it has been heard again
		if took := time.Since(began); took > most {
			return fmt.Sprintf("each stop takes longer than %v, the last one took %v", most, took)
		}
		return ""
	})
	if after := ledParts(t, c, l.Topic, l.o.Partitions); !maps.EqualFunc(before, after, func(a, b leaderView) bool { return a.leader == b.leader && a.epoch == b.epoch }) {
		t.Errorf("leaders and their epochs were %v and are %v", before, after)
	}
	l.Check()
}

// TestPaused stops processes (SIGSTOP) for as long as an election takes, and for much longer: the leader, which must not
// acknowledge anything when it wakes up, a follower, and two at once.
func TestPaused(t *testing.T) {
	c, l, rng := cluster(t, testcluster.ClusterOptions{}, LoadOptions{Probers: 1, Shots: 2, Plain: 1})
	for i := range scaled(9, 150) {
		l.WaitAcked(100 + rng.IntN(500))
		leader := leaderOf(t, c, l.Topic, 0)
		follower, other := leader%3+1, (leader+1)%3+1
		length := time.Duration(50+rng.IntN(900)) * time.Millisecond
		if rng.IntN(4) == 0 {
			length = time.Duration(2+rng.IntN(scaled(3, 15))) * time.Second
		}
		victims := [][]int{{leader}, {follower}, {follower, other}}[i%3]
		for _, v := range victims {
			c.Node(v).Pause()
		}
		idle(length)
		for _, v := range victims {
			c.Node(v).Resume()
		}
		awaitWhole(t, c, l.Topic, l.o.Partitions)
	}
	l.Check()
	t.Logf("the prober's answers: %v; sent once: %v", l.Probers[0].Errors(), l.Probers[1].Errors())
}
