package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/transport"
)

func replica(node, incarnation int) replication.ReplicaID {
	return replication.ReplicaID{Node: replication.NodeID(node), Incarnation: replication.Incarnation(incarnation)}
}

// metaCluster is a metadata group on real files, over a network in memory.
type metaCluster struct {
	t      *testing.T
	net    *transport.Mem
	timing Timing
}

// newMetaCluster makes a cluster in which no leader steps down because the machine is busy. Nor is one missed soon.
func newMetaCluster(t *testing.T) *metaCluster {
	const patient = 10 * time.Second
	return &metaCluster{t: t, net: transport.NewMem(0), timing: Timing{Heartbeat: patient, Election: patient, Lease: patient}}
}

func (c *metaCluster) open(dir string, self replication.ReplicaID, found bool) (*MetaGroup, *register) {
	c.t.Helper()
	m := &register{}
	g, err := OpenMeta(MetaOptions{
		Dir: dir, Self: self, Machine: m, Found: found, Network: c.net, Timing: c.timing, OnFatal: func(err error) { c.t.Error(err) },
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		if err := g.Close(); err != nil {
			c.t.Error(err)
		}
	})
	return g, m
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("it never came that %s", what)
		}
	}
}

func TestMetaMembers(t *testing.T) {
	c := newMetaCluster(t)
	one, two, three := replica(1, 0), replica(2, 1), replica(3, 4)
	first, _ := c.open(t.TempDir(), one, true)
	eventually(t, "the founder leads", first.IsLeader)
	second, machine := c.open(t.TempDir(), two, false)
	c.open(t.TempDir(), three, false)
	for _, r := range []replication.ReplicaID{two, three} {
		if err := first.AddLearner(r); err != nil {
			t.Fatal(err)
		}
	}
	if m := first.Members(); !slices.Equal(m.Voters, []replication.ReplicaID{one}) || !slices.Equal(m.Learners, []replication.ReplicaID{two, three}) {
		t.Fatalf("%+v", m)
	}
	eventually(t, "the learners have caught up", func() bool {
		a, known := first.Behind(two)
		b, alsoKnown := first.Behind(three)
		return known && alsoKnown && a+b == 0
	})
	if behind, known := first.Behind(one); !known || behind != 0 {
		t.Errorf("the leader is behind itself by %d, %v", behind, known)
	}
	if _, known := first.Behind(replica(9, 9)); known {
		t.Error("a stranger is known")
	}
	contact, caughtUp := first.Heard(two)
	if ago := time.Since(contact); ago < 0 || ago > time.Minute || caughtUp.Before(contact.Add(-time.Minute)) || caughtUp.After(contact) {
		t.Errorf("a learner was heard %v and had all %v", contact, caughtUp)
	}
	eventually(t, "a learner is heard again, though nothing is written", func() bool {
		again, _ := first.Heard(two)
		return again.After(contact)
	})
	if contact, caughtUp := first.Heard(replica(9, 9)); !contact.IsZero() || !caughtUp.IsZero() {
		t.Error("a stranger was heard")
	}
	for _, r := range []replication.ReplicaID{two, three} {
		if err := first.Promote(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := first.Demote(three); err != nil {
		t.Fatal(err)
	}
	if err := first.Remove(three); err != nil {
		t.Fatal(err)
	}
	if _, err := first.Propose(t.Context(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the follower has applied it", func() bool { return len(machine.all()) == 1 })
	if err := second.Promote(three); !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("at a follower: %v", err)
	}
	if err := first.Transfer(two); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the other one leads", second.IsLeader)
	s := second.Status()
	if s.Leader != 2 || s.Commit == 0 || s.Last < s.Commit || s.Term == 0 || !slices.Equal(s.Voters, []replication.ReplicaID{one, two}) || len(s.Learners) != 0 {
		t.Errorf("%+v", s)
	}
}

// Followers hear of a commit with a barrier, however long it takes until Raft tells them. The follower has a vote here: what is
// committed can't be told with the entry itself.
func TestMetaFollowersHearAtOnce(t *testing.T) {
	c := newMetaCluster(t)
	c.timing.Commit = time.Hour
	c.net = transport.NewMem(time.Minute) // what takes too long would be sent again after as long
	first, _ := c.open(t.TempDir(), replica(1, 0), true)
	eventually(t, "the founder leads", first.IsLeader)
	_, machine := c.open(t.TempDir(), replica(2, 1), false)
	if err := errors.Join(first.AddLearner(replica(2, 1)), first.Promote(replica(2, 1))); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := first.Propose(t.Context(), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the follower has applied it", func() bool { return len(machine.all()) == i+1 })
	}
}

// A replica never acts on what an earlier incarnation has left.
func TestMetaIncarnations(t *testing.T) {
	c := newMetaCluster(t)
	dir := t.TempDir()
	founded, _ := c.open(dir, replica(1, 0), true)
	eventually(t, "the founder leads", founded.IsLeader)
	if _, err := founded.Propose(t.Context(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	if err := founded.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if err := founded.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := OwnerOfMeta(dir, 1); err != nil || got != replica(1, 0) {
		t.Errorf("owner %v, %v", got, err)
	}
	again, machine := c.open(dir, replica(1, 0), false)
	eventually(t, "it leads again", again.IsLeader)
	if got := machine.all(); len(got) != 1 {
		t.Errorf("it has %v", got)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	reborn, machine := c.open(dir, replica(1, 3), false)
	if got := machine.all(); len(got) != 0 || machine.restored != 0 || reborn.raft.LastIndex() != 0 || reborn.raft.CurrentTerm() != 0 {
		t.Errorf("the new incarnation begins with %v in term %d", got, reborn.raft.CurrentTerm())
	}
	if err := reborn.Close(); err != nil {
		t.Fatal(err)
	}
	for _, self := range []replication.ReplicaID{replica(1, 2), replica(2, 3)} {
		if _, err := OpenMeta(MetaOptions{Dir: dir, Self: self, Machine: &register{}}); !errors.Is(err, ErrOtherReplica) {
			t.Errorf("%s opens what belongs to 1.3: %v", self, err)
		}
	}
}

// Files of a node alone, from before there were incarnations, are of incarnation 0.
func TestMetaFilesWithoutAnOwner(t *testing.T) {
	c := newMetaCluster(t)
	dir := t.TempDir()
	g, _ := c.open(dir, replica(1, 0), true)
	eventually(t, "it leads", g.IsLeader)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	change := func(change func(b *bbolt.Bucket) error) {
		db, err := bbolt.Open(filepath.Join(dir, metaLogFile), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket([]byte("conf"))) }) // raft-boltdb's name
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	change(func(b *bbolt.Bucket) error { return b.Delete(keyReplica) })
	if got, err := OwnerOfMeta(dir, 1); err != nil || got != replica(1, 0) {
		t.Errorf("owner %v, %v", got, err)
	}
	g, _ = c.open(dir, replica(1, 0), false)
	eventually(t, "it leads again", g.IsLeader)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	// Damage is not taken for age.
	change(func(b *bbolt.Bucket) error { return b.Put(keyReplica, []byte("nonsense")) })
	if _, err := OpenMeta(MetaOptions{Dir: dir, Self: replica(1, 0), Machine: &register{}}); !errors.Is(err, ErrOtherReplica) {
		t.Errorf("got %v", err)
	}
}

func TestMetaWireHoldsTheCommitIndexBack(t *testing.T) {
	c := newMetaCluster(t)
	g, _ := c.open(t.TempDir(), replica(2, 1), false)
	w := &metaWire{group: g, requests: make(chan raft.RPC, 10)}
	receive := func(req *raft.AppendEntriesRequest) uint64 {
		w.Receive(raft.RPC{Command: req})
		return (<-w.requests).Command.(*raft.AppendEntriesRequest).LeaderCommitIndex
	}
	req := &raft.AppendEntriesRequest{PrevLogEntry: 7, PrevLogTerm: 2, LeaderCommitIndex: 20}
	if got := receive(req); got != 7 || req.LeaderCommitIndex != 20 {
		t.Errorf("commits up to %d, and the request says %d", got, req.LeaderCommitIndex)
	}
	req.Entries = []*raft.Log{{Index: 8}, {Index: 9}}
	if got := receive(req); got != 9 {
		t.Errorf("commits up to %d", got)
	}
	req.LeaderCommitIndex = 8
	if got := receive(req); got != 8 {
		t.Errorf("commits up to %d", got)
	}
}

// After two of three are gone for good, the third one goes on alone, with all that it had.
func TestRecoverMeta(t *testing.T) {
	c := newMetaCluster(t)
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	var groups []*MetaGroup
	var machines []*register
	for i, dir := range dirs {
		g, m := c.open(dir, replica(i+1, 1), i == 0)
		groups, machines = append(groups, g), append(machines, m)
		if i == 0 {
			eventually(t, "the founder leads", g.IsLeader)
			continue
		}
		if err := groups[0].AddLearner(replica(i+1, 1)); err != nil {
			t.Fatal(err)
		}
		if err := groups[0].Promote(replica(i+1, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := groups[0].Propose(t.Context(), []byte("a")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the third has applied it", func() bool { return len(machines[2].all()) == 1 })
	for _, g := range groups {
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	alone, _ := c.open(dirs[2], replica(3, 1), false)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := alone.WaitLeader(ctx); err == nil {
		t.Error("one of three leads")
	}
	if err := alone.Close(); err != nil {
		t.Fatal(err)
	}

	m := &register{}
	if err := RecoverMeta(MetaOptions{Dir: dirs[2], Self: replica(3, 2), Machine: m}, nil); !errors.Is(err, ErrOtherReplica) {
		t.Errorf("as another incarnation: %v", err)
	}
	missing := filepath.Join(t.TempDir(), "nothing")
	if err := RecoverMeta(MetaOptions{Dir: missing, Self: replica(3, 1), Machine: m}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without files: %v", err)
	}
	if err := RecoverMeta(MetaOptions{Dir: dirs[2], Self: replica(3, 1), Machine: m}, []replication.ReplicaID{replica(3, 1)}); err != nil {
		t.Fatal(err)
	}
	if got := m.all(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("recovered %v", got)
	}
	alone, machine := c.open(dirs[2], replica(3, 1), false)
	eventually(t, "it leads alone", alone.IsLeader)
	if _, err := alone.Propose(t.Context(), []byte("b")); err != nil {
		t.Fatal(err)
	}
	if got := machine.all(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("it has %v", got)
	}
	// One that comes back later follows.
	_, late := c.open(dirs[1], replica(2, 1), false)
	if err := alone.AddLearner(replica(2, 1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the late one has it all", func() bool { return slices.Equal(late.all(), []string{"a", "b"}) })
}
