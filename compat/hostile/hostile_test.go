package hostile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

func TestMain(m *testing.M) {
	if where := os.Getenv(attackEnv); where != "" {
		attackers(where)
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	mostMemory = 700 << 20
	topic      = "honest"
)

// world is a node under attack.
type world struct {
	target
	t    *testing.T
	node *testcluster.Node
}

// target are the addresses of a node.
type target struct {
	open string // of the listener that wants nothing
	sasl string // of the one that wants a login
	own  string // of figures and probes
}

func newWorld(t *testing.T) *world {
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte("admin:admin-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, target: target{own: testcluster.FreeAddr(t)}}
	w.node = testcluster.Start(t, testcluster.Options{Args: []string{
		"--listeners", "OPEN://127.0.0.1:0,LOGIN://127.0.0.1:0?sasl=true", "--bootstrap-users-file", users, "--metrics-listen", w.own,
		"--set", "sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN", "--set", "quorlog.sasl.plain.on.loopback=true",
	}})
	addrs := map[string]string{}
	listeners, _ := w.node.Ready("listeners").(string)
	for part := range strings.SplitSeq(listeners, ",") {
		name, addr, _ := strings.Cut(part, "=")
		addrs[name] = addr
	}
	if w.open, w.sasl = addrs["OPEN"], addrs["LOGIN"]; w.open == "" || w.sasl == "" {
		t.Fatalf("listeners: %q", listeners)
	}
	return w
}

// resident is the node's memory, in bytes.
func (w *world) resident() int64 {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		w.t.Skip("this system does not tell the memory of a process in /proc")
	}
	status, err := os.ReadFile("/proc/" + strconv.Itoa(w.node.Pid) + "/status")
	_, after, found := strings.Cut(string(status), "VmRSS:")
	kib, err2 := strconv.ParseInt(strings.Fields(after + " 0")[0], 10, 64)
	if err != nil || err2 != nil || !found {
		w.t.Fatalf("%v, %v: %q", err, err2, status)
	}
	return kib << 10
}

// honest produces a record every few milliseconds, one after the other, and notes how long each took.
type honest struct {
	cl   *kgo.Client
	mu   sync.Mutex
	took *hdrhistogram.Histogram // microseconds
	err  error
}

func newHonest(t *testing.T, addr string) *honest {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	h := &honest{cl: cl}
	h.lap()
	return h
}

func (h *honest) run(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		began := time.Now()
		err := h.cl.ProduceSync(ctx, &kgo.Record{Value: make([]byte, 1024)}).FirstErr()
		if ctx.Err() != nil {
			return
		}
		h.mu.Lock()
		_ = h.took.RecordValue(time.Since(began).Microseconds()) // within its bounds
		h.err = errors.Join(h.err, err)
		h.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// lap returns what was noted since the last time.
func (h *honest) lap() (took *hdrhistogram.Histogram, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	took, err = h.took, h.err
	h.took, h.err = hdrhistogram.New(1, time.Hour.Microseconds(), 3), nil
	return took, err
}

func p99(h *hdrhistogram.Histogram) time.Duration {
	return time.Duration(h.ValueAtQuantile(99)) * time.Microsecond
}

// prober asks for /livez as the kubelet does, each time on a new connection, and counts what is not 200 within its patience.
type prober struct {
	url          string
	asked, wrong atomic.Int64
	last         atomic.Pointer[string]
}

func (p *prober) run(ctx context.Context) {
	patience := 30 * time.Second // beside the tests of other packages
	if rig.Full() {
		patience = 5 * time.Second
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	for ctx.Err() == nil {
		p.asked.Add(1)
		resp, err := client.Get(p.url)
		what := ""
		if err != nil {
			what = err.Error()
		} else {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				what = resp.Status
			}
		}
		if what != "" {
			p.wrong.Add(1)
			p.last.Store(&what)
		}
		rig.Idle(200*time.Millisecond, ctx.Done())
	}
}

// figure is one of the node's metrics.
func (w *world) figure(name string) float64 {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Get("http://" + w.own + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				w.t.Fatal(err)
			}
			return v
		}
	}
	w.t.Fatalf("%s is not told", name)
	return 0
}

