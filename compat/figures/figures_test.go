package figures

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scrape reads a node's figures as Prometheus does; add is called for each sample of a metric, with its labels.
func scrape(t *testing.T, addr, metric string, add func(labels map[string]string, value float64)) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	if len(families) < 50 {
		t.Errorf("%d metrics", len(families))
	}
	for _, m := range families[metric].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		add(labels, m.GetGauge().GetValue()+m.GetCounter().GetValue())
	}
}

const (
	topic      = "orders"
	partitions = 5
	records    = partitions*100 + 10*(0+1+2+3+4)
)

// lagging has two groups lag behind what is produced. The lags are what an administrator's client computes, by lagName.
func lagging(t *testing.T, c *testcluster.Cluster) (groups []string, lags map[string]float64) {
	t.Helper()
	c.CreateTopic(topic, partitions, 3)
	ctx, cancel := context.WithTimeout(t.Context(), rig.Patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for p := range int32(partitions) {
		for range 100 + 10*p {
			cl.Produce(ctx, &kgo.Record{Topic: topic, Partition: p, Value: []byte("v")}, nil)
		}
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	groups = []string{"slow", "fast"}
	for i, group := range groups {
		var at kadm.Offsets
		for p := range int32(partitions - 1) { // of the last one nothing is committed
			at.AddOffset(topic, p, int64(50*i)+int64(p), -1)
		}
		if err := c.Admin().CommitAllOffsets(ctx, group, at); err != nil {
			t.Fatal(err)
		}
	}
	computed, err := c.Admin().Lag(ctx, groups...)
	if err := errors.Join(err, computed.Error()); err != nil {
		t.Fatal(err)
	}
	lags = map[string]float64{}
	for _, l := range computed {
		for _, p := range l.Lag.Sorted() {
			if p.Commit.At >= 0 {
				lags[fmt.Sprintf("%s %s %d", l.Group, p.Topic, p.Partition)] = float64(p.Lag)
			}
		}
	}
	if len(lags) != len(groups)*(partitions-1) {
		t.Errorf("an administrator's client computes %v", lags)
	}
	return groups, lags
}

// lagName is a group, a topic and a partition.
func lagName(labels map[string]string) string {
	return labels["consumergroup"] + " " + labels["topic"] + " " + labels["partition"]
}

// TestLag: what three nodes tell of a group's lag is what an administrator's client computes, and what kafka-consumer-groups
// --describe shows.
func TestLag(t *testing.T) {
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{})
	groups, want := lagging(t, c)
	rig.Await(t, func() string { // a new coordinator may be reading yet
		got := map[string]float64{}
		for _, addr := range c.Addrs() {
			scrape(t, addr, "kafka_consumergroup_lag", func(l map[string]string, v float64) {
				got[lagName(l)] += v
			})
		}
		if !maps.Equal(got, want) {
			return fmt.Sprintf("told are %v, want %v", got, want)
		}
		return ""
	})
	t.Run("kafka-consumer-groups", func(t *testing.T) {
		tool, shown := consumerGroups(t), map[string]float64{}
		ctx, cancel := context.WithTimeout(t.Context(), rig.Patience)
		defer cancel()
		for _, group := range groups {
			maps.Copy(shown, describe(ctx, t, tool, c, group))
		}
		if !maps.Equal(shown, want) {
			t.Errorf("shown are %v, want %v", shown, want)
		}
	})
}

// consumerGroups is the start of a command line of Kafka's tool.
func consumerGroups(t *testing.T) []string {
	argv := rig.Java("Client")(t)
	jars, err := filepath.Glob(filepath.Join(testcluster.Root(), "compat", "clients", "java", "target", "dependency", "kafka-tools-*.jar"))
	if err != nil || len(jars) == 0 {
		testcluster.Missing(t, "Kafka's tools", fmt.Errorf("no kafka-tools jar: run mvn package dependency:copy-dependencies in compat/clients/java (%w)", errors.Join(err, os.ErrNotExist)))
	}
	argv[len(argv)-1] = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
	return argv
}

// describe runs the tool; the lags are by group, topic and partition.
func describe(ctx context.Context, t *testing.T, tool []string, c *testcluster.Cluster, group string) map[string]float64 {
	t.Helper()
	args := append(tool[1:len(tool):len(tool)], "--bootstrap-server", strings.Join(c.Addrs(), ","), "--describe", "--group", group)
	out, err := exec.CommandContext(ctx, tool[0], args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	lags := map[string]float64{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line) // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG ...
		if len(f) < 6 || f[0] != group {
			continue
		}
		lag, err := strconv.ParseFloat(f[5], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lags[f[0]+" "+f[1]+" "+f[2]] = lag
	}
	return lags
}

const (
	idleMemory = 60 << 20
	idleTime   = 3 * time.Second
	startTime  = 500 * time.Millisecond
)

// TestIdleNode: a single node serves its first record soon after its start, on an empty directory and on its own, and then rests.
func TestIdleNode(t *testing.T) {
	testcluster.Binary(t) // built before time is taken
	dir := t.TempDir()
	began := time.Now()
	n := testcluster.Start(t, testcluster.Options{DataDir: dir})
	for _, what := range []string{"first start", "second start"} {
		ready := time.Since(began)
		produce(t, n.Addr)
		took := time.Since(began)
		t.Logf("%s: ready after %v, first record after %v", what, ready.Round(time.Millisecond), took.Round(time.Millisecond))
		if took > startTime && rig.Full() { // with nothing else on the machine
			t.Errorf("%s: the first record took %v", what, took)
		}
		if what == "second start" {
			break
		}
		n.Stop()
		began = time.Now()
		n.Restart()
	}
	before := usage(t, n.Pid)
	rig.Idle(idleTime, nil)
	after := usage(t, n.Pid)
	cpu := float64(after.ticks-before.ticks) / 100 / idleTime.Seconds()
	t.Logf("idle: %d MiB, %.1f %% of a processor", after.resident>>20, 100*cpu)
	if after.resident > idleMemory {
		t.Errorf("%d MiB when idle", after.resident>>20)
	}
}

func produce(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rig.Patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(10*time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "first", Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// used is what a process has used.
type used struct {
	resident int64 // bytes
	ticks    int64 // hundredths of a second of a processor
}

func usage(t *testing.T, pid int) used {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("this system does not tell the memory of a process in /proc")
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(after)
	if err != nil || len(f) < 22 {
		t.Fatalf("%v: %q", err, stat)
	}
	number := func(i int) int64 { // counted as in proc(5), where the third is the first behind the name
		v, err := strconv.ParseInt(f[i-3], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	return used{resident: number(24) * int64(os.Getpagesize()), ticks: number(14) + number(15)}
}
