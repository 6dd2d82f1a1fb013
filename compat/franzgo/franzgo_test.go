package franzgo

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// suite is the package whose tests are run.
const suite = "github.com/twmb/franz-go/pkg/kgo"

// outageEvery is the pause between two kills of a node.
const outageEvery = 30 * time.Second

// TestKgo runs all of the suite's tests, in both of its modes: with KGO_TEST_UNSAFE a transaction begins before the last
// one's end is answered.
func TestKgo(t *testing.T) {
	r := newRun(t, rig.Count(1_000, 50_000, 500_000))
	for i := range rig.Count(1, 1, 10) {
		for _, unsafe := range []bool{false, true} {
			if unsafe && rig.Default() {
				continue // the two modes differ in a few transactions' last step
			}
			t.Run(fmt.Sprintf("%d unsafe=%t", i+1, unsafe), func(t *testing.T) { r.once(t, unsafe) })
		}
	}
}

// TestKgoWithOutages runs them while one node after the other is killed and restarted.
func TestKgoWithOutages(t *testing.T) {
	if !rig.Full() {
		t.Skip("with -full: it takes minutes and nothing shorter than a run meets enough kills")
	}
	r := newRun(t, 500_000)
	for _, unsafe := range []bool{false, true} {
		t.Run(fmt.Sprintf("unsafe=%t", unsafe), func(t *testing.T) {
			done := make(chan struct{})
			go func() { defer close(done); r.once(t, unsafe) }()
			kills := 0
			for node := 1; !rig.Idle(outageEvery, done); node = node%3 + 1 {
				r.c.Kill(node)
				r.c.StartAll(node)
				kills++
			}
			t.Logf("%d kills", kills)
		})
	}
}

// run is a cluster, the compiled suite, and how much it does.
type run struct {
	c          *testcluster.Cluster
	binary     string
	records    int
	exceptions map[string]exception // those that hold
	dir        string               // the suite's own folder: some of its tests read its source
}

func newRun(t *testing.T, records int) *run {
	t.Helper()
	r := &run{exceptions: maps.Clone(exceptions), binary: filepath.Join(t.TempDir(), "kgo.test"), records: records}
	build := exec.Command("go", "test", "-c", "-o", r.binary, suite)
	build.Dir = testcluster.Root()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile %s: %v\n%s", suite, err, out)
	}
	list := exec.Command("go", "list", "-f", "{{.Dir}}", suite)
	list.Dir = testcluster.Root()
	dir, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	r.dir = strings.TrimSpace(string(dir))
	// TestShareGroupETL has up to six members that give records back unread. If the same record comes to five of them, which with
	// few records it does once in a hundred runs, it is given up at the default limit, and the test waits for it in vain.
	r.c = testcluster.StartCluster(t, testcluster.ClusterOptions{Args: []string{"--set", "group.share.delivery.count.limit=10"}})
	versions, err := r.c.Admin().ApiVersions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range outlived(r.exceptions, func(n need) bool {
		for _, v := range versions {
			if highest, ok := v.KeyMaxVersion(n.key); ok && highest >= n.version {
				return true
			}
		}
		return false
	}) {
		t.Errorf("the cluster has by now what %s waits for: remove it from the exceptions", name)
		delete(r.exceptions, name)
	}
	return r
}

// patience bounds one run of the suite.
func (r *run) patience() time.Duration {
	return 5*time.Minute + time.Duration(r.records)*3*time.Millisecond
}

// once runs the suite and checks how it ended.
func (r *run) once(t *testing.T, unsafe bool) {
	// Most of the suite's tests wait most of their time: sixteen at once halve that.
	args := []string{"-test.parallel", "16"}
	if names := absentOnes(r.exceptions); len(names) > 0 {
		args = append(args, "-test.skip", "^("+strings.Join(names, "|")+")$")
	}
	began := time.Now()
	got := r.tests(t, unsafe, args...)
	count := map[outcome]int{}
	for got := range maps.Values(got.results) {
		count[got]++
	}
	t.Logf("%d records: %v in %v", r.records, count, time.Since(began).Round(time.Second))
	for _, race := range races {
		last := got.stdout
		for again := 1; race.lost(got.results, last) && again <= mostAgain; again++ {
			alone := r.tests(t, unsafe, "-test.run", "^"+race.test+"$")
			t.Logf("%s failed, which is its own fault: %s. Alone, time %d: %s", race.test, race.why, again, alone.results[race.test])
			maps.Copy(got.results, alone.results)
			last = alone.stdout
			got.stdout, got.stderr = append(got.stdout, alone.stdout...), append(got.stderr, alone.stderr...)
		}
	}
	differences := compare(got.results, r.exceptions)
	for _, d := range differences {
		t.Error(d)
	}
	if len(differences) > 0 {
		r.keep(t, "stdout", got.stdout)
		r.keep(t, "stderr", got.stderr)
	}
	// A crash of the suite's process is none of its tests' outcomes.
	if got.err != nil && count[failed] == 0 {
		t.Errorf("the suite ended with %v\n%s", got.err, tail(string(got.stderr)))
	}
}

// ended is how a process of the suite ended.
type ended struct {
	results        map[string]outcome
	stdout, stderr []byte
	err            error
}

// tests runs tests of the suite.
func (r *run) tests(t *testing.T, unsafe bool, args ...string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), r.patience()+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.binary, append([]string{"-test.v=test2json", "-test.timeout", r.patience().String()}, args...)...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "KGO_SEEDS="+strings.Join(r.c.Addrs(), ","), "KGO_TEST_RF=3",
		"KGO_TEST_RECORDS="+strconv.Itoa(r.records), "KGO_LOG_LEVEL=info")
	if r.records < 10_000 { // elections of a hundred partitions would be all that a short run does
		cmd.Env = append(cmd.Env, "KGO_TEST_MAX_TOPIC_PARTS=5")
	}
	if unsafe {
		cmd.Env = append(cmd.Env, "KGO_TEST_UNSAFE=1")
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	results, parseErr := parse(bytes.NewReader(stdout.Bytes()))
	if parseErr != nil || len(results) == 0 {
		t.Fatalf("the suite's output can't be read: %v (the suite ended with %v)\n%s", parseErr, err, tail(stderr.String()))
	}
	return ended{results, stdout.Bytes(), stderr.Bytes(), err}
}

// keep leaves a failed run's output where it can be read.
func (r *run) keep(t *testing.T, what string, text []byte) {
	t.Helper()
	f, err := os.CreateTemp("", "kgo-*."+what)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Write(text); err != nil {
		t.Fatal(err)
	}
	t.Logf("the suite's %s is in %s", what, f.Name())
}

func tail(s string) string { return s[max(0, len(s)-8<<10):] }
