package compat

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// realLines is how many lines of real text the round trips use.
const realLines = 200_000

// sourceTree writes the Go distribution's own source, line by line, until it has enough. Empty lines are left out: kcat
// does not send them.
func sourceTree(t *testing.T) (file, sum string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "source-lines")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := bufio.NewWriter(out)
	digest := sha256.New()
	count := 0
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(filepath.Join(strings.TrimSpace(string(root)), "src"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(text) {
			if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
				continue
			}
			hashLine(digest, line)
			w.Write(line)
			w.WriteByte('\n')
			count++
		}
		if count >= realLines {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if count < realLines {
		t.Fatalf("the Go source tree gave only %d lines", count)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return file, fmt.Sprintf("%d lines %x", count, digest.Sum(nil))
}

func hashLine(h hash.Hash, line []byte) {
	h.Write(line)
	h.Write([]byte{'\n'})
}

// TestRealInput sends 200,000 lines of real text through kcat with every codec, reads them back with kcat and with
// franz-go, then kills the broker with SIGKILL, starts it again and reads them once more.
func TestRealInput(t *testing.T) {
	kcat := rig.Tool(t, "kcat")
	file, want := sourceTree(t)
	node := testcluster.Start(t, testcluster.Options{})
	codecs := []string{"none", "gzip", "snappy", "lz4", "zstd"}
	for _, codec := range codecs {
		t.Run(codec, func(t *testing.T) {
			createTopic(t, node, "real-"+codec, 1)
			kcatProduce(t, kcat, node, "real-"+codec, codec, file)
			checkSums(t, kcat, node, "real-"+codec, want)
		})
	}
	node.Kill()
	node.Restart()
	for _, codec := range codecs {
		t.Run(codec+" after SIGKILL", func(t *testing.T) { checkSums(t, kcat, node, "real-"+codec, want) })
	}
}

func kcatProduce(t *testing.T, kcat string, node *testcluster.Node, topic, codec, file string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, kcat, "-P", "-b", node.Addr, "-t", topic, "-p", "0", "-z", codec, "-l", file)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kcat -P: %v\n%s", err, out)
	}
}

// checkSums compares the digest of the input with what kcat and franz-go read.
func checkSums(t *testing.T, kcat string, node *testcluster.Node, topic, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
	defer cancel()
	out, err := exec.CommandContext(ctx, kcat, "-C", "-q", "-e", "-b", node.Addr, "-t", topic, "-p", "0", "-o", "beginning").Output()
	if err != nil {
		t.Fatalf("kcat -C: %v", err)
	}
	if got := fmt.Sprintf("%d lines %x", bytes.Count(out, []byte{'\n'}), sha256.Sum256(out)); got != want {
		t.Errorf("kcat read %s, want %s", got, want)
	}
	lines := strings.Fields(want)[0]
	digest, count := sha256.New(), 0
	cl := newClient(t, node, kgo.ConsumeTopics(topic))
	for fmt.Sprint(count) != lines {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("franz-go after %d lines: %v", count, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset != int64(count) {
				t.Fatalf("record %d has offset %d", count, r.Offset)
			}
			hashLine(digest, r.Value)
			count++
		})
	}
	if got := fmt.Sprintf("%d lines %x", count, digest.Sum(nil)); got != want {
		t.Errorf("franz-go read %s, want %s", got, want)
	}
}
