package compat

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// futureVersion is a format that nobody writes yet.
const futureVersion = 77

// atVersion makes a file claim another format version, and returns how to give it back.
type atVersion func(t *testing.T, path string)

// sideFile changes the version of a file of a log: four bytes behind the magic (log/FORMAT.md). The checksum behind them is
// left wrong: it may well be another one in a format that nobody knows, so the version must be looked at first.
func sideFile(t *testing.T, path string) {
	t.Helper()
	edit(t, path, func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[8:], futureVersion)
		return b
	})
}

// sealedIndex changes the version of a sealed segment's index, which is in its header and in its footer, the last 96 bytes.
func sealedIndex(t *testing.T, path string) {
	t.Helper()
	sideFile(t, path)
	edit(t, path, func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[len(b)-96+8:], futureVersion)
		return b
	})
}

// newFile writes a file that was not there, of that version.
func newFile(magic string) atVersion {
	return func(t *testing.T, path string) {
		t.Helper()
		b := binary.LittleEndian.AppendUint32([]byte(magic), futureVersion)
		if err := os.WriteFile(path, append(b, make([]byte, 100)...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// jsonFile changes the version in a JSON file.
func jsonFile(field string) atVersion {
	return func(t *testing.T, path string) {
		t.Helper()
		edit(t, path, func(b []byte) []byte {
			version := regexp.MustCompile(fmt.Sprintf(`%q: ?[0-9]+`, field))
			at := version.FindIndex(b)
			if at == nil {
				t.Fatalf("no %s in %s", field, b)
			}
			return slices.Concat(b[:at[0]], fmt.Appendf(nil, "%q: %d", field, futureVersion), b[at[1]:])
		})
	}
}

// boltFile changes the version in both meta pages of a bbolt database.
func boltFile(t *testing.T, path string) {
	t.Helper()
	edit(t, path, func(b []byte) []byte {
		const pageHeader, magicSize = 16, 4
		for page := range 2 {
			binary.LittleEndian.PutUint32(b[page*os.Getpagesize()+pageHeader+magicSize:], futureVersion)
		}
		return b
	})
}

func edit(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// effect is what a file of an unknown version leads to.
type effect uint8

const (
	refused effect = iota // the node does not start
	offline               // the partition is offline from the start on
	found                 // the partition goes offline when the file is needed
)

// TestUnknownFormats: a file of a format version that this build does not know is never guessed at. The start refuses, or the
// partition is offline while the others serve; a line of the log names file and version; nothing is changed, so the build
// that knows the format, or this one when the file is back, finds everything.
func TestUnknownFormats(t *testing.T) {
	node := testcluster.Start(t, testcluster.Options{})
	w := dialWire(t, node)
	w.createTopic("future", 1, "internal.segment.bytes", "1000") // so that there are sealed segments
	w.createTopic("other", 1)
	for range formatRecords {
		for _, topic := range []string{"future", "other"} {
			if got, err := w.produceTo(topic, 9, goodBatch().encode()); err != nil || got.ErrorCode != 0 {
				t.Fatalf("%+v, %v", got, err)
			}
		}
	}
	data, dir := node.DataDir, filepath.Join(node.DataDir, "partitions", partitionDir(t, node, "future"))
	node.Stop()
	for _, tc := range []struct {
		what   string
		path   func() string
		change atVersion
		effect effect
	}{
		{"node.json", fixed(data, "node.json"), jsonFile("format"), refused},
		{"metadata", fixed(data, "metadata", "metadata.db"), boltFile, refused},
		{"votes", fixed(data, "votes.db"), boltFile, refused},
		{"partition.meta", fixed(dir, "partition.meta"), jsonFile("version"), offline},
		{"checkpoint", fixed(dir, "checkpoint"), sideFile, offline},
		{"reset", fixed(dir, "reset"), newFile("QLOGSTAT"), offline},
		{"first state", segment(t, dir, 0, ".state"), sideFile, offline},
		{"active index", segment(t, dir, -1, ".index"), sideFile, offline},
		{"sealed index", segment(t, dir, 0, ".index"), sealedIndex, offline},
		{"sealed index, header alone", segment(t, dir, 0, ".index"), sideFile, found},
	} {
		t.Run(tc.what, func(t *testing.T) { testUnknownFormat(t, node, tc.path(), tc.change, tc.effect) })
	}
}

const formatRecords = 40

func fixed(parts ...string) func() string {
	return func() string { return filepath.Join(parts...) }
}

// segment finds a file of a partition's nth segment; -1 is the active one.
func segment(t *testing.T, dir string, n int, suffix string) func() string {
	return func() string {
		logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil || len(logs) < 3 {
			t.Fatalf("segments: %v, %v", logs, err)
		}
		return strings.TrimSuffix(logs[(n+len(logs))%len(logs)], ".log") + suffix
	}
}

func testUnknownFormat(t *testing.T, node *testcluster.Node, path string, change atVersion, effect effect) {
	original, err := os.ReadFile(path)
	absent := errors.Is(err, fs.ErrNotExist)
	if err != nil && !absent {
		t.Fatal(err)
	}
	change(t, path)
	changed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	logged := len(node.Log())
	defer node.Kill()
	if _, err := node.TryStart(); (err != nil) != (effect == refused) {
		t.Fatalf("start: %v", err)
	}
	if effect != refused {
		goesOffline(t, node, "future", effect)
		if high := dialWire(t, node).highWatermark("other"); high != formatRecords {
			t.Errorf("the other partition ends at %d", high)
		}
		stillServes(t, node)
		node.Stop()
	}
	names(t, node.Log()[logged:], filepath.Base(path), filepath.Ext(path) == ".db")
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, changed) {
		t.Errorf("the file was changed: %v", err)
	}
	if absent {
		err = os.Remove(path)
	} else {
		err = os.WriteFile(path, original, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	node.Restart()
	if got := readable(t, node, "future"); got != formatRecords {
		t.Errorf("with the file as it was, %d records are left", got)
	}
	node.Stop()
}

// names checks that a line tells of the file and the version. bbolt's own error does not say which version it found.
func names(t *testing.T, log, file string, bolt bool) {
	t.Helper()
	want := []string{file, fmt.Sprint(futureVersion)}
	if bolt {
		want[1] = "version mismatch"
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, want[0]) && strings.Contains(line, want[1]) {
			return
		}
	}
	t.Errorf("no line names %v:\n%s", want, log)
}

// partitionDir is the name of the directory of a topic's partition 0.
func partitionDir(t *testing.T, node *testcluster.Node, topic string) string {
	t.Helper()
	return fmt.Sprintf("%x-0", topicID(t, node, topic))
}

// goesOffline checks what clients are told of a partition that cannot be served.
func goesOffline(t *testing.T, node *testcluster.Node, topic string, effect effect) {
	t.Helper()
	w := dialWire(t, node)
	defer w.Close()
	fetch := func() int16 {
		p := w.ask(fetchOf(11, topic, 0, nil)).(*kmsg.FetchResponse).Topics[0].Partitions[0]
		if len(p.RecordBatches) > 0 {
			t.Errorf("fetch: error code %d, %d bytes", p.ErrorCode, len(p.RecordBatches))
		}
		return p.ErrorCode
	}
	if effect == found { // by who reads
		for deadline := time.Now().Add(closePatience); fetch() != codeStorage; {
			if time.Now().After(deadline) {
				t.Fatal("the partition did not go offline")
			}
		}
	}
	if code := fetch(); code != codeStorage {
		t.Errorf("fetch: error code %d", code)
	}
	if got, err := w.produceTo(topic, 9, goodBatch().encode()); err != nil || got.ErrorCode != codeStorage {
		t.Errorf("produce: error code %d, %v", got.ErrorCode, err)
	}
	if _, code := w.offsetAt(topic, -1); code != codeStorage {
		t.Errorf("offsets: error code %d", code)
	}
}
