package lint

import (
	"strings"
)

// layer says what a package of the module may import of the module, and why it may not import the rest. A package's own
// subpackages are in its list only where it may import them. internal/allocs, internal/invariant, internal/latency, internal/leaks,
// internal/mutation, internal/scripts, internal/trace and internal/turns are free for all.
type layer struct {
	pkg string
	may []string
	why string
}

// The import table: bytes flow down, imports point down, never up, and sideways only where a line says so. What must
// travel up travels as a value, through a callback or a channel that the lower package declares. The first line that
// covers a package holds.
var layers = []layer{
	{"cmd/...", []string{"agent", "grpcapi/...", "broker/...", "replication/...", "log/...", "kafkaproto", "internal/..."},
		"a command wires parts together; fault runs and foreign clients stay out of the binary"},
	{"compat/...", []string{"agent", "cmd/...", "grpcapi/...", "broker/...", "replication/...", "log/...", "kafkaproto", "internal/...", "compat/..."},
		"anything goes here"},
	{"agent", []string{"grpcapi/...", "broker/...", "replication/...", "log/...", "kafkaproto", "internal/..."},
		"the agent is embedded in other programs, which want no command line and no test runs with it"},
	{"grpcapi/client", []string{"grpcapi/v1", "grpcapi/keys"}, "programs of others link the client, and with it nothing of a node"},
	{"grpcapi/...", []string{"grpcapi/...", "broker", "broker/produce", "broker/fetch", "broker/group", "broker/admin", "broker/auth", "replication", "replication/controller", "log/batch"},
		"gRPC is not a second broker: it calls the same services as the Kafka handlers, and reaches data through nothing else"},

	{"deploy/...", []string{"internal/..."}, "what is made of the program looks at it from outside"},

	{"broker", nil, "it holds the nouns of the services: what all import must import nothing"},
	{"broker/conn", []string{"broker", "kafkaproto", "broker/auth", "broker/quota"},
		"a connection knows frames and limits, not what requests mean; requests are handed to an interface"},
	{"broker/api", []string{"broker/...", "kafkaproto", "replication", "replication/controller", "log/batch"},
		"a handler turns structs into calls of services and back; data, logs and Raft are the services' business"},
	{"broker/coordinator/...", append([]string{"broker/coordinator/..."}, service...), serviceWhy},
	{"broker/produce", service, serviceWhy},
	{"broker/fetch", service, serviceWhy},
	{"broker/admin", append([]string{"internal/logging"}, service...), serviceWhy},
	{"broker/group/...", append([]string{"broker/group/...", "broker/coordinator"}, service...), serviceWhy},
	{"broker/txn/...", append([]string{"broker/txn/...", "broker/coordinator"}, service...), serviceWhy},
	{"broker/share/...", append([]string{"broker/share/...", "broker/coordinator"}, service...), serviceWhy},
	{"broker/auth/...", append([]string{"broker/auth/..."}, service...), serviceWhy},
	{"broker/quota/...", append([]string{"broker/quota/..."}, service...), serviceWhy},
	{"kafkaproto", nil, "the protocol's bytes are decoded and guarded without knowing what the broker does with them"},

	{"replication", []string{"log/batch"}, "it holds the nouns of the replicated side: what all import must import nothing but the log's nouns"},
	{"replication/partition", []string{"replication", "replication/raftgroup", "replication/raftlog", "replication/transport", "log", "log/batch", "log/vfs"},
		"it is the only door to replicated data: above it there are offsets, below it Raft indexes, and it knows no service; the transport it only hands to its groups"},
	{"replication/controller/...", []string{"replication", "replication/raftgroup", "replication/transport", "replication/controller/...", "internal/config", "log/batch"},
		"the controller's image is computed from its commands alone, the same on every node; partitions follow it, not the other way round; " +
			"of the transport it knows only which errors of a call are definite"},
	{"replication/raftgroup", []string{"replication", "replication/raftlog", "replication/transport", "log", "log/batch", "log/vfs"},
		"one Raft instance over one log: whose data it is, the callers know"},
	{"replication/raftlog", []string{"replication", "log", "log/batch", "log/vfs"},
		"it turns Raft's entries into the log's and back, and nothing else"},
	{"replication/transport", []string{"replication", "log/batch"},
		"it carries messages between nodes; it must not care what a group does with them"},
	{"replication/simtest", nil, "it has tests only, which may import all that is below them"},
	{"replication/leaders", []string{"replication", "log/batch"},
		"who leads is a hint that nodes push to each other: it must work without partitions and without the controller"},
	{"replication/membership", []string{"replication"},
		"gossip is a hint: it hands out plain values and decides nothing"},

	{"log", []string{"log/batch", "log/vfs"}, "one partition's files; a log that knew of Raft, of topics or of peers could not be tested by itself"},
	{"log/batch", nil, "the format of batches depends on nothing, so that everything may depend on it"},
	{"log/vfs", nil, "the seam to the operating system is what everything durable stands on"},

	{"internal/config", []string{"replication", "log/batch", "internal/logging"}, "settings are read by all; they must pull in nobody, but for the names of what they set"},
	{"internal/testcluster", []string{"internal/..."}, "it runs the built binary from outside, as a user does; what it imports it would not test"},
	{"internal/...", nil, "helpers are leaves: what all may import must not lead back to any of them"},
}

