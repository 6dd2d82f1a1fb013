// Package otlp sends traces to a collector of OpenTelemetry, by OTLP over HTTP. Nothing else of the program knows OpenTelemetry:
// what is traced is told to package trace.
//
// What is sampled, and headers, compression and certificates of the exporter, are set by OpenTelemetry's own variables
// (OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG, OTEL_EXPORTER_OTLP_HEADERS, ...). They alone never turn traces on.
//
// Goroutines: the SDK's, one that sends batches; it ends with Close.
package otlp

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	otrace "go.opentelemetry.io/otel/trace"

	"github.com/quorlog/quorlog/internal/trace"
)

const (
	// maxWaiting bounds the spans that wait to be sent; while a collector is slow or away, more are dropped.
	maxWaiting = 4096
	// sendTime bounds one attempt to send.
	sendTime = 10 * time.Second
	// complaintPause lies between lines about a collector that takes nothing.
	complaintPause = time.Minute
)

// Options of an Exporter. All but Logger are what spans carry.
type Options struct {
	Endpoint string // URL of the collector, http or https, with the path for traces: http://host:4318/v1/traces
	Node     int    // id of the node
	Cluster  string // may be empty
	Version  string
	Logger   *slog.Logger
}

// Exporter is a trace.Tracer that sends what it is told.
type Exporter struct {
	provider *sdk.TracerProvider
	tracer   otrace.Tracer
}

// Open makes an exporter. Whether the collector is there shows later, in the log.
func Open(o Options) (*Exporter, error) {
	client, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(o.Endpoint), otlptracehttp.WithTimeout(sendTime),
		// What can't be sent is lost, not kept: traces are not worth the memory, nor the time to wait for at the end.
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{}))
	if err != nil {
		return nil, fmt.Errorf("traces to %s: %w", o.Endpoint, err)
	}
	otel.SetErrorHandler(&complaints{logger: o.Logger}) // the SDK has one for the process
	provider := sdk.NewTracerProvider(
		sdk.WithBatcher(client, sdk.WithMaxQueueSize(maxWaiting)),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "quorlog"), attribute.String("service.version", o.Version),
			attribute.Int("quorlog.node", o.Node), attribute.String("quorlog.cluster", o.Cluster),
		)),
	)
	return &Exporter{provider, provider.Tracer("github.com/quorlog/quorlog")}, nil
}

// Start implements trace.Tracer.
func (e *Exporter) Start(ctx context.Context, s trace.Span) (context.Context, func(error)) {
	if s.Parent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": s.Parent})
	}
	var options []otrace.SpanStartOption
	if s.Request {
		options = append(options, otrace.WithSpanKind(otrace.SpanKindServer))
	}
	if !s.Began.IsZero() {
		options = append(options, otrace.WithTimestamp(s.Began))
	}
	ctx, span := e.tracer.Start(ctx, s.Name, options...)
	if span.IsRecording() {
		for _, a := range s.Attributes {
			span.SetAttributes(keyValue(a))
		}
	}
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

func keyValue(a slog.Attr) attribute.KeyValue {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindInt64:
		return attribute.Int64(a.Key, v.Int64())
	case slog.KindBool:
		return attribute.Bool(a.Key, v.Bool())
	default:
		return attribute.String(a.Key, v.String())
	}
}

// Close sends what waits, until ctx ends.
func (e *Exporter) Close(ctx context.Context) error { return e.provider.Shutdown(ctx) }

// complaints logs what goes wrong with sending, a line a minute.
type complaints struct {
	logger *slog.Logger
	mu     struct {
		sync.Mutex
		last time.Time
	}
}

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.mu.last) >= complaintPause {
		c.mu.last = now
		c.logger.Warn("traces are lost", "error", err)
	}
}
