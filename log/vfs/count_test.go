package vfs

import "testing"

func TestCount(t *testing.T) {
	fsys, c := Count(NewMem())
	f := create(t, fsys, "x.log", "12345")
	must(t, f.Sync())
	must(t, WriteFileAtomic(fsys, "checkpoint", []byte("123")))
	if read(t, fsys, "x.log") != "12345" {
		t.Error("content")
	}
	if _, err := fsys.Open("none"); err == nil {
		t.Error("there is a file")
	}
	for what, got := range map[string][2]int64{
		"log syncs":                {c.LogSyncs(), 1},
		"all syncs":                {c.Of(OpSync), 2},
		"checkpoint syncs":         {c.OfClass(OpSync, ClassCheckpoint), 1},
		"directory syncs":          {c.Of(OpSyncDir), 1},
		"renames":                  {c.Of(OpRename), 1},
		"failed opens":             {c.Failed(OpOpen), 1},
		"bytes written":            {c.BytesWritten(), 8},
		"bytes written to the log": {c.ClassBytesWritten(ClassLog), 5},
		"bytes read from the log":  {c.ClassBytesRead(ClassLog), 5},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %d, want %d", what, got[0], got[1])
		}
	}
}

func TestClassOf(t *testing.T) {
	for path, want := range map[string]string{
		"/d/t-0/00000000000000000000-00000000000000000001.log": "log", "a.index": "index", "a.state.tmp": "state",
		"a.txnindex": "txnindex", "/d/checkpoint": "checkpoint", "/d/checkpoint.tmp": "checkpoint", "/d/node.json": "other", "": "other",
	} {
		if got := ClassOf(path).String(); got != want {
			t.Errorf("%q is of class %s, want %s", path, got, want)
		}
	}
	if Class(99).String() != "unknown" {
		t.Error("an unknown class has a name")
	}
}

// BenchmarkWrappers: what counting and the watchdog cost for each call. No allocation.
func BenchmarkWrappers(b *testing.B) {
	for _, c := range []struct {
		name string
		wrap func(FS) FS
	}{
		{"bare", func(f FS) FS { return f }},
		{"count", func(f FS) FS { f, _ = Count(f); return f }},
		{"watch", func(f FS) FS { return Watch(f, DefaultHangLimit, nil) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := create(b, c.wrap(NewMem()), "x.log", "")
			payload := [][]byte{make([]byte, 100)}
			b.ReportAllocs()
			for b.Loop() {
				must(b, f.WriteVec(payload, 0))
				must(b, f.Sync())
			}
		})
	}
}
