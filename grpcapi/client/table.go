package client

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
)

// table is what is known at a time. It is not changed; a better one takes its place.
type table struct {
	addrs  []string          // of all nodes
	addr   map[int32]string  // by node
	racks  map[string]string // by address
	topics map[string]*routes
}

// routes are those of a topic.
type routes struct {
	count   int32             // partitions; 0: there is no such topic
	leaders map[int32]int32   // nodes, by partition
	readers map[int32][]int32 // nodes that follow in sync, by partition
	used    atomic.Bool       // since it was asked for
}

// merge takes in an answer.
func (t *table) merge(req *quorlogv1.GetServersRequest, got *quorlogv1.GetServersResponse) {
	for _, topic := range req.GetTopics() {
		t.topics[topic] = &routes{count: got.GetPartitions()[topic], leaders: map[int32]int32{}, readers: map[int32][]int32{}}
	}
	for _, s := range got.GetServers() {
		if s.GetAddress() == "" {
			continue // not to be reached from here
		}
		t.addr[s.GetId()], t.racks[s.GetAddress()] = s.GetAddress(), s.GetRack()
		for _, p := range s.GetLeads() {
			if r := t.topics[p.GetTopic()]; r != nil {
				r.leaders[p.GetPartition()] = s.GetId()
			}
		}
		for _, p := range s.GetFollows() {
			if r := t.topics[p.GetTopic()]; r != nil && s.GetAlive() {
				r.readers[p.GetPartition()] = append(r.readers[p.GetPartition()], s.GetId())
			}
		}
	}
}

// replicas are the nodes that a partition can be read from, the leader last.
func (t *table) replicas(key partitionKey) []int32 {
	r := t.topics[key.topic]
	if r == nil {
		return nil
	}
	all := slices.Clone(r.readers[key.partition])
	if leader, ok := r.leaders[key.partition]; ok {
		all = append(all, leader)
	}
	return all
}

// serves tells whether a partition can be read from the node at an address.
func (t *table) serves(key partitionKey, addr string) bool {
	return slices.ContainsFunc(t.replicas(key), func(node int32) bool { return t.addr[node] == addr })
}

// leader is the node that leads a partition; false if none is known.
func (d *directory) leader(key partitionKey) (int32, bool) {
	r := d.known.Load().topics[key.topic]
	if r == nil {
		return 0, false
	}
	node, ok := r.leaders[key.partition]
	return node, ok
}

// learn takes in that a node leads a partition, as an answer says.
func (d *directory) learn(key partitionKey, node int32) {
	for {
		old := d.known.Load()
		r := old.topics[key.topic]
		if known, ok := d.leader(key); ok && known == node {
			return
		}
		d.refresh()
		if r == nil || old.addr[node] == "" {
			return
		}
		better := &table{addrs: old.addrs, addr: old.addr, racks: old.racks, topics: maps.Clone(old.topics)}
		leads := &routes{count: r.count, leaders: maps.Clone(r.leaders), readers: r.readers}
		leads.leaders[key.partition] = node
		better.topics[key.topic] = leads
		if d.known.CompareAndSwap(old, better) {
			return
		}
	}
}

// toNode is the wish for a node.
func (d *directory) toNode(node int32) *wish {
	if addr := d.known.Load().addr[node]; addr != "" {
		return &wish{addrs: []string{addr}}
	}
	return &wish{}
}

// toLeader is the wish for a partition's leader.
func (d *directory) toLeader(key partitionKey) *wish {
	if node, ok := d.leader(key); ok {
		return d.toNode(node)
	}
	return &wish{}
}

// toReplica is the wish for a node to read a partition from: one of the client's rack before others, a follower before the leader. The
// one at the address to avoid comes last.
func (d *directory) toReplica(key partitionKey, avoid string) *wish {
	t := d.known.Load()
	leader, _ := d.leader(key)
	w := &wish{load: d.load}
	for _, node := range t.replicas(key) {
		addr, rank := t.addr[node], 0
		if addr == "" {
			continue
		}
		if node == leader {
			rank++
		}
		if d.rack == "" || t.racks[addr] != d.rack {
			rank += 2
		}
		if addr == avoid {
			rank += 4
		}
		w.addrs, w.ranks = append(w.addrs, addr), append(w.ranks, rank)
	}
	rand.Shuffle(len(w.addrs), func(i, j int) {
		w.addrs[i], w.addrs[j], w.ranks[i], w.ranks[j] = w.addrs[j], w.addrs[i], w.ranks[j], w.ranks[i]
	})
	return w
}
