package otlp

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/quorlog/quorlog/internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeCollector keeps the spans that it is sent.
type fakeCollector struct {
	*httptest.Server
	mu       sync.Mutex
	spans    map[string]*spans.Span
	resource map[string]string
}

func newCollector(t *testing.T) *fakeCollector {
	c := &fakeCollector{spans: map[string]*spans.Span{}, resource: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			unzipped, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			body = unzipped
		}
		raw, err := io.ReadAll(body)
		var req collector.ExportTraceServiceRequest
		if err := errors.Join(err, proto.Unmarshal(raw, &req)); err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, of := range req.GetResourceSpans() {
			for _, kv := range of.GetResource().GetAttributes() {
				c.resource[kv.GetKey()] = kv.GetValue().GetStringValue()
			}
			for _, scope := range of.GetScopeSpans() {
				for _, s := range scope.GetSpans() {
					c.spans[s.GetName()] = s
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// TestExport: a collector gets requests and their parts, each below the other, with times, attributes, errors and the client's trace.
func TestExport(t *testing.T) {
	c := newCollector(t)
	e, err := Open(Options{Endpoint: c.URL + "/v1/traces", Node: 7, Cluster: "c", Version: "1.2.3", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now().Add(-time.Second)
	ctx, end := trace.Start(trace.With(t.Context(), e), trace.Span{
		Name: "request", Request: true, Parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Began: began,
		Attributes: []slog.Attr{slog.String("client", "me"), slog.Int("version", 13), slog.Bool("yes", true)},
	})
	_, part := trace.Start(ctx, trace.Span{Name: "part"})
	part(errors.New("broken"))
	end(nil)
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	request, below := c.spans["request"], c.spans["part"]
	if request == nil || below == nil {
		t.Fatalf("%v", c.spans)
	}
	if request.GetKind() != spans.Span_SPAN_KIND_SERVER || request.GetStartTimeUnixNano() != uint64(began.UnixNano()) || len(request.GetAttributes()) != 3 ||
		request.GetTraceId()[0] != 0x0a || request.GetParentSpanId()[0] != 0xb7 {
		t.Errorf("%v", request)
	}
	if !bytes.Equal(below.GetParentSpanId(), request.GetSpanId()) || below.GetStatus().GetMessage() != "broken" || below.GetKind() != spans.Span_SPAN_KIND_INTERNAL {
		t.Errorf("%v", below)
	}
	if c.resource["service.name"] != "quorlog" || c.resource["service.version"] != "1.2.3" || c.resource["quorlog.cluster"] != "c" {
		t.Errorf("%v", c.resource)
	}
}

// A collector that is not there costs a line in the log, never a request.
func TestNoCollector(t *testing.T) {
	c := newCollector(t)
	c.Close()
	var log bytes.Buffer
	e, err := Open(Options{Endpoint: c.URL + "/v1/traces", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		_, end := trace.Start(trace.With(t.Context(), e), trace.Span{Name: "request"})
		end(nil)
	}
	if err := e.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if strings.Count(log.String(), "traces are lost") != 1 {
		t.Errorf("the log says %q", log.String())
	}
}

func TestComplaints(t *testing.T) {
	var log bytes.Buffer
	c := &complaints{logger: slog.New(slog.NewTextHandler(&log, nil))}
	for range 100 {
		c.Handle(errors.New("no route"))
	}
	if strings.Count(log.String(), "no route") != 1 {
		t.Errorf("%s", log.String())
	}
}
