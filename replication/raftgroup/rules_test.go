package raftgroup

//quorlog:bubble simulate and its kind run every test of this file in one

import (
	"bytes"
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/raftlog"
)

// Each rule of running Raft over the log that is the data, as a regression test. Rules 1, 2 and 9 have theirs in raftlog too.

// follower returns a replica that does not lead.
func (s *sim) follower(except ...*simNode) *simNode {
	s.t.Helper()
	leader := s.leader()
	for _, n := range s.nodes {
		if n != leader && n.group != nil && !slices.Contains(except, n) {
			return n
		}
	}
	s.t.Fatal("no follower")
	return nil
}

// others are the running replicas but n.
func (s *sim) others(n *simNode) (rest []*simNode) {
	for _, o := range s.nodes {
		if o != n && o.group != nil {
			rest = append(rest, o)
		}
	}
	return rest
}

// A new replica gets everything that is retained, and nothing else, by one InstallSnapshot of the first segment's state and
// ordinary entries. As a voter it can lead.
func TestNewReplicaGetsWhatIsRetained(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(60)
		s.trim(l, s.nodes...)
		kept := l.mustProduce(30)
		fresh := s.add(4)
		fresh.start()
		if err := l.group.AddReplica(fresh.id, false); err != nil {
			t.Fatal(err)
		}
		s.converge(10 * time.Second)
		if n := fresh.installed(); n != 1 {
			t.Errorf("%d snapshots were installed", n)
		}
		k, _ := l.log.Boundary()
		if got, _ := fresh.log.Boundary(); got != k {
			t.Errorf("boundary %d, the leader's is %d", got, k)
		}
		s.find(fresh, kept)
		if got := l.group.Learners(); !slices.Equal(got, []replication.ReplicaID{fresh.id}) {
			t.Errorf("learners: %v", got)
		}
		if err := l.group.AddReplica(fresh.id, true); err != nil {
			t.Fatal(err)
		}
		s.converge(10 * time.Second)
		if err := l.group.TransferLeadership(fresh.id); err != nil {
			t.Fatal(err)
		}
		if s.leader(l) != fresh {
			t.Error("the new replica does not lead")
		}
		fresh.mustProduce(3)
		s.find(fresh, kept)
		s.converge(10 * time.Second)
	})
}

// Rule 1: a follower behind the first stored entry catches up by a snapshot, because GetLog says exactly ErrLogNotFound there.
func TestFollowerBehindTheLogStartCatchesUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(10)
		behind := s.follower()
		s.converge(5 * time.Second)
		behind.isolate()
		l.mustProduce(60)
		s.trim(l, s.others(behind)...)
		kept := l.mustProduce(10)
		behind.connect()
		s.converge(30 * time.Second)
		s.find(behind, kept)
		if behind.installed() == 0 {
			t.Error("it caught up without a snapshot")
		}
	})
}

// Rule 2, under -race: the leader stamps frames in StoreLogs while pipelines send them; followers store what they get
// untouched and arrive at the same bytes.
func TestStampingWhilePipelinesSend(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		for range 20 {
			l.mustProduce(100)
		}
		s.converge(10 * time.Second)
		for _, n := range s.nodes {
			for i := log.Index(1); i <= n.log.LastIndex(); i++ {
				e, err := n.log.Entry(i)
				if err != nil {
					t.Fatal(err)
				}
				if h, err := batch.ParseHeader(e.Frame); err != nil || h.BaseOffset == batch.Unstamped || h.LeaderEpoch != e.Term {
					t.Fatalf("node %d, entry %d: %+v, %v", n.id.Node, i, h, err)
				}
			}
		}
	})
}

// Rule 3: after a failed write or fsync a replica says nothing more, its owner knows once, and after a restart it is healthy.
func TestFailedStorageSilencesTheReplica(t *testing.T) {
	for _, leads := range []bool{true, false} {
		inBubble(t, func(t *testing.T) {
			s := newSim(t, 3, 1)
			defer s.close()
			l := s.leader()
			acked := l.mustProduce(10)
			s.converge(5 * time.Second)
			bad := l
			if !leads {
				bad = s.follower()
			}
			bad.in.Add(vfs.Rule{Op: vfs.OpSync, Path: ".log", Err: syscall.EIO, Last: -1})
			acked = append(acked, l.produce(5)...)
			s.waitFor("the failure", 5*time.Second, func() bool { return len(bad.failed()) > 0 })
			next := s.leader(bad)
			acked = append(acked, next.mustProduce(5)...)
			time.Sleep(5 * time.Second)
			if f := bad.failed(); len(f) != 1 || !errors.Is(f[0], log.ErrFailed) {
				t.Errorf("failures: %v", f)
			}
			if bad.leads() || s.leader(bad).leader.Epoch != next.leader.Epoch {
				t.Error("the broken replica disturbs the others")
			}
			if _, err := bad.ask(&raft.RequestVoteRequest{}, nil); !errors.Is(err, log.ErrFailed) {
				t.Errorf("it answers: %v", err)
			}
			bad.crash(vfs.CrashOptions{Survive: 50})
			bad.start()
			bad.connect()
			s.converge(15 * time.Second)
			s.find(bad, acked)
		})
	}
}

