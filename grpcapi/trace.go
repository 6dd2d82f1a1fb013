package grpcapi

import (
	"context"
	"strings"

	"github.com/quorlog/quorlog/internal/trace"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// traced begins the span of a call, below the client's if it names one (W3C Trace Context).
func (s *core) traced(ctx context.Context, method string) (parts context.Context, end func(error)) {
	if s.o.Tracer == nil {
		return ctx, func(error) {}
	}
	parent := ""
	if values := metadata.ValueFromIncomingContext(ctx, "traceparent"); len(values) == 1 {
		parent = values[0]
	}
	return trace.Start(trace.With(ctx, s.o.Tracer), trace.Span{Name: strings.TrimPrefix(method, "/"), Request: true, Parent: parent})
}

// traceUnary stands before each call.
func (s *core) traceUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	ctx, end := s.traced(ctx, info.FullMethod)
	resp, err := handle(ctx, req)
	end(err)
	return resp, err
}

// traceStream stands before each stream.
func (s *core) traceStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, end := s.traced(ss.Context(), info.FullMethod)
	err := handle(srv, &tracedStream{ss, ctx})
	end(err)
	return err
}

// tracedStream is a stream with a span.
type tracedStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements grpc.ServerStream.
func (t *tracedStream) Context() context.Context { return t.ctx }
