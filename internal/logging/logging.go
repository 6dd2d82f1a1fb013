// Package logging gives each part of the program a log level of its own, which can be changed while it runs.
//
// A [Levels] holds a level for the root and for each named logger, like "raft" or "conn". A logger that has no level of its own
// follows the root. Reading a level is one atomic load, so a line below its level costs next to nothing.
//
// The package starts no goroutine. Levels.mu is a leaf.
package logging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Root is the name of the logger that all others follow.
const Root = "root"

// Names are the loggers of a node, beside the root.
func Names() []string { return slices.Clone(names) }

var names = []string{
	"agent", "api", "auth", "certs", "conn", "controller", "group", "grpc", "http", "join", "leaders", "membership", "metrics", "partition",
	"portmux", "raft", "share", "traces", "transport", "txn",
}

// Level is a level by Kafka's name; see KIP-412.
type Level string

// The levels, from the fewest lines to the most. slog has neither FATAL, which here is one above ERROR, nor TRACE, which is one
// below DEBUG.
const (
	Fatal Level = "FATAL"
	Error Level = "ERROR"
	Warn  Level = "WARN"
	Info  Level = "INFO"
	Debug Level = "DEBUG"
	Trace Level = "TRACE"
)

var slogLevels = map[Level]slog.Level{
	Fatal: slog.LevelError + 4, Error: slog.LevelError, Warn: slog.LevelWarn, Info: slog.LevelInfo, Debug: slog.LevelDebug, Trace: slog.LevelDebug - 4,
}

// ErrUnknownLevel means that a text names no level.
var ErrUnknownLevel = errors.New("unknown log level: expected FATAL, ERROR, WARN, INFO, DEBUG or TRACE")

// ErrUnknownLogger means that no part of the program logs under a name.
var ErrUnknownLogger = errors.New("unknown logger")

// ParseLevel finds a level by its name, in any case.
func ParseLevel(text string) (Level, error) {
	l := Level(strings.ToUpper(strings.TrimSpace(text)))
	if _, known := slogLevels[l]; !known {
		return "", fmt.Errorf("%w, not %q", ErrUnknownLevel, text)
	}
	return l, nil
}

// Levels are the levels of a node's loggers. Their methods may be called from any goroutine.
type Levels struct {
	base slog.Handler
	root atomic.Int64 // of slog.Level
	mu   struct {
		sync.Mutex
		named map[string]*state
	}
}

// state is a logger's own level; own is false while it follows the root.
type state struct {
	own   atomic.Bool
	level atomic.Int64
}

// New returns levels over a handler. The root begins with the lowest level that the handler takes.
func New(base slog.Handler) *Levels {
	l := &Levels{base: base}
	l.mu.named = make(map[string]*state)
	start := slogLevels[Fatal]
	for _, level := range slogLevels {
		if level < start && base.Enabled(context.Background(), level) {
			start = level
		}
	}
	l.root.Store(int64(start))
	return l
}

// Logger returns the logger of a part of the program, which is known by its name from then on.
func (l *Levels) Logger(name string) *slog.Logger {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.mu.named[name]
	if s == nil {
		s = &state{}
		l.mu.named[name] = s
	}
	return slog.New(&handler{levels: l, state: s, next: l.base})
}

// Setting is a logger's level.
type Setting struct {
	Name  string
	Level Level
}

// All lists the loggers by name, the root among them.
func (l *Levels) All() []Setting {
	root := name(slog.Level(l.root.Load()))
	out := []Setting{{Root, root}}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(l.mu.named)) {
		s := l.mu.named[n]
		if s.own.Load() {
			out = append(out, Setting{n, name(slog.Level(s.level.Load()))})
		} else {
			out = append(out, Setting{n, root})
		}
	}
	slices.SortFunc(out, func(a, b Setting) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Known reports whether there is a logger of a name.
func (l *Levels) Known(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return name == Root || l.mu.named[name] != nil
}

// Set changes a logger's level; ErrUnknownLogger if there is none of that name.
func (l *Levels) Set(name string, level Level) error {
	at, known := slogLevels[level]
	if !known {
		return ErrUnknownLevel
	}
	if name == Root {
		l.root.Store(int64(at))
		return nil
	}
	s, err := l.find(name)
	if err == nil {
		s.level.Store(int64(at))
		s.own.Store(true)
	}
	return err
}

// Unset lets a logger follow the root again. The root itself keeps its level.
func (l *Levels) Unset(name string) error {
	if name == Root {
		return nil
	}
	s, err := l.find(name)
	if err == nil {
		s.own.Store(false)
	}
	return err
}

func (l *Levels) find(name string) (*state, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.mu.named[name]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrUnknownLogger, name)
}

// name is the level that a level of slog belongs to: the lowest that shows no less.
func name(at slog.Level) Level {
	for _, l := range []Level{Trace, Debug, Info, Warn, Error} {
		if at <= slogLevels[l] {
			return l
		}
	}
	return Fatal
}

// handler passes on what the level of its logger lets through.
type handler struct {
	levels *Levels
	state  *state
	next   slog.Handler
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, at slog.Level) bool {
	if h.state.own.Load() {
		return int64(at) >= h.state.level.Load()
	}
	return int64(at) >= h.levels.root.Load()
}

// Handle implements slog.Handler. The next one is not asked whether it wants the line: its own level was where this began.
func (h *handler) Handle(ctx context.Context, r slog.Record) error { return h.next.Handle(ctx, r) }

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.levels, h.state, h.next.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(group string) slog.Handler {
	return &handler{h.levels, h.state, h.next.WithGroup(group)}
}
