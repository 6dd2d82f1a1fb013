package native

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/grpcapi/client"
	quorlogv1 "github.com/quorlog/quorlog/grpcapi/v1"
	"github.com/quorlog/quorlog/internal/testcluster"
)

func newClient(t testing.TB, addrs []string, o client.Options) *client.Client {
	t.Helper()
	c, err := client.New(client.Scheme+":///"+strings.Join(addrs, ","), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// writing is one goroutine that writes numbered values, "writer number", to all partitions in turn.
type writing struct {
	mu     sync.Mutex
	sent   int
	stored int
	failed []error
}

func (w *writing) run(ctx context.Context, c *client.Client, name int, partitions int32, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r := &client.Record{Topic: "t", Partition: int32(n) % partitions, Value: fmt.Appendf(nil, "%d %d", name, n)}
		w.mu.Lock()
		w.sent++
		w.mu.Unlock()
		// Not ctx: what is handed over is to be stored.
		err := c.Send(context.Background(), r, func(_ *client.Record, err error) { w.done(err) })
		if err != nil {
			w.done(err)
		}
	}
}

func (w *writing) done(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stored++; err != nil {
		w.failed = append(w.failed, err)
	}
}

// order checks that a partition holds each writer's values in their order, each once.
type order struct {
	mu   sync.Mutex
	next map[string]int  // by writer and partition
	at   map[int32]int64 // the next offset, by partition
	seen int
	bad  []string
}

func newOrder() *order { return &order{next: map[string]int{}, at: map[int32]int64{}} }

func (o *order) take(partition, partitions int32, offset int64, value []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	writer, number, _ := strings.Cut(string(value), " ")
	n, err := strconv.Atoi(number)
	key := fmt.Sprint(writer, "/", partition)
	want, ok := o.next[key]
	if !ok {
		want = int(partition)
	}
	if err != nil || n != want {
		o.bad = append(o.bad, fmt.Sprintf("%d@%d: %q, want %d", partition, offset, value, want))
	}
	if o.next[key] = n + int(partitions); offset < o.at[partition] {
		o.bad = append(o.bad, fmt.Sprintf("%d@%d: came after %d", partition, offset, o.at[partition]-1))
	}
	o.at[partition] = max(o.at[partition], offset+1)
	o.seen++
}

func (o *order) count() (int, []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen, slices.Clone(o.bad)
}

// Leaders are killed under load: the client's writers lose nothing and write nothing twice, and its reader sees each record once.
func TestClientAcrossLeaderKills(t *testing.T) {
	acrossFaults(t, rig.Count(2, 2, 100), func(c *testcluster.Cluster, leader int) {
		c.Kill(leader)
	}, func(c *testcluster.Cluster, leader int) {
		c.StartAll(leader)
	})
}

// The same with leaders that fall silent for a while: their connections stay open.
func TestClientAcrossPauses(t *testing.T) {
	pauses := rig.Count(0, 2, 20)
	if pauses == 0 {
		t.Skip("a client takes its time to leave a silent node: with -ci and -full")
	}
	acrossFaults(t, pauses, func(c *testcluster.Cluster, leader int) {
		c.Node(leader).Pause()
	}, func(c *testcluster.Cluster, leader int) {
		c.Node(leader).Resume()
	})
}

func acrossFaults(t *testing.T, faults int, begin, end func(c *testcluster.Cluster, leader int)) {
	t.Helper()
	const partitions, writers = 6, 2
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{})
	c.CreateTopic("t", partitions, 3)
	rig.AwaitWhole(t, c)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reading, endReading := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	defer busy.Wait()
	defer endReading()
	read := newOrder()
	reader := newClient(t, c.Addrs(), client.Options{})
	busy.Go(func() {
		for r, err := range reader.Read(reading, client.ReadOptions{Topic: "t"}) {
			if err != nil {
				if reading.Err() == nil {
					t.Errorf("read: %v", err)
				}
				return
			}
			read.take(r.Partition, partitions, r.Offset, r.Value)
		}
	})
	var load [writers]writing
	var clients [writers]*client.Client
	var writes sync.WaitGroup
	for i := range load {
		clients[i] = newClient(t, c.Addrs(), client.Options{Partitioner: client.Manual})
		writes.Go(func() { load[i].run(ctx, clients[i], i, partitions, time.Millisecond) })
	}
	progress := func(more int) {
		from, _ := read.count()
		rig.Await(t, func() string {
			if now, _ := read.count(); now < from+more {
				return fmt.Sprintf("%d of %d more records are read", now-from, more)
			}
			return ""
		})
	}
	progress(1000)
	for range faults {
		leader := c.LeaderOf("t", 0)
		begin(c, leader)
		c.LeaderOf("t", 0, leader)
		progress(1000)
		end(c, leader)
		rig.AwaitWhole(t, c)
	}
	stop()
	writes.Wait()
	sent := 0
	for i := range load {
		if err := clients[i].Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if w := &load[i]; len(w.failed) > 0 || w.stored != w.sent {
			t.Errorf("writer %d: %d sent, %d answered, failed: %v", i, w.sent, w.stored, w.failed)
		}
		sent += load[i].sent
	}
	ends := rig.SettledEnds(t, c.Admin(), "t")
	read.await(t, ends)
	if n, bad := read.count(); n != sent || len(bad) > 0 {
		t.Errorf("read %d of %d, out of order: %v", n, sent, bad)
	}
	kafka := readAll(t, c.Addrs(), partitions, ends)
	if n, bad := kafka.count(); n != sent || len(bad) > 0 {
		t.Errorf("Kafka's client finds %d of %d, out of order: %v", n, sent, bad)
	}
	t.Logf("%d records", sent)
}

