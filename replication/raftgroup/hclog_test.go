package raftgroup

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// Raft's lines come one level lower, with their values.
func TestRaftLogIsQuiet(t *testing.T) {
	var out bytes.Buffer
	l := newRaftLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo})))
	l.Info("entering follower state")
	l.Debug("voting")
	l.Trace("x")
	if out.Len() > 0 || l.IsInfo() || l.IsDebug() || l.IsTrace() {
		t.Errorf("information is logged: %s", out.String())
	}
	l.With("peer", "2.0").Named("n").ResetNamed("m").Warn("failed to contact", "servers", hclog.Fmt("%d of %d", 1, 3))
	l.Error("unreachable")
	for _, want := range []string{"level=INFO", "failed to contact", "peer=2.0", `servers="1 of 3"`, "level=WARN", "unreachable"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in %s", want, out.String())
		}
	}
	if !l.IsWarn() || !l.IsError() || l.GetLevel() != hclog.Warn || l.Name() != "" || len(l.With("a", 1).ImpliedArgs()) != 2 {
		t.Error("levels or names are wrong")
	}
	l.SetLevel(hclog.Trace)
	debug := newRaftLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	debug.StandardLogger(nil).Print("standard")
	if !strings.Contains(out.String(), "standard") {
		t.Error("the standard logger's line is missing")
	}
}
