package raftgroup

import (
	"context"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLogger hands Raft's log lines to slog, one level lower: what is information to Raft is of interest to nobody else in a
// node with a thousand groups, and its errors are unreachable peers.
type raftLogger struct {
	to      *slog.Logger
	name    string
	implied []any
}

func newRaftLogger(to *slog.Logger) hclog.Logger { return &raftLogger{to: to} }

func lowered(l hclog.Level) slog.Level {
	switch l {
	case hclog.Error:
		return slog.LevelWarn
	case hclog.Warn:
		return slog.LevelInfo
	case hclog.Info:
		return slog.LevelDebug
	}
	return slog.LevelDebug - 4
}

// Log implements hclog.Logger, as do all the methods below.
func (r *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	at := lowered(level)
	if !r.to.Enabled(context.Background(), at) {
		return
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	r.to.Log(context.Background(), at, "raft: "+msg, args...)
}

func (r *raftLogger) Trace(msg string, args ...any) { r.Log(hclog.Trace, msg, args...) }
func (r *raftLogger) Debug(msg string, args ...any) { r.Log(hclog.Debug, msg, args...) }
func (r *raftLogger) Info(msg string, args ...any)  { r.Log(hclog.Info, msg, args...) }
func (r *raftLogger) Warn(msg string, args ...any)  { r.Log(hclog.Warn, msg, args...) }
func (r *raftLogger) Error(msg string, args ...any) { r.Log(hclog.Error, msg, args...) }

func (r *raftLogger) is(l hclog.Level) bool { return r.to.Enabled(context.Background(), lowered(l)) }

func (r *raftLogger) IsTrace() bool { return r.is(hclog.Trace) }
func (r *raftLogger) IsDebug() bool { return r.is(hclog.Debug) }
func (r *raftLogger) IsInfo() bool  { return r.is(hclog.Info) }
func (r *raftLogger) IsWarn() bool  { return r.is(hclog.Warn) }
func (r *raftLogger) IsError() bool { return r.is(hclog.Error) }

func (r *raftLogger) ImpliedArgs() []any { return r.implied }

func (r *raftLogger) With(args ...any) hclog.Logger {
	return &raftLogger{to: r.to.With(args...), name: r.name, implied: append(r.implied[:len(r.implied):len(r.implied)], args...)}
}

func (r *raftLogger) Name() string { return r.name }

func (r *raftLogger) Named(name string) hclog.Logger {
	return &raftLogger{to: r.to, name: name, implied: r.implied}
}

func (r *raftLogger) ResetNamed(name string) hclog.Logger { return r.Named(name) }

// SetLevel does nothing: the level is slog's.
func (r *raftLogger) SetLevel(hclog.Level) {}

func (r *raftLogger) GetLevel() hclog.Level {
	for _, l := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn} {
		if r.is(l) {
			return l
		}
	}
	return hclog.Error
}

func (r *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *stdlog.Logger {
	return stdlog.New(r.StandardWriter(nil), "", 0)
}

func (r *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return slog.NewLogLogger(r.to.Handler(), slog.LevelDebug).Writer()
}