// await waits until a reader has come to the ends of all partitions: what is there twice may be the last.
func (o *order) await(t *testing.T, ends map[int32]int64) {
	t.Helper()
	rig.Await(t, func() string {
		o.mu.Lock()
		defer o.mu.Unlock()
		for p, end := range ends {
			if o.at[p] < end {
				return fmt.Sprintf("partition %d is read up to %d of %d", p, o.at[p], end)
			}
		}
		return ""
	})
}

// readAll reads a topic to its end by Kafka's protocol.
func readAll(t *testing.T, addrs []string, partitions int32, ends map[int32]int64) *order {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	o := newOrder()
	rig.ReadTo(ctx, t, cl, ends, func(r *kgo.Record) { o.take(r.Partition, partitions, r.Offset, r.Value) })
	return o
}

// Partitions that are added while a client reads a topic are read as well, from their first record.
func TestClientReadsAddedPartitions(t *testing.T) {
	const partitions, records = 3, 50
	w := newWorld(t, 3)
	w.topic("t", 1)
	reader, writer := newClient(t, w.addrs, client.Options{}), newClient(t, w.addrs, client.Options{})
	var next map[int32]int64
	ctx, stop := context.WithCancel(w.ctx)
	var writing sync.WaitGroup
	defer writing.Wait()
	defer stop()
	writing.Go(func() { // so that the reader, which begins at the end, has something to begin with
		for writer.Produce(ctx, &client.Record{Topic: "t", Key: []byte("0"), Value: []byte("old")}) == nil {
		}
	})
	for r, err := range reader.Read(w.ctx, client.ReadOptions{Topic: "t", Start: client.Latest()}) {
		w.must(err)
		if next == nil {
			stop()
			_, err := w.topics(0).AlterTopic(w.ctx, &quorlogv1.AlterTopicRequest{Name: "t", Partitions: partitions})
			w.must(err)
			for node := range w.conns { // a node that is behind knows no partition to write to
				w.eventually(func() bool {
					got, err := w.topics(node).DescribeTopic(w.ctx, &quorlogv1.DescribeTopicRequest{Name: "t"})
					return err == nil && len(got.GetPartitions()) == partitions
				})
			}
			next = map[int32]int64{1: 0, 2: 0}
			for i := range records {
				for p := range next {
					w.must(w.kafka.ProduceSync(w.ctx, &kgo.Record{Topic: "t", Partition: p, Value: []byte(strconv.Itoa(i))}).FirstErr())
				}
			}
		}
		if r.Partition == 0 {
			continue
		}
		if r.Offset != next[r.Partition] || string(r.Value) != strconv.FormatInt(r.Offset, 10) {
			t.Fatalf("%s at %d of %d, want %d", r.Value, r.Offset, r.Partition, next[r.Partition])
		}
		next[r.Partition]++
		if next[1] == records && next[2] == records {
			break
		}
	}
}

// speedRecords is how many records a round of TestClientSpeed writes.
const speedRecords = 200_000

