package config

import (
	"errors"
	"maps"
	"testing"

	"github.com/quorlog/quorlog/internal/logging"
)

func TestLogLevels(t *testing.T) {
	n, err := Load(Sources{Env: []string{"QUORLOG_LOG_LEVELS=root=warn, raft=DEBUG"}})
	want := map[string]logging.Level{logging.Root: logging.Warn, "raft": logging.Debug}
	if err != nil || !maps.Equal(n.LogLevels, want) {
		t.Errorf("%v, %v", n, err)
	}
	for _, bad := range []string{"raft", "raft=", "=DEBUG", "rafft=DEBUG", "raft=DEBUG,raft=INFO", "DEBUG"} {
		if _, err := Load(Sources{Flags: map[string]string{"log-levels": bad}}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if _, err := Load(Sources{Flags: map[string]string{"log-levels": "raft=LOUD"}}); !errors.Is(err, logging.ErrUnknownLevel) {
		t.Error(err)
	}
}

func TestTracesEndpoint(t *testing.T) {
	for text, valid := range map[string]bool{
		"": true, "http://localhost:4318/v1/traces": true, "https://otel.example/v1/traces": true,
		"localhost:4318": false, "grpc://localhost:4317": false, "http://": false, "http://a b/": false,
	} {
		n, err := Load(Sources{Flags: map[string]string{"traces-endpoint": text}})
		if (err == nil) != valid || valid && n.TracesEndpoint != text {
			t.Errorf("%q: %v, %v", text, n, err)
		}
	}
}

func TestMetricsListen(t *testing.T) {
	for text, valid := range map[string]bool{"": true, "127.0.0.1:9464": true, ":0": true, "9464": false, "host:x": false} {
		n, err := Load(Sources{Flags: map[string]string{"metrics-listen": text}})
		if (err == nil) != valid || valid && n.MetricsListen != text {
			t.Errorf("%q: %v, %v", text, n, err)
		}
	}
}
