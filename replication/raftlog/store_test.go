package raftlog

import (
	"bytes"
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/log"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/log/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testDir = "/p"

// openLog opens a log whose segments hold a handful of entries.
func openLog(t testing.TB, fsys vfs.FS) *log.Log {
	t.Helper()
	l, err := log.Open(log.Options{FS: fsys, Dir: testDir, SegmentBytes: 600})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newStore(t testing.TB, fsys vfs.FS) (*Store, *log.Log, *[]error) {
	t.Helper()
	l := openLog(t, fsys)
	t.Cleanup(func() { _ = l.Close() })
	var failures []error
	return NewStore(l, nil, func(err error) { failures = append(failures, err) }), l, &failures
}

// frame is a client's batch that was checked in an epoch.
func frame(t testing.TB, epoch batch.Epoch, o batch.BuildOptions, value string) []byte {
	t.Helper()
	f, err := batch.Build(o, batch.Record{Timestamp: 1, Value: []byte(value)})
	if err != nil {
		t.Fatal(err)
	}
	batch.Stamp(f, batch.Unstamped, epoch)
	return f
}

// command is a leader's own entry.
func command(index, term uint64, f []byte) *raft.Log {
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: f, Extensions: Local}
}

func configuration(servers ...string) []byte {
	var c raft.Configuration
	for _, s := range servers {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(s), Address: raft.ServerAddress(s)})
	}
	return raft.EncodeConfiguration(c)
}

// fill stores a configuration and n commands of term 1.
func fill(t testing.TB, s *Store, n int) {
	t.Helper()
	logs := []*raft.Log{{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: configuration("1.0")}}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	for i := 2; i <= n+1; i++ {
		if err := s.StoreLog(command(uint64(i), 1, frame(t, 1, batch.BuildOptions{}, "v"))); err != nil {
			t.Fatal(err)
		}
	}
}

func apply(t testing.TB, l *log.Log, upTo log.Index) {
	t.Helper()
	for i := l.AppliedIndex() + 1; i <= upTo; i++ {
		e, err := l.Entry(i)
		if err != nil {
			t.Fatal(err)
		}
		l.Apply(e)
	}
}

// drop advances the log start to an offset and drops the segments below; it returns the boundary.
func drop(t testing.TB, s *Store, l *log.Log, start log.Offset) log.Index {
	t.Helper()
	next := uint64(l.LastIndex()) + 1
	if err := s.StoreLog(command(next, 1, log.InternalFrame(log.KindLogStart, log.EncodeLogStart(start)))); err != nil {
		t.Fatal(err)
	}
	apply(t, l, log.Index(next))
	if _, err := l.DropSegments(); err != nil {
		t.Fatal(err)
	}
	k, _ := l.Boundary()
	if k == 0 {
		t.Fatal("nothing was dropped")
	}
	return k
}

func TestEntriesComeBackAsRaftStoredThem(t *testing.T) {
	s, _, _ := newStore(t, vfs.NewMem())
	payload := configuration("1.0", "2.0", "3.0")
	in := []*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: payload},
		{Index: 2, Term: 2, Type: raft.LogNoop},
		command(3, 2, frame(t, 2, batch.BuildOptions{}, "a")),
		{Index: 4, Term: 2, Type: raft.LogBarrier},
		command(5, 2, log.InternalFrame(log.KindEpoch, []byte("12345678"))),
	}
	if err := s.StoreLogs(in); err != nil {
		t.Fatal(err)
	}
	for _, want := range in {
		var got raft.Log
		if err := s.GetLog(want.Index, &got); err != nil {
			t.Fatal(err)
		}
		if got.Index != want.Index || got.Term != want.Term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("entry %d: got %+v, want %+v", want.Index, got, want)
		}
		if len(got.Extensions) > 0 {
			t.Errorf("entry %d came back with the mark of a local proposal", want.Index)
		}
	}
	if c := s.Counts(); c != (Counts{GetLog: 5, Stores: 1, Entries: 5}) {
		t.Errorf("counts: %+v", c)
	}
}