// The client's speed beside franz-go's, in turns: 1 KiB, three replicas, all records acknowledged.
func TestClientSpeed(t *testing.T) {
	rounds := rig.Count(0, 0, 5)
	if rounds == 0 {
		t.Skip("a measurement, with -full")
	}
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{})
	c.CreateTopic("t", 6, 3)
	rig.AwaitWhole(t, c)
	pool := make([]byte, 1<<20)
	_, _ = rand.Read(pool) // it never fails: see its documentation
	value := func(i int) []byte { return pool[i*61%(len(pool)-1024):][:1024] }
	native := newClient(t, c.Addrs(), client.Options{})
	kafka, err := kgo.NewClient(kgo.SeedBrokers(c.Addrs()...), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	fail := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	var ratios []float64
	for range rounds {
		began := time.Now()
		for i := range speedRecords {
			kafka.Produce(t.Context(), &kgo.Record{Topic: "t", Value: value(i)}, func(_ *kgo.Record, err error) { fail(err) })
		}
		fail(kafka.Flush(t.Context()))
		k := speedRecords / time.Since(began).Seconds()
		began = time.Now()
		for i := range speedRecords {
			fail(native.Send(t.Context(), &client.Record{Topic: "t", Value: value(i)}, func(_ *client.Record, err error) { fail(err) }))
		}
		fail(native.Flush(t.Context()))
		n := speedRecords / time.Since(began).Seconds()
		t.Logf("franz-go %.0f records/s, gRPC %.0f: %.0f %%", k, n, 100*n/k)
		ratios = append(ratios, n/k)
	}
	slices.Sort(ratios)
	if median := ratios[len(ratios)/2]; median < 0.6 {
		t.Errorf("gRPC is at %.0f %% of Kafka's protocol", 100*median)
	}
}

// secure starts a node whose port has TLS. The configuration is of a client that trusts it and has a certificate of its own.
func secure(t *testing.T, args ...string) (*testcluster.Node, *tls.Config) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certs")
	for _, args := range [][]string{{"ca"}, {"node", "1", "--host", "127.0.0.1"}, {"client", "alice"}} {
		cmd := exec.Command(testcluster.Binary(t), append(append([]string{"cert"}, args...), "--dir", dir)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	args = append([]string{"--tls-cert", file("node-1.crt"), "--tls-key", file("node-1.key"), "--tls-ca", file("ca.crt")}, args...)
	n := testcluster.Start(t, testcluster.Options{Args: args})
	pem, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(file("alice.crt"), file("alice.key"))
	if err != nil {
		t.Fatal(err)
	}
	trust := &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	trust.RootCAs.AppendCertsFromPEM(pem)
	return n, trust
}

// With a password, which must be the right one.
func TestClientPassword(t *testing.T) {
	users := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(users, []byte("alice:correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n, trust := secure(t, "--sasl=true", "--bootstrap-users-file", users, "--set", "sasl.enabled.mechanisms=PLAIN")
	c := newClient(t, []string{n.Addr}, client.Options{TLS: trust, Username: "alice", Password: "correct horse"})
	if err := c.Produce(t.Context(), &client.Record{Topic: "t", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	for r, err := range c.Read(t.Context(), client.ReadOptions{Topic: "t"}) {
		if err != nil || !bytes.Equal(r.Value, []byte("v")) {
			t.Error(r, err)
		}
		break
	}
	for _, o := range []client.Options{{TLS: trust}, {TLS: trust, Username: "alice", Password: "battery staple"}, {TLS: trust, Username: "bob", Password: "correct horse"}} {
		if err := newClient(t, []string{n.Addr}, o).Produce(t.Context(), &client.Record{Topic: "t"}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: %v", o.Username, err)
		}
	}
}

// Over TLS, with a certificate of the client's own.
func TestClientTLS(t *testing.T) {
	n, trust := secure(t, "--tls-client-auth", "required")
	c := newClient(t, []string{n.Addr}, client.Options{TLS: trust})
	if err := c.Produce(t.Context(), &client.Record{Topic: "t", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	for r, err := range c.Read(t.Context(), client.ReadOptions{Topic: "t"}) {
		if err != nil || !bytes.Equal(r.Value, []byte("v")) {
			t.Error(r, err)
		}
		break
	}
	nameless := trust.Clone()
	nameless.Certificates = nil
	for why, o := range map[string]client.Options{"no TLS on a TLS port": {}, "client didn't provide a certificate": {TLS: nameless}} {
		c := newClient(t, []string{n.Addr}, o)
		rig.Await(t, func() string {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second) // it would try for ever
			defer cancel()
			if err := c.Produce(ctx, &client.Record{Topic: "t"}); err == nil {
				t.Fatalf("%+v is let in", o)
			}
			if !strings.Contains(n.Log(), why) { // what the client is told may be no more than that the connection has ended
				return "the node has refused nobody because of " + why
			}
			return ""
		})
	}
}