// The same for the vote store: Raft would panic, and take the process with it.
func TestFailedVoteStoreSilencesTheReplica(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(5)
		s.converge(5 * time.Second)
		bad := s.follower()
		bad.in.Add(vfs.Rule{Op: vfs.OpSync, Path: "votes", Err: syscall.EIO, Last: -1})
		l.isolate() // so that there is an election to vote in
		s.waitFor("the failure", 10*time.Second, func() bool { return len(bad.failed()) > 0 })
		if f := bad.failed(); !errors.Is(f[0], raftlog.ErrVotesFailed) {
			t.Errorf("failures: %v", f)
		}
		time.Sleep(5 * time.Second)
		if bad.leads() {
			t.Error("leads without a durable vote")
		}
		l.connect()
		s.leader(bad).mustProduce(3)
		bad.crash(vfs.CrashOptions{})
		bad.start()
		bad.connect()
		s.converge(15 * time.Second)
	})
}

// Rule 4: what is dropped is applied and below a durable checkpoint, so that a crash right after finds a log that fits.
func TestRetentionStaysBehindAppliedAndCheckpoint(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(60)
		s.converge(5 * time.Second)
		late := s.follower()
		applied := late.log.AppliedIndex()
		late.isolate()
		l.mustProduce(60)
		s.trim(l, s.others(late)...)
		if _, err := late.log.DropSegments(); err != nil {
			t.Fatal(err)
		}
		if k, _ := late.log.Boundary(); k > applied {
			t.Errorf("a replica that applied %d dropped up to %d", applied, k)
		}
		for _, n := range s.others(late) {
			k, _ := n.log.Boundary()
			if c := n.log.CheckpointedCommit(); c < k {
				t.Errorf("node %d: checkpoint %d, boundary %d", n.id.Node, c, k)
			}
		}
		for _, n := range s.nodes {
			n.crash(vfs.CrashOptions{})
			n.start()
		}
		for _, n := range s.nodes {
			n.connect()
		}
		s.converge(30 * time.Second)
	})
}

// Rule 5, as a sequence of events. An old leader has entries that nobody else has, and its connections are refused, so that
// the new leader's next try is seconds away. The new leader's first write is slow. While it is under way, the try to come is
// given the log's end as it is then: the request will bring no entries. The write ends, its entry is committed, and the
// request brings that commit index. Raft alone would now commit at the old leader whatever its log ends with.
func TestCommitIndexGoesNoFurtherThanProven(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &sim{t: t, timing: Timing{Commit: 10 * time.Millisecond}}
		s.begin(3, 5)
		defer s.close()
		old := s.leader()
		old.mustProduce(10)
		s.converge(5 * time.Second)
		before := old.log.Offsets().HighWatermark
		old.isolate()
		for range 5 {
			f := s.value()
			epoch, _ := old.group.Leading()
			batch.Stamp(f, batch.Unstamped, epoch)
			p := old.group.Propose(f)
			go func() { _, _ = p.Wait() }()
		}
		old.refuses(true)
		slow := make(map[*simNode]*vfs.Armed)
		for _, n := range s.others(old) {
			slow[n] = n.in.Arm(vfs.Rule{Op: vfs.OpSync, Path: ".log", Delay: 25 * time.Second})
			s.net.Join(addr(n.id), addr(old.id))
		}
		var next *simNode
		s.waitFor("an election", 10*time.Second, func() bool {
			for n := range slow {
				if n.group.current().leading.Load() != 0 {
					next = n
				}
			}
			return next != nil
		})
		for n, rule := range slow {
			if n != next {
				rule.Disarm()
			}
		}
		s.waitFor("the slow write", 40*time.Second, next.leads)
		old.refuses(false)
		old.connect()
		s.converge(60 * time.Second)
		if got := old.log.Offsets(); got != next.log.Offsets() || got.HighWatermark != before+1 {
			t.Errorf("old leader: %+v, new: %+v; before the split %d", got, next.log.Offsets(), before)
		}
	})
}

