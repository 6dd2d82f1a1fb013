package raftgroup

import (
	"crypto/rand"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftlog"
	"github.com/quorlog/quorlog/replication/transport"
)

// benchNode is a node with real files and the real network.
type benchNode struct {
	peers  *transport.Peers
	patrol *Patrol
	groups []*Group
}

// benchOwner tells when a group is led here.
type benchOwner struct{ led chan int }

func (benchOwner) Applied()     {}
func (benchOwner) Failed(error) {}
func (o benchOwner) Led(_ replication.Leader, local bool) {
	if local {
		o.led <- 1
	}
}

// BenchmarkReplicate writes entries of a size to groups of three replicas, on three nodes in one process, over loopback, with
// fsync: a closed loop with so many entries on their way for each group.
func BenchmarkReplicate(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		for _, groups := range []int{1, 8} {
			b.Run(fmt.Sprintf("%dKiB/groups=%d", size>>10, groups), func(b *testing.B) {
				flying := 512
				if size > 1<<10 {
					flying = 64
				}
				benchReplicate(b, size, groups, flying)
			})
		}
	}
}

func benchReplicate(b *testing.B, size, groups, flying int) {
	owner := benchOwner{led: make(chan int, 1000)}
	nodes := newBenchNodes(b, groups, owner)
	leaders := make([]*Group, 0, groups)
	for len(leaders) < groups {
		select {
		case <-owner.led:
		case <-time.After(10 * time.Millisecond):
		}
		leaders = leaders[:0]
		for g := range groups {
			for _, n := range nodes {
				if _, ok := n.groups[g].Leading(); ok {
					leaders = append(leaders, n.groups[g])
					break
				}
			}
		}
	}
	value := make([]byte, size)
	rand.Read(value)
	b.SetBytes(int64(size))
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, g := range leaders {
		n := b.N / groups
		if i == 0 {
			n += b.N % groups
		}
		wg.Go(func() { benchLoop(b, g, value, n, flying) })
	}
	wg.Wait()
}

// benchLoop proposes n entries, with so many without an answer.
func benchLoop(b *testing.B, g *Group, value []byte, n, flying int) {
	epoch, _ := g.Leading()
	waiting := make(chan Proposal, flying)
	done := make(chan struct{})
	go func() {
		defer close(done)
		failed := false
		for p := range waiting {
			if _, err := p.Wait(); err != nil && !failed {
				failed = true
				b.Error(err)
			}
		}
	}()
	for range n {
		frame, err := batch.Build(batch.BuildOptions{}, batch.Record{Timestamp: 1, Value: value})
		if err != nil {
			b.Error(err)
			break
		}
		batch.Stamp(frame, batch.Unstamped, epoch)
		waiting <- g.Propose(frame)
	}
	close(waiting)
	<-done
}

func newBenchNodes(b *testing.B, groups int, owner benchOwner) []*benchNode {
	key := []byte("the key of a test cluster")
	var listeners []net.Listener
	nodes := make([]*benchNode, 3)
	for range nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		listeners = append(listeners, l)
	}
	for i := range nodes {
		n := &benchNode{patrol: NewPatrol()}
		nodes[i] = n
		n.peers = transport.NewPeers(transport.PeersOptions{
			Node: replication.NodeID(i), Directory: [16]byte{byte(i)}, Key: key, Cluster: func() string { return "bench" },
			Resolve: func(id replication.NodeID) (string, bool) { return listeners[id].Addr().String(), true },
		})
		served := make(chan error, 1)
		go func() { served <- n.peers.Serve(listeners[i]) }()
		b.Cleanup(func() {
			_ = listeners[i].Close()
			_ = n.peers.Close()
			<-served
			n.patrol.Close()
		})
	}
	for i, n := range nodes {
		n.open(b, i, groups, owner)
	}
	return nodes
}

func (n *benchNode) open(b *testing.B, node, groups int, owner benchOwner) {
	dir := b.TempDir()
	votes, err := raftlog.OpenVotes(dir+"/votes.db", raftlog.VoteOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = votes.Close() })
	for g := range groups {
		name := fmt.Sprint("bench-", g)
		l, err := log.Open(log.Options{FS: vfs.OS{}, Dir: dir + "/" + name})
		if err != nil {
			b.Fatal(err)
		}
		var voters []replication.ReplicaID
		for v := range 3 {
			voters = append(voters, replication.ReplicaID{Node: replication.NodeID((g + v) % 3)})
		}
		group, err := Open(Options{
			Name: name, Self: replication.ReplicaID{Node: replication.NodeID(node)}, Log: l, Stable: votes.Group(name + ".0"),
			Network: n.peers, Owner: owner, Bootstrap: voters, Patrol: n.patrol,
		})
		if err != nil {
			b.Fatal(err)
		}
		n.groups = append(n.groups, group)
		b.Cleanup(func() {
			_ = group.Close()
			_ = l.Close()
		})
	}
}
