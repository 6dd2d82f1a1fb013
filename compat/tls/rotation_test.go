package tls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// load is a producer, a consumer, and clients that come to one node after the other and go, all of which meet no error.
type load struct {
	t     *testing.T
	done  chan error
	stop  context.CancelFunc
	sent  atomic.Int64
	fewer atomic.Bool // not all nodes are there: who comes to one that is not gets no answer
}

// begin starts a load on nodes with what a client's configuration is by then.
func begin(t *testing.T, config func() *tls.Config, addrs ...string) *load {
	t.Helper()
	limit := limited(t)
	ctx, stop := context.WithCancel(limit)
	l := &load{t: t, done: make(chan error, 3), stop: stop}
	opts := []kgo.Opt{kgo.SeedBrokers(addrs...), kgo.Dialer(func(ctx context.Context, network, addr string) (nc net.Conn, err error) {
		return (&tls.Dialer{Config: config()}).DialContext(ctx, network, addr)
	})}
	producer := client(t, addrs[0], append(opts, kgo.AllowAutoTopicCreation())...)
	consumer := client(t, addrs[0], append(opts, kgo.ConsumeTopics("load"), kgo.AllowAutoTopicCreation())...)
	go l.run(func() error {
		for ctx.Err() == nil {
			if err := producer.ProduceSync(limit, &kgo.Record{Topic: "load", Value: []byte("x")}).FirstErr(); err != nil {
				return fmt.Errorf("produce after %d: %w", l.sent.Load(), err)
			}
			l.sent.Add(1)
		}
		return nil
	})
	go l.run(func() error {
		for got := int64(0); ctx.Err() == nil || got < l.sent.Load(); {
			patience := ctx
			if ctx.Err() != nil {
				patience = limit // for what has been sent
			}
			fetches := consumer.PollFetches(patience)
			if err := fetches.Err(); err != nil && !errors.Is(err, context.Canceled) {
				return fmt.Errorf("consume after %d: %w", got, err)
			}
			got += int64(fetches.NumRecords())
		}
		return nil
	})
	go l.run(func() error {
		for n := 0; ctx.Err() == nil; n++ {
			addr := addrs[n%len(addrs)]
			cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...) // who knows one node can't take another for it
			if err != nil {
				return err
			}
			err = cl.Ping(limit)
			cl.Close()
			if err != nil && !l.fewer.Load() {
				return fmt.Errorf("connection %d, to %s: %w", n, addr, err)
			}
			rig.Idle(20*time.Millisecond, ctx.Done())
		}
		return nil
	})
	return l
}

func (l *load) run(fn func() error) { l.done <- fn() }

// end stops the load.
func (l *load) end() {
	l.t.Helper()
	l.stop()
	for range cap(l.done) {
		if err := <-l.done; err != nil {
			l.t.Error(err)
		}
	}
	l.t.Logf("%d records", l.sent.Load())
}

// inEffect bounds the time from the last file that was written to its effect on all nodes, in new handshakes. Nodes promise a second;
// what is over that in a default run is for a machine that is busy with other tests.
func inEffect() time.Duration {
	if rig.Full() {
		return time.Second
	}
	return 10 * time.Second
}

// Certificates and authorities are replaced under load, as those of an authority whose key has to go: first both are believed, then
// nodes and clients get new certificates, then the old one is believed no more. No client meets an error, what is written is in
// effect within inEffect, and a damaged file changes nothing.
func TestRotation(t *testing.T) {
	old, fresh := issue(t), issue(t)
	trust := old.file("trust.crt")
	write := func(path string, parts ...[]byte) time.Time {
		t.Helper()
		var data []byte
		for _, p := range parts {
			data = append(data, p...)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return time.Now()
	}
	first, second := read(t, old.file("ca.crt")), read(t, fresh.file("ca.crt"))
	write(trust, first)
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{NodeArgs: func(id int) []string {
		return old.node(id, "--tls-ca", trust, "--tls-client-auth", "required")
	}})

	// A client believes both authorities all the time, and shows what it has by now.
	base := old.config("")
	base.RootCAs.AppendCertsFromPEM(second)
	as := func(who tls.Certificate) *tls.Config {
		config := base.Clone()
		config.Certificates = []tls.Certificate{who}
		return config
	}
	oldAlice, newAlice := old.pair("alice"), fresh.pair("alice")
	var alice atomic.Pointer[tls.Certificate]
	alice.Store(&oldAlice)
	l := begin(t, func() *tls.Config { return as(*alice.Load()) }, c.Addrs()...)
	defer l.end()

	// enters tells whether a node takes a certificate; shown is whose the node's own is.
	enters := func(id int, who tls.Certificate) bool {
		nc, err := tls.Dial("tcp", c.Node(id).Addr, as(who))
		if err != nil {
			return false
		}
		defer nc.Close()
		if _, err := nc.Write([]byte("GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")); err != nil {
			return false
		}
		n, _ := nc.Read(make([]byte, 1))
		return n == 1
	}
	shown := func(id int) string {
		nc, err := tls.Dial("tcp", c.Node(id).Addr, as(*alice.Load()))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		return nc.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	everywhere := func(what string, since time.Time, happened func(id int) bool) {
		t.Helper()
		took := map[int]time.Duration{}
		rig.Await(t, func() string {
			for id := 1; id <= 3; id++ {
				if _, known := took[id]; !known && happened(id) {
					took[id] = time.Since(since).Round(time.Millisecond)
				}
			}
			if len(took) == 3 {
				return ""
			}
			return fmt.Sprintf("%s on some nodes only, after %v", what, took)
		})
		t.Logf("%s: after %v", what, took)
		if longest := slices.Max(slices.Collect(maps.Values(took))); longest > inEffect() {
			t.Errorf("%s: after %v, more than %v", what, longest, inEffect())
		}
	}

	before, whole := shown(1), read(t, old.file("node-1.crt"))
	write(old.file("node-1.crt"), []byte("damaged"))
	await(t, "the refusal of the damaged file", func() bool { return strings.Contains(c.Node(1).Log(), "the old certificate stays") })
	if shown(1) != before || enters(1, newAlice) {
		t.Error("a damaged file changed something")
	}
	write(old.file("node-1.crt"), whole)
	everywhere("both authorities are believed", write(trust, first, second), func(id int) bool { return enters(id, newAlice) && enters(id, oldAlice) })
	alice.Store(&newAlice)
	was := map[int]string{}
	for id := 1; id <= 3; id++ {
		was[id] = shown(id)
	}
	var replaced time.Time
	for id := 1; id <= 3; id++ {
		name := fmt.Sprint("node-", id)
		write(old.file(name+".crt"), read(t, fresh.file(name+".crt")))
		replaced = write(old.file(name+".key"), read(t, fresh.file(name+".key")))
	}
	everywhere("the new certificates are shown", replaced, func(id int) bool { return shown(id) != was[id] })
	everywhere("the old authority is believed no more", write(trust, second), func(id int) bool { return !enters(id, oldAlice) && enters(id, newAlice) })
	l.fewer.Store(true)
	c.Node(3).Kill() // the others dial it again, with the new ones
	c.Node(3).Restart()
}
