package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/replication"
)

var update = flag.Bool("update", false, "write docs/CONFIG.md")

func TestReferenceIsCurrent(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "CONFIG.md")
	if *update {
		if err := os.WriteFile(path, []byte(Reference()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != Reference() {
		t.Errorf("docs/CONFIG.md is not what the registry says (%v): go test ./internal/config -update", err)
	}
}

// TestEveryRow: a row has a meaning, and its default is a value that it would take.
func TestEveryRow(t *testing.T) {
	for _, scope := range []Scope{Broker, Topic, Group} {
		for _, s := range All(scope) {
			if s.Doc == "" || s.check == nil || typeNames[s.Type] == "" {
				t.Errorf("%s lacks a meaning, a check or a type", s.Name)
			}
			if s.Default == "" {
				continue
			}
			if err := s.Validate(s.Default); err != nil {
				t.Errorf("%s refuses its own default: %v", s.Name, err)
			}
		}
	}
}

func TestTopicDefaults(t *testing.T) {
	c, err := Layers{}.TopicConfig()
	if err != nil {
		t.Fatal(err)
	}
	want := replication.TopicConfig{
		CleanupPolicy: replication.CleanupDelete, RetentionTime: 7 * 24 * time.Hour, RetentionBytes: -1, SegmentBytes: 1 << 30,
		SegmentAge: 7 * 24 * time.Hour, SegmentIndexBytes: 10 << 20, MaxMessageBytes: 1048588, MinInsyncReplicas: 1,
		Compression: "producer", CompressionLevel: -1, TimestampBeforeMax: 1<<63 - 1, TimestampAfterMax: time.Hour,
		DeleteRetention: 24 * time.Hour, MaxCompactionLag: 1<<63 - 1, MinCleanableRatio: 0.5, FileDeleteDelay: time.Minute,
	}
	if c != want {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

// TestStrongestValueWins follows one setting through all its layers.
func TestStrongestValueWins(t *testing.T) {
	l := Layers{}
	s, _ := Lookup(Topic, "retention.ms")
	steps := []struct {
		set    func()
		value  string
		source Source
	}{
		{func() {}, "604800000", Default},
		{func() { l.Static = map[string]string{"log.retention.hours": "2"} }, "7200000", StaticBroker},
		{func() { l.Static["log.retention.minutes"] = "3" }, "180000", StaticBroker},
		{func() { l.Static["log.retention.ms"] = "4" }, "4", StaticBroker},
		{func() { l.BrokerDefault = map[string]string{"log.retention.ms": "5"} }, "5", DynamicBrokerDefault},
		{func() { l.Broker = map[string]string{"log.retention.ms": "6"} }, "6", DynamicBroker},
		{func() { l.Topic = map[string]string{"retention.ms": "7"} }, "7", DynamicTopic},
	}
	for i, step := range steps {
		step.set()
		row := l.Describe(s)
		if row.Value.Value != step.value || row.Source != step.source || len(row.Chain) != i+1 {
			t.Errorf("step %d: %q from %d with %d values, want %q from %d with %d", i, row.Value.Value, row.Source, len(row.Chain), step.value, step.source, i+1)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		scope             Scope
		name, value, want string
	}{
		{Topic, "retention.msec", "1", "did you mean retention.ms?"},
		{Topic, "segment.bytes", "100", "at least 1048576"},
		{Topic, "cleanup.policy", "compact,shred", "expected one of delete, compact"},
		{Topic, "unclean.leader.election.enable", "true", "never elects"},
		{Topic, "remote.storage.enable", "true", "not supported"},
		{Topic, "max.message.bytes", "many", "not a number"},
		{Topic, "nonsense-without-neighbour", "1", "Unknown topic config name"},
		{Broker, "num.partitions", "0", "at least 1"},
	} {
		err := Validate(c.scope, c.name, c.value)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s=%s: %v, want %q", c.name, c.value, err, c.want)
		}
	}
}

func TestLoadPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "quorlog.yaml")
	text := "data-dir: from-file\nnode-id: 7\nrack: from-file\nkafka:\n  num.partitions: 3\n  log.retention.hours: 1\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	n, err := Load(Sources{
		File: file, Env: []string{"QUORLOG_RACK=from-env", "QUORLOG_NODE_ID=8", "KAFKA_NUM_PARTITIONS=4", "KAFKA_HOME=/opt"},
		Flags: map[string]string{"node-id": "9"}, Set: []string{"num.partitions=5"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if n.DataDir != "from-file" || n.Rack != "from-env" || n.NodeID != 9 || n.Listen != "127.0.0.1:9092" ||
		n.Kafka["num.partitions"] != "5" || n.Kafka["log.retention.hours"] != "1" {
		t.Errorf("got %+v", n)
	}
}

// TestLoadTellsEverythingAtOnce: each wrong line is named with its place.
func TestLoadTellsEverythingAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "quorlog.yaml")
	if err := os.WriteFile(file, []byte("data-dri: x\nlisten: nowhere\nkafka:\n  num.partition: 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Load(Sources{File: file, Env: []string{"QUORLOG_NOD_ID=1"}, Flags: map[string]string{"advertise": "0.0.0.0:9092", "join": "x:1"}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{":1:1: unknown setting data-dri (did you mean data-dir?)", `:2:1: "nowhere": expected host:port`,
		":4:3: Unknown broker config name: num.partition (did you mean num.partitions?)", "QUORLOG_NOD_ID", "unspecified address", "not there yet"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

func TestKafkaNames(t *testing.T) {
	for in, want := range map[string]string{"NUM_PARTITIONS": "num.partitions", "A__B_C___D": "a_b.c-d"} {
		if got := kafkaName(in); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
}

func TestAdvertisedAddress(t *testing.T) {
	n := &Node{}
	if host, port, err := n.AdvertisedAddress("127.0.0.1:9"); err != nil || host != "127.0.0.1" || port != 9 {
		t.Errorf("%s %d %v", host, port, err)
	}
	if _, _, err := n.AdvertisedAddress("[::]:9092"); err == nil {
		t.Error("an unspecified address is advertised")
	}
}
