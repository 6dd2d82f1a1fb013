package sasl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	user, password = "alice", "open=sesame"
	patience       = 2 * time.Minute
)

// node is one with a listener for the tests themselves, on which nobody logs in, and two on which clients do.
type node struct {
	*testcluster.Node
	scram  string // the address of the one without TLS
	secure string // of the one with TLS
	ca     string // the file of its authority
}

func start(t *testing.T, settings ...string) node {
	t.Helper()
	dir := t.TempDir()
	for _, args := range [][]string{{"ca"}, {"node", "1", "--host", "127.0.0.1"}} {
		if out, err := exec.Command(testcluster.Binary(t), slices.Concat([]string{"cert"}, args, []string{"--dir", dir})...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	users := filepath.Join(dir, "users")
	if err := os.WriteFile(users, []byte(user+":"+password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--listeners", "OPEN://127.0.0.1:0,SCRAM://127.0.0.1:0?sasl=true,SECURE://127.0.0.1:0?tls=true&sasl=true",
		"--tls-cert", filepath.Join(dir, "node-1.crt"), "--tls-key", filepath.Join(dir, "node-1.key"), "--bootstrap-users-file", users,
		"--set", "sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN",
	}
	for _, s := range settings {
		args = append(args, "--set", s)
	}
	n := node{Node: testcluster.Start(t, testcluster.Options{Args: args}), ca: filepath.Join(dir, "ca.crt")}
	listeners, _ := n.Ready("listeners").(string)
	for _, one := range strings.Split(listeners, ",") {
		switch name, addr, _ := strings.Cut(one, "="); name {
		case "SCRAM":
			n.scram = addr
		case "SECURE":
			n.secure = addr
		}
	}
	return n
}

// client is a franz-go client that ends with the test.
func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func (n node) create(t *testing.T, topic string) {
	t.Helper()
	if _, err := kadm.NewClient(client(t, n.Addr)).CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}

// maker is a make of clients, and how it is told to log in.
type maker struct {
	argv  rig.Foreign
	login func(n node, mechanism, password string) []string
	says  string // part of what it prints when the password is wrong; empty if it goes on trying
	kinds []string
}

func makers() map[string]maker {
	// in picks what a client writes for a listener without TLS and for one with it.
	in := func(mechanism, open, secure string) string {
		if mechanism == "PLAIN" {
			return secure
		}
		return open
	}
	return map[string]maker{
		"java": {argv: rig.Java("Client"), says: "SaslAuthenticationException", kinds: []string{"classic", "consumer"}, login: func(n node, mechanism, password string) []string {
			module := in(mechanism, "scram.Scram", "plain.Plain")
			return []string{
				"security.protocol=" + in(mechanism, "SASL_PLAINTEXT", "SASL_SSL"), "sasl.mechanism=" + mechanism, "ssl.truststore.type=PEM", "ssl.truststore.location=" + n.ca,
				fmt.Sprintf("sasl.jaas.config=org.apache.kafka.common.security.%sLoginModule required username=%q password=%q;", module, user, password),
			}
		}},
		"confluent-python": {argv: rig.Python("confluent.py", "confluent_kafka"), kinds: []string{"classic", "consumer"}, login: func(n node, mechanism, password string) []string {
			return []string{
				"security.protocol=" + in(mechanism, "sasl_plaintext", "sasl_ssl"), "sasl.mechanism=" + mechanism,
				"sasl.username=" + user, "sasl.password=" + password, "ssl.ca.location=" + n.ca,
			}
		}},
		"aiokafka": {argv: rig.Python("aio.py", "aiokafka"), says: "uthentication failed", kinds: []string{"classic"}, login: func(n node, mechanism, password string) []string {
			return []string{
				"security_protocol=" + in(mechanism, "SASL_PLAINTEXT", "SASL_SSL"), "sasl_mechanism=" + mechanism,
				"sasl_plain_username=" + user, "sasl_plain_password=" + password, "ssl_cafile=" + n.ca,
			}
		}},
		"kafkajs": {argv: rig.Node, says: "SASLAuthentication", kinds: []string{"classic"}, login: func(n node, mechanism, password string) []string {
			settings := []string{"sasl.mechanism=" + strings.ToLower(mechanism), "sasl.username=" + user, "sasl.password=" + password, "reauthenticationThreshold=500"}
			if mechanism == "PLAIN" {
				settings = append(settings, "ssl.ca="+n.ca)
			}
			return settings
		}},
	}
}

// run runs a program to its end.
func run(t *testing.T, argv []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:len(argv):len(argv)], args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// TestForeignClients: each writes as one mechanism and reads as the others, PLAIN over TLS, and is refused with a wrong password.
func TestForeignClients(t *testing.T) {
	n := start(t)
	const lines = 300
	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte(strings.Repeat("line\n", lines)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if strings.Contains(n.Log(), password) {
			t.Error("a password stands in the log")
		}
	})
	for name, m := range makers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			argv := m.argv(t)
			n.create(t, name)
			as := func(mechanism, password string) []string {
				return rig.Configured(t, argv, m.login(n, mechanism, password)...)
			}
			if _, errs, err := run(t, as("SCRAM-SHA-256", password), "produce", n.scram, name, file); err != nil {
				t.Fatalf("%v\n%s", err, errs)
			}
			for mechanism, addr := range map[string]string{"SCRAM-SHA-512": n.scram, "PLAIN": n.secure} {
				out, errs, err := run(t, as(mechanism, password), "consume", addr, name, fmt.Sprint(lines))
				if got := strings.Count(out, "line\n"); err != nil || got != lines {
					t.Errorf("%s: %d lines, %v\n%s", mechanism, got, err, errs)
				}
			}
			if m.says == "" {
				return
			}
			if _, errs, err := run(t, as("SCRAM-SHA-512", "wrong"), "consume", n.scram, name, "1"); err == nil || !strings.Contains(errs, m.says) {
				t.Errorf("with a wrong password: %v\n%s", err, errs)
			}
		})
	}
	t.Run("kcat", func(t *testing.T) {
		t.Parallel()
		kcat(t, n, lines)
	})
}

