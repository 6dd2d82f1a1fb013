package membership

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"
)

// logWriter brings Serf's log lines into ours, two levels lower than they say: a lost packet or a peer that is restarted is
// everyday life here, and what matters is logged by this package in its own words.
type logWriter struct {
	logger *slog.Logger
	now    func() time.Time
	ended  <-chan struct{} // memberlist's goroutines go on for a moment after its end; nobody wants to hear of them
	mu     struct {
		sync.Mutex
		refused time.Time // when another key was last told of
	}
}

var serfLevels = []struct {
	mark  string
	level slog.Level
}{
	{"[ERR]", slog.LevelInfo}, {"[ERROR]", slog.LevelInfo}, {"[WARN]", slog.LevelDebug}, {"[INFO]", slog.LevelDebug}, {"[DEBUG]", slog.LevelDebug},
}

// otherKey is how memberlist says that a packet or a stream was encrypted with another key.
var otherKey = []byte("no installed keys could decrypt")

// Write takes one line, as package log hands it over.
func (w *logWriter) Write(line []byte) (int, error) {
	select {
	case <-w.ended:
		return len(line), nil
	default:
	}
	text, level := bytes.TrimSpace(line), slog.LevelDebug
	for _, l := range serfLevels {
		if i := bytes.Index(text, []byte(l.mark)); i >= 0 {
			text, level = bytes.TrimSpace(text[i+len(l.mark):]), l.level
			break
		}
	}
	if bytes.Contains(text, otherKey) {
		if w.due() {
			w.logger.Error("gossip with another cluster key was refused", "detail", string(text))
		}
		return len(line), nil
	}
	if w.logger.Enabled(context.Background(), level) {
		w.logger.Log(context.Background(), level, string(text))
	}
	return len(line), nil
}

// due tells whether a refused key is worth another line: it is refused many times a second.
func (w *logWriter) due() bool {
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.mu.refused) < repeatAfter {
		return false
	}
	w.mu.refused = now
	return true
}
