package access

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// password is everybody's.
const password = "open-sesame"

// cluster is one whose clients log in and are allowed nothing but by rules; only admin may do everything.
type cluster struct {
	*testcluster.Cluster
	t   *testing.T
	dir string
}

func start(t *testing.T, nodes int) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir()}
	users := c.file("users", "admin:"+password+"\nalice:"+password+"\nbob:"+password+"\n")
	c.file("password", password+"\n")
	c.Cluster = testcluster.StartCluster(t, testcluster.ClusterOptions{Nodes: nodes, Args: []string{
		"--sasl=true", "--bootstrap-users-file", users, "--set", "authorizer=acl", "--set", "super.users=User:admin",
		"--set", "sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN", "--set", "quorlog.sasl.plain.on.loopback=true",
	}})
	return c
}

func (c *cluster) file(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// as is a client of somebody.
func (c *cluster) as(user string, opts ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	login := scram.Auth{User: user, Pass: password}
	opts = append([]kgo.Opt{kgo.SeedBrokers(c.Addrs()...), kgo.SASL(login.AsSha256Mechanism()), kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(cl.Close)
	return cl
}

// acl changes rules as an operator does.
func (c *cluster) acl(args ...string) {
	c.t.Helper()
	cmd := exec.Command(testcluster.Binary(c.t), slices.Concat([]string{"acl"}, args, []string{"-b", c.Addrs()[0]})...)
	cmd.Env = append(os.Environ(), "QUORLOG_USER=admin", "QUORLOG_PASSWORD_FILE="+filepath.Join(c.dir, "password"))
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("acl %v: %v\n%s", args, err, out)
	}
}

func (c *cluster) create(topic string, partitions int32) {
	c.t.Helper()
	replicas := int16(len(c.IDs()))
	if _, err := kadm.NewClient(c.as("admin")).CreateTopic(c.t.Context(), partitions, replicas, nil, topic); err != nil {
		c.t.Fatal(err)
	}
}

// step is a client's attempt after more rules were made; says is what it must complain of, "" if it must succeed.
type step struct {
	rules [][]string
	args  []string
	says  string
}

// output is what a program prints; it is ended once it has complained, since some go on trying.
type output struct {
	bytes.Buffer
	says string
	end  func()
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.Buffer.Write(b)
	if o.complained() {
		o.end()
	}
	return n, err
}

func (o *output) complained() bool { return o.says != "" && strings.Contains(o.String(), o.says) }

// run runs an attempt of a program.
func run(t *testing.T, s step, argv, env []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rig.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:len(argv):len(argv)], s.args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader("one\ntwo\n")
	out := &output{says: s.says, end: cancel}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); (err != nil || s.says != "") && !out.complained() {
		t.Errorf("%v ended with %v, and not with %q:\n%s", s.args, err, s.says, out.String())
	}
}

// TestForeignClientsHearWhy: clients of other makes turn each denial into their own word for it, and work once they may.
func TestForeignClientsHearWhy(t *testing.T) {
	c := start(t, 1)
	for _, topic := range []string{"java", "kcat"} {
		c.create(topic, 1)
	}
	addr := c.Addrs()[0]
	allow := func(operation, kind, name string) []string {
		return []string{"add", "--user", "alice", "--operation", operation, "--" + kind, name}
	}
	t.Run("java", func(t *testing.T) {
		argv := rig.Java("Client")(t)
		lines := c.file("lines", "one\ntwo\n")
		settings := c.file("java.properties", fmt.Sprintf("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n"+
			"sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"alice\" password=%q;\n", password))
		produce, consume := []string{"produce", addr, "java", lines}, []string{"group", addr, "java", "2", "g"}
		for _, s := range []step{
			{nil, produce, "errors.TopicAuthorizationException"},
			// It asks for a producer id, which only those get who may write somewhere.
			{[][]string{allow("describe", "topic", "java")}, produce, "errors.ClusterAuthorizationException"},
			{[][]string{allow("write", "topic", "java")}, produce, ""},
			{nil, consume, "errors.GroupAuthorizationException"},
			{[][]string{allow("read", "group", "g")}, consume, "errors.TopicAuthorizationException"},
			{[][]string{allow("read", "topic", "java")}, consume, ""},
		} {
			for _, r := range s.rules {
				c.acl(r...)
			}
			run(t, s, argv, []string{"QUORLOG_CLIENT_CONFIG=" + settings})
		}
	})
	t.Run("kcat", func(t *testing.T) {
		argv := []string{rig.Tool(t, "kcat"), "-b", addr, "-X", "security.protocol=sasl_plaintext", "-X", "sasl.mechanism=PLAIN",
			"-X", "sasl.username=alice", "-X", "sasl.password=" + password, "-X", "message.timeout.ms=60000"}
		produce := []string{"-P", "-t", "kcat"}
		for _, s := range []step{
			{nil, produce, "opic authorization failed"},
			{[][]string{allow("write", "topic", "kcat")}, produce, ""},
			{nil, []string{"-C", "-t", "kcat", "-e"}, "opic authorization failed"},
			{nil, []string{"-G", "k", "kcat", "-e"}, "roup authorization failed"},
			{[][]string{allow("read", "topic", "kcat"), allow("read", "group", "k")}, []string{"-G", "k", "kcat", "-e"}, ""},
		} {
			for _, r := range s.rules {
				c.acl(r...)
			}
			run(t, s, argv, nil)
		}
	})
}

