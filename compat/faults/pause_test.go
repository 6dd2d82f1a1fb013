package faults

import (
	"testing"
	"time"

	"github.com/quorlog/quorlog/internal/testcluster"
)

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
