package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/transport"
)

// register is a Machine that keeps all commands.
type register struct {
	mu       sync.Mutex
	commands []string
	last     uint64
	restored int
}

func (r *register) Apply(index uint64, command []byte) any {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index <= r.last {
		panic("an index came twice")
	}
	r.last = index
	r.commands = append(r.commands, string(command))
	return len(r.commands)
}

func (r *register) Snapshot() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := fmt.Appendf(nil, "%d", r.last)
	for _, c := range r.commands {
		out = append(append(out, '\n'), c...)
	}
	return out, nil
}

func (r *register) Restore(data []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restored++
	var lines []string
	for line := range splitLines(data) {
		lines = append(lines, line)
	}
	r.commands = lines[1:]
	_, err := fmt.Sscan(lines[0], &r.last)
	return err
}

func splitLines(data []byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		from := 0
		for i := range data {
			if data[i] == '\n' {
				if !yield(string(data[from:i])) {
					return
				}
				from = i + 1
			}
		}
		yield(string(data[from:]))
	}
}

func (r *register) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.commands)
}

func openMeta(t *testing.T, o MetaOptions) *MetaGroup {
	t.Helper()
	g, err := OpenMeta(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := g.WaitLeader(ctx); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestMetadataIsPrivate: who else is on the machine can't read what recognises the users' passwords.
func TestMetadataIsPrivate(t *testing.T) {
	for name, before := range map[string]os.FileMode{"new": 0, "made by an older version": 0o755} {
		dir := filepath.Join(t.TempDir(), "metadata")
		if before != 0 {
			if err := os.Mkdir(dir, before); err != nil {
				t.Fatal(err)
			}
		}
		g := openMeta(t, MetaOptions{Dir: dir, Self: replication.ReplicaID{Node: 1}, Machine: &register{}, Found: true})
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("%s: mode %v", name, info.Mode())
		}
	}
}

func TestMetaGroupOfOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "metadata")
	ctx := context.Background()
	for life := range 3 {
		m := &register{}
		began := time.Now()
		g := openMeta(t, MetaOptions{Dir: dir, Self: replication.ReplicaID{Node: 4}, Machine: m, Found: true})
		t.Logf("life %d: leads after %v", life, time.Since(began))
		if !g.IsLeader() || g.Leader() != 4 {
			t.Errorf("leader %v", g.Leader())
		}
		if got := m.all(); len(got) != 10*life {
			t.Errorf("life %d begins with %d commands", life, len(got))
		}
		for i := range 10 {
			answer, err := g.Propose(ctx, fmt.Appendf(nil, "c%d", 10*life+i))
			if err != nil || answer != 10*life+i+1 {
				t.Fatalf("%v, %v", answer, err)
			}
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Propose(ctx, nil); !errors.Is(err, replication.ErrNotLeader) {
			t.Errorf("after Close: %v", err)
		}
		if err := g.WaitLeader(ctx); err == nil {
			t.Error("a closed group has a leader")
		}
		if g.IsLeader() {
			t.Error("a closed group leads")
		}
	}
}

func TestMetaGroupSnapshots(t *testing.T) {
	dir := t.TempDir()
	ctx := context.Background()
	g := openMeta(t, MetaOptions{Dir: dir, Self: replication.ReplicaID{Node: 1}, Machine: &register{}, Found: true})
	for i := range 20 {
		if _, err := g.Propose(ctx, fmt.Appendf(nil, "c%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Propose(ctx, []byte("later")); err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	m := &register{}
	g = openMeta(t, MetaOptions{Dir: dir, Self: replication.ReplicaID{Node: 1}, Machine: m})
	defer g.Close()
	if got := m.all(); m.restored != 1 || len(got) != 21 || got[20] != "later" {
		t.Errorf("%d restored, %v", m.restored, got)
	}
}

// A node that is to join does not begin a cluster of its own.
func TestMetaGroupWithoutBootstrapWaits(t *testing.T) {
	g, err := OpenMeta(MetaOptions{Dir: t.TempDir(), Self: replication.ReplicaID{Node: 1}, Machine: &register{}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := g.WaitLeader(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if g.Leader() != replication.NoNode || g.IsLeader() {
		t.Error("it leads")
	}
	if _, err := g.Propose(context.Background(), nil); !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("got %v", err)
	}
}

// A follower knows the leader, and a command is answered where it was proposed.
func TestMetaGroupOverANetwork(t *testing.T) {
	net := transport.NewMem(0)
	ctx := context.Background()
	machines := []*register{{}, {}}
	first := openMeta(t, MetaOptions{Dir: t.TempDir(), Self: replication.ReplicaID{Node: 1}, Machine: machines[0], Found: true, Network: net})
	defer first.Close()
	second, err := OpenMeta(MetaOptions{Dir: t.TempDir(), Self: replication.ReplicaID{Node: 2}, Machine: machines[1], Network: net})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := first.raft.AddNonvoter("2.0", "2.0", 0, 0).Error(); err != nil {
		t.Fatal(err)
	}
	limit, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := second.WaitLeader(limit); err != nil || second.Leader() != 1 || second.IsLeader() {
		t.Fatalf("leader %v, %v", second.Leader(), err)
	}
	if _, err := first.Propose(ctx, []byte("c")); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Propose(ctx, []byte("d")); !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("at a follower: %v", err)
	}
}

// Fail-stop: one report, and no more writing.
func TestMetaGroupFailsStop(t *testing.T) {
	broken := errors.New("broken disk")
	var fatal []error
	fail := false
	guard := func(_ vfs.Op, _ string, do func() error) error {
		if fail {
			return broken
		}
		return do()
	}
	g := openMeta(t, MetaOptions{Dir: t.TempDir(), Self: replication.ReplicaID{Node: 1}, Machine: &register{}, Found: true, Guard: guard, OnFatal: func(err error) { fatal = append(fatal, err) }})
	fail = true
	if _, err := g.Propose(context.Background(), []byte("c")); !errors.Is(err, replication.ErrUnknownOutcome) {
		t.Errorf("got %v", err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if len(fatal) != 1 || !errors.Is(fatal[0], broken) {
		t.Errorf("reports: %v", fatal)
	}
}
