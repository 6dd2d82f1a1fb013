package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/agent"
)

// startThree is three nodes in this process with the commands pointed at them. A stalled machine does not move their leaders, nor does anything
// but the commands.
func startThree(t *testing.T) (*broker, *agent.Cluster) {
	t.Helper()
	c, err := agent.NewCluster(agent.ClusterConfig{
		Nodes: 3, Dir: t.TempDir(), OnFatal: func(err error) { t.Error(err) },
		Settings: map[string]string{"quorlog.election.timeout.ms": "10000", "auto.leader.rebalance.enable": "false"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(errors.Join(err, c.Close(context.Background())))
	}
	t.Cleanup(func() {
		if err := c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	var addrs []string
	for _, a := range c.Nodes() {
		addrs = append(addrs, a.Addr())
	}
	return &broker{t: t, addr: strings.Join(addrs, ",")}, c
}

func TestClusterCommands(t *testing.T) {
	b, cluster := startThree(t)
	b.has(b.quorlog(0, "", "cluster", "status", "--check", "--wait", "30s"), "is healthy: all 3 nodes are there; there are no topics yet", "metadata on ")
	b.quorlog(0, "", "topic", "create", "orders", "-p", "6")
	b.quorlog(0, "", "topic", "create", "single", "-r", "1")
	b.has(b.quorlog(0, "", "cluster", "status", "--check", "--wait", "30s"), "all 7 partitions have a leader", "1 partition is on a single node only")
	var nodes []nodeView
	if !soon(func() bool {
		b.parse(b.quorlog(0, "", "node", "list", "-o", "json"), &nodes)
		return len(nodes) == 3 && nodes[0].Leads+nodes[1].Leads+nodes[2].Leads == 7
	}) || nodes[1].Address != cluster.Nodes()[1].Addr() {
		t.Errorf("%+v", nodes)
	}
	b.raftStatus()
	b.drain()
	b.reassign()
	var errs bytes.Buffer
	if exit := run(t.Context(), []string{"node", "remove", "2"}, strings.NewReader(""), io.Discard, &errs); exit != exitFailed {
		t.Errorf("exit code %d", exit)
	}
	b.has(errs.String(), "node 2 is alive")
	b.quorlog(exitFailed, "", "node", "remove", "9")
	b.quorlog(exitFailed, "", "node", "drain", "9")
	b.quorlog(exitUsage, "", "node", "drain", "two")
	b.quorlog(exitUsage, "", "cluster", "status", "-o", "xml")
}

// A command that waits for something must not be told what was so seconds ago, as kgo's clients are by default.
func TestWaitingSeesWhatIs(t *testing.T) {
	b := startBroker(t)
	s, err := (&client{brokers: []string{b.addr}}).open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if age, ok := s.raw.OptValue(kgo.MetadataMinAge).(time.Duration); !ok || age > lookInterval {
		t.Errorf("metadata may be %v old", age)
	}
}

// soon asks until it is so, for a minute at most: a command asks any node, and what one has done another one may hear of later.
func soon(is func() bool) bool {
	for deadline := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

func (b *broker) parse(text string, into any) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		b.t.Fatalf("%v in\n%s", err, text)
	}
}

func (b *broker) raftStatus() {
	b.t.Helper()
	b.quorlog(0, strings.Repeat("x\n", 10), "produce", "single")
	status := func() string { return b.quorlog(0, "", "raft", "status") }
	// The members of the metadata begin as learners.
	soon(func() bool { return !strings.Contains(status(), "learner") })
	b.has(status(), "metadata", "leader", "voter")
	var groups []quorumView
	b.parse(b.quorlog(0, "", "raft", "status", "orders", "-o", "json"), &groups)
	if len(groups) != 6 || len(groups[5].Replicas) != 3 || groups[5].Partition != 5 {
		b.t.Errorf("%+v", groups)
	}
	b.parse(b.quorlog(0, "", "raft", "status", "single", "--partition", "0", "-o", "json"), &groups)
	if len(groups) != 1 || groups[0].HighWatermark != 10 || groups[0].Replicas[0].Role != "leader" {
		b.t.Errorf("%+v", groups)
	}
	b.quorlog(exitFailed, "", "raft", "status", "nosuch")
	b.has(b.quorlog(exitFailed, "", "raft", "status", "orders", "--partition", "6"), "UNKNOWN_TOPIC_OR_PARTITION")
	b.quorlog(exitUsage, "", "raft", "status", "--partition", "1")
}

func (b *broker) drain() {
	b.t.Helper()
	b.quorlog(exitUsage, "", "node", "drain", "self")
	b.t.Setenv("QUORLOG_NODE_ID", "2")
	b.has(b.quorlog(0, "", "node", "drain", "self", "--until-restart"), "node 2 is drained")
	const drained = "node 2 is drained; `quorlog node undrain 2` ends that"
	var text string
	soon(func() bool {
		text = b.quorlog(0, "", "cluster", "status")
		return strings.Contains(text, drained)
	})
	b.has(text, drained)
	b.has(b.quorlog(0, "", "node", "drain", "2"), "node 2 is drained")
	b.has(b.quorlog(0, "", "node", "undrain", "2"), "node 2 may lead again")
	b.has(b.quorlog(0, "", "topic", "elect-leaders", "orders"), "elected orders-", "node 2")
	const all = "every partition is led by its preferred replica"
	soon(func() bool {
		text = b.quorlog(0, "", "topic", "elect-leaders")
		return strings.Contains(text, all)
	})
	b.has(text, all)
}

func (b *broker) reassign() {
	b.t.Helper()
	b.has(b.quorlog(0, "", "topic", "reassign", "single", "--replication-factor", "3", "--dry-run"), "not begun (--dry-run)")
	b.has(b.quorlog(0, "", "topic", "reassign", "single", "--replication-factor", "3", "--wait"), "single-0", "begun", "1 move done")
	b.has(b.quorlog(0, "", "topic", "reassign", "orders", "--partition", "0", "--replicas", "3,1", "--wait"), "1 move done")
	var replicas string
	if !soon(func() bool {
		var described struct{ Partitions []partitionRow }
		b.parse(b.quorlog(0, "", "topic", "describe", "orders", "-o", "json"), &described)
		replicas = join32(described.Partitions[0].Replicas)
		return replicas == "3,1"
	}) {
		b.t.Errorf("orders-0 is on %s", replicas)
	}
	b.quorlog(exitFailed, "", "topic", "reassign", "single", "--from", "2")
	b.quorlog(exitUsage, "", "topic", "reassign")
	b.quorlog(exitUsage, "", "topic", "elect-leaders", "--partition", "1")
	b.has(b.quorlog(0, "", "topic", "reassign", "--list"), "nothing is on the move")
}