// kcat is librdkafka, which before 2.6.1 repeats its nonce (docs/decisions/0009): many systems' packages are older.
func kcat(t *testing.T, n node, lines int) {
	tool := rig.Tool(t, "kcat")
	n.create(t, "kcat")
	as := func(addr, mechanism, password string, args ...string) *exec.Cmd {
		protocol := "sasl_plaintext"
		if addr == n.secure {
			protocol = "sasl_ssl"
		}
		return exec.Command(tool, append([]string{
			"-b", addr, "-t", "kcat", "-X", "security.protocol=" + protocol, "-X", "sasl.mechanism=" + mechanism, "-X", "sasl.username=" + user,
			"-X", "sasl.password=" + password, "-X", "ssl.ca.location=" + n.ca,
		}, args...)...)
	}
	produce := as(n.scram, "SCRAM-SHA-256", password, "-P")
	produce.Stdin = strings.NewReader(strings.Repeat("line\n", lines))
	if out, err := produce.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for mechanism, addr := range map[string]string{"SCRAM-SHA-512": n.scram, "PLAIN": n.secure} {
		out, err := as(addr, mechanism, password, "-C", "-e", "-q").CombinedOutput()
		if got := strings.Count(string(out), "line\n"); err != nil || got != lines {
			t.Errorf("%s: %d lines, %v", mechanism, got, err)
		}
	}
	for addr, c := range map[string]struct{ mechanism, password, says string }{
		n.scram: {"PLAIN", password, "Unsupported SASL mechanism"}, n.secure: {"SCRAM-SHA-512", "wrong", "the user or the password is wrong"},
	} {
		rig.Await(t, func() string { // it says no more than that it has waited in vain if the node is slow
			out, err := as(addr, c.mechanism, c.password, "-L", "-m", "2").CombinedOutput()
			if err == nil {
				t.Fatalf("%s with the password %q: %s", c.mechanism, c.password, out)
			}
			if !strings.Contains(string(out), c.says) {
				return fmt.Sprintf("%s with the password %q: no refusal, but %v: %s", c.mechanism, c.password, err, out)
			}
			return ""
		})
	}
}

