package agent

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/internal/config"
)

// startNode runs a node on a free port; the caller closes it.
func startNode(t *testing.T, dir string) (*Agent, error) {
	t.Helper()
	node, err := config.Load(config.Sources{Flags: map[string]string{"data-dir": dir, "listen": "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{Node: node, OnFatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		return nil, errors.Join(err, a.Close(context.Background()))
	}
	return a, nil
}

// TestLostMetadataIsRefused: a node whose metadata directory is gone must neither start afresh over the data nor delete it.
func TestLostMetadataIsRefused(t *testing.T) {
	dir := t.TempDir()
	a, err := startNode(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(a.Addr()), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("kept"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord("data")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(t.TempDir(), "metadata")
	if err := os.Rename(filepath.Join(dir, "metadata"), saved); err != nil {
		t.Fatal(err)
	}
	if _, err := startNode(t, dir); !errors.Is(err, ErrMetadataLost) {
		t.Fatalf("a start without metadata answers %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "metadata")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(saved, filepath.Join(dir, "metadata")); err != nil {
		t.Fatal(err)
	}
	a, err = startNode(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(a.partitions.All()); n != 1 {
		t.Errorf("%d partitions after the metadata came back, want 1", n)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