// TestHostileClients runs all attacks at the same time. In the world attackers have processors of their own; here they take them from
// the node and its honest client. So, in a full run, they attack another node first: what becomes of the honest client then is the
// machine's doing, and what more becomes of it when its own node is attacked is the node's.
func TestHostileClients(t *testing.T) {
	seed := rig.Chance(t).Uint64()
	w := newWorld(t)
	quiet, noisy := rig.Length(2*time.Second, 5*time.Second, 20*time.Second), rig.Length(5*time.Second, 15*time.Second, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	var good sync.WaitGroup
	defer good.Wait()
	defer cancel()
	h := newHonest(t, w.open)
	good.Go(func() { h.run(ctx) })
	rig.Await(t, func() string {
		if took, _ := h.lap(); took.TotalCount() == 0 {
			return "the honest client has yet to begin"
		}
		return ""
	})
	rig.Idle(quiet, ctx.Done())
	before, err := h.lap()
	if err != nil {
		t.Fatalf("without any attack: %v", err)
	}
	elsewhere := before
	if rig.Full() {
		elsewhere = w.attackAnother(h, seed, noisy)
		t.Logf("honest client: p99 %v of %d while another node is attacked", p99(elsewhere), elsewhere.TotalCount())
	}
	resting := w.goroutines()

	probes := []*prober{{url: "http://" + w.own + "/livez"}, {url: "http://" + w.open + "/livez"}}
	for _, p := range probes {
		good.Go(func() { p.run(ctx) })
	}
	var most int64
	retreat := unleash(t, w.target, seed)
	for end := time.Now().Add(noisy); time.Now().Before(end) && w.node.Running(); rig.Idle(50*time.Millisecond, nil) {
		most = max(most, w.resident())
	}
	during, err := h.lap()
	retreat()
	if !w.node.Running() {
		t.Fatalf("the node has ended: %v", w.node.ExitError())
	}
	t.Logf("honest client: p99 %v of %d before, %v of %d during the attacks; memory at most %d MiB", p99(before), before.TotalCount(), p99(during),
		during.TotalCount(), most>>20)
	if err != nil {
		t.Errorf("the honest client met %v", err)
	}
	if most > mostMemory {
		t.Errorf("memory: %d MiB", most>>20)
	}
	if rig.Full() && p99(during) > 2*p99(elsewhere) { // with nothing else on the machine
		t.Errorf("the honest client's p99 grew from %v to %v", p99(elsewhere), p99(during))
	}
	for i, p := range probes {
		t.Logf("%s: %d probes, %d of them wrong", p.url, p.asked.Load(), p.wrong.Load())
		if i == 0 && p.wrong.Load() > 0 { // the other shares the door with the attackers
			t.Errorf("%s: %s", p.url, *p.last.Load())
		}
	}
	w.nothingIsLeft(resting)
}

// perPartition is how many goroutines a partition may have. An attacker whom nothing forbids it makes topics, and groups whose topic
// the first of them makes.
const perPartition = 6

// goroutines is how many the node has, but for those of its partitions.
func (w *world) goroutines() float64 {
	return w.figure("go_goroutines") - perPartition*w.figure("kafka_server_replicamanager_partitioncount")
}

// attackAnother has a node that is nobody's attacked, and tells how the honest client fares meanwhile.
func (w *world) attackAnother(h *honest, seed uint64, length time.Duration) *hdrhistogram.Histogram {
	w.t.Helper()
	other := newWorld(w.t)
	client := newHonest(w.t, other.open) // attackers read what it writes
	ctx, cancel := context.WithCancel(w.t.Context())
	var good sync.WaitGroup
	good.Go(func() { client.run(ctx) })
	retreat := unleash(w.t, other.target, seed)
	_, _ = h.lap()
	rig.Idle(length, nil)
	took, err := h.lap()
	retreat()
	cancel()
	good.Wait() // before the node stops: what is on its way to it can't be taken back
	other.node.Stop()
	if err != nil {
		w.t.Errorf("while another node is attacked the honest client met %v", err)
	}
	return took
}

// nothingIsLeft waits until the node has got rid of what the attacks have left behind.
func (w *world) nothingIsLeft(resting float64) {
	w.t.Helper()
	rig.Await(w.t, func() string {
		open := w.figure(`kafka_server_socket_server_metrics_connection_count{listener="OPEN"}`) +
			w.figure(`kafka_server_socket_server_metrics_connection_count{listener="LOGIN"}`)
		held, now := w.figure("quorlog_request_memory_bytes"), w.goroutines()
		if open > 3 || held > 0 || now > resting+20 { // the honest client has up to three
			return fmt.Sprintf("%v connections, %v bytes of requests, %v goroutines beside those of partitions, before %v", open, held, now, resting)
		}
		return ""
	})
	if n := w.figure("quorlog_request_panics_total"); n != 0 {
		w.t.Errorf("%v panics", n)
	}
}

// pause lets some time go by between two attempts of an attacker.
func pause(ctx context.Context, rnd *rand.Rand, most time.Duration) {
	rig.Idle(rand.N(most)+time.Duration(rnd.IntN(1000)), ctx.Done())
}
