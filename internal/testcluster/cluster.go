package testcluster

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Cluster is some broker processes that form one cluster. Its methods are for one goroutine at a time.
type Cluster struct {
	KeyFile string
	Network *Network // nil: all nodes share the loopback address

	t      testing.TB
	o      ClusterOptions
	nodes  []*Node // node id i+1
	gossip []string
	disks  []*Disk // nil without ClusterOptions.DiskMB
	adm    *kadm.Client
}

// ClusterOptions describe a cluster.
type ClusterOptions struct {
	Nodes  int      // default 3; 1 is a node without any flags for clusters, to which none can be added
	Netns  bool     // each node in a network namespace of its own, so that links can be cut
	DiskMB int      // each node on an ext4 of its own of that size, so that power can be cut and disks filled; 0: a plain directory
	Args   []string // more flags of each node
	// NodeArgs are more flags of one node; nil: none.
	NodeArgs func(id int) []string
	// Dir is a node's data directory; nil: one of the test's own. Not used with DiskMB.
	Dir func(id int) string
}

// StartCluster runs a cluster until the test ends and waits until all its nodes are ready.
func StartCluster(t testing.TB, o ClusterOptions) *Cluster {
	t.Helper()
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	c := &Cluster{t: t, o: o, KeyFile: NewKeyFile(t)}
	if o.Netns {
		c.Network = NewNetwork(t, o.Nodes)
	}
	for id := 1; id <= o.Nodes; id++ {
		c.prepare(id)
	}
	t.Cleanup(c.end)
	c.StartAll(c.IDs()...)
	return c
}

// NewKeyFile writes a random cluster key.
func NewKeyFile(t testing.TB) string {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails: see its documentation
	name := filepath.Join(t.TempDir(), "cluster.key")
	if err := os.WriteFile(name, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// prepare makes a node's directory, addresses and disk.
func (c *Cluster) prepare(id int) {
	c.t.Helper()
	n := &Node{t: c.t, DataDir: c.dir(id)}
	var gossip string
	if c.Network != nil {
		host := c.Network.Host(id)
		n.netns, n.Addr, gossip = c.Network.Space(id), net.JoinHostPort(host, "9400"), net.JoinHostPort(host, "9500")
	} else {
		n.Addr, gossip = FreeAddr(c.t), FreeAddr(c.t)
	}
	c.nodes = append(c.nodes, n)
	c.gossip = append(c.gossip, gossip)
}

func (c *Cluster) dir(id int) string {
	switch {
	case c.o.DiskMB > 0:
		d := NewDisk(c.t, c.o.DiskMB)
		c.disks = append(c.disks, d)
		return filepath.Join(d.Dir, "data")
	case c.o.Dir != nil:
		return c.o.Dir(id)
	}
	return filepath.Join(c.t.TempDir(), fmt.Sprintf("node%d", id))
}

// args are a node's flags, from the addresses as they are by now.
func (c *Cluster) args(id int) []string {
	if c.o.Nodes == 1 && len(c.nodes) == 1 {
		return slices.Concat([]string{"--node-id", "1"}, c.o.Args)
	}
	args := []string{"--node-id", strconv.Itoa(id), "--gossip", c.gossip[id-1], "--join", strings.Join(c.others(id), ","),
		"--cluster-key-file", c.KeyFile}
	if id <= c.o.Nodes { // added later: it only joins
		args = append(args, "--bootstrap-expect", strconv.Itoa(c.o.Nodes))
	}
	args = append(args, c.o.Args...)
	if c.o.NodeArgs != nil {
		args = append(args, c.o.NodeArgs(id)...)
	}
	return args
}

func (c *Cluster) others(id int) (addrs []string) {
	for i, addr := range c.gossip {
		if i != id-1 {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// IDs are the ids of all nodes.
func (c *Cluster) IDs() []int {
	ids := make([]int, len(c.nodes))
	for i := range ids {
		ids[i] = i + 1
	}
	return ids
}

// Node returns a node by its id.
func (c *Cluster) Node(id int) *Node { return c.nodes[id-1] }

// Disk returns a node's disk.
func (c *Cluster) Disk(id int) *Disk { return c.disks[id-1] }

// Gossip is a node's gossip address.
func (c *Cluster) Gossip(id int) string { return c.gossip[id-1] }

// Add starts one more node, which joins. It returns its id.
func (c *Cluster) Add() int {
	c.t.Helper()
	id := len(c.nodes) + 1
	c.prepare(id)
	c.StartAll(id)
	return id
}

// Addrs are the addresses for Kafka clients.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		addrs[i] = n.Addr
	}
	return addrs
}

// StartAll starts nodes, all at once, and waits until each is ready. It returns how long the slowest needed.
func (c *Cluster) StartAll(ids ...int) time.Duration {
	c.t.Helper()
	slowest, err := c.TryStartAll(ids...)
	if err != nil {
		c.t.Fatalf("start: %v", err)
	}
	return slowest
}

// TryStartAll is StartAll for tests that look at the error.
func (c *Cluster) TryStartAll(ids ...int) (time.Duration, error) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
		took time.Duration
	)
	for _, id := range ids {
		n := c.Node(id)
		n.args = c.args(id)
		if err := n.launch(); err != nil {
			return 0, err
		}
		wg.Go(func() {
			d, err := n.awaitReady(startPatience)
			mu.Lock()
			defer mu.Unlock()
			took = max(took, d)
			if err != nil {
				errs = append(errs, fmt.Errorf("node %d: %w\n%s", id, err, tail(n.Log(), 4<<10)))
			}
		})
	}
	wg.Wait()
	return took, errors.Join(errs...)
}

// Launch starts nodes without waiting until they are ready.
func (c *Cluster) Launch(ids ...int) {
	c.t.Helper()
	for _, id := range ids {
		c.Node(id).args = c.args(id)
		if err := c.Node(id).launch(); err != nil {
			c.t.Fatal(err)
		}
	}
}

// AwaitReady waits for nodes that Launch has started.
func (c *Cluster) AwaitReady(ids ...int) {
	c.t.Helper()
	for _, id := range ids {
		if _, err := c.Node(id).awaitReady(startPatience); err != nil {
			c.t.Fatalf("node %d: %v\n%s", id, err, tail(c.Node(id).Log(), 4<<10))
		}
	}
}

// Kill kills nodes at the same moment (SIGKILL) and waits until they are gone; without ids, all.
func (c *Cluster) Kill(ids ...int) { c.each(ids, (*Node).Kill) }

// Stop asks nodes to end (SIGTERM) and waits until they are gone; without ids, all.
func (c *Cluster) Stop(ids ...int) { c.each(ids, (*Node).Stop) }

func (c *Cluster) each(ids []int, do func(*Node)) {
	if len(ids) == 0 {
		ids = c.IDs()
	}
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() { do(c.Node(id)) })
	}
	wg.Wait()
}