func TestFilterOfAppendEntries(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 1, 1)
		defer s.close()
		n := s.leader()
		n.mustProduce(60)
		s.trim(n, n)
		boundary, term := n.log.Boundary()
		k := uint64(boundary)
		entries := func(from, to uint64) (out []*raft.Log) {
			for i := from; i <= to; i++ {
				out = append(out, &raft.Log{Index: i, Term: uint64(term), Extensions: []byte("foreign")})
			}
			return out
		}
		for name, c := range map[string]struct {
			in          raft.AppendEntriesRequest
			prev        uint64
			entries     int
			commit      uint64
			prevTermOwn bool
		}{
			"commit beyond the entries":  {raft.AppendEntriesRequest{PrevLogEntry: k + 1, Entries: entries(k+2, k+4), LeaderCommitIndex: k + 50}, k + 1, 3, k + 4, false},
			"commit of an empty request": {raft.AppendEntriesRequest{PrevLogEntry: k + 1, LeaderCommitIndex: k + 50}, k + 1, 0, k + 1, false},
			"commit within the entries":  {raft.AppendEntriesRequest{PrevLogEntry: k + 1, Entries: entries(k+2, k+4), LeaderCommitIndex: k + 3}, k + 1, 3, k + 3, false},
			"across the boundary":        {raft.AppendEntriesRequest{PrevLogEntry: k - 3, Entries: entries(k-2, k+2), LeaderCommitIndex: k + 9}, k, 2, k + 2, true},
			"below the boundary":         {raft.AppendEntriesRequest{PrevLogEntry: 2, Entries: entries(3, 9), LeaderCommitIndex: 9}, k, 0, 9, true},
			"from the beginning":         {raft.AppendEntriesRequest{Entries: entries(1, k+1), LeaderCommitIndex: 1}, k, 1, 1, true},
		} {
			in := c.in
			out := n.group.filter(&in)
			if out.PrevLogEntry != c.prev || len(out.Entries) != c.entries || out.LeaderCommitIndex != c.commit {
				t.Errorf("%s: prev %d, %d entries, commit %d; want %d, %d, %d", name, out.PrevLogEntry, len(out.Entries), out.LeaderCommitIndex, c.prev, c.entries, c.commit)
			}
			if c.prevTermOwn && out.PrevLogTerm != uint64(term) {
				t.Errorf("%s: term of the previous entry is %d", name, out.PrevLogTerm)
			}
			for _, e := range out.Entries {
				if len(e.Extensions) > 0 {
					t.Errorf("%s: a peer's entry is marked as local", name)
				}
			}
			if in.PrevLogEntry != c.in.PrevLogEntry || in.LeaderCommitIndex != c.in.LeaderCommitIndex || len(in.Entries) != len(c.in.Entries) {
				t.Errorf("%s: the request itself was changed", name)
			}
		}
		heartbeat := raft.AppendEntriesRequest{Term: 9}
		if n.group.filter(&heartbeat) != &heartbeat {
			t.Error("a heartbeat was changed")
		}
	})
}

// Rule 6: a follower that dropped more than its leader takes entries from below its boundary and is not touched by them.
func TestFollowerThatDroppedMoreThanItsLeader(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(60)
		s.converge(5 * time.Second)
		ahead := s.follower()
		s.trim(l, ahead)
		k, _ := ahead.log.Boundary()
		last := ahead.log.LastIndex()
		var entries []*raft.Log
		for i := log.Index(3); i <= k+2; i++ {
			var e raft.Log
			if err := l.group.current().store.GetLog(uint64(i), &e); err != nil {
				t.Fatal(err)
			}
			entries = append(entries, &e)
		}
		req := &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(l.id.String()), Addr: []byte(l.id.String())},
			Term:      uint64(l.leader.Epoch), PrevLogEntry: 2, PrevLogTerm: 1, Entries: entries, LeaderCommitIndex: uint64(k),
		}
		out, err := ahead.ask(req, nil)
		if resp, ok := out.(*raft.AppendEntriesResponse); err != nil || !ok || !resp.Success {
			t.Fatalf("%+v, %v", out, err)
		}
		if ahead.log.LastIndex() != last {
			t.Errorf("log ends at %d, was %d", ahead.log.LastIndex(), last)
		}
		if f := ahead.failed(); len(f) > 0 {
			t.Errorf("failures: %v", f)
		}
		l.mustProduce(5)
		s.converge(5 * time.Second)
	})
}

