package partition

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
)

func (w *world) recover(dry bool, n replication.NodeID, left ...replication.NodeID) Recovered {
	w.t.Helper()
	all, err := Recover(RecoverOptions{DataDir: "/d", FS: w.disks[n], Node: n, Left: left, DryRun: dry})
	if err != nil || len(all) != 1 {
		w.t.Fatalf("%+v, %v", all, err)
	}
	return all[0]
}

// Two of three replicas are lost. The third goes on alone with everything, and feeds those that come in their place.
func TestRecoverAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3)})
		defer w.close()
		w.start(1, 2, 3)
		var want []string
		for i := range 50 {
			want = append(want, fmt.Sprint(i))
			mustAppend(t, w.leader(), batch.BuildOptions{}, want[i])
		}
		before := w.leader().Leader().Epoch
		time.Sleep(3 * time.Second)
		for n := range replication.NodeID(3) {
			w.stop(n + 1)
		}
		delete(w.disks, 1)
		delete(w.disks, 2)
		if r := w.recover(true, 3, 3); r.Err != nil || !slices.Equal(r.Voters, rids(1, 2, 3)) || !slices.Equal(r.Forced, rids(3)) {
			t.Fatalf("would do %+v", r)
		}
		if r := w.recover(false, 3, 3); r.Err != nil || !slices.Equal(r.Voters, rids(1, 2, 3)) || !slices.Equal(r.Forced, rids(3)) || r.LogEnd != 50 {
			t.Fatalf("did %+v", r)
		}
		if r := w.recover(false, 3, 3); r.Err != nil || r.Forced != nil {
			t.Fatalf("did it again: %+v", r)
		}
		w.start(3)
		p := w.leader()
		if got := readAll(t, p, 0); !slices.Equal(got, want) {
			t.Errorf("it holds %v", got)
		}
		if p.Leader().Epoch <= before {
			t.Errorf("epoch %d after %d", p.Leader().Epoch, before)
		}
		mustAppend(t, p, batch.BuildOptions{}, "alone")
		again := []replication.ReplicaID{{Node: 1, Incarnation: 1}, {Node: 2, Incarnation: 1}, rid(3)}
		w.assign(reassign(w.assignment(), again...))
		w.start(1, 2)
		w.move()
		w.same()
	})
}

// Two of five are left: the one with the longer log is recovered, the other one follows. A group whose majority is left is not touched.
func TestRecoverTwoOfFive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3, 4, 5)})
		defer w.close()
		w.start(1, 2, 3, 4, 5)
		mustAppend(t, w.leader(), batch.BuildOptions{}, "all")
		for w.leader().self.Node == 5 {
			if err := w.leader().TransferLeadership(ctx, 1); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * time.Second)
		w.stop(5)
		mustAppend(t, w.leader(), batch.BuildOptions{}, "without 5")
		time.Sleep(3 * time.Second)
		for n := range replication.NodeID(4) {
			w.stop(n + 1)
		}
		if r := w.recover(false, 4, 1, 4, 5); r.Err != nil || r.Forced != nil {
			t.Errorf("touched: %+v", r)
		}
		if _, err := Recover(RecoverOptions{DataDir: "/d", FS: w.disks[4], Node: 4, Left: []replication.NodeID{5}}); !errors.Is(err, ErrNotRecovered) {
			t.Errorf("a node that is lost: %v", err)
		}
		if r := w.recover(false, 4, 4, 5); r.Err != nil || !slices.Equal(r.Forced, rids(4, 5)) {
			t.Fatalf("did %+v", r)
		}
		a := w.assignment()
		w.mu.a = replication.Assignment{Replicas: rids(4, 5), Initial: a.Founders()}
		w.start(4, 5)
		if got := readAll(t, w.leader(), 0); !slices.Equal(got, []string{"all", "without 5"}) {
			t.Errorf("it holds %v", got)
		}
		mustAppend(t, w.leader(), batch.BuildOptions{}, "two")
		w.same()
	})
}

// Damaged files and empty replicas are told, and nothing is done to them.
func TestRecoverTellsWhatItCannot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3), Initial: rids(1, 2)})
		defer w.close()
		w.start(3) // a learner that never heard of its group
		w.stop(3)
		if r := w.recover(false, 3, 3); !errors.Is(r.Err, ErrNotRecovered) {
			t.Errorf("%+v", r)
		}
		removeSegments(t, w.disks[3])
		if r := w.recover(false, 3, 3); r.Err == nil {
			t.Errorf("%+v", r)
		}
		if all, err := Recover(RecoverOptions{DataDir: "/other", FS: vfs.NewMem(), Node: 3, Left: []replication.NodeID{3}}); err != nil || len(all) != 0 {
			t.Errorf("nothing there: %v, %v", all, err)
		}
	})
}
