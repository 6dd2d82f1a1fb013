package raftgroup

//quorlog:bubble simulate and its kind run every test of this file in one

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

// diverge makes a cluster whose old leader has entries that nobody else has, while the others went on and dropped segments.
// shape says where the others' boundary lies, seen from the old leader's log.
func diverge(t *testing.T, extra, gone int) (s *sim, old *simNode, kept [][]byte) {
	s = newSim(t, 3, 3)
	old = s.leader()
	old.mustProduce(10)
	s.converge(5 * time.Second)
	old.isolate()
	for range extra {
		f := s.value()
		epoch, _ := old.group.Leading()
		batch.Stamp(f, batch.Unstamped, epoch)
		p := old.group.Propose(f)
		go func() { _, _ = p.Wait() }()
	}
	next := s.leader(old)
	next.mustProduce(gone)
	s.trim(next, s.others(old)...)
	kept = next.mustProduce(10)
	return s, old, kept
}

// Rule 7: a replica with divergent entries gets a snapshot: its log is longer than the boundary, shorter, or ends right
// there. Raft alone would download it for ever (hashicorp/raft#697) or keep a wrong configuration.
func TestDivergentFollowerGetsASnapshot(t *testing.T) {
	for _, c := range []struct {
		name        string
		extra, gone int
		restart     bool
	}{
		{"boundary below the divergent end", 120, 40, false},
		{"boundary below the divergent end, after a restart", 120, 40, true},
		{"boundary above the divergent end", 4, 80, false},
		{"boundary above the divergent end, after a restart", 4, 80, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s, old, kept := diverge(t, c.extra, c.gone)
				defer s.close()
				if c.restart {
					old.crash(vfs.CrashOptions{Survive: 100})
					old.start()
				}
				old.connect()
				s.converge(60 * time.Second)
				s.find(old, kept)
				if n := old.installed(); n == 0 || n > 2 {
					t.Errorf("%d snapshots were installed", n)
				}
				if got := old.group.Voters(); !slices.Equal(got, s.voters) {
					t.Errorf("configuration: %v", got)
				}
			})
		})
	}
}

// Rule 7 with the boundary exactly at the divergent log's end, where the experiment saw most loops, and with a leader whose
// log is empty but for the boundary.
func TestDivergentFollowerWhoseLogEndsAtTheBoundary(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for extra := 60; extra <= 75; extra += 3 {
			s, old, kept := diverge(t, extra, 70)
			next := s.leader(old)
			k, _ := next.log.Boundary()
			t.Logf("boundary %d, divergent log ends at %d", k, old.log.LastIndex())
			old.connect()
			s.converge(60 * time.Second)
			s.find(old, kept)
			s.close()
		}
	})
}

// Rule 7: a log that matches at the boundary and goes past it is not touched: it holds entries that it acknowledged.
func TestMatchingFollowerKeepsItsLog(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(60)
		s.converge(5 * time.Second)
		f := s.follower()
		s.trim(l, l)
		s.converge(5 * time.Second) // the new log start is an entry too
		in := f.group.current()
		last, k := f.log.LastIndex(), boundaryOf(f)
		state, err := l.log.StartState()
		if err != nil {
			t.Fatal(err)
		}
		resp := offer(t, f, state, uint64(l.leader.Epoch))
		if !resp.Success || f.group.current() != in || f.log.LastIndex() != last || boundaryOf(f) != k {
			t.Errorf("success %v, new instance %v, log %d..%d, was %d..%d", resp.Success, f.group.current() != in, boundaryOf(f), f.log.LastIndex(), k, last)
		}
		s.trim(l, f) // now it lies below the follower's own boundary
		l.mustProduce(60)
		s.trim(l, f)
		if state.Index >= boundaryOf(f) {
			t.Fatalf("the follower's boundary is %d", boundaryOf(f))
		}
		if resp := offer(t, f, state, uint64(l.leader.Epoch)); !resp.Success || f.group.current() != in {
			t.Error("an old snapshot restarted the group")
		}
		s.converge(5 * time.Second)
	})
}