var service = []string{"broker", "replication", "replication/partition", "replication/controller", "log/batch", "internal/config"}

const serviceWhy = "a service reaches data through replication's doors, in offsets, and does not call another service: what two of them need is " +
	"a noun of package broker or an interface that the caller declares"

// freeForAll may be imported by every package.
var freeForAll = []string{"internal/allocs", "internal/invariant", "internal/latency", "internal/leaks", "internal/mutation", "internal/scripts", "internal/trace", "internal/turns"}

// testMay is what test files may import beside what their package may: a test of an upper layer runs on the real lower
// ones, and stands in for an upper one. Not the commands, the agent or compat, unless the package itself may: their tests
// test those from outside.
var testMay = []string{"broker/...", "replication/...", "log/...", "kafkaproto", "internal/..."}

// layerOf finds the line of the table for a package.
func layerOf(table []layer, pkg string) (layer, bool) {
	for _, l := range table {
		if covers(l.pkg, pkg) {
			return l, true
		}
	}
	return layer{}, false
}

// checkLayers holds each import inside the module against the table.
func checkLayers(t *tree, table []layer) (out []finding) {
	for _, f := range t.files {
		l, known := layerOf(table, f.pkg)
		if !known {
			out = append(out, finding{f.path, "package " + f.pkg + " has no line in the import table: add one, with the reason of its bans"})
			continue
		}
		for _, spec := range f.ast.Imports {
			pkg, inside := strings.CutPrefix(importPath(spec), t.module+"/")
			if !inside || pkg == f.pkg || anyCovers(freeForAll, pkg) || anyCovers(l.may, pkg) || f.test && anyCovers(testMay, pkg) {
				continue
			}
			out = append(out, t.at(spec, "%s must not import %s: %s", f.pkg, pkg, l.why))
		}
	}
	return out
}

// fence says which packages may import a module of somebody else.
type fence struct {
	module string
	may    []string
	tests  bool // any test may, too
	why    string
}

const everywhere = "..."

