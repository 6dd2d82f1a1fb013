package conn

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/quorlog/quorlog/internal/trace"
	"github.com/quorlog/quorlog/kafkaproto"
)

// spans notes spans that have ended.
type spans struct {
	mu    sync.Mutex
	ended []string
}

type spanKey struct{}

func (s *spans) Start(ctx context.Context, span trace.Span) (context.Context, func(error)) {
	name := span.Name
	if above, ok := ctx.Value(spanKey{}).(string); ok {
		name = above + "/" + name
	}
	if span.Request && (span.Began.IsZero() || len(span.Attributes) == 0) {
		name += " without its beginning"
	}
	return context.WithValue(ctx, spanKey{}, name), func(err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil {
			name += " failed"
		}
		s.ended = append(s.ended, name)
	}
}

var errTraced = errors.New("an error to be seen in a trace")

// TestTrace: each request is a span with its outcome, from its arrival to its answer, and its parts lie below it.
func TestTrace(t *testing.T) {
	var told spans
	traced := func(_ context.Context, _ *Session, _ kafkaproto.RequestHeader, body []byte) Call {
		return finish(func(ctx context.Context) (Reply, error) {
			_, end := trace.Start(ctx, trace.Span{Name: "part"})
			end(nil)
			if string(body) == "bad" {
				return Reply{}, errTraced
			}
			return Reply{Body: kafkaproto.Bytes(body)}, nil
		})
	}
	h := onPipe(t, dispatcher(traced), Options{Tracer: &told})
	defer h.Close()
	c := h.dial(t)
	c.send(produce, 1, "good")
	c.expect(1, "good")
	c.send(produce, 2, "bad")
	c.expectClosed()
	told.mu.Lock()
	defer told.mu.Unlock()
	if want := []string{"kafka.Produce/part", "kafka.Produce", "kafka.Produce/part", "kafka.Produce failed"}; !slices.Equal(told.ended, want) {
		t.Errorf("%q, want %q", told.ended, want)
	}
}