// Rule 8: Raft closes a transport that has a Close when an instance ends; ours goes on with the next one.
func TestWireHasNoClose(t *testing.T) {
	if _, ok := any(&wire{}).(raft.WithClose); ok {
		t.Error("wire has a Close")
	}
}

// Rule 10: there is no snapshot that Raft could take, and a try changes nothing.
func TestRaftCannotTakeASnapshot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 1, 1)
		defer s.close()
		n := s.leader()
		n.mustProduce(5)
		last := n.log.LastIndex()
		if err := n.group.running().Snapshot().Error(); !errors.Is(err, raft.ErrNothingNewToSnapshot) {
			t.Errorf("got %v", err)
		}
		err := n.group.running().Restore(&raft.SnapshotMeta{Version: 1}, bytes.NewReader(nil), time.Second)
		if err == nil || n.log.LastIndex() != last || n.log.FirstIndex() != 1 {
			t.Errorf("restore: %v; log %d..%d", err, n.log.FirstIndex(), n.log.LastIndex())
		}
		n.mustProduce(5)
	})
}

// The cost of a start is what lies behind the checkpoint, whatever the log's length.
func TestStartReadsOnlyWhatLiesBehindTheCheckpoint(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 1, 1)
		defer s.close()
		n := s.leader()
		for range 20 {
			n.mustProduce(100)
		}
		n.stop()
		// The group's own machinery would apply and ask at once; count what Raft asks for while it starts.
		n.votes, n.log = nil, nil
		l, err := log.Open(log.Options{FS: n.in, Dir: simDir, SegmentBytes: s.segment})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		store, snaps := raftlog.NewStore(l, nil, nil), raftlog.NewSnapshots(l)
		snaps.Arm()
		c := raft.DefaultConfig()
		c.LocalID, c.NoSnapshotRestoreOnStart, c.Logger = "1.0", true, newRaftLogger(s.logger())
		_, net := raft.NewInmemTransport("1.0")
		r, err := raft.NewRaft(c, &machine{}, store, raft.NewInmemStore(), snaps, net)
		if err != nil {
			t.Fatal(err)
		}
		got := store.Counts().GetLog
		if err := r.Shutdown().Error(); err != nil {
			t.Fatal(err)
		}
		if want := int64(l.LastIndex()-l.CheckpointedCommit()) + 1; got != want || want > 3 {
			t.Errorf("%d entries read, %d lie behind the checkpoint, of %d", got, want, l.LastIndex())
		}
	})
}

// A leader that was restarted at its checkpoint serves followers from the log, also below the checkpoint, without snapshots.
func TestLeaderStartedAtItsCheckpointServesTheWholeLog(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		behind := s.follower()
		l.mustProduce(5)
		s.converge(5 * time.Second)
		behind.isolate()
		acked := l.mustProduce(100)
		for _, n := range s.others(behind) {
			n.stop()
			n.start()
		}
		s.leader(behind).mustProduce(3)
		behind.connect()
		s.converge(30 * time.Second)
		s.find(behind, acked)
		if n := behind.installed(); n != 0 {
			t.Errorf("%d snapshots, though nothing was dropped", n)
		}
		fresh := s.add(4)
		fresh.start()
		if err := s.leader().group.AddReplica(fresh.id, false); err != nil {
			t.Fatal(err)
		}
		s.converge(10 * time.Second)
		s.find(fresh, acked)
		if n := fresh.installed(); n != 0 {
			t.Errorf("%d snapshots for a log from its beginning", n)
		}
	})
}

// A replica that has voted but lost its log must not begin anew: it would vote again with what it forgot.
func TestReplicaThatLostItsLogStaysDown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(5)
		l.stop()
		if err := l.disk.RemoveAll(simDir); err != nil {
			t.Fatal(err)
		}
		if err := l.tryStart(); !errors.Is(err, ErrLostLog) {
			t.Errorf("got %v", err)
		}
		l.abandon()
	})
}

