package raftlog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/quorlog/quorlog/log/vfs"
)

// both runs a test with the two keepers. open opens the same votes again.
func both(t *testing.T, test func(t *testing.T, open func(o VoteOptions) *Votes)) {
	opened := func(v *Votes, err error) *Votes {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
		return v
	}
	t.Run("bolt", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "votes.db")
		test(t, func(o VoteOptions) *Votes { return opened(OpenVotes(path, o)) })
	})
	t.Run("fs", func(t *testing.T) {
		mem := vfs.NewMem()
		test(t, func(o VoteOptions) *Votes { return opened(OpenVotesFS(mem, "/votes.db", o)) })
	})
}

func TestVotesSurviveReopen(t *testing.T) {
	both(t, func(t *testing.T, open func(VoteOptions) *Votes) {
		v := open(VoteOptions{})
		g, other := v.Group("a-0.1"), v.Group("a-0.11")
		if _, err := g.Get(KeyCurrentTerm); err == nil || err.Error() != "not found" {
			t.Errorf("Raft knows an absent key by its text; got %v", err)
		}
		for _, err := range []error{
			g.SetUint64(KeyCurrentTerm, 7), g.SetUint64(KeyVoteTerm, 7), g.Set([]byte("LastVoteCand"), []byte("1.0")),
			other.SetUint64(KeyCurrentTerm, 9), other.Set([]byte("empty"), nil), v.Close(), v.Close(),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		v = open(VoteOptions{})
		g, other = v.Group("a-0.1"), v.Group("a-0.11")
		if n, err := g.GetUint64(KeyCurrentTerm); n != 7 || err != nil {
			t.Error(n, err)
		}
		if b, err := g.Get([]byte("LastVoteCand")); string(b) != "1.0" || err != nil {
			t.Error(b, err)
		}
		if err := v.Drop("a-0.1"); err != nil {
			t.Fatal(err)
		}
		if groups := v.Groups(); len(groups) != 1 || groups[0] != "a-0.11" {
			t.Error(groups)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if err := other.Set([]byte("k"), []byte("v")); !errors.Is(err, ErrVotesClosed) {
			t.Errorf("after Close: %v", err)
		}
		v = open(VoteOptions{})
		if _, err := v.Group("a-0.1").Get(KeyCurrentTerm); err == nil {
			t.Error("a dropped group is there after a restart")
		}
		if n, err := v.Group("a-0.11").GetUint64(KeyCurrentTerm); n != 9 || err != nil {
			t.Error(n, err)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A thousand candidacies at once must not wait for a thousand transactions.
func TestVotesAreCommittedTogether(t *testing.T) {
	both(t, func(t *testing.T, open func(VoteOptions) *Votes) {
		synctest.Test(t, func(t *testing.T) {
			var commits atomic.Int32
			release := make(chan struct{})
			v := open(VoteOptions{Guard: func(_ vfs.Op, _ string, do func() error) error {
				if commits.Add(1) == 1 {
					<-release
				}
				return do()
			}})
			const groups = 200
			var wg sync.WaitGroup
			for i := range groups {
				wg.Go(func() {
					if err := v.Group(fmt.Sprintf("g-%d.0", i)).SetUint64(KeyCurrentTerm, uint64(i+1)); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait() // one commit is under way, and all others wait
			close(release)
			wg.Wait()
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
			if n := commits.Load(); n > 2 {
				t.Errorf("%d commits for %d groups", n, groups)
			}
		})
	})
}

func TestSettingTheSameCostsNothing(t *testing.T) {
	both(t, func(t *testing.T, open func(VoteOptions) *Votes) {
		commits := 0
		v := open(VoteOptions{Guard: func(_ vfs.Op, _ string, do func() error) error { commits++; return do() }})
		for range 5 {
			if err := v.Group("g").SetUint64(KeyCurrentTerm, 3); err != nil {
				t.Fatal(err)
			}
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		if commits != 1 {
			t.Errorf("%d commits", commits)
		}
	})
}

// The file's layout is that of raft-boltdb.
func TestVotesCanBeReadByRaftBoltDB(t *testing.T) {
	path := filepath.Join(t.TempDir(), "votes.db")
	v, err := OpenVotes(path, VoteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(v.Group("g-0.0").SetUint64(KeyCurrentTerm, 42), v.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := raftboltdb.NewBoltStore(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if n, err := b.GetUint64([]byte("g-0.0/CurrentTerm")); n != 42 || err != nil {
		t.Error(n, err)
	}
}

// Fail-stop: one report, nothing is saved any more, and a vote that was not saved is not taken for one.
func TestVotesFailStop(t *testing.T) {
	fsys := vfs.Inject(vfs.NewMem())
	var fatal []error
	v, err := OpenVotesFS(fsys, "/votes.db", VoteOptions{OnFatal: func(err error) { fatal = append(fatal, err) }})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	g := v.Group("g")
	if err := g.SetUint64(KeyCurrentTerm, 1); err != nil {
		t.Fatal(err)
	}
	fsys.Add(vfs.Rule{Op: vfs.OpSync, Err: syscall.EIO})
	if err := g.Set([]byte("LastVoteCand"), []byte("2.0")); !errors.Is(err, ErrVotesFailed) || !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	if err := g.Set([]byte("LastVoteCand"), []byte("3.0")); !errors.Is(err, ErrVotesFailed) {
		t.Errorf("the second time: %v", err)
	}
	if err := g.SetUint64(KeyCurrentTerm, 2); err != nil {
		t.Errorf("Raft would panic: %v", err)
	}
	if _, err := g.Get([]byte("LastVoteCand")); err == nil {
		t.Error("a vote that failed is there")
	}
	if n, _ := g.GetUint64(KeyCurrentTerm); n != 1 {
		t.Errorf("term is %d", n)
	}
	if len(fatal) != 1 || g.Failed() == nil {
		t.Errorf("reports: %v", fatal)
	}
}

// Whatever a crash leaves, the votes are those of a commit that was answered, or of the one under way.
func TestVotesTwinSurvivesCrashes(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		mem := vfs.NewMem()
		saved := uint64(0)
		for range 10 {
			v, err := OpenVotesFS(mem, "/votes.db", VoteOptions{})
			if err != nil {
				t.Fatal(err)
			}
			g := v.Group("g")
			if n, _ := g.GetUint64(KeyCurrentTerm); n < saved || n > saved+1 {
				t.Fatalf("seed %d: saved %d, found %d", seed, saved, n)
			} else {
				saved = n
			}
			next := vfs.NewMem()
			in := vfs.Inject(mem, vfs.Rule{Op: vfs.OpAny, Nth: 1 + rng.IntN(12), Do: func(vfs.Call) {
				next = mem.Crash(rng, vfs.CrashOptions{})
			}, Err: vfs.ErrCrashed})
			v2, err := OpenVotesFS(in, "/votes.db", VoteOptions{})
			if errors.Is(err, vfs.ErrCrashed) {
				_ = v.Close()
				mem = next
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			g = v2.Group("g")
			for i := saved + 1; ; i++ {
				if g.Save(KeyCurrentTerm, i) != nil {
					break
				}
				saved = i
			}
			_, _ = v.Close(), v2.Close()
			mem = next
		}
	}
}

// What a killed process has written can be read, and a power cut may still take it. A vote that is found is not one that is
// saved: it must be made durable before anybody relies on it, for saving it again costs nothing.
func TestVotesFoundAreMadeDurable(t *testing.T) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	if err := mem.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	killed, before := false, mem
	in := vfs.Inject(before, vfs.Rule{Op: vfs.OpSyncDir, Err: vfs.ErrCrashed, Do: func(vfs.Call) {
		killed = true
		mem = before.Crash(nil, vfs.CrashOptions{Kill: true})
	}})
	v, err := OpenVotesFS(in, "/d/votes", VoteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Group("g").Save(KeyVoteTerm, 7); err == nil || !killed {
		t.Fatalf("%v; the process was to be killed before the directory is synced", err)
	}
	_ = v.Close()

	v, err = OpenVotesFS(mem, "/d/votes", VoteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := v.Group("g").GetUint64(KeyVoteTerm); err != nil || n != 7 {
		t.Fatalf("found %d, %v", n, err)
	}
	if err := v.Group("g").Save(KeyVoteTerm, 7); err != nil {
		t.Fatal(err)
	}
	_ = v.Close()
	v, err = OpenVotesFS(mem.Crash(nil, vfs.CrashOptions{}), "/d/votes", VoteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if n, _ := v.Group("g").GetUint64(KeyVoteTerm); n != 7 {
		t.Errorf("after the power cut: %d", n)
	}
}

func FuzzDecodeVotes(f *testing.F) {
	f.Add(encodeVotes(nil))
	f.Add(encodeVotes(map[string][]byte{"g/CurrentTerm": {0, 0, 0, 0, 0, 0, 0, 7}, "g/x": {}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		values, err := decodeVotes(b)
		if err != nil {
			return
		}
		if again, err := decodeVotes(encodeVotes(values)); err != nil || len(again) != len(values) {
			t.Errorf("%v, %v", again, err)
		}
	})
}
