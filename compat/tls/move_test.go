package tls

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/quorlog/quorlog/compat/rig"
	"github.com/quorlog/quorlog/internal/testcluster"
)

// A cluster whose nodes speak plain text with each other goes over to TLS by two rolling restarts, under load, and then no node
// takes a peer without.
func TestMoveToTLS(t *testing.T) {
	certs := issue(t)
	plain, secure, stage := map[int]string{}, map[int]string{}, map[int]int{}
	for id := 1; id <= 3; id++ {
		plain[id], secure[id] = testcluster.FreeAddr(t), testcluster.FreeAddr(t)
	}
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{NodeArgs: func(id int) []string {
		p, s := "PLAINTEXT://"+plain[id], "SSL://"+secure[id]+"?tls=true"
		switch stage[id] {
		case 0:
			return []string{"--listeners", p}
		case 1:
			return certs.node(id, "--listeners", p+","+s, "--tls-peers", "optional")
		default:
			return certs.node(id, "--listeners", s+","+p)
		}
	}})
	c.CreateTopic("load", 3, 3)
	ctx, stop := context.WithCancel(t.Context()) // no patience: there are as many waits as restarts
	defer stop()
	cl := client(t, "", kgo.SeedBrokers(plain[1], plain[2], plain[3]))
	sent, done := 0, make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			r := &kgo.Record{Topic: "load", Value: fmt.Append(nil, sent)}
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				done <- err
				return
			}
			sent++
		}
		done <- nil
	}()
	for range 2 {
		for id := 1; id <= 3; id++ {
			c.Stop(id)
			stage[id]++
			c.StartAll(id)
			rig.AwaitWhole(t, c)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("after %d records: %v", sent, err)
	}
	seen := map[string]int{}
	reader := client(t, secure[1], kgo.DialTLSConfig(certs.config("")), kgo.ConsumeTopics("load"))
	rig.ReadTo(limited(t), t, reader, rig.SettledEnds(t, kadm.NewClient(reader), "load"), func(r *kgo.Record) {
		if seen[string(r.Value)]++; seen[string(r.Value)] > 1 {
			t.Errorf("%s is there twice", r.Value)
		}
	})
	for i := range sent {
		if seen[fmt.Sprint(i)] == 0 {
			t.Errorf("%d of %d is not there", i, sent)
		}
	}
	t.Logf("%d records", sent)
	// Whoever has the cluster's key, but no certificate, is no peer any more.
	c.Stranger(t, testcluster.StrangerOptions{ID: 9, KeyFile: c.KeyFile})
	await(t, "the refusal of a node without a certificate", func() bool {
		for id := 1; id <= 3; id++ {
			if strings.Contains(c.Node(id).Log(), "no TLS on a TLS port") {
				return true
			}
		}
		return false
	})
	if brokers, err := kadm.NewClient(reader).ListBrokers(limited(t)); err != nil || len(brokers) != 3 {
		t.Errorf("%v, %v", brokers, err)
	}
}

// Nodes may need certificates for each other although clients come in by plain text.
func TestPeersAlone(t *testing.T) {
	certs := issue(t)
	c := testcluster.StartCluster(t, testcluster.ClusterOptions{NodeArgs: func(id int) []string {
		return certs.node(id, "--listeners", "PLAINTEXT://"+testcluster.FreeAddr(t), "--tls-peers", "required")
	}})
	cl := client(t, c.Node(1).Addr, kgo.AllowAutoTopicCreation())
	roundTrip(t, cl, "plain", 100)
	c.Stranger(t, testcluster.StrangerOptions{ID: 9, KeyFile: c.KeyFile})
	await(t, "the refusal of a node without a certificate", func() bool {
		for id := 1; id <= 3; id++ {
			if strings.Contains(c.Node(id).Log(), "it has no certificate of a node") {
				return true
			}
		}
		return false
	})
}
