package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorlog/quorlog/internal/config"
	"github.com/quorlog/quorlog/log/vfs"
)

// httpGet asks a node by HTTP.
func httpGet(t *testing.T, addr, path string) (status int, body string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func testNode(t testing.TB, flags map[string]string, fs vfs.FS, set ...string) *Agent {
	t.Helper()
	return loggedNode(t, slog.New(slog.NewTextHandler(t.Output(), nil)), flags, fs, set...)
}

func loggedNode(t testing.TB, logger *slog.Logger, flags map[string]string, fs vfs.FS, set ...string) *Agent {
	t.Helper()
	all := map[string]string{"data-dir": filepath.Join(t.TempDir(), "data"), "listen": "127.0.0.1:0"}
	for name, value := range flags {
		all[name] = value
	}
	node, err := config.Load(config.Sources{Flags: all, Set: set})
	if err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{Node: node, FS: fs, Version: "1.2.3", Logger: logger,
		OnFatal: func(err error) { t.Errorf("fatal: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return a
}

func TestProbes(t *testing.T) {
	a := testNode(t, nil, nil)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/":                {200, "bootstrap server"},
		"/livez":           {200, "ok\n"},
		"/livez?verbose":   {200, "[+] process ok\n[+] disk ok\nok\n"},
		"/readyz":          {200, "ok\n"},
		"/readyz?verbose":  {200, "[+] metadata ok\n"},
		"/healthz?verbose": {200, "[+] partitions ok\n"},
		"/version":         {200, "1.2.3\n"},
		"/nothing":         {404, ""},
		"/livez/more":      {404, ""},
		"/../etc/passwd":   {404, ""},
	} {
		if status, body := httpGet(t, a.Addr(), path); status != want.status || !strings.Contains(body, want.text) {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	a.stopping.Store(true)
	if status, body := httpGet(t, a.Addr(), "/readyz"); status != http.StatusServiceUnavailable || body != "[-] running: the node stops\nfailed\n" {
		t.Errorf("stopping: %d %q", status, body)
	}
	if status, _ := httpGet(t, a.Addr(), "/livez"); status != http.StatusOK {
		t.Errorf("stopping: livez says %d", status)
	}
}

// A node that waits for others is alive and not ready, and says so.
func TestProbesWhileStarting(t *testing.T) {
	key, err := clusterKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a := testNode(t, map[string]string{"node-id": "1", "gossip": "127.0.0.1:0", "bootstrap-expect": "3", "cluster-key-file": key}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan error, 1)
	if err := errors.Join(a.openData(ctx), a.listen(ctx), a.web.open(ctx)); err != nil {
		t.Fatal(err)
	}
	go func() { started <- a.meet(ctx) }()
	if status, body := httpGet(t, a.Addr(), "/readyz"); status != http.StatusServiceUnavailable || body != "[-] running: the node starts\nfailed\n" {
		t.Errorf("%d %q", status, body)
	}
	if status, body := httpGet(t, a.Addr(), "/livez"); status != http.StatusOK {
		t.Errorf("%d %q", status, body)
	}
	if status, body := httpGet(t, a.Addr(), "/v1/topics"); status != http.StatusServiceUnavailable {
		t.Errorf("%d %q", status, body) // not 404: it will be there
	}
	cancel()
	if err := <-started; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A failed node is not alive.
func TestLivezAfterFailure(t *testing.T) {
	a := testNode(t, nil, nil)
	const reason = "the disk is gone"
	fatal := errors.New(reason)
	a.failed.Store(&fatal)
	if got := a.web.alive(t.Context()); got[0].reason != reason || got[1].reason != "" {
		t.Errorf("%+v", got)
	}
}

// Neither long headers nor many connections that say nothing more, or send a body slowly, cost more than their bound, and others are
// served meanwhile: probes above all, for want of which the node would be killed.
func TestHTTPLimits(t *testing.T) {
	a := testNode(t, nil, nil)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	silent := holdMany(t, a, "GET / HTTP/1.1\r\n")
	if status, body := httpGet(t, a.Addr(), "/livez"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	closed := 0
	for _, nc := range silent[:50] {
		if err := nc.SetReadDeadline(time.Now().Add(webHeaderTime / 2)); err != nil {
			t.Fatal(err)
		}
		var timeout net.Error
		if _, err := nc.Read(make([]byte, 1)); err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) {
			closed++
		}
	}
	if closed == 0 {
		t.Error("no connection beyond the bound was closed")
	}
	holdMany(t, a, "POST /v1/topics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
	if status, body := httpGet(t, a.Addr(), "/readyz"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	nc, err := net.Dial("tcp", a.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	go func() { _, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nX: "+strings.Repeat("x", 1<<20)) }()
	answer := make([]byte, len("HTTP/1.1 431"))
	if _, err := io.ReadFull(nc, answer); err != nil || string(answer) != "HTTP/1.1 431" {
		t.Errorf("%q, %v", answer, err)
	}
}

// holdMany makes more connections than may be, each of which says the same, and holds them until the test ends.
func holdMany(t *testing.T, a *Agent, says string) (held []net.Conn) {
	t.Helper()
	for range webConnections + 50 {
		nc, err := net.Dial("tcp", a.Addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		held = append(held, nc)
		if _, err := io.WriteString(nc, says); err != nil && len(held) < webConnections {
			t.Fatal(err)
		}
	}
	return held
}
