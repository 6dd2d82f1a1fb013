// Package trace tells where the time of a request goes, to a [Tracer] that the request's context carries. Without one, as is usual,
// that costs a look into the context.
//
// It knows no library of traces: package otlp has the tracer that sends them somewhere. It starts no goroutine.
package trace

import (
	"context"
	"log/slog"
	"time"
)

// Span is a request, or a part of one.
type Span struct {
	Name string
	// Request tells that it is what a client sent, and no part.
	Request bool
	// Parent is the traceparent of the client (W3C Trace Context); empty if it sent none.
	Parent string
	// Began is when it began; zero: now.
	Began time.Time
	// Attributes are plain values: strings, numbers, booleans.
	Attributes []slog.Attr
}

// Tracer takes spans. Its methods may be called from any goroutine.
type Tracer interface {
	// Start begins a span, below that of the context if there is one. The context that it returns is for the parts; end, which must
	// be called once, is told the error with which the span ends.
	Start(ctx context.Context, s Span) (parts context.Context, end func(error))
}

type tracerKey struct{}

// With returns a context whose requests are traced; with a nil tracer, the context itself.
func With(ctx context.Context, t Tracer) context.Context {
	if t == nil {
		return ctx
	}
	return context.WithValue(ctx, tracerKey{}, t)
}

// Start begins a span, if the context has a tracer.
func Start(ctx context.Context, s Span) (parts context.Context, end func(error)) {
	if t, ok := ctx.Value(tracerKey{}).(Tracer); ok {
		return t.Start(ctx, s)
	}
	return ctx, ignore
}

func ignore(error) {}
