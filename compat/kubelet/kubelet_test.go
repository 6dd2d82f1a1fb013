package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	release   = "quorlog"
	namespace = "streams"
	outside   = "kafka.example.com"
	inside    = release + "." + namespace + "." + zone + ":9092"
	password  = "correct horse battery"
	patience  = 3 * time.Minute  // of one wait
	lifetime  = 10 * time.Minute // of a test, which has several of them
)

// helmEnv names the variable with the path of a helm; otherwise it is looked for on PATH.
const helmEnv = "QUORLOG_HELM"

// render runs `helm template` with one of the chart's files of values, and with others for --set.
func render(t *testing.T, values string, set ...string) *manifests {
	t.Helper()
	helm := os.Getenv(helmEnv)
	if helm == "" {
		helm = rig.Tool(t, "helm")
	}
	chart := filepath.Join(testcluster.Root(), "deploy", "helm", "quorlog")
	args := []string{"template", release, chart, "--namespace", namespace, "--values", filepath.Join(chart, "ci", values+"-values.yaml"), "--kube-version", "1.28.0"}
	for _, one := range set {
		args = append(args, "--set", one)
	}
	cmd := exec.Command(helm, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("helm: %v: %s", err, errs.String())
	}
	m, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// packed is the image, once it is made: packing takes seconds.
var packed *image

// buildImage puts the tested binary into an image, as the release does.
func buildImage(t *testing.T) *image {
	t.Helper()
	if packed != nil {
		return packed
	}
	file := filepath.Join(t.TempDir(), "image.tar")
	cmd := exec.Command("go", "run", "./deploy/image", "-binary", testcluster.Binary(t), "-o", file)
	cmd.Dir = testcluster.Root()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Logf("%s", out)
	if packed, err = openImage(file); err != nil {
		t.Fatal(err)
	}
	return packed
}

// certificates are made as docs/OPERATIONS.md says, and read into a Secret.
func certificates(t *testing.T, m *manifests, dir string, nodes int) {
	t.Helper()
	run := func(args ...string) {
		if out, err := exec.Command(testcluster.Binary(t), append(args, "--dir", dir)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "ca.crt")); err != nil {
		run("cert", "ca")
		run("cert", "client", "operator")
	}
	for id := range nodes {
		pod := fmt.Sprintf("%s-%d.%s-headless.%s.%s", release, id, release, namespace, zone)
		run("cert", "node", strconv.Itoa(id), "--host", pod, "--host", release+"."+namespace+"."+zone, "--host", outside)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if filepath.Base(name) == "ca.key" { // never leaves its place
			continue
		}
		contents, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		m.put("Secret", "quorlog-tls", filepath.Base(name), contents)
	}
}

// secrets are those that an administrator makes before the chart is installed.
func secrets(t *testing.T, m *manifests, certs string) {
	t.Helper()
	certificates(t, m, certs, m.set.Spec.Replicas)
	key, err := exec.Command(testcluster.Binary(t), "cluster", "key").Output()
	if err != nil {
		t.Fatal(err)
	}
	m.put("Secret", "quorlog-cluster-key", "cluster.key", key)
	m.put("Secret", "quorlog-users", "users", []byte("admin:"+password+"\nguest:"+password+"\n"))
	m.put("Secret", "quorlog-users", "password", []byte(password+"\n"))
}

// client is a client's configuration: TLS by the authority, a user's password, and names as the world tells them.
func (w *world) client(user, seed, ca string) []kgo.Opt {
	w.t.Helper()
	pem, err := os.ReadFile(ca)
	if err != nil {
		w.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return []kgo.Opt{
		kgo.SeedBrokers(seed),
		kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()),
		kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
			to, err := w.resolve(addr)
			if err != nil {
				return nil, err
			}
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return (&tls.Dialer{Config: &tls.Config{RootCAs: pool, ServerName: host, MinVersion: tls.VersionTLS12}}).DialContext(ctx, network, to)
		}),
	}
}

