package partition

//quorlog:bubble every test of this file runs in one

import (
	"errors"
	"path"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftgroup"
)

func testDir() string { return path.Join("/d/partitions", testID(0).String()) }

// A replica that has lost what it held on disk, but not that it ran, does not run again: as a voter it would help to elect one that
// lacks what it confirmed. It comes back as another incarnation.
func TestLostFiles(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(t *testing.T, disk *vfs.Mem)
		want error
	}{
		{"the directory", func(t *testing.T, disk *vfs.Mem) { must(t, disk.RemoveAll(testDir())) }, raftgroup.ErrLostLog},
		{"who it is", func(t *testing.T, disk *vfs.Mem) { must(t, disk.Remove(path.Join(testDir(), metaName))) }, raftgroup.ErrLostLog},
		{"what tells who it is", func(t *testing.T, disk *vfs.Mem) {
			must(t, vfs.WriteFileAtomic(disk, path.Join(testDir(), metaName), []byte("{]")))
		}, errUnreadable},
		{"the votes", func(t *testing.T, disk *vfs.Mem) { must(t, disk.Remove("/d/votes.db")) }, raftgroup.ErrLostVotes},
		{"all but who it is", func(t *testing.T, disk *vfs.Mem) {
			names, err := disk.List(testDir())
			must(t, err)
			for _, name := range names {
				if name != metaName {
					must(t, disk.Remove(path.Join(testDir(), name)))
				}
			}
		}, raftgroup.ErrLostLog},
	} {
		for _, founder := range []bool{true, false} {
			if !founder && c.name == "all but who it is" {
				continue // what was added and never voted looks as if it had never stored anything
			}
			name := c.name + ", added"
			if founder {
				name = c.name + ", founder"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3)})
					defer w.close()
					w.start(1, 2, 3, 4)
					lost, others := rid(3), rids(1, 2)
					if !founder {
						lost = rid(4)
						w.assign(reassign(w.assignment(), rids(1, 2, 4)...))
						w.move()
					}
					l := w.load(1)
					time.Sleep(time.Second)
					w.stop(lost.Node)
					c.lose(t, w.disks[lost.Node])
					for range 2 { // it does not forget that over a restart
						w.start(lost.Node)
						if p := w.part(lost.Node); !errors.Is(p.Err(), c.want) || !isDamage(p.Err()) {
							t.Fatalf("offline because of %v", p.Err())
						}
						w.stop(lost.Node)
					}
					w.start(lost.Node)
					again := replication.ReplicaID{Node: lost.Node, Incarnation: 1}
					w.assign(reassign(w.assignment(), append(others, again)...))
					w.move()
					l.end(w, 100)
					w.same()
				})
			})
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A directory of an earlier time, from a backup say, is not taken for a predecessor's: its successor has run.
func TestEarlierFilesAreBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3)})
		defer w.close()
		w.start(1, 2, 3)
		w.leader()
		old, err := vfs.ReadFile(w.disks[3], path.Join(testDir(), metaName))
		must(t, err)
		again := replication.ReplicaID{Node: 3, Incarnation: 1}
		w.assign(reassign(w.assignment(), rid(1), rid(2), again))
		w.move()
		w.stop(3)
		must(t, vfs.WriteFileAtomic(w.disks[3], path.Join(testDir(), metaName), old))
		w.start(3)
		if p := w.part(3); !errors.Is(p.Err(), raftgroup.ErrLostLog) {
			t.Fatalf("offline because of %v", p.Err())
		}
	})
}

// What an interrupted removal left is not in the way of the next.
func TestRemovalAfterRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, replication.Assignment{Replicas: rids(1, 2, 3)})
		defer w.close()
		w.start(1, 2, 3)
		must(t, vfs.MkdirDurable(w.disks[3], testDir()+deletedSuffix))
		must(t, vfs.WriteFileAtomic(w.disks[3], path.Join(testDir()+deletedSuffix, "left"), []byte("over")))
		must(t, w.nodes[3].Delete(ctx, testID(0)))
		if ids, err := w.nodes[3].Stored(); err != nil || len(ids) != 0 {
			t.Errorf("left are %v: %v", ids, err)
		}
		if w.nodes[3].ran(testID(0), 0) {
			t.Error("its votes are left")
		}
	})
}

// Who votes for nobody but itself does not need its votes: nobody else could take its place either.
func TestLostVotesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, single(1))
		defer w.close()
		w.start(1)
		mustAppend(t, w.leader(), batch.BuildOptions{}, "before")
		w.stop(1)
		must(t, w.disks[1].Remove("/d/votes.db"))
		w.start(1)
		p := w.leader()
		mustAppend(t, p, batch.BuildOptions{}, "after")
		if got := readAll(t, p, 0); !slices.Equal(got, []string{"before", "after"}) {
			t.Errorf("the log holds %v", got)
		}
	})
}