// effect is how soon a change of rules must hold on every node. Nodes promise a second; what is over that in a default run is for a machine
// that is busy with other tests.
func effect() time.Duration {
	if rig.Full() {
		return time.Second
	}
	return 10 * time.Second
}

// writer writes to one partition, one record after the other, until it is denied or the test is over.
type writer struct {
	warm  chan struct{} // closed after some records, and when it has ended
	ended chan struct{} // closed when it has ended
	began time.Time     // of the last write that was taken
	err   error         // why it ended; nil if the test was over
}

func write(ctx context.Context, cl *kgo.Client, topic string, partition int32) *writer {
	const some = 50
	w := &writer{warm: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		warm := sync.OnceFunc(func() { close(w.warm) })
		defer close(w.ended)
		defer warm()
		for n := 1; ctx.Err() == nil; n++ {
			began := time.Now()
			err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: []byte("v")}).FirstErr()
			if ctx.Err() != nil {
				return
			}
			if w.err = err; err != nil {
				return
			}
			if w.began = began; n == some {
				warm()
			}
		}
	}()
	return w
}

// reader is what a consumer has seen so far.
type reader struct {
	mu     sync.Mutex
	newest time.Time // when the newest record was made
	denied int
	errs   []error // others
}

func (r *reader) run(ctx context.Context, cl *kgo.Client) {
	for {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		r.mu.Lock()
		fetches.EachError(func(_ string, _ int32, err error) {
			if errors.Is(err, kerr.TopicAuthorizationFailed) {
				r.denied++
			} else {
				r.errs = append(r.errs, err)
			}
		})
		fetches.EachRecord(func(rec *kgo.Record) {
			if rec.Timestamp.After(r.newest) {
				r.newest = rec.Timestamp
			}
		})
		r.mu.Unlock()
	}
}

func (r *reader) seen() (newest time.Time, denied int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.newest, r.denied
}

// TestRevokedUnderLoad: a right that is taken away is gone on every node within a second, for whom it was taken from and nobody
// else, and it is back when it is given again.
func TestRevokedUnderLoad(t *testing.T) {
	c := start(t, 3)
	const partitions = 6
	c.create("orders", partitions)
	may := func(user, operation string) []string {
		return []string{"--user", user, "--operation", operation, "--topic", "orders"}
	}
	for _, rule := range [][]string{may("alice", "describe"), may("alice", "write"), may("alice", "read"), may("bob", "write")} {
		c.acl(append([]string{"add"}, rule...)...)
	}
	ctx, stop := context.WithCancel(t.Context())
	writers := map[string][]*writer{}
	for _, user := range []string{"alice", "bob"} {
		cl := c.as(user, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		for p := range int32(partitions) {
			writers[user] = append(writers[user], write(ctx, cl, "orders", p))
		}
	}
	var r reader
	var reading sync.WaitGroup
	consumer := c.as("alice", kgo.ConsumeTopics("orders"), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))
	reading.Go(func() { r.run(ctx, consumer) })
	defer reading.Wait()
	defer stop()
	for _, w := range slices.Concat(writers["alice"], writers["bob"]) {
		<-w.warm
	}

	began := time.Now()
	c.acl(append([]string{"remove"}, may("alice", "write")...)...)
	var last time.Duration
	for p, w := range writers["alice"] {
		<-w.ended
		if last = max(last, w.began.Sub(began)); !errors.Is(w.err, kerr.TopicAuthorizationFailed) {
			t.Errorf("partition %d: %v", p, w.err)
		}
	}
	if t.Logf("the last write was taken %v after the rule was told to go", last); last > effect() {
		t.Errorf("that is more than %v", effect())
	}

	began = time.Now()
	c.acl(append([]string{"remove"}, may("alice", "read")...)...)
	rig.Await(t, func() string {
		if _, denied := r.seen(); denied == 0 {
			return "the consumer is not denied"
		}
		return ""
	})
	rig.Idle(2*effect(), nil) // bob goes on writing
	newest, _ := r.seen()
	if t.Logf("the newest record that was read was made %v after the rule was told to go", newest.Sub(began)); newest.Sub(began) > effect() {
		t.Errorf("that is more than %v", effect())
	}

	began = time.Now()
	c.acl(append([]string{"add"}, may("alice", "read")...)...)
	rig.Await(t, func() string {
		if newest, _ := r.seen(); !newest.After(began) {
			return "the consumer reads nothing new"
		}
		return ""
	})
	t.Logf("it reads again %v after the rule was told to come", time.Since(began))
	stop()
	reading.Wait()
	for p, w := range writers["bob"] {
		if <-w.ended; w.err != nil {
			t.Errorf("bob's partition %d: %v", p, w.err)
		}
	}
	if len(r.errs) > 0 {
		t.Errorf("the consumer got other errors: %v", r.errs)
	}
}