// values are the different ones that a member of a group has printed.
type values struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (v *values) line(text string) {
	if fields := strings.Fields(text); len(fields) == 4 && fields[0] == "record" {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.seen[fields[3]] = true
	}
}

func (v *values) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.seen)
}

// dials counts the connections of a client.
type dials struct{ n atomic.Int64 }

func (d *dials) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		d.n.Add(1)
	}
}

// TestLoginsExpire: clients that know KIP-368 log in again on their connections, the others are closed and come again; all of
// them get all records.
func TestLoginsExpire(t *testing.T) {
	const lifetime = 2 * time.Second
	n := start(t, fmt.Sprintf("connections.max.reauth.ms=%d", lifetime.Milliseconds()))
	n.create(t, "ticks")
	members := map[string]*values{}
	var running []*rig.Process
	defer func() {
		for _, p := range running {
			p.Kill()
		}
	}()
	for name, m := range makers() {
		var argv []string
		t.Run(name, func(t *testing.T) { argv = m.argv(t) }) // which may skip it
		for _, kind := range m.kinds {
			if argv == nil {
				continue
			}
			group, v := name+"-"+kind, &values{seen: map[string]bool{}}
			as := rig.Configured(t, argv, m.login(n, "SCRAM-SHA-512", password)...)
			p, err := rig.Run(append(as, "member", n.scram, "ticks", group, kind), v.line)
			if err != nil {
				t.Fatal(err)
			}
			members[group], running = v, append(running, p)
		}
	}
	connects := &dials{}
	cl := client(t, n.scram, kgo.WithHooks(connects), kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism()),
		kgo.DefaultProduceTopic("ticks"), kgo.ConsumeTopics("ticks"))
	own := &values{seen: map[string]bool{}}
	sent := 0
	produce := func() {
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprint("tick-", sent))).FirstErr(); err != nil {
			t.Fatal(err)
		}
		sent++
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { own.line("record 0 0 " + string(r.Value)) })
	}
	all := func() string {
		for _, name := range slices.Sorted(maps.Keys(members)) {
			if got := members[name].count(); got < sent {
				return fmt.Sprintf("%s has read %d of %d records", name, got, sent)
			}
		}
		for _, p := range running {
			if gone := p.Gone(); gone != "" {
				return gone
			}
		}
		return ""
	}
	produce()
	rig.Await(t, all) // everybody reads
	produce()
	// franz-go logs in again when half of a login's lifetime has passed. If it or the node waits for a processor for the other half,
	// its connection is rightly closed: so one of several stretches must do without.
	var added []int64
	for len(added) < 5 && !slices.Contains(added, 0) {
		before := connects.n.Load()
		for began := time.Now(); time.Since(began) < time.Duration(rig.Count(2, 5, 15))*lifetime; {
			produce()
			rig.Idle(50*time.Millisecond, nil)
		}
		rig.Await(t, all)
		added = append(added, connects.n.Load()-before)
	}
	if !slices.Contains(added, 0) {
		t.Errorf("a client that logs in again has connected %v more times", added)
	}
	rig.Await(t, func() string {
		produce()
		if got := own.count(); got < sent-1 {
			return fmt.Sprintf("franz-go has read %d of %d", got, sent)
		}
		return ""
	})
}

// TestNotLoggedIn: who does not log in is served nothing.
func TestNotLoggedIn(t *testing.T) {
	n := start(t)
	cl := client(t, n.scram, kgo.RequestRetries(0))
	if _, err := kadm.NewClient(cl).Metadata(t.Context()); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