func open(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// Three pods of the chart, with TLS, users and rules, form one cluster. Clients come in by the addresses inside and outside. A rolling
// restart under load, with new addresses and new certificates, loses nothing and doubles nothing.
func TestChart(t *testing.T) {
	m := render(t, "secure")
	certs := filepath.Join(t.TempDir(), "certs")
	secrets(t, m, certs)
	w := newWorld(t, m, buildImage(t), namespace, outside)
	ctx, cancel := context.WithTimeout(t.Context(), lifetime)
	defer cancel()
	began := time.Now()
	nodes := make([]*pod, m.set.Spec.Replicas)
	for i := range nodes { // all at once, as podManagementPolicy Parallel says
		nodes[i] = w.add(i)
	}
	for _, p := range nodes {
		p.awaitReady(ctx, t)
	}
	t.Logf("%d pods are ready after %v", len(nodes), time.Since(began).Round(time.Millisecond))
	onVolume(t, nodes)
	ca := filepath.Join(certs, "ca.crt")
	admin := kadm.NewClient(open(t, w.client("admin", inside, ca)...))
	if _, err := admin.CreateTopic(ctx, 6, 3, nil, "load"); err != nil {
		t.Fatal(err)
	}
	if err := helmTest(w); err != nil {
		t.Error(err)
	}
	for name, part := range map[string]func(*testing.T){
		"inside":  func(t *testing.T) { told(ctx, t, w.client("admin", inside, ca), innerAddr) },
		"outside": func(t *testing.T) { told(ctx, t, w.client("admin", outside+":31095", ca), outerAddr) },
		"kcat":    func(t *testing.T) { kcat(t, w, ca) },
		"rules": func(t *testing.T) {
			guest := open(t, w.client("guest", inside, ca)...)
			if topics, err := kadm.NewClient(guest).ListTopics(ctx); err != nil || topics.Has("load") {
				t.Errorf("a guest sees %v, %v", topics.Names(), err)
			}
		},
	} {
		t.Run(name, part)
	}
	load := startLoad(t, open(t, append(w.client("admin", outside+":31094", ca), kgo.DefaultProduceTopic("load"))...))
	for i := len(nodes) - 1; i >= 0; i-- { // as the controller of the set does it
		began := time.Now()
		hook := nodes[i].stop(t)
		stopped := time.Since(began)
		if !strings.Contains(hook, "is drained") {
			t.Errorf("the hook of %s said: %s", nodes[i].name, hook)
		}
		w.remove(nodes[i])
		nodes[i] = w.add(i)
		nodes[i].awaitReady(ctx, t)
		t.Logf("%s was drained and stopped in %v, and ready again after %v", nodes[i].name, stopped.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	}
	rotate(t, w, certs, nodes)
	sent := load.stop()
	if status, err := nodes[0].exec("/quorlog", "cluster", "status", "--check", "--wait=60s", "--tls-ca=/etc/quorlog/tls/ca.crt", "--user=admin", "--password-file=/etc/quorlog/users/password"); err != nil {
		t.Errorf("after all: %v: %s", err, status)
	}
	load.verify(ctx, t, sent, w.client("admin", inside, ca))
}

// Without passwords: clients must show certificates, and so do the chart's hook and its test.
func TestCertificates(t *testing.T) {
	m := render(t, "certificates")
	secrets(t, m, filepath.Join(t.TempDir(), "certs"))
	w := newWorld(t, m, buildImage(t), namespace)
	ctx, cancel := context.WithTimeout(t.Context(), lifetime)
	defer cancel()
	nodes := make([]*pod, m.set.Spec.Replicas)
	for i := range nodes {
		nodes[i] = w.add(i)
	}
	for _, p := range nodes {
		p.awaitReady(ctx, t)
	}
	if err := helmTest(w); err != nil {
		t.Error(err)
	}
	if hook := nodes[1].stop(t); !strings.Contains(hook, "is drained") {
		t.Errorf("the hook said: %s", hook)
	}
	if out, err := nodes[0].exec("/quorlog", "topic", "list", "--tls-ca=/etc/quorlog/tls/ca.crt"); err == nil {
		t.Errorf("served without a certificate: %s", out)
	}
}

// onVolume checks that the pods keep their data where the manifests say, and that this is on the volume.
func onVolume(t *testing.T, nodes []*pod) {
	t.Helper()
	for _, p := range nodes {
		var file struct {
			DataDir string `yaml:"data-dir"`
		}
		if err := yaml.Unmarshal(p.world.manifests.files["ConfigMap/"+release]["quorlog.yaml"], &file); err != nil {
			t.Fatal(err)
		}
		want := file.DataDir
		for _, e := range p.container().Env {
			if e.Name == "QUORLOG_DATA_DIR" {
				want = e.Value
			}
		}
		if got := p.dataDir(t); want == "" || got != want {
			t.Errorf("%s keeps its data in %q, the manifests say %q", p.name, got, want)
		}
		if !slices.ContainsFunc(p.container().VolumeMounts, func(m volumeMount) bool { return m.Name == "data" && strings.HasPrefix(want+"/", m.MountPath+"/") }) {
			t.Errorf("%s: %q is on no volume", p.name, want)
		}
	}
}

// dataDir is where a node says that its data is, in its line "ready".
func (p *pod) dataDir(t *testing.T) (dir string) {
	t.Helper()
	for line := range strings.Lines(p.out.String()) {
		var entry struct {
			Msg     string `json:"msg"`
			DataDir string `json:"data_dir"`
		}
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "ready" {
			dir = entry.DataDir
		}
	}
	return dir
}

func innerAddr(id int32) string {
	return fmt.Sprintf("%s-%d.%s-headless.%s.%s:9092", release, id, release, namespace, zone)
}

func outerAddr(id int32) string { return net.JoinHostPort(outside, strconv.Itoa(31094+int(id))) }

// told asks which addresses a client is told, and uses each of them.
func told(ctx context.Context, t *testing.T, opts []kgo.Opt, want func(int32) string) {
	cl := open(t, append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	brokers, err := kadm.NewClient(cl).ListBrokers(ctx)
	if err != nil || len(brokers) != 3 {
		t.Fatalf("%v, %v", brokers, err)
	}
	for _, b := range brokers {
		if addr := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))); addr != want(b.NodeID) {
			t.Errorf("node %d is told as %s, not %s", b.NodeID, addr, want(b.NodeID))
		}
	}
	if err := cl.Ping(ctx); err != nil {
		t.Error(err)
	}
	for partition := range int32(6) { // of all leaders
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "load", Partition: partition}).FirstErr(); err != nil {
			t.Error(err)
		}
	}
}

