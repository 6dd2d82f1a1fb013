package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorlog/quorlog/agent"
	"github.com/quorlog/quorlog/internal/config"
)

// startLoginBroker starts a node whose clients must log in. Its first user is admin; the commands log in as it.
func startLoginBroker(t *testing.T, settings ...string) *broker {
	t.Helper()
	dir := t.TempDir()
	users := file(t, "# the first users\nadmin:let me in\n")
	node, err := config.Load(config.Sources{Set: settings, Flags: map[string]string{
		"data-dir": dir, "listen": "127.0.0.1:0", "sasl": "true", "bootstrap-users-file": users,
	}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(agent.Config{Node: node, OnFatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Setenv("QUORLOG_USER", "admin")
	t.Setenv("QUORLOG_PASSWORD_FILE", file(t, "let me in\n"))
	return &broker{t: t, dir: dir, addr: a.Addr()}
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestUserCommands(t *testing.T) {
	b := startLoginBroker(t)
	b.has(b.quorlog(0, "", "user", "list"), "admin  SCRAM-SHA-256 (8192), SCRAM-SHA-512 (8192)")
	b.has(b.quorlog(0, "open sesame\n", "user", "add", "alice"), "set the password of alice")
	b.quorlog(exitFailed, "x\n", "user", "add", "alice")
	b.quorlog(exitUsage, "\n", "user", "add", "bob")
	b.quorlog(exitUsage, "x\n", "user", "add", "bob", "--mechanism", "PLAIN")
	b.quorlog(exitUsage, "x\n", "user", "add", "bob", "--mechanism", "") // said "set the password of bob", and there was no bob
	b.quorlog(exitFailed, "x\n", "user", "add", "bob", "--iterations", "1")
	b.quorlog(0, "secret\n", "user", "add", "bob", "--mechanism", "scram-sha-256")

	as := func(exit int, user, password, mechanism string) {
		t.Helper()
		b.quorlog(exit, "", "topic", "list", "--user", user, "--password-file", file(t, password), "--sasl", mechanism)
	}
	as(0, "alice", "open sesame", "SCRAM-SHA-256")
	as(0, "alice", "open sesame", "SCRAM-SHA-512")
	as(exitFailed, "alice", "open", "SCRAM-SHA-512")
	as(exitFailed, "nobody", "open sesame", "SCRAM-SHA-512")
	as(exitFailed, "alice", "open sesame", "PLAIN") // no TLS
	as(0, "bob", "secret", "SCRAM-SHA-256")
	as(exitFailed, "bob", "secret", "SCRAM-SHA-512")
	as(exitUsage, "bob", "secret", "GSSAPI")
	b.quorlog(exitUsage, "", "topic", "list", "--user", "bob", "--password-file", "")
	b.quorlog(exitUsage, "", "topic", "list", "--user", "")

	b.quorlog(0, "changed\n", "user", "password", "bob")
	as(exitFailed, "bob", "secret", "SCRAM-SHA-256")
	as(0, "bob", "changed", "SCRAM-SHA-256")
	b.quorlog(exitFailed, "x\n", "user", "password", "nobody")
	made := strings.TrimSpace(b.quorlog(0, "", "user", "password", "alice", "--generate"))
	as(0, "alice", made, "SCRAM-SHA-512")

	var listed []struct {
		User        string
		Credentials []struct{ Mechanism string }
	}
	if err := json.Unmarshal([]byte(b.quorlog(0, "", "user", "list", "-o", "json")), &listed); err != nil {
		t.Fatal(err)
	}
	if len(listed) != 3 || listed[2].User != "bob" || len(listed[2].Credentials) != 1 {
		t.Errorf("%+v", listed)
	}
	b.has(b.quorlog(exitPartly, "", "user", "remove", "alice", "nobody"), "removed alice", "nobody: RESOURCE_NOT_FOUND")
	as(exitFailed, "alice", made, "SCRAM-SHA-512")
}

// TestEveryCommandLogsIn: those too that make clients of their own.
func TestEveryCommandLogsIn(t *testing.T) {
	b := startLoginBroker(t)
	for _, what := range []string{"produce", "consume", "e2e"} {
		b.quorlog(0, "", "bench", what, "--topic", "bench", "--records", "10", "--quiet")
	}
	b.quorlog(0, "", "cluster", "status")
	b.quorlog(0, "", "node", "list")
}

// TestNobodyIsServedWithoutLogin: a client that does not log in gets nothing but the connection's end.
func TestNobodyIsServedWithoutLogin(t *testing.T) {
	b := startLoginBroker(t)
	t.Setenv("QUORLOG_USER", "")
	t.Setenv("QUORLOG_PASSWORD_FILE", "")
	b.quorlog(exitUnreachable, "", "topic", "list")
}

// TestPlainOnLoopback: with the setting for it, PLAIN needs no TLS on this machine.
func TestPlainOnLoopback(t *testing.T) {
	b := startLoginBroker(t, "sasl.enabled.mechanisms=PLAIN", "quorlog.sasl.plain.on.loopback=true")
	b.quorlog(0, "", "topic", "list", "--sasl", "plain")
	b.quorlog(exitFailed, "", "topic", "list", "--sasl", "SCRAM-SHA-256")
	b.quorlog(exitFailed, "", "topic", "list", "--sasl", "plain", "--password-file", file(t, "wrong"))
}

// TestLoginsExpire: a client goes on over logins that hold for a moment only.
func TestLoginsExpire(t *testing.T) {
	b := startLoginBroker(t, "connections.max.reauth.ms=1500")
	b.quorlog(0, "a\nb\nc\n", "produce", "words")
	if got := b.quorlog(0, "", "consume", "words", "--exit"); got != "a\nb\nc\n" {
		t.Errorf("consumed %q", got)
	}
}

// TestPlainShowsNoPasswordToTheNetwork: without TLS it is not even sent to another machine.
func TestPlainShowsNoPasswordToTheNetwork(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:9092": true, "[::1]:9092": true, "localhost:9092": true, "localhost": true, "192.0.2.1:9092": false, "example.com:9092": false, "": false,
	} {
		l := login{user: "alice", passwordFile: file(t, "secret"), mechanism: "plain"}
		if _, err := l.options([]string{"127.0.0.1:1", addr}, false); (err == nil) != want {
			t.Errorf("%q without TLS: %v", addr, err)
		}
		if _, err := l.options([]string{addr}, true); err != nil {
			t.Errorf("%q: %v", addr, err)
		}
		l.mechanism = "SCRAM-SHA-512"
		if _, err := l.options([]string{addr}, false); err != nil {
			t.Errorf("%q by SCRAM: %v", addr, err)
		}
	}
}

// TestBadUsersFilesStopTheStart: the error says in which file, on which line if it is one line's fault, and why.
func TestBadUsersFilesStopTheStart(t *testing.T) {
	missing, directory := filepath.Join(t.TempDir(), "missing"), t.TempDir()
	for name, tc := range map[string]struct{ path, says string }{
		"missing":     {missing, "open " + missing + ": no such file or directory"},
		"empty":       {file(t, ""), "there is no user in it"},
		"comments":    {file(t, "# admin:x\n"), "there is no user in it"},
		"no password": {file(t, "# the first\nadmin\n"), "line 2: expected name:password"},
		"no name":     {file(t, "admin:x\n:y\n"), "line 2: invalid request: the name of a user has 1 to 256 bytes"},
		"twice":       {file(t, "admin:x\nbob:y\nadmin:z\n"), `line 3: user "admin" stands there twice`},
		"no text":     {file(t, "admin:\xff\n"), "line 1: a password is UTF-8 without NUL"},
		"a directory": {directory, "read " + directory + ": is a directory"},
		"large":       {file(t, "admin:x\n"+strings.Repeat("#", 100<<10)), "more than 65536 bytes"},
	} {
		node, err := config.Load(config.Sources{Flags: map[string]string{
			"data-dir": t.TempDir(), "listen": "127.0.0.1:0", "sasl": "true", "bootstrap-users-file": tc.path,
		}})
		if err != nil {
			t.Fatal(err)
		}
		a, err := agent.New(agent.Config{Node: node, OnFatal: func(err error) { t.Error(err) }})
		if err != nil {
			t.Fatal(err)
		}
		err = a.Start(t.Context())
		// It is for whoever must mend the file.
		if text := fmt.Sprint(err); !errors.Is(err, agent.ErrUsersFile) || text != fmt.Sprintf("%v: %s: %s", agent.ErrUsersFile, tc.path, tc.says) {
			t.Errorf("%s: %s", name, text)
		}
		if err := a.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func TestReadPassword(t *testing.T) {
	for text, want := range map[string]string{"a b\n": "a b", "a\r\n": "a", "ä": "ä", " a ": " a ", "": "", "\n": "", "a\nb": "", "a\x00": "", strings.Repeat("x", 5000): ""} {
		if got, err := readPassword(bytes.NewBufferString(text)); got != want || (err == nil) != (want != "") {
			t.Errorf("%.20q: %q, %v", text, got, err)
		}
	}
}
