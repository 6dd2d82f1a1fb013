package trace

import (
	"context"
	"errors"
	"slices"
	"testing"
)

// list notes what is told.
type list struct{ told []string }

func (l *list) Start(ctx context.Context, s Span) (context.Context, func(error)) {
	l.told = append(l.told, "start "+s.Name)
	return ctx, func(err error) {
		if err != nil {
			l.told = append(l.told, "failed "+s.Name)
			return
		}
		l.told = append(l.told, "end "+s.Name)
	}
}

func TestStart(t *testing.T) {
	var l list
	ctx, end := Start(With(t.Context(), &l), Span{Name: "request"})
	_, part := Start(ctx, Span{Name: "part"})
	part(errors.New("no"))
	end(nil)
	if want := []string{"start request", "start part", "failed part", "end request"}; !slices.Equal(l.told, want) {
		t.Errorf("%v, want %v", l.told, want)
	}
}

func TestWithout(t *testing.T) {
	ctx := With(t.Context(), nil)
	if ctx != t.Context() {
		t.Error("another context")
	}
	if n := testing.AllocsPerRun(100, func() {
		_, end := Start(ctx, Span{Name: "request"})
		end(nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
