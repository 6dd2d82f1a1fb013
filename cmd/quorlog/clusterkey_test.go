package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/quorlog/quorlog/internal/config"
)

// TestClusterKey: what the command prints is a key that a node takes, and another one each time.
func TestClusterKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cluster.key")
	seen := map[string]bool{}
	for range 2 {
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{"cluster", "key"}, nil, &out, &errs); code != 0 {
			t.Fatalf("exit code %d: %s", code, errs.String())
		}
		if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		key, warning, err := config.ReadClusterKey(file)
		if err != nil || warning != "" {
			t.Fatal(err, warning)
		}
		seen[string(key)] = true
	}
	if len(seen) != 2 {
		t.Error("the same key twice")
	}
}