// A batch that lies on disk comes without its data until it is asked for.
func TestStubs(t *testing.T) {
	mem := vfs.NewMem()
	warm, l, _ := newStore(t, mem)
	fill(t, warm, 20)
	apply(t, l, l.LastIndex())
	var want []raft.Log
	for i := uint64(1); i <= 21; i++ {
		var e raft.Log
		if err := warm.GetLog(i, &e); err != nil || e.Data == nil || Size(&e) != len(e.Data) {
			t.Fatalf("%+v, %v", e, err)
		}
		want = append(want, e)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cold, l, failures := newStore(t, mem)
	for i := uint64(1); i <= 21; i++ {
		var e raft.Log
		if err := cold.GetLog(i, &e); err != nil || (i > 1) != (e.Data == nil) || e.Term != 1 || e.Type != want[i-1].Type {
			t.Fatalf("%+v, %v", e, err)
		}
		full, err := cold.Fill(&e)
		if err != nil || !bytes.Equal(full.Data, want[i-1].Data) || Size(&e) != len(full.Data) || len(full.Extensions) > 0 {
			t.Fatalf("%+v, %v, stub %+v", full, err, e)
		}
	}
	if err := cold.StoreLogs([]*raft.Log{command(22, 1, frame(t, 1, batch.BuildOptions{}, "lost"))}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, _, _ := newStore(t, mem)
	var e raft.Log
	if err := again.GetLog(22, &e); err != nil || e.Data != nil {
		t.Fatalf("%+v, %v", e, err)
	}
	if err := again.DeleteRange(22, 22); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Fill(&e); !errors.Is(err, ErrReplaced) {
		t.Error(err)
	}
	if err := again.StoreLogs([]*raft.Log{command(22, 2, frame(t, 2, batch.BuildOptions{}, "new"))}); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Fill(&e); !errors.Is(err, ErrReplaced) {
		t.Error(err)
	}
	if again.Failed() != nil || len(*failures) > 0 {
		t.Errorf("%v %v", again.Failed(), *failures)
	}
}

// What Raft sends a follower is stored byte for byte as on the leader.
func TestLeaderAndFollowerStoreTheSameBytes(t *testing.T) {
	leader, ll, _ := newStore(t, vfs.NewMem())
	follower, fl, _ := newStore(t, vfs.NewMem())
	fill(t, leader, 5)
	if err := leader.StoreLogs([]*raft.Log{{Index: 7, Term: 2, Type: raft.LogNoop}, {Index: 8, Term: 2, Type: raft.LogBarrier}}); err != nil {
		t.Fatal(err)
	}
	for i := uint64(1); i <= 8; i++ {
		var e raft.Log
		if err := leader.GetLog(i, &e); err != nil {
			t.Fatal(err)
		}
		if err := follower.StoreLog(&e); err != nil {
			t.Fatal(err)
		}
		a, err1 := ll.Entry(log.Index(i))
		b, err2 := fl.Entry(log.Index(i))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Frame, b.Frame) {
			t.Errorf("entry %d differs", i)
		}
	}
}

// Rule 1: Raft compares the error with ==, asks for the boundary's term, and takes LastIndex of an empty log for its end.
func TestBoundaryAnswersAndBelowItNothing(t *testing.T) {
	mem := vfs.NewMem()
	s, l, failures := newStore(t, mem)
	fill(t, s, 20)
	apply(t, l, 21)
	k := drop(t, s, l, 12)
	var e raft.Log
	if err := s.GetLog(uint64(k), &e); err != nil || e.Index != uint64(k) || e.Term != 1 {
		t.Errorf("boundary %d: %+v, %v", k, e, err)
	}
	for _, i := range []uint64{0, 1, uint64(k) - 1, uint64(l.LastIndex()) + 1} {
		if err := s.GetLog(i, &e); err != raft.ErrLogNotFound {
			t.Errorf("index %d: %v", i, err)
		}
	}
	state, err := l.StartState()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Reset(state); err != nil {
		t.Fatal(err)
	}
	if last, err := s.LastIndex(); err != nil || last != uint64(k) {
		t.Errorf("an empty log ends at %d, %v; its boundary is %d", last, err, k)
	}
	if err := s.GetLog(uint64(k), &e); err != nil || e.Term != 1 {
		t.Errorf("boundary of an empty log: %+v, %v", e, err)
	}
	if len(*failures) > 0 {
		t.Errorf("failures: %v", *failures)
	}
}

// Rule 2: an entry that does not continue the log is refused, and so is one that a peer sent without the leader's stamp.
func TestStoreLogsRefusesWhatDoesNotContinue(t *testing.T) {
	for name, l := range map[string]*raft.Log{
		"gap":     {Index: 9, Term: 1, Type: raft.LogNoop},
		"overlap": {Index: 3, Term: 1, Type: raft.LogNoop},
		"term":    {Index: 7, Term: 0, Type: raft.LogNoop},
		"huge":    {Index: 7, Term: 1 << 40, Type: raft.LogNoop},
		"type":    {Index: 7, Term: 1, Type: raft.LogAddPeerDeprecated},
		"empty":   {Index: 7, Term: 1, Type: raft.LogCommand, Extensions: Local},
		"foreign": {Index: 7, Term: 1, Type: raft.LogCommand, Data: frame(t, 1, batch.BuildOptions{}, "x")},
	} {
		t.Run(name, func(t *testing.T) {
			s, log, failures := newStore(t, vfs.NewMem())
			fill(t, s, 5)
			if err := s.StoreLog(l); err == nil {
				t.Fatal("stored")
			}
			if log.LastIndex() != 6 {
				t.Errorf("log ends at %d", log.LastIndex())
			}
			// Rule 3: after any error the store is poisoned, and its owner knows.
			if len(*failures) != 1 || s.Failed() == nil {
				t.Errorf("failures: %v", *failures)
			}
			if err := s.StoreLog(&raft.Log{Index: 7, Term: 1, Type: raft.LogNoop}); !errors.Is(err, ErrPoisoned) {
				t.Errorf("after a failure: %v", err)
			}
			if err := s.DeleteRange(6, 6); !errors.Is(err, ErrPoisoned) {
				t.Errorf("after a failure: %v", err)
			}
		})
	}
}

// Raft is not told that its term was not saved, for it would panic. It must not store entries of that term either: after a
// crash the node would be back in an older one, and could vote in this one again.
func TestNothingIsStoredOnceVotesFailed(t *testing.T) {
	fsys := vfs.Inject(vfs.NewMem(), vfs.Rule{Op: vfs.OpSync, Path: "votes.db", Nth: 3, Err: syscall.EIO})
	v, err := OpenVotesFS(fsys, "/votes.db", VoteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	votes := v.Group("g")
	l := openLog(t, vfs.NewMem())
	defer l.Close()
	var failures []error
	s := NewStore(l, votes, func(err error) { failures = append(failures, err) })
	fill(t, s, 5)
	for term := uint64(2); votes.Failed() == nil; term++ {
		if err := votes.SetUint64(KeyCurrentTerm, term); err != nil {
			t.Fatalf("Raft would panic: %v", err)
		}
	}
	if err := s.StoreLog(&raft.Log{Index: 7, Term: 9, Type: raft.LogNoop}); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	if l.LastIndex() != 6 || len(failures) != 1 {
		t.Errorf("log ends at %d, failures %v", l.LastIndex(), failures)
	}
}

// A batch that does not fit when it is its turn is replaced where the state machine sees it.
func TestRefusedFrameReplacesTheBatch(t *testing.T) {
	s, _, _ := newStore(t, vfs.NewMem())
	fill(t, s, 1)
	l := command(3, 2, frame(t, 1, batch.BuildOptions{}, "checked in term 1"))
	if err := s.StoreLog(l); err != nil {
		t.Fatal(err)
	}
	kind, payload, err := log.ParseInternal(l.Data)
	if err != nil || kind != log.KindRefused {
		t.Fatalf("%v, %v", kind, err)
	}
	if r, err := log.DecodeRefused(payload); err != nil || r.Reason != log.RefusedTerm {
		t.Errorf("%+v, %v", r, err)
	}
	var got raft.Log
	if err := s.GetLog(3, &got); err != nil || !bytes.Equal(got.Data, l.Data) || got.Type != raft.LogCommand {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDeleteRangeTakesTheTailOnly(t *testing.T) {
	s, l, _ := newStore(t, vfs.NewMem())
	fill(t, s, 9)
	if err := s.DeleteRange(8, 10); err != nil {
		t.Fatal(err)
	}
	if l.LastIndex() != 7 {
		t.Errorf("log ends at %d", l.LastIndex())
	}
	if err := s.DeleteRange(2, 4); !errors.Is(err, ErrPrefix) {
		t.Errorf("a range in the middle: %v", err)
	}
	committed, l, _ := newStore(t, vfs.NewMem())
	fill(t, committed, 9)
	apply(t, l, 6)
	if err := committed.DeleteRange(6, 10); !errors.Is(err, log.ErrCommitted) {
		t.Errorf("applied entries: %v", err)
	}
}

// An entry that can't be read must not make Raft panic: the store is poisoned.
func TestUnreadableEntryPoisonsTheStore(t *testing.T) {
	mem := vfs.NewMem()
	s, l, _ := newStore(t, mem)
	fill(t, s, 12)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	name := firstLog(t, mem)
	f, err := mem.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	size, _ := f.Size()
	if _, err := f.WriteAt([]byte{0xff}, size-1); err != nil {
		t.Fatal(err)
	}
	s2, l2, failures := newStore(t, mem)
	bad := l2.Segments()[0].NextIndex - 1
	var e raft.Log
	if err := s2.GetLog(uint64(bad), &e); err != nil {
		t.Fatal(err)
	}
	if got, err := s2.Fill(&e); !errors.Is(err, log.ErrCorrupt) {
		t.Errorf("%+v, %v", got, err)
	}
	if len(*failures) != 1 || !errors.Is((*failures)[0], log.ErrCorrupt) {
		t.Errorf("failures: %v", *failures)
	}
}

func firstLog(t *testing.T, mem *vfs.Mem) string {
	t.Helper()
	names, err := mem.List(testDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if vfs.ClassOf(n) == vfs.ClassLog {
			return testDir + "/" + n
		}
	}
	t.Fatal("no log")
	return ""
}

func TestStoreLogsIsOneSync(t *testing.T) {
	fsys, counts := vfs.Count(vfs.NewMem())
	l, err := log.Open(log.Options{FS: fsys, Dir: testDir})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := NewStore(l, nil, nil)
	fill(t, s, 1)
	before, writes := counts.LogSyncs(), counts.OfClass(vfs.OpWrite, vfs.ClassLog)
	var logs []*raft.Log
	for i := uint64(3); i < 103; i++ {
		logs = append(logs, command(i, 1, frame(t, 1, batch.BuildOptions{}, "v")))
	}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	if n, w := counts.LogSyncs()-before, counts.OfClass(vfs.OpWrite, vfs.ClassLog)-writes; n != 1 || w != 1 {
		t.Errorf("%d syncs and %d writes for one StoreLogs", n, w)
	}
}

// Raft would empty the log of a monotonic store, and would not ask twice.
func TestStoreIsNotMonotonic(t *testing.T) {
	if _, ok := any(&Store{}).(raft.MonotonicLogStore); ok {
		t.Error("Store implements MonotonicLogStore")
	}
	if _, ok := any(&Store{}).(raft.CommitTrackingLogStore); ok {
		t.Error("Store implements CommitTrackingLogStore")
	}
}

func list(t *testing.T, s *Snapshots) *raft.SnapshotMeta {
	t.Helper()
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		return nil
	}
	return all[0]
}

// Rule 9: the first List after arming offers the checkpoint, later ones the boundary; none if that is 0.
func TestSnapshotsTellTwoTruths(t *testing.T) {
	mem := vfs.NewMem()
	s, l, _ := newStore(t, mem)
	snaps := NewSnapshots(l)
	snaps.Arm()
	if m := list(t, snaps); m != nil {
		t.Errorf("an empty log offers %+v", m)
	}
	fill(t, s, 20)
	apply(t, l, 15)
	if err := l.Checkpoint(15); err != nil {
		t.Fatal(err)
	}
	if m := list(t, snaps); m != nil {
		t.Errorf("a log from its beginning offers %+v", m)
	}
	snaps.Arm()
	if m := list(t, snaps); m == nil || m.Index != 15 || m.Term != 1 || m.ConfigurationIndex != 1 || len(m.Configuration.Servers) != 1 {
		t.Errorf("at start-up: %+v", m)
	}
	if m := list(t, snaps); m != nil {
		t.Errorf("after start-up: %+v", m)
	}
	apply(t, l, 21)
	k := drop(t, s, l, 12)
	for range 2 {
		if m := list(t, snaps); m == nil || m.Index != uint64(k) || m.ConfigurationIndex != 1 {
			t.Errorf("after start-up: %+v, boundary %d", m, k)
		}
	}
	snaps.Arm()
	if m := list(t, snaps); m == nil || m.Index != uint64(l.CheckpointedCommit()) || m.Index <= uint64(k) {
		t.Errorf("at start-up: %+v, checkpoint %d", m, l.CheckpointedCommit())
	}
	m, r, err := snaps.Open(startID)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(r)
	if err != nil || int64(len(data)) != m.Size || m.Index != uint64(k) {
		t.Fatalf("%+v, %d bytes, %v", m, len(data), err)
	}
	state, err := log.DecodeState(data)
	if err != nil || state.Index != k {
		t.Errorf("state %+v, %v", state, err)
	}
}

// Rule 10: Raft must not be able to make a snapshot of its own.
func TestSnapshotsRefuseCreate(t *testing.T) {
	_, l, _ := newStore(t, vfs.NewMem())
	if _, err := NewSnapshots(l).Create(1, 1, 1, raft.Configuration{}, 1, nil); !errors.Is(err, ErrNoSnapshot) {
		t.Error(err)
	}
	if _, _, err := NewSnapshots(l).Open(boundaryID); !errors.Is(err, ErrNoSnapshot) {
		t.Error(err)
	}
}

func TestDecodeConfigurationDoesNotPanic(t *testing.T) {
	if _, err := DecodeConfiguration([]byte{0xff, 0x00, 0x13}); err == nil {
		t.Error("decoded")
	}
	if c, err := DecodeConfiguration(configuration("1.0")); err != nil || len(c.Servers) != 1 {
		t.Error(c, err)
	}
}