// PowerCut takes the power from nodes at once, without ids from all: first the disks, so that nothing that was not fsynced
// can still reach them, then the processes. The disks are mounted again; the nodes stay down.
func (c *Cluster) PowerCut(ids ...int) {
	c.t.Helper()
	if len(ids) == 0 {
		ids = c.IDs()
	}
	for _, id := range ids {
		c.Disk(id).Cut(c.t)
	}
	c.Kill(ids...)
	for _, id := range ids {
		c.Disk(id).Restore(c.t)
	}
}

// Wipe removes a stopped node's data, as if its disk had been replaced.
func (c *Cluster) Wipe(id int) {
	c.t.Helper()
	if c.Node(id).Running() {
		c.t.Fatalf("node %d runs", id)
	}
	if err := os.RemoveAll(c.Node(id).DataDir); err != nil {
		c.t.Fatal(err)
	}
}

// Admin is a client of the cluster for administration.
func (c *Cluster) Admin() *kadm.Client {
	c.t.Helper()
	if c.adm == nil {
		cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.MetadataMinAge(10*time.Millisecond))
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Cleanup(cl.Close)
		c.adm = kadm.NewClient(cl)
	}
	return c.adm
}

// CreateTopic makes a topic; each config is name=value.
func (c *Cluster) CreateTopic(name string, partitions int32, replicas int16, configs ...string) {
	c.t.Helper()
	kv := map[string]*string{}
	for _, config := range configs {
		k, v, _ := strings.Cut(config, "=")
		kv[k] = &v
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), startPatience)
	defer cancel()
	if resp, err := c.Admin().CreateTopic(ctx, partitions, replicas, kv, name); err != nil {
		c.t.Fatalf("create %s: %v (%s)", name, err, resp.ErrMessage)
	}
}

// LeaderOf asks who leads a partition and waits until somebody other than the given nodes does.
func (c *Cluster) LeaderOf(topic string, partition int32, other ...int) int {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), startPatience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		topics, err := c.Admin().ListTopics(ctx, topic)
		leader := int(topics[topic].Partitions[partition].Leader)
		if err == nil && topics[topic].Err == nil && leader > 0 && !slices.Contains(other, leader) {
			return leader
		}
		select {
		case <-ctx.Done():
			c.t.Fatalf("%s-%d has no leader: %v %+v", topic, partition, err, topics[topic])
		case <-tick.C:
		}
	}
}

// end kills what runs and shows the logs of a failed test.
func (c *Cluster) end() {
	for _, n := range c.nodes {
		if n.Running() {
			n.Resume() // a stopped process dies all the same; its log reader must not wait for a child that holds the pipe
		}
	}
	c.Kill()
	for _, n := range c.nodes {
		n.checkLog()
	}
	if !c.t.Failed() {
		return
	}
	for i, n := range c.nodes {
		c.t.Logf("log of node %d (%s):\n%s", i+1, n.Addr, tail(n.Log(), 8<<10))
	}
}

// FreeAddr is an address of this machine that nobody listens on, such as for a node's further listeners.
func FreeAddr(t testing.TB) string {
	t.Helper()
	return loopback(freePort(t))
}

// StrangerOptions describe a node that is not one of the cluster's.
type StrangerOptions struct {
	ID      int
	KeyFile string
	DataDir string // default: a directory of the test's own
	Alone   bool   // it founds a cluster of its own instead of joining this one
}

// Stranger starts a node that wants to join and does not wait for it. It ends with the test.
func (c *Cluster) Stranger(t testing.TB, o StrangerOptions) *Node {
	t.Helper()
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	n := &Node{t: t, DataDir: o.DataDir, Addr: FreeAddr(t)}
	n.args = []string{"--node-id", strconv.Itoa(o.ID), "--gossip", FreeAddr(t), "--cluster-key-file", o.KeyFile}
	if !o.Alone {
		n.args = append(n.args, "--join", strings.Join(c.gossip, ","))
	}
	if err := n.launch(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Kill)
	return n
}
