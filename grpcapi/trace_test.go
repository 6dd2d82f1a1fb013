package grpcapi

import (
	"context"
	"errors"
	"testing"

	"github.com/quorlog/quorlog/internal/trace"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// oneSpan keeps the last span and how it ended.
type oneSpan struct {
	trace.Span
	err error
}

func (o *oneSpan) Start(ctx context.Context, s trace.Span) (context.Context, func(error)) {
	o.Span = s
	return ctx, func(err error) { o.err = err }
}

var errTraced = errors.New("an error to be seen in a trace")

// A call is a span with its error, below the span of the client that says so once.
func TestTraced(t *testing.T) {
	var got oneSpan
	s := &core{o: Options{Tracer: &got}}
	fails := func(context.Context, any) (any, error) { return nil, errTraced }
	for _, sent := range [][]string{{}, {"00-a-b-01"}, {"00-a-b-01", "00-c-d-01"}} {
		want := ""
		if len(sent) == 1 {
			want = sent[0]
		}
		ctx := metadata.NewIncomingContext(t.Context(), metadata.MD{"traceparent": sent})
		if _, err := s.traceUnary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/a.B/C"}, fails); !errors.Is(err, errTraced) {
			t.Error(err)
		}
		if got.Name != "a.B/C" || !got.Request || got.Parent != want || !errors.Is(got.err, errTraced) {
			t.Errorf("%q: %+v", sent, got)
		}
	}
}
