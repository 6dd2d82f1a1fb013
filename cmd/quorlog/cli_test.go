package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/quorlog/quorlog/agent"
	"github.com/quorlog/quorlog/internal/config"
)

// unused is an address that refuses connections.
const unused = "127.0.0.1:1"

// broker is a node in this process with the commands pointed at it.
type broker struct {
	t    *testing.T
	dir  string
	addr string
	stop func()
}

func startBroker(t *testing.T) *broker {
	t.Helper()
	dir := t.TempDir()
	node, err := config.Load(config.Sources{Flags: map[string]string{"data-dir": dir, "listen": "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(agent.Config{Node: node, OnFatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(errors.Join(err, a.Close(context.Background())))
	}
	b := &broker{t: t, dir: dir, addr: a.Addr()}
	stopped := false
	b.stop = func() {
		if stopped {
			return
		}
		stopped = true
		if err := a.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(b.stop)
	return b
}

// quorlog runs a command line as the shell does and returns what it printed; wrong exit codes fail the test.
func (b *broker) quorlog(wantExit int, stdin string, args ...string) string {
	b.t.Helper()
	var out, errs bytes.Buffer
	b.t.Setenv("QUORLOG_BROKERS", b.addr)
	if got := run(b.t.Context(), args, strings.NewReader(stdin), &out, &errs); got != wantExit {
		b.t.Errorf("quorlog %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), got, wantExit, out.String(), errs.String())
	}
	if wantExit != 0 && errs.Len() == 0 {
		b.t.Errorf("quorlog %s failed without a word", strings.Join(args, " "))
	}
	return out.String()
}

// has fails the test unless the output holds every part.
func (b *broker) has(out string, parts ...string) {
	b.t.Helper()
	for _, part := range parts {
		if !strings.Contains(out, part) {
			b.t.Errorf("%q is not in\n%s", part, out)
		}
	}
}

func TestTopicCommands(t *testing.T) {
	b := startBroker(t)
	b.has(b.quorlog(0, "", "topic", "create", "orders", "logs", "-p", "3", "-c", "retention.ms=3600000"), "created orders\n", "created logs\n")
	b.has(b.quorlog(exitPartly, "", "topic", "create", "orders", "fresh"), "TOPIC_ALREADY_EXISTS", "created fresh")
	b.quorlog(exitFailed, "", "topic", "create", "two", "-r", "2")
	b.has(b.quorlog(exitFailed, "", "topic", "create", "bad", "-c", "retention.msec=1"), "did you mean retention.ms?")
	b.quorlog(exitUsage, "", "topic", "create", "bad", "-c", "nonsense")
	b.quorlog(0, "", "topic", "create", "never", "--validate-only")
	list := b.quorlog(0, "", "topic", "list")
	b.has(list, "fresh", "logs    3", "orders  3")
	if strings.Contains(list, "never") {
		t.Error("--validate-only made a topic")
	}
	b.quorlog(0, "", "topic", "alter", "orders", "-p", "5", "-c", "max.message.bytes=2000000", "--delete-config", "retention.ms")
	b.quorlog(exitUsage, "", "topic", "alter", "orders")
	var described struct {
		Partitions []partitionRow
		Configs    []configRow
	}
	if err := json.Unmarshal([]byte(b.quorlog(0, "", "topic", "describe", "orders", "-o", "json")), &described); err != nil {
		t.Fatal(err)
	}
	values := map[string]configRow{}
	for _, row := range described.Configs {
		values[row.Name] = row
	}
	if len(described.Partitions) != 5 || values["max.message.bytes"].Value != "2000000" || values["retention.ms"].Source != "DEFAULT_CONFIG" {
		t.Errorf("%d partitions, %+v, %+v", len(described.Partitions), values["max.message.bytes"], values["retention.ms"])
	}
	b.has(b.quorlog(0, "", "topic", "delete", "logs"), "deleted logs")
	b.quorlog(exitFailed, "", "topic", "describe", "logs")
}

func TestProduceAndConsumeCommands(t *testing.T) {
	b := startBroker(t)
	b.quorlog(0, "a\nb\nc\n", "produce", "words")
	b.quorlog(0, "k1 v1\nk2 v2\n", "produce", "pairs", "-f", `%k %v\n`, "-z", "zstd")
	if got := b.quorlog(0, "", "consume", "words", "--exit"); got != "a\nb\nc\n" {
		t.Errorf("consumed %q", got)
	}
	if got := b.quorlog(0, "", "consume", "pairs", "-n", "2", "-f", `%o:%k=%v;`); got != "0:k1=v1;1:k2=v2;" {
		t.Errorf("consumed %q", got)
	}
	if got := b.quorlog(0, "", "consume", "words", "--exit", "--offset", "-1"); got != "c\n" {
		t.Errorf("the last record is %q", got)
	}
	b.has(b.quorlog(0, "", "consume", "pairs", "-n", "1", "-o", "json"), `"key":"k1"`, `"value":"v1"`, `"offset":0`)
	b.quorlog(exitUsage, "", "consume", "words", "--offset", "soon")
	b.quorlog(exitUsage, "", "consume", "words", "-o", "xml")
	b.quorlog(exitUsage, "x\n", "produce", "words", "--acks", "some")
	b.quorlog(exitUsage, "", "produce", "words", filepath.Join(t.TempDir(), "missing"))
}

func TestGroupCommands(t *testing.T) {
	b := startBroker(t)
	b.quorlog(0, "a\nb\nc\nd\n", "produce", "words")
	b.quorlog(0, "", "group", "reset", "workers", "--to", "1", "--topic", "words")
	b.has(b.quorlog(0, "", "group", "describe", "workers"), "state Empty", "lag 3")
	b.has(b.quorlog(0, "", "group", "list"), "workers")
	if got := b.quorlog(0, "", "consume", "words", "--group", "workers", "-n", "3"); got != "b\nc\nd\n" {
		t.Errorf("the group read %q", got)
	}
	b.has(b.quorlog(0, "", "group", "reset", "workers", "--to", "end", "--dry-run"), "4")
	b.quorlog(exitUsage, "", "group", "reset", "workers")
	b.has(b.quorlog(0, "", "group", "delete", "workers"), "deleted workers")
	b.quorlog(exitFailed, "", "group", "delete", "workers")
}

func TestBenchCommands(t *testing.T) {
	b := startBroker(t)
	for _, kind := range []string{"produce", "consume"} {
		var r struct {
			Kind    string
			Records int64
		}
		out := b.quorlog(0, "", "bench", kind, "--records", "2000", "--record-size", "100", "-q", "-o", "json")
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.Kind != kind || r.Records != 2000 {
			t.Errorf("bench %s: %+v, %v", kind, r, err)
		}
	}
	b.has(b.quorlog(0, "", "bench", "e2e", "--topic", "e2e", "--records", "50", "--throughput", "500", "-q"), "e2e: 50 records", "p99")
	b.quorlog(exitUsage, "", "bench", "produce", "--records", "0")
	b.has(b.quorlog(0, "", "bench", "produce", "--protocol", "grpc", "--topic", "native", "--records", "500", "-q"), "produce: 500 records")
	b.quorlog(exitUsage, "", "bench", "consume", "--protocol", "grpc")
	b.quorlog(exitUsage, "", "bench", "produce", "--protocol", "grpc", "--acks", "1")
}

func TestLogCommands(t *testing.T) {
	b := startBroker(t)
	b.quorlog(0, "a\nb\n", "produce", "words")
	b.quorlog(0, "c\n", "produce", "others")
	b.stop()
	b.has(b.quorlog(0, "", "log", "verify", b.dir), "log end offset 2")
	// What the shell makes of the pattern in the help: the first partition of every topic.
	dirs, err := filepath.Glob(filepath.Join(b.dir, "partitions", "*-0"))
	if err != nil || len(dirs) != 2 {
		t.Fatalf("%v, %v", dirs, err)
	}
	b.has(b.quorlog(0, "", append([]string{"log", "dump", "--records"}, dirs...)...), dirs[0], dirs[1])
	b.has(b.quorlog(0, "", append([]string{"log", "verify"}, dirs...)...), dirs[0], dirs[1])
	b.quorlog(exitUsage, "", "log", "dump")
	b.has(b.quorlog(0, "", "log", "dump", b.dir, "--records"), "epoch", "batch")
	b.quorlog(exitUsage, "", "log", "verify", t.TempDir())
}

func TestUsage(t *testing.T) {
	b := &broker{t: t, addr: unused}
	b.has(b.quorlog(0, "", "version"), "quorlog ")
	b.has(b.quorlog(0, "", "--help"), "bench", "serve", "--data-dir", "QUORLOG_DATA_DIR")
	b.quorlog(exitUsage, "", "--no-such-flag")
	b.quorlog(exitUsage, "", "serve", "--listen", "nowhere")
	b.quorlog(exitUnreachable, "", "topic", "list")
	// A script must not go on after a command that was never run, nor take a wrong line for one that was tried.
	b.quorlog(exitUsage, "", "node", "drian", "3")
	b.quorlog(exitUsage, "", "nodde")
	b.quorlog(exitUsage, "", "topic", "list", "extra")
	b.quorlog(exitUsage, "", "user", "rm")
	b.quorlog(exitUsage, "", "completion", "nonsense")
	var errs bytes.Buffer
	if run(t.Context(), []string{"node", "drian", "3"}, strings.NewReader(""), io.Discard, &errs); !strings.Contains(errs.String(), "did you mean drain") {
		t.Errorf("no help with a slip: %s", errs.String())
	}
	b.has(b.quorlog(0, "", "topic"), "create", "describe")
	b.has(b.quorlog(0, "", "node", "drian", "--help"), "undrain")
	b.has(b.quorlog(0, "", "help", "topic"), "create", "describe")
}

// Every command says with the same code that it was called wrongly, and what removes something is called the same way everywhere.
func TestEveryCommandRefuses(t *testing.T) {
	b := &broker{t: t, addr: unused}
	var walk func(cmd *cobra.Command, path []string)
	walk = func(cmd *cobra.Command, path []string) {
		if cmd.Name() == "remove" && !cmd.HasAlias("rm") {
			t.Errorf("%s has no alias rm", strings.Join(path, " "))
		}
		if cmd.HasSubCommands() {
			b.quorlog(exitUsage, "", append(path, "nonsense")...)
		}
		for _, args := range [][]string{nil, {"x"}} {
			if cmd.Args != nil && cmd.Args(cmd, args) != nil {
				b.quorlog(exitUsage, "", append(path, args...)...)
			}
		}
		for _, sub := range cmd.Commands() {
			walk(sub, append(slices.Clone(path), sub.Name()))
		}
	}
	walk(newRoot(), nil)
}
