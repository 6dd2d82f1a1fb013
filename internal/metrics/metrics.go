// Package metrics turns a node's figures into Prometheus'. All metrics are rows of one table ([All]): their names, labels and
// meaning; dashboards, alerts and the reference page are held against it. Figures are counted where things happen, in plain
// counters, and read when somebody scrapes: between scrapes, metrics cost nothing.
//
// The package starts no goroutine.
package metrics

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/quorlog/quorlog/internal/latency"
)

// Kind is what a metric's value is.
type Kind uint8

// The kinds.
const (
	Counter   Kind = iota // only grows, until the node starts anew
	Gauge                 // goes up and down
	Histogram             // counts durations, in seconds
)

// String is the kind's name in the reference page.
func (k Kind) String() string { return [...]string{"counter", "gauge", "histogram"}[k] }

// Metric is a row of the table.
type Metric struct {
	Name   string
	Kind   Kind
	Help   string
	Labels []string
	desc   *prometheus.Desc
}

// Out takes a node's figures. It is used by one goroutine.
type Out struct {
	to      chan<- prometheus.Metric
	room    int
	dropped int
}

// Set tells the value of a counter or gauge, with a value for each of the metric's labels. Names that clients chose go through
// [Label].
func (o *Out) Set(m *Metric, value float64, labels ...string) {
	kind := prometheus.GaugeValue
	if m.Kind == Counter {
		kind = prometheus.CounterValue
	}
	if o.take(1) {
		o.put(m, labels, func(l []string) (prometheus.Metric, error) {
			return prometheus.NewConstMetric(m.desc, kind, value, l...)
		})
	}
}

// Took tells the durations of a histogram.
func (o *Out) Took(m *Metric, s latency.Snapshot, labels ...string) {
	buckets := make(map[float64]uint64, len(s.Below))
	for i, bound := range latency.Bounds() {
		buckets[bound.Seconds()] = uint64(s.Below[i])
	}
	if o.take(len(buckets) + 3) { // and the last bucket, count and sum
		o.put(m, labels, func(l []string) (prometheus.Metric, error) {
			return prometheus.NewConstHistogram(m.desc, uint64(s.Count), s.Sum.Seconds(), buckets, l...)
		})
	}
}

// Room is how many more series are taken. Who has many to tell may leave them be when there is none.
func (o *Out) Room() int { return o.room }

// Drop counts series that were left out.
func (o *Out) Drop(series int) { o.dropped += series }

func (o *Out) take(series int) bool {
	if o.room < series {
		o.dropped += series
		return false
	}
	o.room -= series
	return true
}

func (o *Out) put(m *Metric, labels []string, build func([]string) (prometheus.Metric, error)) {
	metric, err := build(labels)
	if err != nil {
		metric = prometheus.NewInvalidMetric(m.desc, err)
	}
	o.to <- metric
}

// maxLabel bounds the value of a label, in bytes: the id of a group may have 32,767, and stands in every series of the group.
const maxLabel = 256

// Label is a label's value for a name that clients chose, such as that of a group: text, and not long. What is no text is quoted,
// and what begins as if it were; the end of what is long is replaced by a hash of all of it. So different names stay different.
func Label(name string) string {
	if !utf8.ValidString(name) || strings.HasPrefix(name, `"`) {
		name = strconv.Quote(name)
	}
	if len(name) <= maxLabel {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	hash := "~" + hex.EncodeToString(sum[:8])
	return strings.ToValidUTF8(name[:maxLabel-len(hash)], "") + hash // the cut may go through a character
}

// Options of a handler.
type Options struct {
	// Gather tells all figures of a node.
	Gather func(ctx context.Context, o *Out)
	// MaxSeries bounds the series of one scrape; it is asked for each. What is told after those is left out, and counted.
	MaxSeries func() int
	Version   string
	Logger    *slog.Logger
}

const (
	// gatherTime bounds what a scrape waits for other nodes. Prometheus waits ten seconds by default.
	gatherTime = 5 * time.Second
	// maxReason bounds what is logged of a scrape that went wrong, in bytes: each series may have its own reason.
	maxReason = 1 << 10
	// maxScrapes bounds the scrapes at a time; more are told to come again.
	maxScrapes = 4
)

// Handler answers scrapes.
func Handler(o Options) http.Handler {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: BuildInfo.Name, Help: BuildInfo.Help, ConstLabels: prometheus.Labels{"version": o.Version},
	})
	build.Set(1)
	registry.MustRegister(&node{o: o}, build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		// One wrong series must not take all others along.
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: scrapeLog{o.Logger}, MaxRequestsInFlight: maxScrapes,
	})
}

// node is a prometheus.Collector.
type node struct {
	o      Options
	panics atomic.Int64
}

// Describe implements prometheus.Collector.
func (n *node) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range All() {
		if m != &BuildInfo {
			ch <- m.desc
		}
	}
}

// Collect implements prometheus.Collector.
func (n *node) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), gatherTime)
	defer cancel()
	out := &Out{to: ch}
	n.gather(ctx, out)
	dropped := out.dropped
	out.room = 2
	out.Set(&DroppedSeries, float64(dropped))
	out.Set(&BrokenScrapes, float64(n.panics.Load()))
}

// gather asks for the figures. A panic costs those behind it, and is counted, which the registry's own guard does not.
func (n *node) gather(ctx context.Context, out *Out) {
	defer func() {
		if p := recover(); p != nil {
			n.panics.Add(1)
			n.o.Logger.Error("figures are missing: gathering them panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	out.room = n.o.MaxSeries()
	n.o.Gather(ctx, out)
}

// scrapeLog says what is wrong with series.
type scrapeLog struct{ logger *slog.Logger }

// Println implements promhttp.Logger.
func (l scrapeLog) Println(v ...any) {
	reason := fmt.Sprint(v...)
	l.logger.Warn("a scrape is not complete", "reason", reason[:min(len(reason), maxReason)])
}
