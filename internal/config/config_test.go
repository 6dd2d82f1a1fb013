package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/internal/scripts"
	"github.com/quorlog/quorlog/replication"
)

func TestReferenceIsCurrent(t *testing.T) {
	scripts.Golden(t, filepath.Join("..", "..", "docs", "CONFIG.md"), Reference(), "it is not what the table says: go test ./internal/config -update")
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

// TestTopicsFallBackOnBrokers: a topic setting and the broker setting behind it have the same default, type and range, and
// no setting that could change live is out of reach of that.
func TestTopicsFallBackOnBrokers(t *testing.T) {
	for _, topic := range All(Topic) {
		if !topic.Dynamic {
			t.Errorf("%s can't be changed, but a topic has nothing that is fixed at its start", topic.Name)
		}
		for i, name := range topic.Synonyms {
			b, ok := Lookup(Broker, name)
			if !ok {
				t.Errorf("%s falls back on %s, which does not exist", topic.Name, name)
				continue
			}
			if i == 0 && (b.Default != topic.Default || b.Type != topic.Type || b.Range != topic.Range || !b.Dynamic) {
				t.Errorf("%s is not as %s", name, topic.Name)
			}
			if i > 0 && (b.Default != "" || b.Dynamic) {
				t.Errorf("%s hides the default of %s, or changes live", name, topic.Synonyms[0])
			}
		}
	}
	if n := len(All(Topic)) + len(All(Broker)) + len(All(Group)) + len(NodeSettings()); n < 100 {
		t.Errorf("only %d rows", n)
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
		":4:3: Unknown broker config name: num.partition (did you mean num.partitions?)", "QUORLOG_NOD_ID", "unspecified address", "cluster-key-file: needed"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

// TestHostNames: names of hosts have no ports, and none is empty.
func TestHostNames(t *testing.T) {
	for names, want := range map[string]bool{
		"": true, "a.example.com": true, "A.example.com, .example.net,*": true, "_a.b-c.d": true,
		"a.example.com:80": false, "http://a": false, "*.example.com": false, ".": false, "a b": false, "[::1]": false,
	} {
		if _, err := Load(Sources{Set: []string{"quorlog.http.hosts=" + names}}); (err == nil) != want {
			t.Errorf("%q: %v", names, err)
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
	n := Listener{}
	if host, port, err := n.AdvertisedAddress("127.0.0.1:9"); err != nil || host != "127.0.0.1" || port != 9 {
		t.Errorf("%s %d %v", host, port, err)
	}
	if _, _, err := n.AdvertisedAddress("[::]:9092"); err == nil {
		t.Error("an unspecified address is advertised")
	}
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "quorlog.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestDefaults: without any configuration a node is on the loopback interface, with its data in the working directory.
func TestDefaults(t *testing.T) {
	n, err := Load(Sources{})
	if err != nil {
		t.Fatal(err)
	}
	if n.NodeID != 1 || n.Listen != "127.0.0.1:9092" || n.DataDir != "./quorlog-data" || n.BootstrapExpect != 1 || n.LogFormat != "text" {
		t.Errorf("%+v", n)
	}
	if !(Layers{Static: n.Kafka}).Bool("auto.create.topics.enable") {
		t.Error("topics are not created automatically")
	}
}

// TestFileForms: everything that may stand in a file.
func TestFileForms(t *testing.T) {
	for _, tc := range []struct {
		what, text string
		want       string // in the error; empty: none
		check      func(*Node) bool
	}{
		{"empty", "", "", func(n *Node) bool { return n.NodeID == 1 }},
		{"comment", "# nothing\n", "", func(n *Node) bool { return n.NodeID == 1 }},
		{"no value", "rack:\nkafka:\n", "", func(n *Node) bool { return n.Rack == "" }},
		{"a list", "kafka:\n  log.cleanup.policy: [compact, delete]\n", "", func(n *Node) bool { return n.Kafka["log.cleanup.policy"] == "compact,delete" }},
		{"an alias", "rack: &r east\nlog-format: json\ndata-dir: *r\n", "", func(n *Node) bool { return n.DataDir == "east" }},
		{"a list with an alias", "rack: &r compact\nkafka: {log.cleanup.policy: [*r]}\n", "", func(n *Node) bool { return n.Kafka["log.cleanup.policy"] == "compact" }},
		{"twice", "rack: a\nrack: b\n", ":2:1: rack is set twice", nil},
		{"twice below", "kafka:\n  num.partitions: 1\n  num.partitions: 2\n", ":3:3: num.partitions is set twice", nil},
		{"a mapping", "rack: {a: b}\n", ":1:1: rack: expected a value or a list", nil},
		{"a list of lists", "kafka:\n  log.cleanup.policy: [[a]]\n", "log.cleanup.policy: expected a value or a list", nil},
		{"no mapping", "- a\n", ":1: expected name: value lines", nil},
		{"kafka is no mapping", "kafka: 5\n", ":1: expected name: value lines", nil},
		{"no yaml", "a: [\n", "quorlog.yaml: yaml:", nil},
		{"kafka's name at the top", "num.partitions: 5\n", "Kafka's settings stand under kafka:", nil},
		{"a topic's name", "kafka: {retention.ms: 5}\n", "did you mean log.retention.ms?", nil},
		{"not ours", "kafka: {zookeeper.connect: x}\n", "there is no ZooKeeper", nil},
		{"unclean", "kafka: {unclean.leader.election.enable: true}\n", "never elects a replica", nil},
		{"no number", "node-id: one\n", `"one": expected a number from 0`, nil},
		{"empty directory", "data-dir: ''\n", "must not be empty", nil},
	} {
		n, err := Load(Sources{File: writeFile(t, tc.text)})
		if tc.want == "" && (err != nil || !tc.check(n)) {
			t.Errorf("%s: %+v, %v", tc.what, n, err)
		}
		if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.what, err, tc.want)
		}
	}
	if _, err := Load(Sources{File: filepath.Join(t.TempDir(), "none")}); err == nil {
		t.Error("a file that is not there was read")
	}
	if _, err := Load(Sources{Set: []string{"num.partitions"}}); err == nil || !strings.Contains(err.Error(), "expected name=value") {
		t.Error(err)
	}
}

// TestContainerEnvironment: what Kubernetes puts into every container for a service named quorlog is no configuration, and
// neither is an empty variable.
func TestContainerEnvironment(t *testing.T) {
	n, err := Load(Sources{Env: []string{
		"QUORLOG_SERVICE_HOST=10.0.0.1", "QUORLOG_SERVICE_PORT=9092", "QUORLOG_SERVICE_PORT_KAFKA=9092", "QUORLOG_PORT=tcp://10.0.0.1:9092",
		"QUORLOG_PORT_9092_TCP=tcp://10.0.0.1:9092", "QUORLOG_PORT_9092_TCP_ADDR=10.0.0.1", "QUORLOG_HEADLESS_SERVICE_HOST=None",
		"QUORLOG_BROKERS=x:1", "QUORLOG_USER=x", "QUORLOG_PASSWORD_FILE=x", "QUORLOG_SASL_MECHANISM=PLAIN", "QUORLOG_NODE_ID=", "KAFKA_HEAP_OPTS=-Xmx1G", "KAFKA_PROCESS_ROLES=broker", "PATH=/bin", "odd",
	}})
	if err != nil || n.NodeID != 1 {
		t.Errorf("%+v, %v", n, err)
	}
	_, err = Load(Sources{Env: []string{"QUORLOG_LISTNE=x", "QUORLOG_SUPPORT=x"}})
	if err == nil || !strings.Contains(err.Error(), "QUORLOG_LISTNE (did you mean QUORLOG_LISTEN?)") || !strings.Contains(err.Error(), "unknown setting QUORLOG_SUPPORT") {
		t.Error(err)
	}
}

// TestKafkaContainer: the environment of a compose file for Kafka's image works.
func TestKafkaContainer(t *testing.T) {
	env := []string{
		"KAFKA_NODE_ID=7", "KAFKA_PROCESS_ROLES=broker,controller", "KAFKA_LISTENERS=PLAINTEXT://0.0.0.0:9092,CONTROLLER://localhost:9093",
		"KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092", "KAFKA_CONTROLLER_QUORUM_VOTERS=1@localhost:9093", "KAFKA_LOG_DIRS=/data",
		"KAFKA_BROKER_RACK=east", "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1", "KAFKA_LOG_RETENTION_HOURS=24",
	}
	n, err := Load(Sources{Env: env})
	if err != nil {
		t.Fatal(err)
	}
	if n.NodeID != 7 || n.Listen != "0.0.0.0:9092" || n.Advertise != "localhost:9092" || n.DataDir != "/data" || n.Rack != "east" {
		t.Errorf("%+v", n)
	}
	for name, want := range map[string]string{
		"node.id": "7", "listeners": "PLAINTEXT://0.0.0.0:9092", "advertised.listeners": "PLAINTEXT://localhost:9092", "log.dirs": "/data", "broker.rack": "east",
		"log.retention.hours": "24", "offsets.topic.replication.factor": "1",
	} {
		if n.Kafka[name] != want {
			t.Errorf("%s is %q, want %q", name, n.Kafka[name], want)
		}
	}
	// Our own name beats Kafka's in the same place; a stronger place beats both.
	n, err = Load(Sources{Env: append(env, "QUORLOG_RACK=west", "KAFKA_BROKER_ID=3"), Set: []string{"broker.id=9"}, Flags: map[string]string{"listen": "127.0.0.1:1"}})
	if err != nil || n.Rack != "west" || n.NodeID != 9 || n.Listen != "127.0.0.1:1" {
		t.Errorf("%+v, %v", n, err)
	}
	for name, value := range map[string]string{
		"listeners": "PLAINTEXT://a:1,PLAINTEXT://b:2", "advertised.listeners": "SSL://a:1", "log.dirs": "/a,/b", "node.id": "x",
	} {
		if _, err := Load(Sources{Set: []string{name + "=" + value}}); err == nil || !strings.Contains(err.Error(), "--set "+name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, addr := range []string{"localhost", "localhost:x", "localhost:70000", "localhost:-1"} {
		if _, err := Load(Sources{Flags: map[string]string{"listen": addr}}); err == nil {
			t.Errorf("listening on %s", addr)
		}
	}
	for _, addr := range []string{":9092", "0.0.0.0:9092", "[::]:9092", "host:0", "host"} {
		if _, err := Load(Sources{Flags: map[string]string{"advertise": addr}}); err == nil {
			t.Errorf("advertising %s", addr)
		}
	}
	n := Listener{Advertise: "broker.example.com:19092"}
	if host, port, err := n.AdvertisedAddress("127.0.0.1:9"); err != nil || host != "broker.example.com" || port != 19092 {
		t.Errorf("%s %d %v", host, port, err)
	}
}

// FuzzFile gives any bytes as the configuration file.
func FuzzFile(f *testing.F) {
	f.Add([]byte("data-dir: x\nkafka:\n  num.partitions: 3\n"))
	f.Add([]byte("a: &a [*a]\nrack: *a\n"))
	f.Add([]byte("kafka: &k {a: *k}\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		file := filepath.Join(dir, "fuzz.yaml")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := Load(Sources{File: file})
		if err == nil && n.DataDir == "" {
			t.Error("no data directory")
		}
	})
}
