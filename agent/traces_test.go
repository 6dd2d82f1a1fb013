package agent

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestTraces: what clients of any kind ask for reaches a collector when the node stops, if not before.
func TestTraces(t *testing.T) {
	var got atomic.Pointer[string]
	got.Store(new(string))
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		all := *got.Load() + string(body) // one sender, one request at a time
		got.Store(&all)
	}))
	defer collector.Close()
	a := testNode(t, map[string]string{"traces-endpoint": collector.URL + "/v1/traces"}, nil)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl := newClient(t, kgo.SeedBrokers(a.Addr()), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("traced"))
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "traced", Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if got := cl.PollFetches(ctx); got.NumRecords() != 1 {
		t.Fatal(got.Errors())
	}
	cl.Close()
	if status, body := httpGet(t, a.Addr(), "/v1/topics"); status != http.StatusOK {
		t.Error(status, body)
	}
	if err := a.Close(context.Background()); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"kafka.Produce", "raft.apply", "kafka.Fetch", "kafka.Metadata", "quorlog.v1.Topics/ListTopics", "service.name"} {
		if !strings.Contains(*got.Load(), want) {
			t.Errorf("%s is not traced", want)
		}
	}
}