func boundaryOf(n *simNode) log.Index {
	k, _ := n.log.Boundary()
	return k
}

// offer sends a node an InstallSnapshot.
func offer(t *testing.T, n *simNode, state log.State, term uint64) *raft.InstallSnapshotResponse {
	t.Helper()
	data := state.Encode()
	out, err := n.ask(&raft.InstallSnapshotRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}, SnapshotVersion: raft.SnapshotVersionMax,
		Term: term, LastLogIndex: uint64(state.Index), LastLogTerm: uint64(state.Term), Size: int64(len(data)),
		Configuration: state.Config, ConfigurationIndex: uint64(state.ConfigIndex),
	}, data)
	if err != nil {
		t.Fatal(err)
	}
	return out.(*raft.InstallSnapshotResponse)
}

// Rule 7: a deposed leader's snapshot is refused, and so is what is not a state.
func TestSnapshotOfAnOlderTermIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newSim(t, 3, 1)
		defer s.close()
		l := s.leader()
		l.mustProduce(5)
		f := s.follower()
		s.converge(5 * time.Second)
		state := log.State{Index: 500, Term: 1, Offset: 400, Config: raft.EncodeConfiguration(raft.Configuration{}), ConfigIndex: 3}
		if resp := offer(t, f, state, uint64(l.leader.Epoch)-1); resp.Success || resp.Term != uint64(l.leader.Epoch) {
			t.Errorf("%+v", resp)
		}
		for name, data := range map[string][]byte{"nothing": {}, "noise": []byte("QLOGSTAT and then noise")} {
			if _, err := f.ask(&raft.InstallSnapshotRequest{Term: uint64(l.leader.Epoch), Size: int64(len(data))}, data); err == nil {
				t.Errorf("%s was installed", name)
			}
		}
		s.converge(5 * time.Second)
	})
}

// Rule 7: the power goes at every step of a reset, and again while the reset is finished at the start.
func TestCrashWithinAReset(t *testing.T) {
	for step := 1; step <= 16; step++ {
		inBubble(t, func(t *testing.T) {
			s, old, kept := diverge(t, 100, 40)
			defer s.close()
			image := old.crashAt(simDir, step)
			old.connect()
			s.waitFor("the crash", 60*time.Second, func() bool { return len(old.failed()) > 0 })
			old.abandon()
			old.disk, old.in = image(), vfs.Inject(image())
			again := old.crashAt(simDir, step/2+1) // the first start is cut short as well
			if old.tryStart() == nil {
				time.Sleep(time.Second)
			}
			old.abandon()
			if disk := again(); disk != nil {
				old.disk = disk
			}
			old.in = vfs.Inject(old.disk)
			old.start()
			old.connect()
			s.converge(60 * time.Second)
			s.find(old, kept)
		})
	}
}

// A replica that can't open a file to read it takes a snapshot all the same, and is not taken for damaged: nothing is read of what it
// is reset to.
func TestASnapshotNeedsNoDescriptors(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s, old, kept := diverge(t, 120, 40)
		defer s.close()
		old.crash(vfs.CrashOptions{Survive: 100})
		old.start()
		rules := []*vfs.Armed{
			old.in.Arm(vfs.Rule{Op: vfs.OpOpen, Path: simDir, Err: syscall.EMFILE, Last: -1}),
			old.in.Arm(vfs.Rule{Op: vfs.OpMap, Err: syscall.ENOMEM, Last: -1}),
		}
		old.connect()
		s.converge(60 * time.Second)
		for _, r := range rules {
			r.Disarm()
		}
		s.find(old, kept)
		if old.installed() == 0 {
			t.Error("no snapshot was installed")
		}
		if failed := old.failed(); len(failed) > 0 {
			t.Error(failed)
		}
	})
}