// A crash between the steps of making a group leaves one that is made at the next start.
func TestCrashWhileAGroupIsMade(t *testing.T) {
	for step := 1; step < 40; step++ {
		inBubble(t, func(t *testing.T) {
			s := newSim(t, 0, uint64(step))
			s.voters = []replication.ReplicaID{{Node: 1}}
			n := s.add(1)
			if err := vfs.MkdirDurable(n.disk, "/data"); err != nil {
				t.Fatal(err)
			}
			image := n.crashAt("", step)
			if n.tryStart() == nil {
				time.Sleep(time.Second)
			}
			n.abandon()
			if disk := image(); disk != nil {
				n.disk = disk
			}
			n.in = vfs.Inject(n.disk)
			n.connect()
			n.start()
			defer s.close()
			s.leader().mustProduce(3)
		})
	}
}

// While a follower's fsync is slow, heartbeats are answered in Raft's place, and the leader keeps its lease.
func TestSlowFollowersDoNotDeposeTheLeader(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(5)
		s.converge(5 * time.Second)
		epoch := l.leader.Epoch
		for _, n := range s.others(l) {
			n.in.Add(vfs.Rule{Op: vfs.OpSync, Path: ".log", Delay: 2 * DefaultLease})
		}
		l.mustProduce(1)
		time.Sleep(3 * time.Second)
		if got := s.leader(); got != l || got.leader.Epoch != epoch {
			t.Errorf("leader %v in epoch %d, was %v in %d", got.id, got.leader.Epoch, l.id, epoch)
		}
	})
}

// A replica that was told to campaign, lost, and heard of the winner while it was still a candidate: see leaderIsStale.
func TestLoserOfAnOrderedCampaignDoesNotBlockElections(t *testing.T) {
	const attempts = 50 // nearly all come about
	for range attempts {
		came := false
		inBubble(t, func(t *testing.T) { came = loseAnOrderedCampaign(t) })
		if came || t.Failed() {
			return
		}
	}
	t.Errorf("in %d attempts the loser was never a candidate of the winner's term", attempts)
}

// loseAnOrderedCampaign is false if the loser is no candidate of the winner's term: then there is nothing to be seen.
func loseAnOrderedCampaign(t *testing.T) (came bool) {
	s := newSim(t, 3, 1)
	defer s.close()
	first := s.leader()
	first.mustProduce(5)
	s.converge(5 * time.Second)
	loser := s.follower()
	winner := s.follower(loser)
	loser.isolate()
	acked := first.mustProduce(5) // so that the loser's log is too short to win later
	s.waitFor("the winner to have all", time.Second, func() bool { return winner.log.LastIndex() == first.log.LastIndex() })
	loser.mu.Lock()
	loser.lose = func(rpc raft.RPC) bool {
		req, ok := rpc.Command.(*raft.AppendEntriesRequest)
		return ok && !isHeartbeat(req)
	}
	loser.mu.Unlock()
	campaign(loser.group.current().requests)
	if err := first.group.TransferLeadership(winner.id); err != nil {
		t.Fatal(err)
	}
	s.leader(first)
	loser.connect()
	node := loser.group.running()
	s.waitFor("the loser to hear of the winner", time.Second, func() bool { _, id := node.LeaderWithID(); return id != "" })
	if node.State() != raft.Candidate || node.CurrentTerm() != winner.group.running().CurrentTerm() {
		return false
	}
	winner.crash(vfs.CrashOptions{})
	loser.mu.Lock()
	loser.lose = nil
	loser.mu.Unlock()
	next := s.leader(winner)
	if next != first {
		t.Errorf("leader is %v", next.id)
	}
	winner.start()
	winner.connect()
	s.converge(15 * time.Second)
	s.find(loser, acked)
	return true
}

// A deposed leader's replication that winds up reads what its successor has stored by then, and sends it under its own term.
func TestEntriesOfALaterTermAreNotTaken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(3)
		s.converge(15 * time.Second)
		f := s.nodes[0]
		if f == l {
			f = s.nodes[1]
		}
		l.isolate()
		last, leader := f.log.LastIndex(), l.group.running()
		term, err := f.log.Term(last)
		if err != nil {
			t.Fatal(err)
		}
		id := []byte(l.id.String())
		req := &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: id, Addr: id}, Term: leader.CurrentTerm(),
			PrevLogEntry: uint64(last), PrevLogTerm: uint64(term),
			Entries: []*raft.Log{{Index: uint64(last) + 1, Term: leader.CurrentTerm() + 1, Type: raft.LogNoop}},
		}
		if _, err := f.ask(req, nil); err == nil {
			t.Error("taken")
		}
		if f.log.LastIndex() != last {
			t.Errorf("the log goes to %d, of term %d", f.log.LastIndex(), req.Entries[0].Term)
		}
	})
}
