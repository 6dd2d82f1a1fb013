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
	"github.com/quorlog/quorlog/internal/certs"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// suite is the package whose tests are run.
const suite = "github.com/twmb/franz-go/pkg/kgo"

// outageEvery is the pause between two kills of a node.
const outageEvery = 30 * time.Second

// mode is the environment that makes a mode of the suite.
type mode []string

var (
	normal mode
	// unsafe has a transaction begin before the last one's end is answered.
	unsafe = mode{"KGO_TEST_UNSAFE=1"}
)

// TestKgo runs all of the suite's tests, in both of its modes.
func TestKgo(t *testing.T) {
	r := newRun(t, rig.Count(1_000, 50_000, 500_000))
	for i := range rig.Count(1, 1, 5) { // ten runs in a row
		t.Run(fmt.Sprint(i+1), func(t *testing.T) { r.once(t, normal) })
		if !rig.Default() { // the two modes differ in a few transactions' last step
			t.Run(fmt.Sprint(i+1, " unsafe"), func(t *testing.T) { r.once(t, unsafe) })
		}
	}
}

// TestKgoTLS runs them over TLS, with a client's certificate.
func TestKgoTLS(t *testing.T) {
	if rig.Default() {
		t.Skip("with -ci or -full: TestKgo has run the same without TLS")
	}
	r := newRun(t, rig.Count(1_000, 5_000, 500_000))
	maps.Copy(r.exceptions, overTLS)
	r.once(t, r.tls)
}

// TestKgoWithOutages runs them while one node after the other is killed and restarted.
func TestKgoWithOutages(t *testing.T) {
	if !rig.Full() {
		t.Skip("with -full: it takes minutes and nothing shorter than a run meets enough kills")
	}
	r := newRun(t, 500_000)
	for name, m := range map[string]mode{"normal": normal, "unsafe": unsafe} {
		t.Run(name, func(t *testing.T) {
			done := make(chan struct{})
			go func() { defer close(done); r.once(t, m) }()
			kills := 0
			for node := 1; !rig.Idle(outageEvery, done); node = node%3 + 1 {
				r.c.Kill(node)
				r.c.StartAll(node)
				kills++
			}
			if t.Logf("%d kills", kills); kills == 0 {
				t.Error("no node was killed: this has shown nothing")
			}
		})
	}
}

// run is a cluster, the compiled suite, and how much it does.
type run struct {
	c          *testcluster.Cluster
	binary     string
	records    int
	scram      []string             // the addresses at which clients must log in, as scramUser
	tls        mode                 // at the addresses with TLS
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
	r.c = testcluster.StartCluster(t, testcluster.ClusterOptions{
		Args: append(guarded(), "--set", "group.share.delivery.count.limit=10"), NodeArgs: r.listeners(t, 3),
	})
	r.grant(t)
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

// scramUser is the user that the suite's tests of SCRAM log in as, in the form of KGO_TEST_SCRAM and of a file of users.
const scramUser = "suite:secret"

// listeners gives each node three: one for all tests, one for those of SCRAM, one with TLS for all but these.
func (r *run) listeners(t *testing.T, nodes int) func(id int) []string {
	t.Helper()
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte(scramUser+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open, secure := make([]string, nodes), make([]string, nodes)
	r.scram = make([]string, nodes)
	for i := range open {
		open[i], r.scram[i], secure[i] = testcluster.FreeAddr(t), testcluster.FreeAddr(t), testcluster.FreeAddr(t)
	}
	file := issue(t)
	r.tls = mode{"KGO_SEEDS=" + strings.Join(secure, ","), fmt.Sprintf("KGO_TEST_TLS=ca:%s,cert:%s,key:%s", file("ca.crt"), file("suite.crt"), file("suite.key"))}
	return func(id int) []string {
		list := fmt.Sprintf("PLAINTEXT://%s,SCRAM://%s?sasl=true,TLS://%s?tls=true&client-auth=required", open[id-1], r.scram[id-1], secure[id-1])
		return []string{"--listeners", list, "--bootstrap-users-file", users, "--tls-ca", file("ca.crt"), "--tls-cert", file("node.crt"), "--tls-key", file("node.key")}
	}
}

// issue makes the certificates of an authority, a node and a client.
func issue(t *testing.T) (file func(name string) string) {
	t.Helper()
	dir := t.TempDir()
	file = func(name string) string { return filepath.Join(dir, name) }
	one := func(name string, q certs.Request) {
		t.Helper()
		q.Name = name
		var by *certs.Authority
		if !q.CA {
			var err error
			if by, err = certs.LoadAuthority(file("ca.crt"), file("ca.key")); err != nil {
				t.Fatal(err)
			}
		}
		if err := certs.Issue(q, by, file(name+".crt"), file(name+".key"), time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	one("ca", certs.Request{CA: true})
	one("node", certs.Request{Node: new(int32), Hosts: []string{"127.0.0.1"}})
	one("suite", certs.Request{})
	return file
}

// patience bounds one run of the suite.
func (r *run) patience() time.Duration {
	return 5*time.Minute + time.Duration(r.records)*3*time.Millisecond
}

// once runs the suite and checks how it ended.
func (r *run) once(t *testing.T, m mode) {
	// Most of the suite's tests wait most of their time: sixteen at once halve that. With many records a few of them work instead,
	// and some have four minutes for that: they take turns.
	args := []string{"-test.parallel", strconv.Itoa(rig.Count(16, 16, 1))}
	if names := absentOnes(r.exceptions); len(names) > 0 {
		args = append(args, "-test.skip", "^("+strings.Join(names, "|")+")$")
	}
	began := time.Now()
	got := r.tests(t, m, args...)
	count := map[outcome]int{}
	for got := range maps.Values(got.results) {
		count[got]++
	}
	t.Logf("%d records: %v in %v", r.records, count, time.Since(began).Round(time.Second))
	for _, race := range races {
		last := got.stdout
		for again := 1; race.lost(got.results, last) && again <= mostAgain; again++ {
			alone := r.tests(t, m, "-test.run", "^"+race.test+"$")
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
func (r *run) tests(t *testing.T, m mode, args ...string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), r.patience()+time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.binary, append([]string{"-test.v=test2json", "-test.timeout", r.patience().String()}, args...)...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "KGO_SEEDS="+strings.Join(r.c.Addrs(), ","), "KGO_TEST_RF=3",
		"KGO_TEST_RECORDS="+strconv.Itoa(r.records), "KGO_LOG_LEVEL=info",
		"KGO_TEST_SCRAM="+scramUser, "KGO_TEST_SCRAM_SEEDS="+strings.Join(r.scram, ","))
	if r.records < 10_000 { // elections of a hundred partitions would be all that a short run does
		cmd.Env = append(cmd.Env, "KGO_TEST_MAX_TOPIC_PARTS=5")
	}
	cmd.Env = append(cmd.Env, m...) // what stands there twice counts as it stands last
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
