package admin

import (
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/quorlog/quorlog/log/vfs"
	"github.com/quorlog/quorlog/replication"
	"github.com/quorlog/quorlog/replication/controller"
	"github.com/quorlog/quorlog/replication/partition"
	"github.com/quorlog/quorlog/replication/transport"
)

// A replica whose files are damaged says so. Without producers it would look like one that has no transaction.
func TestProducersOfAnOfflinePartition(t *testing.T) {
	fsys := vfs.NewMem()
	open := func() *partition.Manager {
		m, err := partition.NewManager(partition.Options{
			DataDir: "/d", FS: fsys, Node: 1, Network: transport.NewMem(0), Logger: slog.New(slog.DiscardHandler),
			OnFatal: func(err error) { t.Error(err) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	only := replication.Assignment{Replicas: []replication.ReplicaID{{Node: 1, Incarnation: 1}}}
	topic := &controller.Topic{Name: "orders", ID: replication.TopicID{1}, Partitions: []replication.Assignment{only, only}}
	im := &controller.Image{Topics: map[string]*controller.Topic{"orders": topic}}

	m := open()
	if _, err := m.Ensure(t.Context(), pid(0), "orders", only, im.TopicConfig("orders")); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	emptyLogs(t, fsys, filepath.Join("/d/partitions", pid(0).String()))

	m = open()
	if _, err := m.Ensure(t.Context(), pid(0), "orders", only, im.TopicConfig("orders")); !errors.Is(err, replication.ErrStorage) {
		t.Fatalf("it is not offline: %v", err)
	}
	s := New(Options{Node: 1, Images: fixed{im}, Local: m})
	if got, err := s.ActiveProducers("orders", 0); !errors.Is(err, replication.ErrStorage) {
		t.Errorf("offline: %v, %v", got, err)
	}
	if got, err := s.ActiveProducers("orders", 1); !errors.Is(err, replication.ErrNotLeader) {
		t.Errorf("not here: %v, %v", got, err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func emptyLogs(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	names, err := fsys.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if vfs.ClassOf(name) != vfs.ClassLog {
			continue
		}
		f, err := fsys.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(0), f.Sync(), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
