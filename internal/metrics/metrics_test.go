package metrics

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/goleak"

	"github.com/quorlog/quorlog/internal/latency"
	"github.com/quorlog/quorlog/internal/scripts"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(t *testing.T, room int, gather func(*Out)) (int, string) {
	t.Helper()
	h := Handler(Options{
		Gather:    func(_ context.Context, o *Out) { gather(o) },
		MaxSeries: func() int { return room }, Version: "1.2.3", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

func TestHandler(t *testing.T) {
	var took latency.Histogram
	took.Observe(2 * time.Millisecond)
	took.Observe(time.Hour)
	status, body := get(t, 1000, func(o *Out) {
		o.Set(&LeaderCount, 3)
		o.Set(&BytesIn, 12, "orders")
		o.Took(&RequestTook, took.Snapshot(), "Fetch")
	})
	for _, want := range []string{
		`quorlog_build_info{version="1.2.3"} 1`, "# TYPE kafka_server_replicamanager_leadercount gauge", "kafka_server_replicamanager_leadercount 3",
		"# TYPE kafka_server_brokertopicmetrics_bytesin_total counter", `kafka_server_brokertopicmetrics_bytesin_total{topic="orders"} 12`,
		`quorlog_request_duration_seconds_bucket{key="Fetch",le="0.001"} 0`, `quorlog_request_duration_seconds_bucket{key="Fetch",le="0.0025"} 1`,
		`quorlog_request_duration_seconds_bucket{key="Fetch",le="+Inf"} 2`, `quorlog_request_duration_seconds_sum{key="Fetch"} 3600.002`,
		`quorlog_request_duration_seconds_count{key="Fetch"} 2`, "quorlog_metrics_dropped_series 0", "go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(body, want+"\n") && !strings.Contains(body, "\n"+want) {
			t.Errorf("%s is missing", want)
		}
	}
	if status != http.StatusOK {
		t.Error(status)
	}
}

// What one series has wrong must not cost the others: names that are no text, the same series twice, a label too few.
func TestBadSeries(t *testing.T) {
	status, body := get(t, 1000, func(o *Out) {
		o.Set(&GroupMembers, 1, Label("\xff"))
		o.Set(&GroupMembers, 2, Label("quotes \" and\nlines"))
		o.Set(&GroupMembers, 9, "\xff")
		o.Set(&GroupMembers, 3, "twice")
		o.Set(&GroupMembers, 4, "twice")
		o.Set(&BytesIn, 5)
		o.Set(&LeaderCount, 6)
	})
	for _, want := range []string{
		`kafka_consumergroup_members{consumergroup="\"\\xff\""} 1`, `kafka_consumergroup_members{consumergroup="quotes \" and\nlines"} 2`,
		"kafka_server_replicamanager_leadercount 6",
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
	if status != http.StatusOK {
		t.Error(status)
	}
}

// Clients choose the names of groups: however they do, a label is short text, and others' labels are not taken.
func TestLabel(t *testing.T) {
	for name, want := range map[string]string{"": "", "orders": "orders", "a \"b\"": "a \"b\"", "\xff": `"\xff"`, `"\xff"`: `"\"\\xff\""`} {
		if got := Label(name); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
	seen := map[string]string{}
	for _, name := range []string{
		strings.Repeat("g", maxLabel), strings.Repeat("g", maxLabel+1), strings.Repeat("g", 1<<15-1), strings.Repeat("\xff", 1<<15-1),
		strings.Repeat("ä", 300), strings.Repeat("ä", 300) + "b", "x" + strings.Repeat("ä", 300), "xx" + strings.Repeat("漢", 300),
	} {
		got := Label(name)
		if len(got) > maxLabel || !utf8.ValidString(got) || seen[got] != "" {
			t.Errorf("%.20q...: %.40q (%d bytes), as %.20q", name, got, len(got), seen[got])
		}
		seen[got] = name
	}
}

// A bug in a figure must not end the node: what was told before is served, and the bug is counted and logged.
func TestPanicWhileGathering(t *testing.T) {
	var log bytes.Buffer
	h := Handler(Options{
		Gather: func(_ context.Context, o *Out) {
			o.Set(&LeaderCount, 3)
			var none []float64
			o.Set(&PartitionCount, none[o.Room()])
		},
		MaxSeries: func() int { return 100 }, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	var body string
	for range 2 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		body = w.Body.String()
	}
	for _, want := range []string{"kafka_server_replicamanager_leadercount 3\n", "quorlog_metrics_panics_total 2\n"} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if !strings.Contains(log.String(), "index out of range") || !strings.Contains(log.String(), "TestPanicWhileGathering") {
		t.Errorf("the log says %q", log.String())
	}
}

// Thousands of wrong series make one short line.
func TestReasonIsBounded(t *testing.T) {
	var log bytes.Buffer
	h := Handler(Options{
		Gather: func(_ context.Context, o *Out) {
			for range 5000 {
				o.Set(&LeaderCount, 1)
			}
		},
		MaxSeries: func() int { return 10_000 }, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if n := log.Len(); n == 0 || n > 3*maxReason {
		t.Errorf("%d bytes are logged", n)
	}
}

func TestRoom(t *testing.T) {
	var left int
	_, body := get(t, 10, func(o *Out) {
		o.Took(&SyncTook, latency.Snapshot{}) // more than there is room for
		for range 4 {
			o.Set(&LeaderCount, 1)
		}
		o.Drop(7)
		left = o.Room()
	})
	if want := "quorlog_metrics_dropped_series 27\n"; left != 6 || !strings.Contains(body, want) || strings.Contains(body, "quorlog_fsync") {
		t.Errorf("room for %d:\n%s", left, body)
	}
}

// The rows keep Prometheus' rules for names, and no name comes twice.
func TestTable(t *testing.T) {
	name := regexp.MustCompile(`^(kafka|quorlog)_[a-z0-9_]+$`)
	seen := map[string]bool{}
	for _, m := range All() {
		own := strings.HasPrefix(m.Name, "quorlog_")
		switch {
		case !name.MatchString(m.Name), seen[m.Name], m.Help == "":
			t.Errorf("%s: a bad name, or without help, or there twice", m.Name)
		case own && (m.Kind == Counter) != strings.HasSuffix(m.Name, "_total"), own && (m.Kind == Histogram) != strings.HasSuffix(m.Name, "_duration_seconds"):
			t.Errorf("%s is a %s", m.Name, m.Kind)
		}
		seen[m.Name] = true
	}
}

func TestReference(t *testing.T) {
	scripts.Golden(t, filepath.Join("..", "..", "docs", "METRICS.md"), Reference(), "it is not what the table says: go test ./internal/metrics -update")
}
