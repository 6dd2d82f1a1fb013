package logging

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
)

func levels(at slog.Level) (*Levels, *bytes.Buffer) {
	var out bytes.Buffer
	return New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: at, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})), &out
}

// A level of one logger shows its lines, also those of loggers that were derived from it before, and nobody else's.
func TestSet(t *testing.T) {
	l, out := levels(slog.LevelInfo)
	raft, conn := l.Logger("raft"), l.Logger("conn")
	derived := raft.With("group", "a").WithGroup("g")
	say := func() string {
		out.Reset()
		derived.Debug("raft", "k", 1)
		conn.Debug("conn")
		conn.Info("conn")
		return strings.ReplaceAll(out.String(), "\n", ";")
	}
	check := func(what, want string) {
		t.Helper()
		if got := say(); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	const ofRaft, ofConn = "level=DEBUG msg=raft group=a g.k=1;", "level=INFO msg=conn;"
	check("at first", ofConn)
	if err := l.Set("raft", Debug); err != nil {
		t.Error(err)
	}
	check("raft at DEBUG", ofRaft+ofConn)
	if err := l.Set(Root, Error); err != nil {
		t.Error(err)
	}
	check("root at ERROR", ofRaft)
	if err := l.Unset("raft"); err != nil {
		t.Error(err)
	}
	check("raft as root", "")
	if err := errors.Join(l.Set(Root, Trace), l.Unset(Root)); err != nil {
		t.Error(err)
	}
	check("root at TRACE", ofRaft+"level=DEBUG msg=conn;"+ofConn)
}

func TestAll(t *testing.T) {
	l, _ := levels(slog.LevelWarn)
	l.Logger("b")
	l.Logger("a")
	l.Logger("a") // once more is the same
	if err := l.Set("a", Trace); err != nil {
		t.Error(err)
	}
	if got, want := l.All(), []Setting{{"a", Trace}, {"b", Warn}, {Root, Warn}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if !l.Known("a") || !l.Known(Root) || l.Known("c") {
		t.Error("Known is wrong")
	}
}

func TestErrors(t *testing.T) {
	l, _ := levels(slog.LevelInfo)
	l.Logger("a")
	if err := l.Set("b", Info); !errors.Is(err, ErrUnknownLogger) {
		t.Error(err)
	}
	if err := l.Unset("b"); !errors.Is(err, ErrUnknownLogger) {
		t.Error(err)
	}
	if err := l.Set("a", "LOUD"); !errors.Is(err, ErrUnknownLevel) {
		t.Error(err)
	}
	if _, err := ParseLevel("loud"); !errors.Is(err, ErrUnknownLevel) {
		t.Error(err)
	}
	if got, err := ParseLevel(" debug "); got != Debug || err != nil {
		t.Error(got, err)
	}
}

// Each level that is set comes back by its name; a handler with a level between two shows as the one that hides no less.
func TestNames(t *testing.T) {
	l, _ := levels(slog.LevelInfo)
	for level := range slogLevels {
		if err := l.Set(Root, level); err != nil {
			t.Error(err)
		}
		if got := l.All()[0].Level; got != level {
			t.Errorf("%s, want %s", got, level)
		}
	}
	quiet, _ := levels(slog.LevelError + 100)
	if got := quiet.All()[0].Level; got != Fatal {
		t.Errorf("%s, want %s", got, Fatal)
	}
}

func TestConcurrent(t *testing.T) {
	l := New(slog.DiscardHandler)
	var wg sync.WaitGroup
	for _, name := range []string{"a", "b", "a"} {
		wg.Go(func() {
			logger := l.Logger(name)
			for range 500 {
				if err := errors.Join(l.Set(name, Debug), l.Unset(name), l.Set(Root, Warn)); err != nil {
					t.Error(err)
				}
				logger.Warn("line")
				l.All()
			}
		})
	}
	wg.Wait()
}