// kcat is librdkafka's client: inside and outside.
func kcat(t *testing.T, w *world, ca string) {
	tool := rig.Tool(t, "kcat")
	for _, seed := range []string{inside, outside + ":31096"} {
		args := []string{
			"--mount", "sh", "-c", `mount --bind "$0" /etc/hosts && exec "$@"`, w.hosts, tool, "-b", seed, "-X", "security.protocol=SASL_SSL",
			"-X", "ssl.ca.location=" + ca, "-X", "sasl.mechanisms=PLAIN", "-X", "sasl.username=admin", "-X", "sasl.password=" + password,
		}
		topic := []string{"-t", "load", "-p", "0"}
		in := exec.Command("unshare", append(args, append([]string{"-P"}, topic...)...)...)
		in.Stdin = strings.NewReader("from kcat at " + seed + "\n")
		if out, err := in.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		out, err := exec.Command("unshare", append(args, append([]string{"-C", "-e", "-q"}, topic...)...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "from kcat at "+seed) {
			t.Errorf("%s: %v: %s", seed, err, out)
		}
	}
}

// helmTest runs the pods of `helm test`.
func helmTest(w *world) error {
	for i, spec := range w.manifests.tests {
		p := w.launch(fmt.Sprint(release, "-test-", i), nil, spec)
		<-p.exited
		w.remove(p)
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			return fmt.Errorf("%w: helm test ended with %d: %s", errKubelet, code, p.out.String())
		}
	}
	return nil
}

// rotate replaces all certificates while the pods run, and waits until each of them shows its new one.
func rotate(t *testing.T, w *world, dir string, nodes []*pod) {
	t.Helper()
	before := make([]string, len(nodes))
	for i, p := range nodes {
		before[i] = shown(t, p)
		for _, kind := range []string{"crt", "key"} {
			if err := os.Remove(filepath.Join(dir, fmt.Sprintf("node-%d.%s", i, kind))); err != nil {
				t.Fatal(err)
			}
		}
	}
	certificates(t, w.manifests, dir, len(nodes))
	for _, p := range nodes {
		if err := p.update("quorlog-tls"); err != nil {
			t.Fatal(err)
		}
	}
	for i, p := range nodes {
		rig.Await(t, func() string {
			if shown(t, p) == before[i] {
				return p.name + " shows its old certificate"
			}
			return ""
		})
	}
}

// shown is the serial number of the certificate that a pod shows to clients.
func shown(t *testing.T, p *pod) string {
	t.Helper()
	nc, err := tls.Dial("tcp", net.JoinHostPort(p.ip, "9092"), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	return nc.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// load produces numbered records, one after the other, until it is stopped.
type load struct {
	end  chan struct{}
	done chan int
	bad  atomic.Pointer[error]
	t    *testing.T
}

func startLoad(t *testing.T, cl *kgo.Client) *load {
	l := &load{end: make(chan struct{}), done: make(chan int), t: t}
	go func() {
		for n := 0; ; n++ {
			select {
			case <-l.end:
				l.done <- n
				return
			default:
			}
			if err := cl.ProduceSync(t.Context(), kgo.KeyStringRecord("load", strconv.Itoa(n)), kgo.KeyStringRecord(strconv.Itoa(n), "spread")).FirstErr(); err != nil {
				l.bad.Store(&err)
				<-l.end
				l.done <- n
				return
			}
		}
	}()
	return l
}

// stop ends the load; records 0 to sent-1 were acknowledged.
func (l *load) stop() (sent int) {
	close(l.end)
	sent = <-l.done
	if err := l.bad.Load(); err != nil {
		l.t.Errorf("after %d records: %v", sent, *err)
	}
	return sent
}

// verify reads everything and holds it against what was acknowledged: each once, and in order.
func (l *load) verify(ctx context.Context, t *testing.T, sent int, opts []kgo.Opt) {
	t.Helper()
	cl := open(t, append(opts, kgo.ConsumeTopics("load"))...)
	next := 0
	rig.ReadTo(ctx, t, cl, rig.SettledEnds(t, kadm.NewClient(cl), "load"), func(r *kgo.Record) {
		if string(r.Key) != "load" {
			return
		}
		if string(r.Value) != strconv.Itoa(next) {
			t.Errorf("%s after %d", r.Value, next-1)
		}
		next++
	})
	if next != sent {
		t.Errorf("%d records are there, %d were sent", next, sent)
	}
	t.Logf("%d records, one after the other: none lost, none twice", sent)
}