// The fences around other people's modules. A module without a line may not be imported at all: a new dependency is a
// decision, and its line says where it ends.
var fences = []fence{
	{"github.com/hashicorp/raft-boltdb/v2", raftOnly, false, raftWhy},
	// Tests of a partition's cluster look at the messages on its simulated network.
	{"github.com/hashicorp/raft", raftOnly, true, raftWhy},
	{"go.etcd.io/bbolt", raftOnly, false, "it stores votes and the metadata group's log, nothing else; partitions have their own log"},
	{"github.com/hashicorp/go-hclog", raftOnly, false, "Raft wants one; everybody else logs with log/slog"},
	{"github.com/hashicorp/go-metrics", raftOnly, false, "Raft wants one; everybody else counts in internal/metrics"},
	{"github.com/hashicorp/serf", []string{"replication/membership"}, false, "gossip is a hint; its types must not become the cluster's truth"},
	{"github.com/hashicorp/memberlist", []string{"replication/membership"}, false, "as for serf"},
	{"github.com/soheilhy/cmux", []string{"internal/portmux"}, false, "its connections must be unwrapped in one place, or sendfile is lost"},
	{"google.golang.org/grpc", []string{"grpcapi/..."}, true, "the services have no transport"},
	{"github.com/grpc-ecosystem/grpc-gateway/v2", []string{"grpcapi/..."}, false, "as for grpc"},
	{"google.golang.org/genproto", []string{"grpcapi/..."}, true, "as for grpc"},
	{"github.com/bufbuild/protocompile", []string{"grpcapi/gen"}, false, "protos are compiled when code is generated, never by a node"},
	{"google.golang.org/protobuf", []string{"grpcapi/...", "replication/controller/...", "replication/transport"}, true,
		"messages that leave the process are made at the edges; services speak Go structs"},
	{"github.com/casbin/casbin/v2", []string{"broker/auth/..."}, true, "it decides policies; the hot path has its own index"},
	{"github.com/xdg-go/scram", nil, true, "tests log in with it; the node's side is our own (docs/decisions/0009)"},
	{"github.com/twmb/franz-go/pkg/kmsg", []string{"kafkaproto", "broker/api", "broker/group", "broker/txn", "broker/share", "cmd/...", "compat/..."}, true,
		"wire structs stop at broker/api; a coordinator uses only the schemas of its records, a command only requests that kadm lacks"},
	{"github.com/twmb/franz-go/pkg/kgo", clients, true, clientsWhy},
	{"github.com/twmb/franz-go/pkg/kadm", clients, true, clientsWhy},
	{"github.com/twmb/franz-go/pkg/kerr", clients, true, clientsWhy},
	{"github.com/twmb/franz-go/pkg/kversion", clients, true, clientsWhy},
	{"github.com/twmb/franz-go/pkg/sasl", clients, true, clientsWhy},
	{"github.com/twmb/franz-go/pkg/kfake", []string{"compat/..."}, true, "it is what we are compared with"},
	{"github.com/tysonmote/gommap", []string{"log/vfs"}, false, "mappings stay behind the seam, so that a test file system can stand in for them"},
	{"github.com/klauspost/compress", []string{"log/batch", "compat/..."}, true, "batches are compressed and measured in one place, with its limits"},
	{"github.com/pierrec/lz4/v4", []string{"log/batch"}, true, "as for klauspost/compress"},
	{"github.com/spf13/cobra", []string{"cmd/..."}, false, "flags are the commands' business; an embedded agent has none"},
	{"github.com/spf13/pflag", []string{"cmd/..."}, false, "as for cobra"},
	{"github.com/HdrHistogram/hdrhistogram-go", []string{"internal/bench", "cmd/...", "compat/..."}, true, "the benchmarks' histogram; a node's metrics are Prometheus'"},
	{"go.yaml.in/yaml/v3", []string{"internal/config", "cmd/...", "compat/..."}, true, "one place reads settings"},
	{"github.com/prometheus/client_golang", []string{"internal/metrics"}, true, "one registry, in one place"},
	{"github.com/prometheus/common", nil, true, "for tests: it reads what we write"},
	{"go.opentelemetry.io/otel", []string{"internal/otlp"}, true, "one tracer, in one place: others tell internal/trace"},
	{"go.opentelemetry.io/proto/otlp", nil, true, "for tests"},
	{"golang.org/x/sys", []string{"log/vfs", "broker/conn", "cmd/...", "internal/testcluster"}, true, "system calls are made where files and sockets are, nowhere else"},
	{"golang.org/x/sync", []string{everywhere}, true, "as harmless as the standard library"},
	{"pgregory.net/rapid", nil, true, "for tests"},
	{"go.uber.org/goleak", []string{"internal/leaks"}, true, "for tests"},
	{"github.com/anishathalye/porcupine", []string{"compat/..."}, true, "for tests"},
	{"github.com/rogpeppe/go-internal", nil, true, "for tests"},
}

var (
	raftOnly = []string{"replication/transport", "replication/raftlog", "replication/raftgroup"}
	clients  = []string{"cmd/...", "internal/bench", "internal/testcluster", "compat/..."}
)

const (
	raftWhy    = "Raft's types and indexes never leave these packages: above them there are offsets and leader epochs"
	clientsWhy = "the broker must not use a client's view of Kafka for its own answers; clients are for commands and tests"
)

func fenceOf(table []fence, pkg string) (fence, bool) {
	for _, f := range table {
		if covers(f.module+"/...", pkg) {
			return f, true
		}
	}
	return fence{}, false
}

// checkFences holds each import of a foreign module against the table.
func checkFences(t *tree, table []fence) (out []finding) {
	for _, f := range t.files {
		for _, spec := range f.ast.Imports {
			pkg := importPath(spec)
			first, _, _ := strings.Cut(pkg, "/")
			if covers(t.module+"/...", pkg) || !strings.Contains(first, ".") {
				continue // ours, or the standard library's
			}
			fence, known := fenceOf(table, pkg)
			switch {
			case !known:
				out = append(out, t.at(spec, "%s has no line among the fences: add one that says who may import it, and why only they", pkg))
			case f.test && fence.tests, anyCovers(fence.may, f.pkg), len(fence.may) > 0 && fence.may[0] == everywhere:
			default:
				out = append(out, t.at(spec, "%s must not import %s: %s", f.pkg, pkg, fence.why))
			}
		}
	}
	return out
}
