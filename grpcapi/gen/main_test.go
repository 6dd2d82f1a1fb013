package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// What is committed is what the generator makes of the protos.
func TestGenerated(t *testing.T) {
	out := t.TempDir()
	if err := generate(t.Context(), "..", out); err != nil {
		t.Fatal(err)
	}
	made := map[string]bool{}
	err := filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(out, path)
		if err != nil {
			return err
		}
		made[filepath.Base(name)] = true
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if got, err := os.ReadFile(filepath.Join("..", name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the generator makes (%v): go run ./grpcapi/gen", name, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	committed, err := os.ReadDir("../v1")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range committed {
		if !made[f.Name()] {
			t.Errorf("nothing makes v1/%s", f.Name())
		}
	}
}
