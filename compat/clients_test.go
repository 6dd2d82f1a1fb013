package compat

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// clientPatience bounds one run of a foreign client; a healthy one needs seconds.
const clientPatience = 2 * time.Minute

// patientElections keep a machine that stalls from an election: what a client does in one is not what a test of formats is about, and
// some lose records in it or send them twice by their own defects.
var patientElections = []string{"--set", "quorlog.election.timeout.ms=10000"}

// TestForeignClients sends lines through each client, reads them back with it and with franz-go, and resumes its group
// from the committed offset.
func TestForeignClients(t *testing.T) {
	for name, client := range map[string]rig.Foreign{
		"sarama":           rig.Go("sarama"),
		"kafka-go":         rig.Go("kafkago"),
		"confluent-go":     rig.Go("confluent"),
		"kafkajs":          rig.Node,
		"confluent-python": rig.Python("confluent.py", "confluent_kafka"),
		"aiokafka":         rig.Python("aio.py", "aiokafka"),
		"java":             rig.Java("Client"),
	} {
		t.Run(name, func(t *testing.T) {
			argv := client(t)
			t.Run("one node", func(t *testing.T) { testForeignClient(t, testcluster.Start(t, testcluster.Options{}), argv) })
			t.Run("three nodes", func(t *testing.T) {
				c := testcluster.StartCluster(t, testcluster.ClusterOptions{Args: patientElections})
				testForeignClient(t, c.Node(2), argv)
			})
		})
	}
}

func testForeignClient(t *testing.T, node *testcluster.Node, argv []string) {
	const lines, firstHalf = 5000, 2000
	want := make([]string, lines)
	for i := range want {
		want[i] = fmt.Sprintf("line %05d %s", i, strings.Repeat("x", i%97))
	}
	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte(strings.Join(want, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	createTopic(t, node, "lines", 3)
	runClient(t, argv, "produce", node.Addr, "lines", file)

	sameLines(t, "franz-go", want, consumeAll(t, node, "lines", lines))
	sameLines(t, "consume", want, split(runClient(t, argv, "consume", node.Addr, "lines", strconv.Itoa(lines))))

	// The group stops after some records and is started again: together both runs must see each line once.
	first := split(runClient(t, argv, "group", node.Addr, "lines", strconv.Itoa(firstHalf), "workers"))
	if len(first) != firstHalf {
		t.Fatalf("the group's first run printed %d lines, want %d", len(first), firstHalf)
	}
	committed := committedTotal(t, node, "workers")
	if committed == 0 || committed > firstHalf {
		t.Fatalf("the group has committed %d records after %d were printed", committed, firstHalf)
	}
	second := split(runClient(t, argv, "group", node.Addr, "lines", strconv.Itoa(lines-committed), "workers"))
	sameSet(t, want, append(first, second...))
}

// sameSet checks that got holds every line of want, whatever the order; lines that were printed but not committed may
// come twice.
func sameSet(t *testing.T, want, got []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, line := range got {
		seen[line] = true
	}
	for _, line := range want {
		if !seen[line] {
			t.Fatalf("the group never saw %q (%d different lines of %d seen)", line, len(seen), len(want))
		}
	}
}

func sameLines(t *testing.T, who string, want, got []string) {
	t.Helper()
	want, got = slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))
	if !slices.Equal(want, got) {
		t.Fatalf("%s: got %d lines, want %d, or other ones", who, len(got), len(want))
	}
}

func split(out []byte) []string {
	if len(out) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// runClient runs a foreign client to its end and returns what it printed.
func runClient(t *testing.T, argv []string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:len(argv):len(argv)], args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", filepath.Base(argv[0]), args, err, stderr.Bytes())
	}
	return out
}

// newClient is a franz-go client that ends with the test.
func newClient(t *testing.T, node *testcluster.Node, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(node.Addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func createTopic(t *testing.T, node *testcluster.Node, name string, partitions int32, configs ...string) {
	t.Helper()
	kv := map[string]*string{}
	for _, c := range configs {
		k, v, _ := strings.Cut(c, "=")
		kv[k] = &v
	}
	adm := kadm.NewClient(newClient(t, node))
	resp, err := adm.CreateTopic(t.Context(), partitions, -1, kv, name)
	if err != nil {
		t.Fatalf("create %s: %v (%s)", name, err, resp.ErrMessage)
	}
}

// consumeAll reads count values from the start of a topic.
func consumeAll(t *testing.T, node *testcluster.Node, topic string, count int) []string {
	t.Helper()
	cl := newClient(t, node, kgo.ConsumeTopics(topic))
	ctx, cancel := context.WithTimeout(t.Context(), clientPatience)
	defer cancel()
	var got []string
	for len(got) < count {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", len(got), count, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	return got
}

// committedTotal adds up a group's committed offsets; the partitions start at 0.
func committedTotal(t *testing.T, node *testcluster.Node, group string) int {
	t.Helper()
	offsets, err := kadm.NewClient(newClient(t, node)).FetchOffsets(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) { total += max(0, o.At) })
	return int(total)
}
