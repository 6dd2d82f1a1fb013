package vfs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func create(t testing.TB, fsys FS, name, content string) File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	write(t, f, content, 0)
	return f
}

// durable makes a file whose content and name survive everything.
func durable(t testing.TB, fsys FS, name, content string) File {
	t.Helper()
	f := create(t, fsys, name, content)
	must(t, f.Sync())
	must(t, fsys.SyncDir("/"))
	return f
}

func write(t testing.TB, f File, content string, off int64) {
	t.Helper()
	_, err := f.WriteAt([]byte(content), off)
	must(t, err)
}

func read(t testing.TB, fsys FS, name string) string {
	t.Helper()
	data, err := ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "(none)"
	}
	must(t, err)
	return string(data)
}

// tree prints all files as "path=content", runs of zeros as dots.
func tree(t testing.TB, m *Mem) string {
	t.Helper()
	var out []string
	for _, f := range m.filesLocked() {
		out = append(out, f.path+"="+strings.ReplaceAll(string(f.content.data), "\x00", "."))
	}
	return strings.Join(out, " ")
}

// sector is a sector full of one letter.
func sector(letter string) string { return strings.Repeat(letter, SectorSize) }
