package partition

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// Who reads from a follower hears of a new batch at once, however idle the partition is.
func TestFollowersHearOfTheWatermark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3)})
		defer w.close()
		w.start(1, 2, 3)
		p := w.leader()
		time.Sleep(5 * time.Second)
		for i := range 20 {
			time.Sleep(500 * time.Millisecond)
			mustAppend(t, p, batch.BuildOptions{}, "x")
			began := time.Now()
			for _, n := range []replication.NodeID{1, 2, 3} {
				f := w.part(n)
				moved := make(chan struct{}, 1)
				cancel := f.Watch(moved)
				for f.log.Offsets().HighWatermark <= batch.Offset(i) {
					<-moved
				}
				cancel()
			}
			late := time.Since(began)
			t.Logf("batch %d: %v", i, late)
			if late > 50*time.Millisecond {
				t.Errorf("batch %d was seen after %v", i, late)
			}
		}
		if now := w.leader(); now != p {
			t.Error("the leadership moved")
		}
	})
}
