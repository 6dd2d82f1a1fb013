package partition

//quorlog:bubble every test of this file runs in one

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/transport"
)

// A preferred node that hangs is asked to take over once, not for each partition: each attempt stops a partition's batches.
func TestBalanceAsksANodeThatHangsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := transport.NewMem(0)
		nodes := map[replication.NodeID]*node{}
		for _, n := range []replication.NodeID{1, 2, 3} {
			nodes[n] = open(t, Options{DataDir: "/d", FS: vfs.NewMem(), Node: n, Network: net})
			defer nodes[n].Close()
		}
		const partitions = 8
		a := replication.Assignment{Replicas: rids(1, 2, 3)}
		for i := range int32(partitions) {
			for _, n := range nodes {
				if _, err := n.Ensure(ctx, testID(i), "topic", a, testConfig()); err != nil {
					t.Fatal(err)
				}
			}
		}
		// All go to node 2.
		for led := 0; led < partitions; {
			led = 0
			for i := range int32(partitions) {
				for id, n := range nodes {
					p, ok := n.Get(testID(i))
					switch {
					case !ok || !p.Leading():
					case id == 2:
						led++
					default:
						_ = p.TransferLeadership(ctx, 2) // it is tried again
					}
				}
			}
			time.Sleep(100 * time.Millisecond) // in a bubble
		}
		// What node 2 sends to node 1 is lost; that it has all it had said before.
		two, one := raft.ServerAddress(rids(2)[0].String()), raft.ServerAddress(rids(1)[0].String())
		net.Cut(two, one)
		began := time.Now()
		if n := nodes[2].Balance(ctx, func(replication.NodeID) bool { return true }, 16); n != 0 {
			t.Errorf("%d leaderships went to a node that can't be reached", n)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("%d partitions were without a leader in turn, for %v", partitions, took)
		}
		net.Join(two, one)
	})
}
