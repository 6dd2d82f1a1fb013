package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/internal/metrics"
	"github.com/quorlog/quorlog/log/batch"
	"github.com/quorlog/quorlog/replication"
)

// series are the values of a scrape by name and labels, as the text form has them.
type series map[string]float64

func scrapeNode(t *testing.T, a *Agent) series {
	t.Helper()
	status, body := httpGet(t, a.Addr(), "/metrics")
	if status != 200 {
		t.Fatalf("%d: %s", status, body)
	}
	return parseSeries(t, body)
}

func parseSeries(t *testing.T, body string) series {
	t.Helper()
	out := series{}
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndex(line, " ")
		v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out[line[:i]] = v
	}
	return out
}

// names lists the metrics' names in a scrape, histograms by theirs.
func (s series) names() map[string]bool {
	out := map[string]bool{}
	for key := range s {
		name, _, _ := strings.Cut(key, "{")
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && strings.HasSuffix(base, "_seconds") {
				name = base
			}
		}
		out[name] = true
	}
	return out
}

func sumOf(nodes []series, key string) (sum float64) {
	for _, s := range nodes {
		sum += s[key]
	}
	return sum
}

// TestMetricsOfACluster: what three nodes tell adds up to what was produced and consumed, each thing once, and the lags are what an
// administrator's client computes from the offsets.
func TestMetricsOfACluster(t *testing.T) {
	c := startClusterWith(t, 3, calm) // a change of leaders would have requests counted twice
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl := newClient(t, seeds(c), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()))
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(ctx, 4, 3, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	const records = 400
	for i := range records {
		r := &kgo.Record{Topic: "orders", Partition: int32(i % 4), Value: make([]byte, 100)}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	consumeAllOf(ctx, t, "orders", records, seeds(c))
	groups := []string{"a", "b", "\xff bytes", strings.Repeat("long", 1000)}
	for i, g := range groups {
		var offsets kadm.Offsets
		for p := range int32(4) {
			offsets.AddOffset("orders", p, int64(10*(i+1))+int64(p), -1)
		}
		if err := adm.CommitAllOffsets(ctx, g, offsets); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range c.Nodes() {
		if status, body := httpGet(t, n.Addr(), "/v1/topics"); status != http.StatusOK {
			t.Errorf("%d %s", status, body)
		}
	}
	nodes := scrapeUntilSettled(ctx, t, c, len(groups))
	lags, err := adm.Lag(ctx, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups[:2] {
		var sum float64
		for _, l := range lags[g].Lag.Sorted() {
			key := fmt.Sprintf(`{consumergroup="%s",partition="%d",topic="orders"}`, g, l.Partition)
			if got := sumOf(nodes, "kafka_consumergroup_lag"+key); got != float64(l.Lag) || l.Lag < 50 {
				t.Errorf("%s: lag %v, want %d", key, got, l.Lag)
			}
			if got := sumOf(nodes, "kafka_consumergroup_current_offset"+key); got != float64(l.Commit.At) {
				t.Errorf("%s: offset %v, want %d", key, got, l.Commit.At)
			}
			sum += float64(l.Lag)
		}
		if got := sumOf(nodes, `kafka_consumergroup_lag_sum{consumergroup="`+g+`",topic="orders"}`); got != sum {
			t.Errorf("%s: sum %v, want %v", g, got, sum)
		}
	}
	for key, want := range map[string]float64{
		`kafka_server_brokertopicmetrics_messagesin_total{topic="orders"}`:                       records,
		`kafka_server_brokertopicmetrics_totalproducerequests_total{topic="orders"}`:             records,
		`kafka_server_brokertopicmetrics_failedproducerequests_total{topic="orders"}`:            0,
		`kafka_consumergroup_members{consumergroup="\"\\xff bytes\""}`:                           0,
		`kafka_consumergroup_current_offset_sum{consumergroup="\"\\xff bytes\"",topic="orders"}`: 126,
		`kafka_topic_partitions{topic="orders"}`:                                                 4,
		`kafka_brokers`:                                                                          3,
		`kafka_controller_kafkacontroller_activecontrollercount`:                                 1,
		`kafka_controller_kafkacontroller_offlinepartitionscount`:                                0,
		`kafka_server_replicamanager_partitioncount`:                                             3 * (4 + 16),
		`kafka_server_replicamanager_leadercount`:                                                4 + 16,
		`kafka_server_replicamanager_underreplicatedpartitions`:                                  0,
		`quorlog_peers_connected`:                                                                6,
		`quorlog_ready`:                                                                          3,
		`quorlog_metadata_voters`:                                                                9,
		`quorlog_metrics_dropped_series`:                                                         0,
		`quorlog_grpc_calls_total{code="OK",method="quorlog.v1.Topics/ListTopics"}`:              3,
		`quorlog_grpc_duration_seconds_count{method="quorlog.v1.Topics/ListTopics"}`:             3,
		`kafka_topic_partition_replicas{partition="2",topic="orders"}`:                           3,
		`kafka_topic_partition_in_sync_replica{partition="2",topic="orders"}`:                    3,
		`kafka_topic_partition_current_offset{partition="2",topic="orders"}`:                     records / 4,
		`kafka_cluster_partition_underminisr{partition="2",topic="orders"}`:                      0,
	} {
		if got := sumOf(nodes, key); got != want {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
	for _, key := range []string{"kafka_server_brokertopicmetrics_bytesin_total", "kafka_server_brokertopicmetrics_bytesout_total"} {
		if got := sumOf(nodes, key+`{topic="orders"}`); got < 100*records || got > 300*records {
			t.Errorf("%s: %v", key, got)
		}
	}
	for _, n := range c.Nodes() {
		checkSizes(ctx, t, n, adm, 4, 100*records/4)
	}
	checkNames(t, nodes)
	for _, n := range nodes {
		for key := range n {
			if len(key) > 1000 {
				t.Errorf("a client has made a series of %d bytes: %.200s...", len(key), key)
			}
		}
	}
}

// checkSizes: a node tells of its replica of each of a topic's partitions what DescribeLogDirs does, and that is what was written and
// what goes with it.
func checkSizes(ctx context.Context, t *testing.T, n *Agent, adm *kadm.Client, partitions int, written float64) {
	t.Helper()
	described := func() map[string]float64 {
		dirs, err := adm.DescribeBrokerLogDirs(ctx, int32(n.node.NodeID), nil)
		if err != nil {
			t.Fatal(err)
		}
		sizes := map[string]float64{}
		dirs.EachPartition(func(p kadm.DescribedLogDirPartition) {
			if p.Topic == "orders" {
				sizes[fmt.Sprintf(`kafka_log_log_size{partition="%d",topic="orders"}`, p.Partition)] = float64(p.Size)
			}
		})
		return sizes
	}
	want := described()
	told := scrapeNode(t, n)
	for again := described(); !maps.Equal(want, again); again = described() { // a new leader has written something of its own
		want, told = again, scrapeNode(t, n)
	}
	if len(want) != partitions {
		t.Errorf("node %d has %d replicas", n.node.NodeID, len(want))
	}
	for key, size := range want {
		if told[key] != size || size < written || size > 3*written {
			t.Errorf("node %d: %s is %v, and %v by DescribeLogDirs; there were %v bytes of values", n.node.NodeID, key, told[key], size, written)
		}
	}
}

// consumeAllOf reads records, whatever is in them.
func consumeAllOf(ctx context.Context, t *testing.T, topic string, n int, opts ...kgo.Opt) {
	t.Helper()
	cl := newClient(t, append(opts, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	for got := 0; got < n; {
		got += cl.PollFetches(ctx).NumRecords()
		if err := ctx.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", got, n, err)
		}
	}
}

// scrapeUntilSettled scrapes until each partition is told by exactly one leader, and the controller and the groups' coordinators know
// all of them: where the machine is slow a leader may change in the test, or between the scrapes of two nodes.
func scrapeUntilSettled(ctx context.Context, t *testing.T, c *Cluster, groups int) []series {
	t.Helper()
	for {
		var nodes []series
		for _, n := range c.Nodes() {
			nodes = append(nodes, scrapeNode(t, n))
		}
		if sumOf(nodes, "kafka_brokers") == 3 && sumOf(nodes, "kafka_controller_kafkacontroller_activecontrollercount") == 1 &&
			sumOf(nodes, "quorlog_peers_connected") == 6 && sumOf(nodes, "kafka_server_replicamanager_leadercount") == 20 && sumOf(nodes, "quorlog_metadata_voters") == 9 &&
			sumOf(nodes, "kafka_server_replicamanager_underreplicatedpartitions") == 0 && sumOf(nodes, "quorlog_ready") == 3 && sumOf(nodes, "quorlog_raft_learners") == 0 &&
			sumOf(nodes, "kafka_controller_kafkacontroller_offlinepartitionscount") == 0 && countOf(nodes, "kafka_consumergroup_lag{") == 4*groups {
			return nodes
		}
		if ctx.Err() != nil {
			t.Fatalf("the cluster does not settle; lags of %d partitions of groups are told", countOf(nodes, "kafka_consumergroup_lag{"))
		}
	}
}

// countOf counts the series that begin so.
func countOf(nodes []series, prefix string) (n int) {
	for _, s := range nodes {
		for key := range s {
			if strings.HasPrefix(key, prefix) {
				n++
			}
		}
	}
	return n
}

// checkNames: every row of the table is told, and nothing that is not in it.
func checkNames(t *testing.T, nodes []series) {
	t.Helper()
	elsewhere := []*metrics.Metric{&metrics.Logins, &metrics.Denials, &metrics.CertificateEnd} // told of nodes with access control
	told := map[string]bool{}
	for _, n := range nodes {
		maps.Copy(told, n.names())
	}
	for _, m := range metrics.All() {
		if !told[m.Name] && !slices.Contains(elsewhere, m) {
			t.Errorf("%s is never told", m.Name)
		}
		delete(told, m.Name)
	}
	for name := range told {
		if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") && !strings.HasPrefix(name, "promhttp_") {
			t.Errorf("%s is not in the table", name)
		}
	}
}

// checkBoundedFirst scrapes with room for nothing but what does not grow with topics, groups and partitions: all of it is told.
func checkBoundedFirst(t *testing.T, a *Agent, full series) {
	t.Helper()
	bounded := func(key string) bool {
		own := strings.HasPrefix(key, "kafka_") || strings.HasPrefix(key, "quorlog_")
		return own && !strings.Contains(key, "topic=") && !strings.Contains(key, "consumergroup=")
	}
	room := 0
	for key := range full {
		if bounded(key) {
			room++
		}
	}
	w := httptest.NewRecorder()
	metrics.Handler(metrics.Options{Gather: a.web.gather, MaxSeries: func() int { return room }, Version: "1.2.3", Logger: a.logger}).
		ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	few := parseSeries(t, w.Body.String())
	for key := range full {
		if _, told := few[key]; !told && bounded(key) {
			t.Errorf("with room for %d series, %s is left out", room, key)
		}
	}
}

// A node with an assignment of nothing is no reason to die.
func TestPrefers(t *testing.T) {
	r := []replication.ReplicaID{{Node: 2}, {Node: 1}}
	if prefers(replication.Assignment{}, 1) || prefers(replication.Assignment{Replicas: r, Removing: r}, 2) {
		t.Error("nobody is preferred")
	}
	if a := (replication.Assignment{Replicas: r, Removing: r[:1]}); prefers(a, 2) || !prefers(a, 1) {
		t.Error("1 is preferred")
	}
}

// What is asked of another node is answered for each partition that it leads, and a wrong answer is none.
func TestAskFor(t *testing.T) {
	var ids []replication.PartitionID
	for i := range int32(3) {
		ids = append(ids, replication.PartitionID{Topic: replication.TopicID{7}, Partition: i})
	}
	got, err := askFor(ids, func(body []byte) ([]byte, error) {
		if len(body) != 3*watermarksEntry || body[0] != 7 || body[2*watermarksEntry-1] != 1 {
			t.Errorf("asked %x", body)
		}
		var out []byte
		for _, mark := range []int64{5, -1, 0} {
			out = binary.BigEndian.AppendUint64(out, uint64(mark))
		}
		return out, nil
	})
	if want := []batch.Offset{5, -1, 0}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := askFor(ids, func([]byte) ([]byte, error) { return make([]byte, 16), nil }); !errors.Is(err, replication.ErrInvalidRequest) {
		t.Errorf("a short answer: %v", err)
	}
}

// BenchmarkScrape is what a scrape costs a node that leads a thousand partitions, with twenty groups that read all of them.
func BenchmarkScrape(b *testing.B) {
	a := testNode(b, nil, nil)
	if err := a.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(a.Addr()))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(b.Context(), 1000, 1, nil, "many"); err != nil {
		b.Fatal(err)
	}
	var offsets kadm.Offsets
	for p := range int32(1000) {
		offsets.AddOffset("many", p, 0, -1)
	}
	for i := range 20 {
		if err := adm.CommitAllOffsets(b.Context(), fmt.Sprint("group-", i), offsets); err != nil {
			b.Fatal(err)
		}
	}
	h := metrics.Handler(metrics.Options{Gather: a.web.gather, MaxSeries: func() int { return 1e6 }, Logger: a.logger})
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/metrics", nil))
		b.SetBytes(int64(w.Body.Len()))
	}
}

// The settings bound what a scrape tells; what is left out is counted.
func TestMetricsAreBounded(t *testing.T) {
	a := testNode(t, nil, nil)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl := newClient(t, kgo.SeedBrokers(a.Addr()))
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(ctx, 300, 1, nil, "many"); err != nil {
		t.Fatal(err)
	}
	set := func(name, value string) {
		t.Helper()
		if err := config.Validate(config.Broker, name, value); err != nil {
			t.Fatal(err)
		}
		res, err := adm.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}})
		if err != nil || res[0].Err != nil {
			t.Fatal(err, res)
		}
	}
	has := func(s series, part string) bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(s)), func(k string) bool { return strings.Contains(k, part) })
	}
	full := scrapeNode(t, a)
	for ; full["kafka_server_replicamanager_leadercount"] != 300; full = scrapeNode(t, a) {
		pause(ctx, t) // the answer of who creates many does not wait for all to be led
	}
	checkBoundedFirst(t, a, full)
	if n := len(full); n < 2000 || full["quorlog_metrics_dropped_series"] != 0 {
		t.Errorf("%d series, %v dropped", n, full["quorlog_metrics_dropped_series"])
	}
	set("quorlog.metrics.max.series", "1000")
	few := scrapeNode(t, a)
	if n := len(few); n > 1300 || few["quorlog_metrics_dropped_series"] < 1000 || !has(few, `bytesin_total{topic="many"`) {
		t.Errorf("%d series, %v dropped", n, few["quorlog_metrics_dropped_series"])
	}
	set("quorlog.metrics.partition.level", "topic")
	if s := scrapeNode(t, a); has(s, "partition=") || !has(s, `topic="many"`) || s["quorlog_metrics_dropped_series"] != 0 {
		t.Errorf("level topic: %d series, %v dropped", len(s), s["quorlog_metrics_dropped_series"])
	}
	set("quorlog.metrics.partition.level", "off")
	if s := scrapeNode(t, a); has(s, "topic=") || s["kafka_server_replicamanager_partitioncount"] != 300 {
		t.Errorf("level off: %v", s)
	}
}
